//! A server without root. The walls, limits and ends of the other parts are tested again, as users of three kinds:
//!
//! - plain: an id that nothing was given to: no range of ids, no cgroup
//! - range: a user with a range of ids in `/etc/subuid` and `/etc/subgid`
//! - groups: an id that was given a cgroup in every hierarchy
//!
//! Root prepares each (in a mount namespace, as for the two files), and runs this program again as that user.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use freehold_sandbox::doctor::{Verdict, examine};
use freehold_sandbox::options::TmpBacking;
use freehold_sandbox::protection::Protection;
use freehold_sandbox::spec::{Exit, Mount, Network};
use freehold_sandbox::{NamespaceSandbox, Options};

use crate::harness::{self, Case, Host, Running, long, python, shell, until};
use crate::orphans::{Inside, Server, nothing_is_left, processes, recorded};
use crate::{images, limits, orphans, restart, running, walls};

/// The argument with which this program tests as an ordinary user: the kind and filters follow.
pub(crate) const ARGUMENT: &str = "sandbox-test-ordinary";
/// A user and a group that no host has.
const USER: u32 = 54_321;
/// Another group that the user is in.
const OTHER_GROUP: u32 = 54_322;
/// The first of the ids that the user is given, and how many.
const RANGE: (u32, u32) = (1_500_000_000, 65_536);

crate::cases![without_anything, with_a_range_of_ids, with_cgroups];

static KIND: OnceLock<String> = OnceLock::new();

/// What kind of user this process is.
pub(crate) fn kind() -> &'static str {
    KIND.get().map_or("root", String::as_str)
}

pub(crate) fn become_kind(kind: &str) {
    if kind != "root" {
        KIND.set(kind.to_owned()).unwrap();
    }
}

/// Does without exactly what this kind of user cannot have.
pub(crate) fn do_without(options: &mut Options) {
    let users = Protection::SeparateUsers;
    match kind() {
        "root" => return,
        "groups" => options.allow_without = vec![users],
        "range" => options.allow_without = vec![Protection::CpuShare, Protection::Freezer],
        _ => options.allow_without = vec![Protection::CpuShare, Protection::Freezer, users],
    }
    options.allow_without_memory_limit = kind() != "groups";
    options.tmp_backing = TmpBacking::Memory;
}

/// Root's tests that say something else here, or that need what this kind of user lacks.
const NOT_HERE: &[&str] = &[
    "every_environment_has_its_own_user",
    "tmp_has_its_size_and_is_not_charged",
    "inotify_is_bounded_and_nobody_elses",
    "a_normal_stop_leaves_nothing",
    "a_killed_server_and_helper_leave_only_what_the_next_start_removes",
    "a_killed_server_leaves_nothing",
    "two_servers_do_not_touch_each_other",
    // Nothing of it depends on the user, and it waits for twelve seconds.
    "one_folder_has_one_server",
];
/// What needs groups, or is seen by them.
const NOT_WITHOUT_CGROUPS: &[&str] = &[
    "freezing_stops_compute_and_thawing_resumes",
    "the_peak_of_memory_is_read",
    "memory_beyond_the_limit_ends_the_environment",
    "memory_of_a_child_counts_and_ends_everything",
    "tmp_in_memory_is_charged",
    "shared_memory_is_bounded_and_charged",
    "what_a_dead_server_left_goes_even_without_its_folder",
    "a_terminal_signal_does_not_end_the_helper",
];

/// The part of this file that is run as the user.
mod as_the_user {
    use super::*;

    crate::cases![
        what_is_missing_is_refused_by_name,
        internet_is_refused,
        who_owns_an_environment,
        what_the_user_owns_cannot_be_written,
        inotify_leaves_the_user_some,
        a_runaway_allocation_ends,
        a_stop_leaves_nothing,
        a_killed_server_leaves_nothing_here,
        a_killed_server_and_helper_leave_nothing_after_the_next_start,
        two_servers_of_one_user_do_not_touch_each_other,
    ];
}

/// Tests as the user that this process is.
pub(crate) fn run(arguments: &[String]) -> i32 {
    let [kind, filters @ ..] = arguments else { return 2 };
    become_kind(kind);
    let roots =
        [running::TESTS, images::TESTS, limits::TESTS, walls::TESTS, restart::TESTS, orphans::TESTS].concat();
    let has_groups = kind == "groups";
    let is_here =
        |name: &str| !NOT_HERE.contains(&name) && (has_groups || !NOT_WITHOUT_CGROUPS.contains(&name));
    let roots = roots.into_iter().filter(|(name, _)| is_here(name));
    let tests: Vec<Case> = roots.chain(as_the_user::TESTS.iter().copied()).collect();
    if let Some(reason) = impossible() {
        tests.iter().for_each(|(name, _)| println!("SKIPPED {name} as an ordinary user ({kind}): {reason}"));
        return 0;
    }
    println!("as an ordinary user ({kind}):");
    harness::run(&tests, filters)
}

