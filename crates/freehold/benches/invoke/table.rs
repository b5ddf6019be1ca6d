//! What was measured, as a Markdown table that `docs/benchmarks.md` takes as it is: each figure with its target, its ratio
//! to the floor and a picture of its distribution.

use std::time::Duration;

/// Columns of a picture.
const PICTURE_COLUMNS: usize = 24;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// One line of the table.
pub(crate) struct Row {
    what: String,
    figures: [String; 3],
    target: String,
    ratio: String,
    met: Option<bool>,
    picture: String,
}

impl Row {
    /// A row of a series of times: p50, p99, max and the picture. The series is sorted.
    pub(crate) fn of(what: impl Into<String>, series: &mut [Duration]) -> Self {
        series.sort_unstable();
        let figures = [at(series, 0.5), at(series, 0.99), at(series, 1.0)].map(ms);
        Self {
            figures,
            picture: picture(series),
            ..Self::value(format!("{} (n = {})", what.into(), series.len()), "")
        }
    }

    /// A row of one figure.
    pub(crate) fn value(what: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            figures: [value.into(), String::new(), String::new()],
            target: String::new(),
            ratio: String::new(),
            met: None,
            picture: String::new(),
        }
    }

    /// What it should be, and whether it is.
    pub(crate) fn target(self, target: impl Into<String>, met: bool) -> Self {
        Self { target: target.into(), met: Some(met), ..self }
    }

    /// How it compares with its floor.
    pub(crate) fn ratio(self, ratio: impl Into<String>) -> Self {
        Self { ratio: ratio.into(), ..self }
    }

    fn line(&self) -> String {
        let [first, second, third] = &self.figures;
        let met = match self.met {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        let Self { what, target, ratio, picture, .. } = self;
        format!("| {what} | {first} | {second} | {third} | {target} | {ratio} | {met} | {picture} |")
    }
}

/// All rows so far.
#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    /// Adds a row, and shows it at once.
    pub(crate) fn add(&mut self, row: Row) {
        eprintln!("{}", row.line());
        self.0.push(row);
    }

    /// Prints the whole.
    pub(crate) fn print(&self) {
        println!("| what | p50 or figure | p99 | max | target | against the floor | met | distribution |");
        println!("|---|---|---|---|---|---|---|---|");
        for row in &self.0 {
            println!("{}", row.line());
        }
    }
}

/// The value below which this share of a sorted series is.
pub(crate) fn at(series: &[Duration], share: f64) -> Duration {
    series.get((series.len().saturating_sub(1) as f64 * share) as usize).copied().unwrap_or_default()
}

/// In milliseconds, with as many digits as say something.
pub(crate) fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1_000.0;
    let digits = match ms {
        ..10.0 => 3,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{ms:.digits$} ms")
}

/// A sorted series as bars over a logarithmic axis from its smallest to its largest value.
fn picture(series: &[Duration]) -> String {
    let (Some(first), Some(last)) = (series.first(), series.last()) else { return String::new() };
    let logarithm = |time: &Duration| (time.as_nanos().max(1) as f64).ln();
    let (low, high) = (logarithm(first), logarithm(last));
    let mut counts = [0_usize; PICTURE_COLUMNS];
    for time in series {
        let place = (logarithm(time) - low) / (high - low).max(f64::MIN_POSITIVE);
        counts[((place * PICTURE_COLUMNS as f64) as usize).min(PICTURE_COLUMNS - 1)] += 1;
    }
    let most = counts.iter().max().copied().unwrap_or(1).max(1);
    let bars: String = counts
        .iter()
        .map(|count| match count {
            0 => ' ',
            // The square root: what is rare shall be seen.
            count => BARS[(((*count as f64 / most as f64).sqrt() * 8.0) as usize).min(7)],
        })
        .collect();
    format!("`{} {bars} {}`", ms(*first), ms(*last))
}
