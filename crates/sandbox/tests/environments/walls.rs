//! What is seen and allowed from inside. Each attempt reports what it got, so that a wall that is missing shows.

use freehold_sandbox::spec::{Exit, Mount};

use crate::harness::{Host, Running, long, python};

crate::cases![
    who_a_function_is,
    every_environment_has_its_own_user,
    the_root_is_read_only_and_small,
    mounts_are_read_only,
    host_paths_are_not_there,
    other_processes_are_not_there,
    the_init_cannot_be_reached,
    dangerous_system_calls_are_refused,
    namespaces_cannot_be_made,
    sockets_are_local,
    devices_are_the_harmless_ones,
    ordinary_programs_work,
];

async fn seen(host: &Host, script: &str) -> String {
    let (exit, text) = host.run(python(script)).await.finish().await;
    assert_eq!(exit, Exit::Status(0), "{text}");
    text
}

async fn who_a_function_is() {
    let host = Host::start();
    let script = "import os\n\
        print(os.getuid(), os.getgid(), os.getgroups(), os.uname().nodename)\n\
        for line in open('/proc/self/status'):\n  \
          if line.split(':')[0] in ('CapInh','CapPrm','CapEff','CapBnd','CapAmb','NoNewPrivs','Seccomp'): print(*line.split())\n";
    let none = "0000000000000000";
    let expected = format!(
        "993 990 [] localhost\nCapInh: {none}\nCapPrm: {none}\nCapEff: {none}\nCapBnd: {none}\nCapAmb: {none}\nNoNewPrivs: 1\nSeccomp: 2\n"
    );
    assert_eq!(seen(&host, script).await, expected);
    host.end().await;
}

/// The host's user ids of the processes that have this text in their command line.
pub(crate) fn users_of(text: &str) -> Vec<u32> {
    use std::os::unix::fs::MetadataExt;
    let mut users = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(text)
            && let Ok(status) = entry.metadata()
        {
            users.push(status.uid());
        }
    }
    users
}

async fn every_environment_has_its_own_user() {
    let host = Host::start();
    let text = long();
    let script = format!("import time; print('ready', flush=True); time.sleep({text})");
    let mut running: Vec<Running> = Vec::new();
    for _ in 0..3 {
        let mut one = host.run(python(&script)).await;
        one.wait_for("ready").await;
        running.push(one);
    }
    let mut users = users_of(&text);
    users.sort_unstable();
    users.dedup();
    assert_eq!(users.len(), 3, "{users:?}");
    assert!(users.iter().all(|user| (0x7000_0000..0x8000_0000).contains(user)), "{users:?}");
    host.end().await;
}

async fn the_root_is_read_only_and_small() {
    let host = Host::start();
    let script = "import os\n\
        print(sorted(os.listdir('/')))\n\
        print(sorted(os.listdir('/usr')))\n\
        for path in ('/', '/etc', '/var/task', '/usr/bin', '/proc/sys/kernel', '/dev', '/opt', '/run', '/var'):\n  \
          try: open(path + '/new', 'w'); print('wrote', path)\n  \
          except OSError as e: print(path, e.errno)\n\
        for path in ('/etc/passwd', '/usr/bin/env', '/proc/sys/kernel/hostname'):\n  \
          try: open(path, 'a'); print('opened', path)\n  \
          except OSError as e: print(path, e.errno)\n";
    let text = seen(&host, script).await;
    assert!(!text.contains("wrote") && !text.contains("opened"), "{text}");
    for absent in ["root", "home", "work", "mnt", "srv", "boot", "local", "src"] {
        assert!(!text.contains(&format!("'{absent}'")), "{absent}: {text}");
    }
    // Not even the owner of the files may: read-only before not permitted.
    assert!(text.contains("/etc 30") && text.contains("/ 30") && text.contains("/usr/bin 30"), "{text}");
    host.end().await;
}

