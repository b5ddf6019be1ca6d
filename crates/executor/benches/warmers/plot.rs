//! The picture, as SVG: cold starts against idle memory, once over the functions and once over the events.

use std::fmt::Write;

use crate::Kind;
use crate::report::Row;

const WIDTH: f64 = 1_080.0;
const HEIGHT: f64 = 520.0;
/// The panels: their left edges, their size.
const PANELS: [f64; 2] = [76.0, 610.0];
const PANEL: (f64, f64) = (430.0, 330.0);
const TOP: f64 = 112.0;
/// Idle memory, in percent of ten fixed minutes.
const MEMORY: (f64, f64) = (40.0, 180.0);

const FIXED: &str = "#7a828e";
const PAPER: &str = "#c2650a";
const ADAPTIVE: &str = "#0b7a5e";
const TEXT: &str = "#24292f";
const FAINT: &str = "#e4e7eb";

/// One panel's vertical axis.
struct Axis {
    title: &'static str,
    value: fn(&Row) -> f64,
    low: f64,
    high: f64,
    logarithmic: bool,
    ticks: &'static [f64],
}

impl Axis {
    fn y(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.logarithmic { value.ln() } else { value };
        let share = (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low));
        TOP + PANEL.1 * (1.0 - share.clamp(0.0, 1.0))
    }
}

const AXES: [Axis; 2] = [
    Axis {
        title: "a function's cold starts, mean over the functions",
        value: |row| row.mean,
        low: 0.0,
        high: 80.0,
        logarithmic: false,
        ticks: &[0.0, 20.0, 40.0, 60.0, 80.0],
    },
    Axis {
        title: "cold starts of all events (logarithmic)",
        value: |row| row.cold,
        low: 0.01,
        high: 1.0,
        logarithmic: true,
        ticks: &[0.01, 0.03, 0.1, 0.3, 1.0],
    },
];

/// The picture.
pub(crate) fn draw(rows: &[Row], own: f64) -> String {
    let mut svg = String::new();
    let out = &mut svg;
    put(
        out,
        format_args!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" font-family="system-ui, 'Segoe UI', Helvetica, 'DejaVu Sans', sans-serif" font-size="13" fill="{TEXT}">"##
        ),
    );
    put(out, format_args!(r##"<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>"##));
    text(
        out,
        (PANELS[0] - 46.0, 34.0),
        "start",
        18.0,
        TEXT,
        "Cold starts against the memory of idle environments",
    );
    text(
        out,
        (PANELS[0] - 46.0, 56.0),
        "start",
        13.0,
        FIXED,
        "down and to the left is better; simulated on a synthetic trace with the published distributions of Azure Functions",
    );
    for (left, axis) in PANELS.into_iter().zip(&AXES) {
        frame(out, left, axis);
        curve(out, left, axis, rows, FIXED, |kind| matches!(kind, Kind::Fixed(minutes) if minutes > 0.0));
        curve(out, left, axis, rows, ADAPTIVE, |kind| matches!(kind, Kind::Adaptive(_)));
        for row in rows {
            point(out, left, axis, row, own);
        }
    }
    legend(out);
    svg.push_str("</svg>\n");
    svg
}

fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(out, "{line}").expect("a string takes everything");
}

fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, size: f64, colour: &str, words: &str) {
    put(
        out,
        format_args!(
            r##"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{words}</text>"##
        ),
    );
}

fn x(left: f64, memory: f64) -> f64 {
    left + PANEL.0 * (memory - MEMORY.0) / (MEMORY.1 - MEMORY.0)
}

