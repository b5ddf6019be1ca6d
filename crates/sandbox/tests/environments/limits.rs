//! Memory, processes, descriptors, `/tmp`.

use std::time::Duration;

use freehold_sandbox::options::TmpBacking;
use freehold_sandbox::spec::{Exit, Sandbox};

use crate::harness::{Host, python, shell, until};

crate::cases![
    memory_beyond_the_limit_ends_the_environment,
    memory_of_a_child_counts_and_ends_everything,
    memory_below_the_limit_is_fine,
    tmp_has_its_size_and_is_not_charged,
    tmp_of_another_size_has_that_size,
    tmp_in_memory_is_charged,
    tmp_is_new_every_time,
    tmp_that_was_touched_is_never_used_again,
    tmp_that_was_not_touched_is_used_again,
    shared_memory_is_bounded_and_charged,
    a_fork_bomb_is_bounded_and_removed,
    descriptors_and_core_dumps_are_bounded,
    inotify_is_bounded_and_nobody_elses,
    a_neighbour_goes_on_beside_a_hungry_one,
];

async fn memory_beyond_the_limit_ends_the_environment() {
    let host = Host::start();
    let running = host
        .run(python("x = bytearray(100 << 20); print('below', flush=True); y = bytearray(100 << 20)"))
        .await;
    let environment = running.environment.clone();
    assert_eq!(running.finish().await, (Exit::OutOfMemory, "below\n".to_owned()));
    let peak = environment.memory_peak_bytes();
    assert!((100 << 20..=128 << 20).contains(&peak), "{peak}");
    host.end().await;
}

async fn memory_of_a_child_counts_and_ends_everything() {
    let host = Host::start();
    let script = "python3 -I -c 'x = bytearray(200 << 20)'; sleep 1000; echo survived";
    assert_eq!(host.shell(script).await, (Exit::OutOfMemory, String::new()));
    host.end().await;
}

async fn memory_below_the_limit_is_fine() {
    let host = Host::start();
    let mut spec = python("x = bytearray(200 << 20); print(len(x))");
    spec.memory_mib = 256;
    assert_eq!(host.run(spec).await.finish().await, (Exit::Status(0), "209715200\n".to_owned()));
    host.end().await;
}

const FILL: &str = "import os\n\
    f = open('/tmp/fill', 'wb', buffering=0)\n\
    n = 0\n\
    try:\n  \
      while True: n += f.write(b'x' * (1 << 20))\n\
    except OSError as e: print(n >> 20, e.errno)\n";

async fn tmp_has_its_size_and_is_not_charged() {
    let host = Host::start();
    // Four times the memory, all of it from memory that has just been written: it must be written out, not be counted.
    let script =
        format!("{FILL}x = bytearray(60 << 20); s = os.statvfs('/tmp'); print(s.f_bavail * s.f_frsize)");
    let (exit, text) = host.run(python(&script)).await.finish().await;
    assert_eq!(exit, Exit::Status(0), "{text}");
    let written: u32 = text.split(' ').next().unwrap().parse().unwrap();
    // ENOSPC; what is left is less than one more MiB, as the file system needs a few blocks to find the content again.
    let left: u32 = text.lines().nth(1).unwrap().parse().unwrap();
    assert!((511..=512).contains(&written) && text.contains(" 28\n") && left < 1 << 20, "{text}");
    let (_, text) = host
        .run(python("import os; s = os.statvfs('/tmp'); print(s.f_bavail * s.f_frsize)"))
        .await
        .finish()
        .await;
    assert_eq!(text, "536870912\n");
    host.end().await;
}

async fn tmp_of_another_size_has_that_size() {
    let host = Host::start();
    for size in [64_u32, 1000, 10_240] {
        let mut spec =
            python("import os; s = os.statvfs('/tmp'); print(s.f_bavail * s.f_frsize); open('/tmp/x', 'w')");
        spec.tmp_mib = size;
        let (exit, text) = host.run(spec).await.finish().await;
        assert_eq!(exit, Exit::Status(0), "{text}");
        let free: u64 = text.trim().parse().unwrap();
        let wanted = u64::from(size) << 20;
        assert!((wanted..wanted + (1 << 20)).contains(&free), "{size} MiB: {free}");
    }
    host.end().await;
}

async fn tmp_in_memory_is_charged() {
    let host = Host::with(|options| options.tmp_backing = TmpBacking::Memory);
    assert_eq!(host.run(python(FILL)).await.finish().await.0, Exit::OutOfMemory);
    let mut spec = python(FILL);
    spec.tmp_mib = 20;
    assert_eq!(host.run(spec).await.finish().await, (Exit::Status(0), "20 28\n".to_owned()));
    host.end().await;
}

async fn tmp_is_new_every_time() {
    let host = Host::start();
    for _ in 0..6 {
        let (_, text) = host.shell("ls -a /tmp; echo secret > /tmp/secret; sync").await;
        assert_eq!(text, ".\n..\n");
    }
    host.end().await;
}

