//! Ten million keys: how soon they are open, what memory that takes, how fast they are read. Each step is a process of
//! its own, so that its memory is its own.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use freehold_store::{Read, Store};

use crate::measure::{disk_mib, memory_mib};
use crate::table::Column;
use crate::{FILL_BATCH, Failure, RUN, fill, key, point_reads};

/// Keys of the large store.
const KEYS: u64 = 10_000_000;
/// Keys of the store that it is compared with.
const FEW_KEYS: u64 = 10_000;
/// Length of their values, in bytes.
const VALUE_BYTES: usize = 100;

/// The steps, as the processes are told them.
pub(crate) const STEPS: [&str; 3] = ["fill", "fill-and-kill", "read"];

/// Measures both stores; each step's process says one line of figures.
pub(crate) fn measure(folder: &Path, column: &mut Column) -> Result<(), Failure> {
    let (few, many) = (folder.join("few"), folder.join("many"));
    step("fill", &few, FEW_KEYS)?;
    let small = step("read", &few, FEW_KEYS)?;
    let filled = step("fill", &many, KEYS)?;
    let large = step("read", &many, KEYS)?;
    let (small_rate, large_rate) = (small[1], large[1]);
    column.add(
        "filling 10 M keys of 100 B, 10,000 a transaction",
        "",
        format!(
            "{:.0} s, at most {:.0} MiB resident, then {} MiB on disk",
            filled[0],
            filled[1],
            disk_mib(&many)?
        ),
    );
    column.add("opening 10 M keys after a stop", "< 1 s", format!("{:.0} ms", large[0]));
    column.add("resident with 10 M keys, after the reads", "< 256 MiB", format!("{:.0} MiB", large[2]));
    column.add("point reads, 10,000 keys of 100 B, one core", "500,000/s", format!("{small_rate:.0}/s"));
    let slower = small_rate / large_rate;
    column.add("point reads, 10 M keys", "within 3 x", format!("{large_rate:.0}/s, {slower:.1} x slower"));
    step("fill-and-kill", &many, KEYS)?;
    let killed = step("read", &many, KEYS)?;
    column.add("opening 10 M keys after a kill under load", "", format!("{:.0} ms", killed[0]));
    Ok(())
}

/// Runs one step in a process of its own and gives its figures.
fn step(name: &str, store: &Path, keys: u64) -> Result<Vec<f64>, Failure> {
    let keys = keys.to_string();
    let output = Command::new(std::env::current_exe()?)
        .arg(name)
        .arg(store)
        .arg(keys)
        .stderr(std::process::Stdio::inherit())
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    if !output.status.success() && name != "fill-and-kill" {
        return Err(format!("the step {name} failed: {}", output.status).into());
    }
    Ok(text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}

/// What a step's process does.
pub(crate) async fn run(name: &str, store: &str, keys: u64) -> Result<(), Failure> {
    let url = format!("file:{store}");
    let started = Instant::now();
    let store = Store::open(&url).await?;
    match name {
        "fill" => {
            fill(&store, 0..keys, VALUE_BYTES).await?;
            store.close().await;
            println!("{} {}", started.elapsed().as_secs_f64(), memory_mib("VmHWM")?);
        }
        "fill-and-kill" => {
            // The same keys again, for a journal as full as it gets.
            fill(&store, 0..60 * FILL_BATCH, VALUE_BYTES).await?;
            std::process::abort();
        }
        _ => {
            let snapshot = store.snapshot().await?;
            assert!(snapshot.get(&key(0)).await?.is_some());
            let opened_ms = started.elapsed().as_secs_f64() * 1e3;
            let rate = point_reads(&snapshot, keys, RUN).await?;
            println!("{opened_ms} {rate} {}", memory_mib("VmRSS")?);
        }
    }
    Ok(())
}