/// Why this kernel lets no ordinary user make environments.
fn impossible() -> Option<String> {
    let missing = examine().into_iter().find(|finding| finding.verdict == Verdict::Missing)?;
    Some(format!("{}: {}", missing.name, missing.detail))
}

/// Runs this program as a user, after a script of root's.
fn again(kind: &str, script: &str, user: &str) {
    // Where the user may read it, wherever it was built.
    let folder = tempfile::tempdir().unwrap();
    open_to_all(folder.path());
    let program = folder.path().join("environments");
    fs::copy("/proc/self/exe", &program).unwrap();
    let filters: Vec<String> = std::env::var("FREEHOLD_TEST_ORDINARY").ok().into_iter().collect();
    let status = Command::new("unshare")
        .args(["--mount", "sh", "-ec"])
        .arg(format!("{script}\nexec setpriv {user} --inh-caps=-all -- \"$@\""))
        .arg("sh")
        .arg(&program)
        .args([ARGUMENT, kind])
        .args(filters)
        .status()
        .unwrap();
    assert!(status.success(), "the tests as an ordinary user ({kind}) failed: {status}");
}

fn open_to_all(path: &Path) {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

async fn without_anything() {
    again("plain", "", &format!("--reuid {USER} --regid {USER} --clear-groups"));
}

async fn with_a_range_of_ids() {
    if !Path::new("/usr/bin/newuidmap").exists() {
        println!("SKIPPED with_a_range_of_ids: newuidmap is missing (Debian's package uidmap)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    open_to_all(folder.path());
    let (first, count) = RANGE;
    let name = "freehold-test";
    let host = |file: &str| fs::read_to_string(format!("/etc/{file}")).unwrap();
    let files = [
        ("passwd", format!("{}{name}:x:{USER}:{USER}::/:/bin/sh\n", host("passwd"))),
        ("group", format!("{}{name}:x:{USER}:\n", host("group"))),
        ("subuid", format!("{name}:{first}:{count}\n")),
        ("subgid", format!("{name}:{first}:{count}\n")),
    ];
    let mut script = String::new();
    for (file, content) in files {
        let path = folder.path().join(file);
        fs::write(&path, content).unwrap();
        script += &format!("mount --bind {} /etc/{file}\n", path.display());
    }
    again("range", &script, &format!("--reuid {USER} --regid {USER} --groups {OTHER_GROUP}"));
}

/// Groups that root makes for the user, and removes.
struct Given(Vec<PathBuf>);

impl Given {
    /// One in every hierarchy, or why not.
    fn new() -> Result<Given, String> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mut given = Given(Vec::new());
        let mut controllers = String::new();
        for line in mounts.lines() {
            let parts: Vec<_> = line.split(' ').collect();
            let [_, point, kind @ ("cgroup" | "cgroup2"), options, ..] = parts.as_slice() else { continue };
            let is_used = |option: &str| ["memory", "pids", "cpu", "freezer"].contains(&option);
            if *kind == "cgroup" && !options.split(',').any(is_used) {
                continue;
            }
            let folder = Path::new(point).join(format!("freehold-given-{}", std::process::id()));
            fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            given.0.push(folder.clone());
            if *kind == "cgroup2" {
                let offered =
                    fs::read_to_string(Path::new(point).join("cgroup.controllers")).unwrap_or_default();
                for name in ["memory", "pids", "cpu"]
                    .into_iter()
                    .filter(|name| offered.split_whitespace().any(|one| one == *name))
                {
                    let _ = fs::write(Path::new(point).join("cgroup.subtree_control"), format!("+{name}"));
                }
                controllers += &fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
                for file in ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
                    std::os::unix::fs::chown(folder.join(file), Some(USER), Some(USER)).unwrap();
                }
            } else {
                controllers += &format!("{options},");
            }
            std::os::unix::fs::chown(&folder, Some(USER), Some(USER)).unwrap();
        }
        match ["memory", "pids", "cpu"].iter().find(|name| !controllers.contains(*name)) {
            Some(name) => Err(format!("no cgroup hierarchy offers {name}")),
            None => Ok(given),
        }
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        for folder in &self.0 {
            let inside = fs::read_dir(folder).into_iter().flatten().flatten();
            for entry in inside.filter(|entry| entry.path().is_dir()) {
                let _ = fs::remove_dir(entry.path());
            }
            let _ = fs::remove_dir(folder);
        }
    }
}

async fn with_cgroups() {
    let given = match Given::new() {
        Ok(given) => given,
        Err(reason) => return println!("SKIPPED with_cgroups: {reason}"),
    };
    // As systemd makes it when a user logs in.
    let own = format!("/run/user/{USER}");
    let mut script =
        format!("mkdir -p /run/user; mount -t tmpfs tmpfs /run/user; mkdir {own}; chown {USER} {own}\n");
    for folder in &given.0 {
        script += &format!("echo $$ > {}/cgroup.procs\n", folder.display());
    }
    again("groups", &script, &format!("--reuid {USER} --regid {USER} --clear-groups"));
    let left: Vec<_> = given.0.iter().flat_map(|folder| fs::read_dir(folder).unwrap().flatten()).collect();
    let left: Vec<_> =
        left.iter().filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name()).collect();
    // Where our own processes had to go, so that there could be others beside them.
    assert!(left.iter().all(|name| name == "freehold-host"), "{left:?}");
}

