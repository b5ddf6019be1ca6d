//! A process is captured at its gate and goes on in other environments.

use std::sync::Arc;

use freehold_sandbox::image::Image;
use freehold_sandbox::spec::{Beginning, Exit, Sandbox, SandboxError, Spec};

use crate::harness::{Host, Running, python};

crate::cases![
    a_copy_goes_on_where_the_template_waited,
    copies_are_walled_in_like_any_other_program,
    copies_share_nothing_that_they_write,
    threads_go_on,
    copies_have_other_random_numbers,
    node_goes_on,
    what_was_open_is_open_again,
    an_image_outlives_the_helper,
    what_cannot_be_captured_says_why,
    a_template_that_ends_is_no_image,
];

/// Comes to the gate, and then does what follows with `told`, the copy's variables.
const TO_THE_GATE: &str = "
import posix, sys, time
table = {n: str(n) for n in range(100000)}
def gate():
    posix.write(3, b'here')
    told = b''
    while more := posix.read(3, 65536):
        told += more
    posix.close(3)
    return dict(line.decode().split('=', 1) for line in told.split(b'\\0') if line)
";

fn template(script: &str) -> Spec {
    Spec { beginning: Beginning::Template, ..python(&format!("{TO_THE_GATE}{script}")) }
}

fn copy(image: &Arc<Image>, told: &str) -> Spec {
    let mut spec = python("");
    spec.beginning = Beginning::Copy(Arc::clone(image));
    spec.variables.push(("TOLD".to_owned(), told.to_owned()));
    spec
}

async fn capture(host: &Host, script: &str) -> Arc<Image> {
    let (environment, _channels) = host.sandbox.start(template(script)).await.unwrap();
    environment.capture().await.unwrap()
}

async fn a_copy_goes_on_where_the_template_waited() {
    let host = Host::start();
    let image = capture(
        &host,
        "told = gate(); environ = open('/proc/self/environ', 'rb').read().split(b'\\0'); print(told['TOLD'], ('TOLD=' + told['TOLD']).encode() in environ, table[77777], len(posix.listdir('/proc/self/fd')))",
    )
    .await;
    assert!(image.bytes() > 1 << 20, "{} bytes", image.bytes());
    // More than there are places ready: a place that was used before has a user namespace already.
    for told in ["one", "two", "three", "four", "five", "six", "seven"] {
        let (exit, text) = host.run(copy(&image, told)).await.finish().await;
        assert_eq!((exit, text), (Exit::Status(0), format!("{told} True 77777 4\n")));
    }
    host.end().await;
}

async fn copies_are_walled_in_like_any_other_program() {
    let host = Host::start();
    let look = "
gate()
status = dict(line.split(':', 1) for line in open('/proc/self/status').read().splitlines())
for name in ('Uid', 'CapEff', 'CapPrm', 'CapBnd', 'NoNewPrivs', 'Seccomp'):
    print(name, status[name].split())
print(sorted(name for name in posix.listdir('/proc') if not name.isdigit()), posix.getcwd(), posix.uname().nodename)
for attempt in (lambda: open('/x', 'w'), lambda: posix.setuid(0), lambda: posix.chroot('/'), lambda: open('/proc/self/exe', 'r+b')):
    try:
        attempt(); print('allowed')
    except OSError as error:
        print(error.strerror)
import resource
print(resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE))
";
    let image = capture(&host, look).await;
    let copied = host.run(copy(&image, "")).await.finish().await;
    let executed = host.run(python(&format!("{TO_THE_GATE}gate = lambda: None{look}"))).await.finish().await;
    assert_eq!(copied, executed);
    assert_eq!(copied.0, Exit::Status(0), "{}", copied.1);
    assert!(!copied.1.contains("allowed"), "{}", copied.1);
    host.end().await;
}

async fn copies_share_nothing_that_they_write() {
    let host = Host::start();
    let script = "
told = gate()
before = table.get('mark')
table['mark'] = told['TOLD']
open('/tmp/mark', 'x').write(told['TOLD'])
sys.stdout.write('%s %s %s\\n' % (before, table['mark'], posix.listdir('/dev/shm'))); sys.stdout.flush()
time.sleep(3600)
";
    let image = capture(&host, script).await;
    let mut running = Vec::new();
    for n in 0..5 {
        let mut copy: Running = host.run(copy(&image, &format!("secret-{n}"))).await;
        assert_eq!(copy.wait_for("\n").await, format!("None secret-{n} []\n"));
        running.push(copy);
    }
    host.end().await;
}