async fn mounts_are_read_only() {
    use std::os::unix::fs::PermissionsExt;
    let host = Host::start();
    let code = host.folder.path().join("code");
    std::fs::create_dir(&code).unwrap();
    std::fs::set_permissions(&code, PermissionsExt::from_mode(0o777)).unwrap();
    std::fs::write(code.join("file"), "old").unwrap();
    std::fs::set_permissions(code.join("file"), PermissionsExt::from_mode(0o4777)).unwrap();
    let mut spec = python(
        "import os\n\
         def attempt(name, f):\n  \
           try: f(); print(name, 'DONE')\n  \
           except OSError as e: print(name, e.errno)\n\
         attempt('write', lambda: open('/var/task/file', 'w'))\n\
         attempt('create', lambda: open('/var/task/new', 'w'))\n\
         attempt('remove', lambda: os.remove('/var/task/file'))\n\
         attempt('chmod', lambda: os.chmod('/var/task/file', 0o777))\n\
         flags = [l.split() for l in open('/proc/self/mounts') if ' /var/task ' in l][0][3]\n\
         print(sorted(set(flags.split(',')) & {'ro', 'nosuid', 'nodev'}))\n",
    );
    spec.mounts = vec![Mount { source: code.clone(), target: "/var/task".into() }];
    let (_, text) = host.run(spec).await.finish().await;
    assert_eq!(text, "write 30\ncreate 30\nremove 30\nchmod 30\n['nodev', 'nosuid', 'ro']\n");
    assert_eq!(std::fs::read_to_string(code.join("file")).unwrap(), "old");
    host.end().await;
}

async fn host_paths_are_not_there() {
    let host = Host::start();
    let secret = host.folder.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    let script = format!(
        "import os\n\
         for path in ('{}', '/root', '/home', '/etc/shadow', '/etc/ssh', '/usr/local', '/proc/1/root/root', '/proc/1/environ',\n    \
           '/proc/1/exe', '/proc/1/maps', '/sys/kernel', '/sys/fs/cgroup/memory', '/dev/vda', '/dev/kmsg', '/dev/mem', '/var/lib',\n    \
           '/proc/kcore', '/proc/self/root/root', '/proc/self/cwd/../root', '/var/run/docker.sock', '/run/systemd', '/dev/loop-control'):\n  \
           try:\n    \
             fd = os.open(path, os.O_RDONLY)\n    \
             print('OPENED', path, os.read(fd, 10))\n  \
           except IsADirectoryError: print('OPENED', path)\n  \
           except OSError as e: pass\n",
        secret.display()
    );
    // Where the kernel has this one, it is covered by an empty file.
    assert_eq!(seen(&host, &script).await.replace("OPENED /proc/kcore b''\n", ""), "");
    host.end().await;
}

async fn other_processes_are_not_there() {
    let host = Host::start();
    let mut other = host.run(python("import time; print('ready', flush=True); time.sleep(1000)")).await;
    other.wait_for("ready").await;
    let script = "import os, signal\n\
        print(sorted(int(p) for p in os.listdir('/proc') if p.isdigit()) == [os.getpid()])\n\
        got = []\n\
        for pid in list(range(1, 2000)) + [4000000]:\n  \
          if pid == os.getpid(): continue\n  \
          try: os.kill(pid, 0); got.append(pid)\n  \
          except OSError: pass\n\
        print(got)\n";
    // Its own init may be asked, being of the same user, but is neither seen nor ended by it.
    assert_eq!(seen(&host, script).await, "True\n[1]\n");
    host.end().await;
}

async fn the_init_cannot_be_reached() {
    let host = Host::start();
    let script = "import os, signal, time\n\
        for s in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP, signal.SIGSEGV): os.kill(1, s)\n\
        for f in ('mem', 'environ', 'maps', 'fd', 'root', 'cwd', 'exe', 'ns/user', 'task/1/mem'):\n  \
          try: os.open('/proc/1/' + f, os.O_RDONLY); print('OPENED', f)\n  \
          except OSError: pass\n\
        time.sleep(0.05)\n\
        print('alive')\n";
    assert_eq!(seen(&host, script).await, "alive\n");
    host.end().await;
}