async fn what_is_missing_is_refused_by_name() {
    let folder = harness::folder();
    let start = |options: Options| NamespaceSandbox::start(options).map(drop).unwrap_err().to_string();
    let refusal = start(Options::new(folder.path().join("sandbox")));
    let expected = match kind() {
        "groups" => "serve`: --function-tmp memory --allow-without separate-users\n",
        "range" => {
            "serve`: --function-tmp memory --allow-without-memory-limit --allow-without cpu-share,freezer\n"
        }
        _ => {
            "serve`: --function-tmp memory --allow-without-memory-limit --allow-without cpu-share,freezer,separate-users\n"
        }
    };
    assert!(refusal.contains(expected), "{refusal}");
    let all = harness::options(folder.path().join("sandbox"));
    let without_one = Options { tmp_backing: TmpBacking::Disk, ..all.clone() };
    assert!(start(without_one).contains("serve`: --function-tmp memory\n"));
    for waived in &all.allow_without {
        let mut options = all.clone();
        options.allow_without.retain(|protection| protection != waived);
        let refusal = start(options);
        assert!(refusal.contains(waived.name()) && refusal.contains("serve`: --allow-without "), "{refusal}");
    }
    assert!(!folder.path().join("sandbox").exists(), "a refusal makes nothing");
}

async fn internet_is_refused() {
    let folder = harness::folder();
    let options = Options { network: Network::Internet, ..harness::options(folder.path().join("sandbox")) };
    let refusal = NamespaceSandbox::start(options).map(drop).unwrap_err().to_string();
    assert!(refusal.contains("as root"), "{refusal}");
}

async fn who_owns_an_environment() {
    let host = Host::start();
    let mut running: Vec<Running> = Vec::new();
    for _ in 0..3 {
        let script = "import os, time; print('ready 65433', os.getgroups(), flush=True); time.sleep(1000)";
        let mut one = host.run(python(script)).await;
        // No group of the user's, where the kernel lets go of them.
        assert_eq!(one.wait_for("ready").await, "ready 65433 []\n");
        running.push(one);
    }
    let mut users = walls::users_of("ready 65433");
    users.sort_unstable();
    users.dedup();
    if kind() == "range" {
        let range = RANGE.0..RANGE.0 + RANGE.1;
        assert!(users.len() == 3 && users.iter().all(|user| range.contains(user)), "{users:?}");
    } else {
        assert_eq!(users, [nix::unistd::getuid().as_raw()]);
    }
    host.end().await;
}

