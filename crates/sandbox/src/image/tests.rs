//! Processes are captured and made again, outside of any environment: needs the right to trace.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Pid, pipe};

use super::*;

/// Goes on as the first process of a new process id namespace, so that numbers inside are the same each time. For a child between
/// fork and exec.
fn be_first_process() -> io::Result<()> {
    // SAFETY: system calls only, between fork and exec.
    unsafe {
        if libc::unshare(libc::CLONE_NEWPID) < 0 {
            return Err(io::Error::last_os_error());
        }
        match libc::fork() {
            0 => {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            }
            child => {
                // Whoever waits for the program to be executed waits for this end to be closed.
                libc::close_range(3, u32::MAX, 0);
                let mut status = 0;
                libc::waitpid(child, &raw mut status, 0);
                libc::_exit(libc::WEXITSTATUS(status));
            }
        }
    }
}

fn waits_at_gate(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|call| call.starts_with("0 0x3 "))
}

/// Runs a program up to its gate and captures it.
fn capture(program: &str, arguments: &[&str]) -> Image {
    let (gate, _hold) = pipe().expect("a pipe");
    let raw = gate.as_raw_fd();
    let mut command = Command::new(program);
    command.args(arguments);
    // SAFETY: only system calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            if libc::dup2(raw, 3) < 0 { Err(io::Error::last_os_error()) } else { be_first_process() }
        });
    }
    let mut child = command.spawn().expect("a program");
    let first = loop {
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let first = std::fs::read_to_string(children).ok().and_then(|ids| ids.trim().parse().ok());
        if let Some(first) = first.filter(|first| waits_at_gate(*first)) {
            break first;
        }
        assert!(child.try_wait().expect("a child").is_none(), "it has ended");
        std::thread::yield_now();
    };
    let image = Image::capture(Pid::from_raw(first));
    let _ = child.kill();
    let _ = child.wait();
    image.expect("an image")
}

/// Makes the captured process again, gives it this text at its gate, and returns what it prints.
fn run(image: &Image, text: &str) -> String {
    let gate = memfd_create("gate", MFdFlags::empty()).expect("a memfd");
    let mut file = std::fs::File::from(gate);
    file.write_all(text.as_bytes()).expect("room");
    std::io::Seek::rewind(&mut file).expect("a file");
    let gate = OwnedFd::from(file);
    let (gate, memory, stub) = (gate.as_raw_fd(), image.memory.as_raw_fd(), image.stub.as_raw_fd());
    let mut command = Command::new(format!("/proc/self/fd/{stub}"));
    command.stdout(Stdio::piped());
    // SAFETY: only system calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            let stub = libc::fcntl(stub, libc::F_DUPFD, 100);
            let (gate, memory) =
                (libc::fcntl(gate, libc::F_DUPFD, 100), libc::fcntl(memory, libc::F_DUPFD, 100));
            libc::dup2(gate, 3);
            libc::dup2(memory, 4);
            libc::close_range(5, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32);
            be_first_process()?;
            let empty = c"".as_ptr();
            let none = std::ptr::null::<*mut libc::c_char>();
            let list = [empty.cast_mut(), std::ptr::null_mut()];
            libc::execveat(stub, empty, list.as_ptr(), none, libc::AT_EMPTY_PATH);
            Err(io::Error::last_os_error())
        });
    }
    let mut child = command.spawn().expect("a program");
    let mut output = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut output).expect("text");
    let status = child.wait().expect("an end");
    assert!(status.success(), "{status}: {output}");
    output
}

#[test]
fn a_process_goes_on_where_it_was() {
    let python = "import posix, sys, time
table = {n: str(n) for n in range(10000)}
started = time.time()
text = posix.read(3, 100)
print(text.decode(), table[77], time.time() > started, len(posix.listdir('/proc/self/fd')))
";
    let image = capture("/usr/bin/python3", &["-c", python]);
    eprintln!("{} KiB", image.bytes / 1024);
    for n in 0..3 {
        assert_eq!(run(&image, &format!("hello {n}")), format!("hello {n} 77 True 5\n"));
    }
}