/// Calls system calls by number (x86-64 and arm64 differ) with harmless arguments, and prints what each answered.
const CALLS: &str = "import ctypes, platform, errno\n\
    libc = ctypes.CDLL(None, use_errno=True)\n\
    arm = platform.machine() == 'aarch64'\n\
    def call(name, x86, a64, *args):\n  \
      ctypes.set_errno(0)\n  \
      r = libc.syscall(ctypes.c_long(a64 if arm else x86), *[ctypes.c_long(a) for a in args])\n  \
      print(name, 'DONE' if r >= 0 else errno.errorcode[ctypes.get_errno()])\n";

async fn dangerous_system_calls_are_refused() {
    let host = Host::start();
    let script = format!(
        "{CALLS}\
         call('ptrace', 101, 117, 0, 0, 0, 0)\n\
         call('mount', 165, 40, 0, 0, 0, 0, 0)\n\
         call('umount2', 166, 39, 0, 0)\n\
         call('bpf', 321, 280, 0, 0, 0)\n\
         call('io_uring_setup', 425, 425, 1, 0)\n\
         call('keyctl', 250, 219, 0, 0)\n\
         call('add_key', 248, 217, 0, 0, 0, 0, 0)\n\
         call('userfaultfd', 323, 282, 0)\n\
         call('perf_event_open', 298, 241, 0, 0, 0, 0, 0)\n\
         call('kexec_load', 246, 104, 0, 0, 0, 0)\n\
         call('init_module', 175, 105, 0, 0, 0)\n\
         call('open_by_handle_at', 304, 265, 0, 0, 0)\n\
         call('process_vm_readv', 310, 270, 1, 0, 0, 0, 0, 0)\n\
         call('pidfd_getfd', 438, 438, 0, 0, 0)\n\
         call('seccomp', 317, 277, 0, 0, 0)\n\
         call('chroot', 161, 51, 0)\n\
         call('reboot', 169, 142, 0, 0, 0)\n\
         call('settimeofday', 164, 170, 0, 0)\n\
         call('swapon', 167, 224, 0, 0)\n\
         call('syslog', 103, 116, 3, 0, 0)\n\
         call('open_tree', 428, 428, 0, 0, 1)\n\
         call('personality', 135, 92, 0x0040000)\n\
         call('ioctl TIOCSTI', 16, 29, 0, 0x5412, 0)\n"
    );
    let text = seen(&host, &script).await;
    assert!(text.lines().count() == 23 && text.lines().all(|line| line.ends_with(" EPERM")), "{text}");
    // What nobody has heard of does not exist, so that programs fall back.
    let unknown = format!("{CALLS}call('unknown', 600, 600)\ncall('clone3', 435, 435, 0, 0)\n");
    assert_eq!(seen(&host, &unknown).await, "unknown ENOSYS\nclone3 ENOSYS\n");
    host.end().await;
}

async fn namespaces_cannot_be_made() {
    let host = Host::start();
    let script = format!(
        "{CALLS}\
         call('unshare', 272, 97, 0x10000000)\n\
         call('setns', 308, 268, 0, 0)\n\
         for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):\n  \
           call('clone', 56, 220, flag | 17, 0, 0, 0, 0)\n"
    );
    let text = seen(&host, &script).await;
    assert!(text.lines().count() == 9 && text.lines().all(|line| line.ends_with(" EPERM")), "{text}");
    host.end().await;
}