/// Also where the function is, outside, the owner of what is mounted.
async fn what_the_user_owns_cannot_be_written() {
    let host = Host::start();
    let code = host.folder.path().join("code");
    fs::create_dir(&code).unwrap();
    fs::write(code.join("file"), "old").unwrap();
    fs::write(host.folder.path().join("private"), "secret").unwrap();
    let script = format!(
        "import os, ctypes\n\
         def attempt(name, f):\n  \
           try: f(); print(name, 'DONE')\n  \
           except OSError as e: print(name, e.errno)\n\
         libc = ctypes.CDLL(None, use_errno=True)\n\
         def call(result):\n  \
           if result < 0: raise OSError(ctypes.get_errno(), '')\n\
         attempt('write', lambda: open('/var/task/file', 'w'))\n\
         attempt('chmod', lambda: os.chmod('/var/task/file', 0o777))\n\
         attempt('remount', lambda: call(libc.mount(None, b'/var/task', None, 0x1020, None)))\n\
         attempt('unmount', lambda: call(libc.umount2(b'/var/task', 2)))\n\
         attempt('private', lambda: open('{}'))\n\
         attempt('above', lambda: open('/var/task/../private'))\n\
         attempt('setuid', lambda: os.setuid(0))\n\
         attempt('setgroups', lambda: os.setgroups([0]))\n",
        host.folder.path().join("private").display()
    );
    let mut spec = python(&script);
    spec.mounts = vec![Mount { source: code.clone(), target: "/var/task".into() }];
    let (exit, text) = host.run(spec).await.finish().await;
    let expected = "write 30\nchmod 30\nremount 1\nunmount 1\nprivate 2\nabove 2\nsetuid 22\nsetgroups 1\n";
    assert_eq!((exit, text.as_str()), (Exit::Status(0), expected));
    assert_eq!(fs::read_to_string(code.join("file")).unwrap(), "old");
    host.end().await;
}

async fn inotify_leaves_the_user_some() {
    let host = Host::start();
    let script = "import ctypes, errno, time\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        count = 0\n\
        while libc.inotify_init1(0) >= 0: count += 1\n\
        print(count, errno.errorcode[ctypes.get_errno()], flush=True)\n\
        time.sleep(1000)\n";
    let mut greedy = Vec::new();
    for number in 0..12 {
        let mut running = host.run(python(script)).await;
        let text = running.wait_for("\n").await;
        assert!(number > 0 || text == "16 EMFILE\n", "{text}");
        greedy.push(running);
    }
    nix::sys::inotify::Inotify::init(nix::sys::inotify::InitFlags::IN_CLOEXEC).unwrap();
    host.end().await;
}

async fn a_runaway_allocation_ends() {
    let host = Host::start();
    let (exit, text) = host.run(python("x = bytearray(3000 << 20); print('got it')")).await.finish().await;
    if kind() == "groups" {
        assert_eq!((exit, text.as_str()), (Exit::OutOfMemory, ""));
    } else {
        assert!(exit == Exit::Status(1) && text.contains("MemoryError"), "{exit:?} {text}");
    }
    host.end().await;
}

async fn a_stop_leaves_nothing() {
    let host = Host::start();
    let state = host.folder.path().join("sandbox");
    let cgroups = recorded(&state);
    assert_eq!(!cgroups.is_empty(), kind() == "groups");
    let text = long();
    let mut running = host.run(shell(&format!("(setsid sleep {text} &); echo ready; sleep {text}"))).await;
    running.wait_for("ready").await;
    assert!(!processes(&text).is_empty());
    let inside = Inside::of(std::process::id());
    host.sandbox.shutdown().await;
    nothing_is_left(&text, &state, &cgroups, &inside).await;
}

async fn a_killed_server_leaves_nothing_here() {
    let mut server = Server::start();
    let (state, cgroups, inside) = (server.state(), recorded(&server.state()), server.inside());
    server.kill();
    nothing_is_left(&server.text, &state, &cgroups, &inside).await;
}

async fn a_killed_server_and_helper_leave_nothing_after_the_next_start() {
    let mut server = Server::start();
    let (state, cgroups, inside) = (server.state(), recorded(&server.state()), server.inside());
    server.kill_both();
    until("the processes are gone", || processes(&server.text).is_empty()).await;
    let next = NamespaceSandbox::start(harness::options(&state)).unwrap();
    next.shutdown().await;
    nothing_is_left(&server.text, &state, &cgroups, &inside).await;
}

async fn two_servers_of_one_user_do_not_touch_each_other() {
    let mut first = Server::start();
    let count = processes(&first.text).len();
    let mut second = Server::start();
    let (state, cgroups) = (second.state(), recorded(&first.state()));
    second.kill();
    until("the second is gone", || processes(&second.text).is_empty() && recorded(&state).is_empty()).await;
    assert_eq!(processes(&first.text).len(), count);
    assert!(cgroups.iter().all(|folder| folder.exists()));
    first.kill();
    let gone = || processes(&first.text).is_empty() && !cgroups.iter().any(|folder| folder.exists());
    until("the first is gone", gone).await;
}