fn frame(out: &mut String, left: f64, axis: &Axis) {
    let (right, bottom) = (left + PANEL.0, TOP + PANEL.1);
    text(out, (left - 46.0, TOP - 18.0), "start", 13.0, TEXT, axis.title);
    for tick in axis.ticks {
        let y = axis.y(*tick);
        put(out, format_args!(r##"<path d="M{left} {y:.1}H{right}" stroke="{FAINT}"/>"##));
        text(out, (left - 8.0, y + 4.5), "end", 12.0, TEXT, &format!("{tick} %"));
    }
    for memory in (40..=180).step_by(20) {
        let at = x(left, f64::from(memory));
        put(out, format_args!(r##"<path d="M{at:.1} {bottom}v5" stroke="{FIXED}"/>"##));
        text(out, (at, bottom + 20.0), "middle", 12.0, TEXT, &format!("{memory} %"));
    }
    put(out, format_args!(r##"<path d="M{left} {bottom}H{right}" stroke="{FIXED}"/>"##));
    let middle = left + PANEL.0 / 2.0;
    text(out, (middle, bottom + 42.0), "middle", 13.0, TEXT, "idle memory, of what fixed ten minutes take");
}

fn curve(out: &mut String, left: f64, axis: &Axis, rows: &[Row], colour: &str, of: fn(Kind) -> bool) {
    let mut points: Vec<_> =
        rows.iter().filter(|row| of(row.kind)).filter(|row| is_inside(row, axis)).collect();
    points.sort_by(|a, b| a.memory.total_cmp(&b.memory));
    let path: Vec<_> = points
        .iter()
        .map(|row| format!("{:.1} {:.1}", x(left, row.memory), axis.y((axis.value)(row))))
        .collect();
    put(
        out,
        format_args!(
            r##"<path d="M{}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"/>"##,
            path.join("L")
        ),
    );
}

fn is_inside(row: &Row, axis: &Axis) -> bool {
    let value = (axis.value)(row);
    (MEMORY.0..=MEMORY.1).contains(&row.memory) && (axis.low..=axis.high).contains(&value)
}

fn point(out: &mut String, left: f64, axis: &Axis, row: &Row, own: f64) {
    if !is_inside(row, axis) {
        return;
    }
    let at = (x(left, row.memory), axis.y((axis.value)(row)));
    let (colour, radius, label, weight) = match row.kind {
        Kind::Fixed(minutes) => (FIXED, 4.0, format!("{minutes} min"), "normal"),
        Kind::Paper => (PAPER, 6.0, "hybrid histogram".to_owned(), "normal"),
        Kind::Adaptive(worth) if worth == own => (ADAPTIVE, 6.5, "default".to_owned(), "bold"),
        Kind::Adaptive(_) => (ADAPTIVE, 3.5, String::new(), "normal"),
    };
    put(
        out,
        format_args!(
            r##"<circle cx="{:.1}" cy="{:.1}" r="{radius}" fill="{colour}" stroke="#ffffff" stroke-width="1.5"/>"##,
            at.0, at.1
        ),
    );
    // Labels of the upper curve above it, those of the lower one below.
    let (dx, dy, anchor) = match row.kind {
        Kind::Fixed(_) => (7.0, -7.0, "start"),
        Kind::Paper => (10.0, 5.0, "start"),
        Kind::Adaptive(_) => (-8.0, 17.0, "end"),
    };
    if !label.is_empty() {
        put(
            out,
            format_args!(
                r##"<text x="{:.1}" y="{:.1}" text-anchor="{anchor}" font-size="12" font-weight="{weight}" fill="{colour}">{label}</text>"##,
                at.0 + dx,
                at.1 + dy
            ),
        );
    }
}

fn legend(out: &mut String) {
    let entries = [
        (FIXED, "fixed keep-alive, by its minutes"),
        (ADAPTIVE, "adaptive (Freehold), by what a cold start is worth"),
        (PAPER, "hybrid histogram policy, as published"),
    ];
    let mut left = PANELS[0] - 46.0;
    for (colour, words) in entries {
        let y = HEIGHT - 14.0;
        put(
            out,
            format_args!(r##"<circle cx="{:.1}" cy="{:.1}" r="5" fill="{colour}"/>"##, left + 5.0, y - 4.5),
        );
        text(out, (left + 18.0, y), "start", 13.0, TEXT, words);
        left += 60.0 + 7.0 * words.len() as f64;
    }
}
