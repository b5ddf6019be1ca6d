//! All distributions of one run as one picture: a strip for each series over a common logarithmic axis of time.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// The axis, from 10 µs to 10 s, in powers of ten seconds.
const FIRST_POWER: i32 = -5;
const LAST_POWER: i32 = 1;
/// Bars of a strip.
const BARS: usize = 180;
const STRIP_HEIGHT: usize = 34;
const LABEL_WIDTH: usize = 430;
const PLOT_WIDTH: usize = 720;
const MARGIN: usize = 30;

/// A series of times, counted into the axis's bars.
pub(crate) struct Strip {
    name: String,
    median: Duration,
    counts: [usize; BARS],
}

impl Strip {
    /// Counts a sorted series.
    pub(crate) fn of(name: &str, series: &[Duration]) -> Self {
        let mut counts = [0; BARS];
        for time in series {
            counts[((place(*time) * BARS as f64) as usize).min(BARS - 1)] += 1;
        }
        Self { name: name.to_owned(), median: crate::table::at(series, 0.5), counts }
    }
}

/// Where a time lies on the axis, from 0 to 1.
fn place(time: Duration) -> f64 {
    let power = time.as_secs_f64().max(f64::MIN_POSITIVE).log10();
    ((power - f64::from(FIRST_POWER)) / f64::from(LAST_POWER - FIRST_POWER)).clamp(0.0, 1.0)
}

/// Writes them as an SVG file.
pub(crate) fn write(path: &Path, strips: &[Strip]) -> Result<()> {
    let (width, height) = (LABEL_WIDTH + PLOT_WIDTH + MARGIN, strips.len() * STRIP_HEIGHT + 2 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for power in FIRST_POWER..=LAST_POWER {
        let x = x_of(f64::from(power - FIRST_POWER) / f64::from(LAST_POWER - FIRST_POWER));
        let label = ["10 µs", "0.1 ms", "1 ms", "10 ms", "0.1 s", "1 s", "10 s"]
            .get((power - FIRST_POWER) as usize)
            .context("an axis without labels")?;
        let (top, bottom) = (MARGIN, height - MARGIN);
        writeln!(svg, "<path d=\"M{x:.1} {top}V{bottom}\" stroke=\"#ddd\"/>")?;
        writeln!(svg, "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>", bottom + 18)?;
    }
    for (number, strip) in strips.iter().enumerate() {
        let bottom = MARGIN + (number + 1) * STRIP_HEIGHT - 4;
        let name = strip.name.replace('&', "&amp;").replace('<', "&lt;");
        writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>",
            LABEL_WIDTH - 8,
            bottom - 8
        )?;
        let most = strip.counts.iter().max().copied().unwrap_or(1).max(1) as f64;
        let mut bars = String::new();
        for (bar, count) in strip.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            // The square root: what is rare shall be seen.
            let tall = (*count as f64 / most).sqrt() * (STRIP_HEIGHT - 8) as f64;
            write!(bars, "M{:.1} {bottom}v-{tall:.1}", x_of((bar as f64 + 0.5) / BARS as f64))?;
        }
        let thick = PLOT_WIDTH as f64 / BARS as f64;
        writeln!(svg, "<path d=\"{bars}\" stroke=\"#3b6ea5\" stroke-width=\"{thick:.1}\"/>")?;
        let (x, top) = (x_of(place(strip.median)), bottom - STRIP_HEIGHT + 8);
        writeln!(svg, "<path d=\"M{x:.1} {bottom}V{top}\" stroke=\"#c0392b\"/>")?;
    }
    svg.push_str("</svg>\n");
    std::fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
    std::fs::write(path, svg).with_context(|| format!("cannot write {}", path.display()))
}

fn x_of(place: f64) -> f64 {
    LABEL_WIDTH as f64 + place * PLOT_WIDTH as f64
}