async fn threads_go_on() {
    let host = Host::start();
    let script = "
import threading, queue
asked, answered = queue.Queue(), queue.Queue()
def work(name):
    while True:
        item = asked.get()
        answered.put((name, threading.get_native_id(), item * 2))
workers = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(3)]
gone = threading.Thread(target=lambda: None); 
workers[0].start(); gone.start(); gone.join(); workers[1].start(); workers[2].start()
ids = [worker.native_id for worker in workers]; before = posix.getpid()
gate()
for n in range(30):
    asked.put(n)
answers = [answered.get(timeout=20) for _ in range(30)]
print(sorted(answer[2] for answer in answers) == [n * 2 for n in range(30)], all(native == ids[name] + posix.getpid() - before for name, native, _ in answers))
extra = threading.Thread(target=print, args=('a new thread',)); extra.start(); extra.join()
";
    let image = capture(&host, script).await;
    for _ in 0..3 {
        let (exit, text) = host.run(copy(&image, "")).await.finish().await;
        assert_eq!((exit, text.as_str()), (Exit::Status(0), "True True\na new thread\n"));
    }
    host.end().await;
}

async fn copies_have_other_random_numbers() {
    let host = Host::start();
    let script = "
import ssl, uuid, secrets
ssl.RAND_bytes(8)
before = posix.getpid()
gate()
print(before != posix.getpid(), ssl.RAND_bytes(16).hex(), uuid.uuid4().hex, secrets.token_hex())
";
    let image = capture(&host, script).await;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..4 {
        let (exit, text) = host.run(copy(&image, "")).await.finish().await;
        assert_eq!(exit, Exit::Status(0), "{text}");
        let words: Vec<_> = text.split_whitespace().collect();
        assert_eq!((words.len(), words[0]), (4, "True"), "{text}");
        for random in &words[1..] {
            assert!(seen.insert((*random).to_owned()), "{random} twice");
        }
    }
    host.end().await;
}

async fn what_was_open_is_open_again() {
    let host = Host::start();
    let script = "
import select, socket
file = open('/etc/services', 'rb'); first = file.readline()
posix.dup2(posix.eventfd(5, posix.EFD_NONBLOCK), 40); posix.close(posix.dup2(40, 41))
epoll = select.epoll()
reader, writer = posix.pipe()
full, fill = posix.pipe(); posix.write(fill, b'kept')
posix.dup2(reader, 33); posix.close(reader); reader = 33
epoll.register(reader, select.EPOLLIN)
output = posix.dup(1)
listener = socket.create_server(('127.0.0.1', 7000))
client = socket.create_connection(('127.0.0.1', 7000)); listener.close()
def is_open(number):
    try:
        return bool(posix.fstat(number))
    except OSError:
        return False
opened = lambda: [number for number in range(4, 1024) if is_open(number)]
before = opened()
gate()
print(opened() == before, len(before) > 6)
print(len(file.readline()) > 0 and file.tell() > len(first), int.from_bytes(posix.read(40, 8), 'little'))
print(epoll.poll(0), posix.write(writer, b'abc'), epoll.poll(5) == [(33, select.EPOLLIN)], posix.read(33, 10), posix.read(full, 10))
try:
    client.sendall(b'x'); print('sent')
except OSError as error:
    print(type(error).__name__)
sys.stdout.flush(); posix.write(output, b'through a copy\\n')
";
    let image = capture(&host, script).await;
    let (exit, text) = host.run(copy(&image, "")).await.finish().await;
    let expected = "True True\nTrue 5\n[] 3 True b'abc' b'kept'\nBrokenPipeError\nthrough a copy\n";
    assert_eq!((exit, text.as_str()), (Exit::Status(0), expected));
    host.end().await;
}

