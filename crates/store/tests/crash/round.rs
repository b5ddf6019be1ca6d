//! One round: a writer works on a store until it is killed or its disk loses power; then the store is opened again and
//! everything that was acknowledged is looked for.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use freehold_store::Store;

use crate::disk::Disk;
use crate::workload::{Acknowledged, Checked, Workload, parse};

/// Tells the writer which folder is its own.
pub(crate) const FOLDER: &str = "FREEHOLD_TEST_CRASH_FOLDER";
/// Tells the writer whether it works in bulk too.
pub(crate) const BULK: &str = "FREEHOLD_TEST_CRASH_BULK";
/// The most steps that are acknowledged before the end comes.
const STEPS: u64 = 250;
/// The longest time after that step until the end comes, in microseconds: some syncs.
const DELAY_US: u64 = 4_000;

/// How long a writer may take for its steps, on a machine that is busy with much else.
const PATIENCE: Duration = Duration::from_secs(120);
/// Size of a disk, in MiB: a store that only grows for a dozen rounds.
const DISK_MIB: u64 = 2_048;

/// Numbers that look random, from a seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// A store that lives through rounds.
pub(crate) struct Subject {
    folder: PathBuf,
    disk: Option<Disk>,
    acknowledged: Acknowledged,
    found: u64,
}

/// What a round did.
pub(crate) struct Round {
    pub(crate) power: bool,
    /// Steps that were acknowledged, of each workload.
    pub(crate) acknowledged: BTreeMap<Workload, u64>,
    /// Transactions found that are newer than the round.
    pub(crate) found: u64,
}

impl Subject {
    /// A new store in `home`: on a disk of its own that can lose power, or in the folder itself.
    pub(crate) fn new(home: &Path, power: bool) -> std::io::Result<Self> {
        let disk = power.then(|| Disk::make(home, DISK_MIB)).transpose()?;
        let folder = disk.as_ref().map_or_else(|| home.join("store"), Disk::folder);
        Ok(Self { folder, disk, acknowledged: Acknowledged::new(), found: 0 })
    }

    pub(crate) fn round(&mut self, random: &mut Random) -> Result<Round, String> {
        let steps = 1 + random.below(STEPS);
        let delay = Duration::from_micros(random.below(DELAY_US));
        // The other half of the rounds only kills the process.
        let cutter = match &self.disk {
            Some(disk) if random.below(2) == 0 => Some(disk.cutter().map_err(|error| error.to_string())?),
            _ => None,
        };
        let power = cutter.is_some();
        let mut writer = start_writer(&self.folder, random.below(3) == 0);
        let told = Told::listen(&mut writer);
        if !told.wait_for(steps) {
            return Err(format!("the writer ended by itself: {:?}", writer.wait()));
        }
        // The moment is random, not one at which something has just been acknowledged.
        std::thread::park_timeout(delay);
        // What is acknowledged after the cut doesn't count: a machine without power tells nobody anything. (The kernel
        // lets a sync that races with the cut succeed.)
        let before_the_cut = told.so_far();
        if let Some(cutter) = cutter {
            cutter.cut().map_err(|error| error.to_string())?;
        }
        writer.kill().map_err(|error| error.to_string())?;
        let until_the_kill = told.all();
        writer.wait().map_err(|error| error.to_string())?;
        let counted = if power { before_the_cut } else { until_the_kill };
        let mut acknowledged = BTreeMap::new();
        for (task, number) in &counted {
            *acknowledged.entry(task.0).or_default() += 1;
            let last = self.acknowledged.entry(*task).or_default();
            *last = (*last).max(*number);
        }
        if power && let Some(disk) = &self.disk {
            disk.start_again().map_err(|error| error.to_string())?;
        }
        let before = self.found;
        self.found = self.check(random.below(2) == 0)?;
        if self.found < before {
            return Err(format!("{before} transactions were there, now {}", self.found));
        }
        Ok(Round { power, acknowledged, found: self.found - before })
    }

    fn check(&self, close: bool) -> Checked {
        let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
        runtime.block_on(async {
            let url = format!("file:{}", self.folder.display());
            let store = Store::open(&url).await.map_err(|error| error.to_string())?;
            let mut found = 0;
            for workload in Workload::ALL {
                found += workload.check(&store, &self.acknowledged).await?;
            }
            if close {
                store.close().await;
            }
            Ok(found)
        })
    }
}

/// What a writer acknowledges, heard as it is told.
struct Told {
    steps: Arc<(Mutex<Vec<Step>>, Condvar)>,
    listener: JoinHandle<()>,
}

/// A task and the number of its step.
type Step = ((Workload, u64), u64);

impl Told {
    fn listen(writer: &mut Child) -> Self {
        let output = BufReader::new(writer.stdout.take().expect("it is piped"));
        let steps = Arc::<(Mutex<Vec<Step>>, Condvar)>::default();
        let heard = steps.clone();
        let listener = std::thread::spawn(move || {
            for step in output.lines().map_while(Result::ok).filter_map(|line| parse(&line)) {
                heard.0.lock().expect("nobody panics with it").push(step);
                heard.1.notify_all();
            }
        });
        Self { steps, listener }
    }

    /// Waits for so many steps; false if there are fewer after a time in which there should have been more.
    fn wait_for(&self, count: u64) -> bool {
        let steps = self.steps.0.lock().expect("nobody panics with it");
        let fewer = |steps: &mut Vec<Step>| (steps.len() as u64) < count;
        let waited = self.steps.1.wait_timeout_while(steps, PATIENCE, fewer);
        !waited.expect("nobody panics with it").1.timed_out()
    }

    fn so_far(&self) -> Vec<Step> {
        self.steps.0.lock().expect("nobody panics with it").clone()
    }

    /// All of them, when the writer has ended.
    fn all(self) -> Vec<Step> {
        self.listener.join().expect("the listener doesn't panic");
        std::mem::take(&mut *self.steps.0.lock().expect("nobody panics with it"))
    }
}

fn start_writer(folder: &Path, bulk: bool) -> Child {
    Command::new(std::env::current_exe().expect("the test is a program"))
        .args(["--ignored", "--exact", "writer_process", "--nocapture"])
        .env(FOLDER, folder)
        .env(BULK, if bulk { "yes" } else { "no" })
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the test's own program starts")
}

/// What the writer process does.
pub(crate) async fn write() {
    let folder = std::env::var(FOLDER).expect("given by the round");
    let bulk = std::env::var(BULK).is_ok_and(|bulk| bulk == "yes");
    let store = Store::open(&format!("file:{folder}")).await.expect("the store opens");
    let mut tasks = tokio::task::JoinSet::new();
    for workload in Workload::ALL.into_iter().filter(|workload| bulk || *workload != Workload::Bulk) {
        for task in 0..workload.tasks() {
            tasks.spawn(workload.work(store.clone(), task));
        }
    }
    // After a loss of power they fail; then there is nothing more to do but to be killed.
    while tasks.join_next().await.is_some() {}
    std::future::pending::<()>().await;
}