/// A `/tmp` that nobody touched comes back; this is what must not come back with it.
async fn tmp_that_was_touched_is_never_used_again() {
    const LOOK: &str = "import os, stat\n\
        s = os.stat('/tmp'); v = os.statvfs('/tmp')\n\
        print(oct(s.st_mode), s.st_nlink, s.st_size, os.listdir('/tmp'), os.listxattr('/tmp'), v.f_bfree, v.f_ffree, \
        s.st_uid, s.st_mtime_ns < 10**18 * 9)";
    let traces = [
        "",
        "open('/tmp/x', 'w').write('secret')",
        "open('/tmp/x', 'w').write('secret'); os.unlink('/tmp/x')",
        "os.mkdir('/tmp/y'); os.rmdir('/tmp/y')",
        "os.chmod('/tmp', 0o755)",
        "os.utime('/tmp', ns=(1, 2))",
        "f = os.open('/tmp', os.O_TMPFILE | os.O_RDWR); os.write(f, b'secret' * 10000)",
        "try: os.setxattr('/tmp', 'user.trace', b'secret')\nexcept OSError: pass",
        "os.symlink('x', '/tmp/z')",
    ];
    let host = Host::start();
    let mut clean = None;
    for trace in traces {
        let (exit, text) = host.run(python(&format!("{LOOK}\n{trace}"))).await.finish().await;
        assert_eq!(exit, Exit::Status(0), "{trace}: {text}");
        let first = clean.get_or_insert_with(|| text.clone());
        assert_eq!(&text, first, "what was left by something before {trace:?} shows");
    }
    host.end().await;
}

/// Environments that follow each other and leave `/tmp` alone get the same file system, which takes the kernel long to make.
async fn tmp_that_was_not_touched_is_used_again() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let host = Host::start();
    let mut devices = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..12 {
        let (_, text) = host.shell("grep ' /tmp ' /proc/self/mounts; true").await;
        *devices.entry(text).or_default() += 1;
    }
    assert!(devices.values().any(|count| *count > 1), "{devices:?}");
    host.end().await;
}

async fn shared_memory_is_bounded_and_charged() {
    let host = Host::start();
    let (exit, text) = host.run(python(&FILL.replace("/tmp/fill", "/dev/shm/fill"))).await.finish().await;
    assert_eq!((exit, text.as_str()), (Exit::Status(0), "64 28\n"));
    let more = format!("{}x = bytearray(80 << 20)", FILL.replace("/tmp/fill", "/dev/shm/fill"));
    assert_eq!(host.run(python(&more)).await.finish().await.0, Exit::OutOfMemory);
    host.end().await;
}

async fn a_fork_bomb_is_bounded_and_removed() {
    let host = Host::start();
    let script = "import os, time\n\
        n = 0\n\
        try:\n  \
          while True:\n    \
            if os.fork() == 0: time.sleep(1000)\n    \
            n += 1\n\
        except BlockingIOError: print(n, flush=True)\n\
        time.sleep(1000)\n";
    let mut spec = python(script);
    spec.memory_mib = 1024;
    let mut running = host.run(spec).await;
    assert_eq!(running.wait_for("\n").await, "1023\n");
    assert_eq!(host.shell("echo neighbour").await.1, "neighbour\n");
    running.environment.stop(Duration::ZERO).await;
    // One that never stops trying.
    let mut running = host.run(shell("bomb() { bomb | bomb & }; echo ready; while :; do bomb; done")).await;
    running.wait_for("ready").await;
    assert_eq!(host.shell("echo neighbour").await.1, "neighbour\n");
    running.environment.stop(Duration::ZERO).await;
    host.end().await;
}

async fn descriptors_and_core_dumps_are_bounded() {
    let host = Host::start();
    let (_, text) =
        host.shell("ulimit -n; ulimit -Hn; ulimit -c; ulimit -Hc; ls /proc/self/fd | wc -l").await;
    // 0, 1, 2, and the listing itself.
    assert_eq!(text, "1024\n1024\n0\n0\n4\n");
    host.end().await;
}

async fn inotify_is_bounded_and_nobody_elses() {
    let host = Host::start();
    let script = "import ctypes, errno\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        count = 0\n\
        while libc.inotify_init1(0) >= 0: count += 1\n\
        print(count, errno.errorcode[ctypes.get_errno()], flush=True)\n\
        import time; time.sleep(1000)\n";
    let mut greedy = Vec::new();
    // Together they take more than one user of the host may have by default (128).
    for _ in 0..3 {
        let mut running = host.run(python(script)).await;
        assert_eq!(running.wait_for("\n").await, "64 EMFILE\n");
        greedy.push(running);
    }
    // Somebody else's may be used up for a while, but these three stay.
    let gets_one = || nix::sys::inotify::Inotify::init(nix::sys::inotify::InitFlags::IN_CLOEXEC).is_ok();
    until("the host still gets one", gets_one).await;
    let limits = "import os\n\
        for n in sorted(os.listdir('/proc/sys/user')): print(n, open('/proc/sys/user/' + n).read().strip())\n\
        try: open('/proc/sys/user/max_inotify_instances', 'w').write('100')\n\
        except OSError as e: print(e.errno)\n";
    let (_, text) = host.run(python(limits)).await.finish().await;
    assert!(text.contains("max_inotify_watches 8192\n") && text.ends_with("\n30\n"), "{text}");
    for line in text.lines().filter(|line| line.contains("_namespaces")) {
        assert!(line.ends_with(" 0"), "{line}");
    }
    host.end().await;
}

async fn a_neighbour_goes_on_beside_a_hungry_one() {
    let host = Host::start();
    let mut hungry = shell("for i in 1 2 3 4 5 6 7 8; do (while :; do :; done) & done; echo ready; wait");
    hungry.cpu_millis = 1000;
    let mut hungry = host.run(hungry).await;
    hungry.wait_for("ready").await;
    for _ in 0..5 {
        let (environment, _channels) = host.sandbox.start(shell("sleep 10")).await.unwrap();
        environment.stop(Duration::ZERO).await;
    }
    hungry.environment.stop(Duration::ZERO).await;
    host.end().await;
}