async fn sockets_are_local() {
    let host = Host::start();
    // A service of the host, on all of its addresses.
    let service = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = service.local_addr().unwrap().port();
    let script = format!(
        "import socket\n\
         for name, family, kind, protocol in (('packet', 17, 3, 0), ('raw', 2, 3, 1), ('raw6', 10, 3, 58), ('vsock', 40, 1, 0),\n    \
             ('alg', 38, 5, 0), ('netfilter', 16, 3, 12), ('audit', 16, 3, 9), ('old packet', 2, 10, 0), ('bluetooth', 31, 3, 1)):\n  \
           try: socket.socket(family, kind, protocol); print(name, 'MADE')\n  \
           except OSError as e: print(name, e.errno)\n\
         for address in (('127.0.0.1', {port}), ('169.254.169.254', 80), ('10.0.0.1', 80), ('1.1.1.1', 53)):\n  \
           try: socket.create_connection(address, 2); print(address, 'CONNECTED')\n  \
           except OSError as e: print(address[0], e.errno)\n\
         print([n for _, n in socket.if_nameindex()])\n\
         s = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(s.getsockname()); print('own loopback')\n\
         socket.socketpair(); socket.getaddrinfo('localhost', 80); print('fine')\n"
    );
    let text = seen(&host, &script).await;
    let expected = "packet 1\nraw 1\nraw6 1\nvsock 1\nalg 1\nnetfilter 1\naudit 1\nold packet 1\nbluetooth 1\n\
        127.0.0.1 111\n169.254.169.254 101\n10.0.0.1 101\n1.1.1.1 101\n['lo']\nown loopback\nfine\n";
    assert_eq!(text, expected);
    host.end().await;
}

async fn devices_are_the_harmless_ones() {
    let host = Host::start();
    let script = "import os\n\
        print(sorted(os.listdir('/dev')))\n\
        print(len(os.getrandom(8)), open('/dev/urandom', 'rb').read(4) != b'', open('/dev/zero', 'rb').read(2))\n\
        open('/dev/null', 'w').write('x')\n\
        for where in ('/tmp', '/dev/shm'):\n  \
          try: os.mknod(where + '/disk', 0o60666, os.makedev(254, 0)); print('MADE')\n  \
          except OSError as e: print(e.errno)\n";
    let expected = "['fd', 'full', 'null', 'random', 'shm', 'stderr', 'stdin', 'stdout', 'urandom', 'zero']\n\
        8 True b'\\x00\\x00'\n1\n1\n";
    assert_eq!(seen(&host, script).await, expected);
    host.end().await;
}

async fn ordinary_programs_work() {
    let host = Host::start();
    let script = "import subprocess, threading, multiprocessing, sqlite3, ssl, tempfile, mmap, socket, select, time, zoneinfo, os, signal\n\
        print(subprocess.check_output(['sh', '-c', 'echo a | tr a b; ls / | wc -l']).split()[0].decode())\n\
        t = threading.Thread(target=lambda: print('thread')); t.start(); t.join()\n\
        with multiprocessing.Pool(2) as pool: print(pool.map(abs, [-1, -2]))\n\
        db = sqlite3.connect('/tmp/db'); db.execute('create table t(x)'); db.execute('insert into t values(1)'); db.commit(); print('sqlite')\n\
        print(len(ssl.create_default_context().get_ca_certs()) > 50)\n\
        print(tempfile.mkdtemp().startswith('/tmp/'), zoneinfo.ZoneInfo('Europe/Berlin'), time.strftime('%Z'))\n\
        print(os.path.expanduser('~'), os.cpu_count() > 0)\n";
    let mut spec = python(script);
    spec.memory_mib = 256;
    let (exit, text) = host.run(spec).await.finish().await;
    let expected = "b\nthread\n[1, 2]\nsqlite\nTrue\nTrue Europe/Berlin UTC\n/home/sbx_user1051 True\n";
    assert_eq!((exit, text.as_str()), (Exit::Status(0), expected));
    if std::path::Path::new("/usr/bin/node").exists() {
        let script = "const w = new (require('worker_threads').Worker)('1', {eval: true}); w.on('exit', () => \
            require('child_process').exec('echo child', (e, out) => { require('fs').promises.writeFile('/tmp/x', out).then(() => console.log(out.trim())) }))";
        let mut spec = crate::harness::program("/usr/bin/node", &["-e", script]);
        spec.memory_mib = 512;
        assert_eq!(host.run(spec).await.finish().await, (Exit::Status(0), "child\n".to_owned()));
    }
    host.end().await;
}
