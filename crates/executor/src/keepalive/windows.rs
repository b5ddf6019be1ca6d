//! From idle times to windows: when an idle environment is worth its memory.
//!
//! Being warm during a bin costs idle time: its width, for each of the past times that lasted so long. It saves a cold
//! start for each that ended within it. With a price (how much idle time a cold start is worth), each bin has a gain, and
//! the best windows are those with the largest sum of gains: one that begins at once (keep alive), and one that may follow
//! later (pre-warm). That is the same as asking, at each moment, whether the next event is likely enough by then.
//!
//! What was seen is no proof of what was not: beside the times seen, a few are imagined. They count where nothing was seen,
//! beyond the longest time above all, and nowhere else.

use std::time::Duration;

use super::histogram::{BINS, Histogram, RANGE_SECONDS, begins};

/// By what share of the time windows are widened, on both sides: the paper's margin.
const MARGIN: f64 = 0.1;
/// How many idle times are imagined.
const IMAGINED: f64 = 1.0;
/// What making an environment ahead costs, as idle time: some ten milliseconds of a processor, and a little for the memory
/// that is touched anew. An environment is not dropped to be made again sooner.
const START_COST: Duration = Duration::from_secs(30);

/// What is done with an environment that has become idle. All times count from then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Windows {
    /// How long it is kept.
    pub(super) keep: Duration,
    /// When another one is made after that, and until when it is kept.
    pub(super) prewarm: Option<(Duration, Duration)>,
}

impl Windows {
    /// Kept so long, and nothing more.
    pub(super) const fn keep(keep: Duration) -> Self {
        Self { keep, prewarm: None }
    }

    /// Kept for `keep`, and again from one time to another; as one window where they lie too close.
    pub(super) fn new(keep: Duration, from: Duration, until: Duration) -> Self {
        if from <= keep + START_COST {
            return Self::keep(keep.max(until));
        }
        Self { keep, prewarm: Some((from, until)) }
    }
}

/// The windows with the largest gain, at a price of `worth` idle time for a cold start.
pub(super) fn best(histogram: &Histogram, worth: Duration) -> Windows {
    // A price of nothing would be no price to divide by.
    let bins = gains(histogram, worth.as_secs_f64().max(f64::MIN_POSITIVE));
    let (_, kept, run) = choose(&bins);
    let keep = seconds(kept, 1.0 + MARGIN);
    match run {
        Some((first, end)) => Windows::new(keep, seconds(first, 1.0 - MARGIN), seconds(end, 1.0 + MARGIN)),
        None => Windows::keep(keep),
    }
}

/// The largest gain; for how many bins an environment is kept, and the first and the end of those during which there is
/// another one.
pub(super) fn choose(bins: &[Bin; BINS]) -> (f64, usize, Option<(usize, usize)>) {
    let runs = best_runs(bins);
    // Without a first window, and then with longer and longer ones.
    let (mut best, mut best_gain) = ((0, runs[0]), runs[0].gain);
    let mut gain = 0.0;
    for (index, bin) in bins.iter().enumerate() {
        gain += bin.gain;
        let run = runs[index + 1];
        if gain + run.gain > best_gain {
            (best, best_gain) = ((index + 1, run), gain + run.gain);
        }
    }
    let (kept, run) = best;
    (best_gain, kept, (run.gain > 0.0).then_some((run.first, run.end)))
}

fn seconds(bin: usize, factor: f64) -> Duration {
    Duration::from_secs_f64(begins(bin) as f64 * factor)
}

/// What being warm during one bin gains, and what making an environment at its beginning costs, in cold starts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bin {
    pub(super) gain: f64,
    pub(super) start_cost: f64,
}

pub(super) fn gains(histogram: &Histogram, worth: f64) -> [Bin; BINS] {
    let mut bins = [Bin::default(); BINS];
    let mut lasting = f64::from(histogram.beyond());
    for index in (0..BINS).rev() {
        let ended = f64::from(histogram.counts()[index]) + imagined(index) - imagined(index + 1);
        let width = (begins(index + 1) - begins(index)) as f64;
        // What ends within the bin is waited for half of it.
        let idle = width * (lasting + ended / 2.0);
        lasting += ended;
        bins[index] =
            Bin { gain: ended - idle / worth, start_cost: lasting * START_COST.as_secs_f64() / worth };
    }
    bins
}

/// How many of the imagined times last until a bin: they are spread evenly in the logarithm of the time, over all bins.
fn imagined(bin: usize) -> f64 {
    let share = (begins(bin).max(1) as f64).ln() / (RANGE_SECONDS as f64).ln();
    IMAGINED * (1.0 - share)
}

/// Some bins in a row, and what being warm during them gains, its start paid; nothing where that is not positive.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    gain: f64,
    first: usize,
    end: usize,
}

/// For each bin the best run that begins there or later.
fn best_runs(bins: &[Bin; BINS]) -> [Run; BINS + 1] {
    let mut runs = [Run::default(); BINS + 1];
    // The best run that begins exactly at the bin before, its start not yet paid.
    let (mut gain, mut end) = (0.0, BINS);
    for first in (0..BINS).rev() {
        if gain <= 0.0 {
            (gain, end) = (0.0, first + 1);
        }
        gain += bins[first].gain;
        let paid = gain - bins[first].start_cost;
        runs[first] = runs[first + 1];
        if paid > runs[first].gain {
            runs[first] = Run { gain: paid, first, end };
        }
    }
    runs
}