async fn an_image_outlives_the_helper() {
    let host = Host::start();
    let image = capture(&host, "print(gate()['TOLD'])").await;
    host.end().await;
    let host = Host::start();
    assert_eq!(host.run(copy(&image, "later")).await.finish().await.1, "later\n");
    host.end().await;
}

async fn what_cannot_be_captured_says_why() {
    let host = Host::start();
    for (script, reason) in [
        ("import mmap; shared = mmap.mmap(-1, 4096); gate()", "shares memory"),
        ("process = posix.fork()\nif not process: time.sleep(3600)\ngate()", "processes of its own"),
        ("import signal; signal.setitimer(signal.ITIMER_REAL, 3600); gate()", "timers"),
        (
            "reader, writer = posix.pipe(); posix.set_blocking(writer, False); posix.write(writer, b'x' * 5000); gate()",
            "too full",
        ),
        (
            "import signal; signals = posix.eventfd(0); folder = posix.open('/tmp', 0); gate()",
            "a folder open",
        ),
        ("import socket; listener = socket.create_server(('127.0.0.1', 9000)); gate()", "open"),
        (
            "import threading\ndef spin():\n  while True: pass\nthreading.Thread(target=spin, daemon=True).start(); gate()",
            "at work",
        ),
    ] {
        let (environment, _channels) = host.sandbox.start(template(script)).await.unwrap();
        match environment.capture().await {
            Err(SandboxError::NotCaptured { reason: told, .. }) => {
                assert!(told.contains(reason), "{script}: {told}");
            }
            other => panic!("{script}: {other:?}"),
        }
        assert_eq!(environment.exited().await, Exit::Killed);
    }
    host.end().await;
}

async fn a_template_that_ends_is_no_image() {
    let host = Host::start();
    let (environment, _channels) = host.sandbox.start(template("sys.exit(3)")).await.unwrap();
    assert_eq!(environment.exited().await, Exit::Status(3));
    assert!(matches!(environment.capture().await, Err(SandboxError::NotCaptured { .. })));
    host.end().await;
}

async fn node_goes_on() {
    if !std::path::Path::new("/usr/bin/node").exists() {
        return println!("SKIPPED node_goes_on: there is no /usr/bin/node");
    }
    let host = Host::start();
    let script = "
const fs = require('fs');
const before = process.hrtime.bigint();
fs.writeSync(3, 'here');
const told = fs.readFileSync(3, 'utf8').split('\\0');
const random = require('crypto').randomBytes(8).toString('hex');
require('v8').setFlagsFromString('--random-seed=' + (1 + require('crypto').randomInt(2 ** 30)));
const { Worker } = require('worker_threads');
let sum = 0; for (let n = 0; n < 5e6; n++) sum += n % 7;
setTimeout(() => fs.readFile('/etc/passwd', (error, text) => {
  const server = require('net').createServer((socket) => socket.end('bye')).listen(7000, '127.0.0.1', () => {
    require('net').connect(7000, '127.0.0.1').on('data', (data) => {
      console.log(told.filter((line) => line.startsWith('TOLD')).join(), random, Math.random(), sum, text.length > 10, data.toString());
      process.exit(0);
    });
  });
}), 5);
";
    let mut spec = crate::harness::program("/usr/bin/node", &["-e", script]);
    spec.beginning = Beginning::Template;
    spec.memory_mib = 512;
    let (environment, channels) = host.sandbox.start(spec).await.unwrap();
    let image = match environment.capture().await {
        Ok(image) => image,
        Err(error) => panic!("{error}: {}", Running::new(environment, channels).finish().await.1),
    };
    let mut seen = std::collections::HashSet::new();
    for told in ["one", "two", "three"] {
        let mut spec = copy(&image, told);
        spec.memory_mib = 512;
        let (exit, text) = host.run(spec).await.finish().await;
        let words: Vec<_> = text.split_whitespace().collect();
        assert!(
            exit == Exit::Status(0) && words.len() == 6 && words[0] == format!("TOLD={told}"),
            "{exit:?} {text}"
        );
        assert_eq!(words[3..], ["14999995", "true", "bye"], "{text}");
        assert!(seen.insert(words[1].to_owned()) && seen.insert(words[2].to_owned()), "{text}");
    }
    println!("{} KiB", image.bytes() / 1024);
    host.end().await;
}
