//! Starts the program of an environment, whose init calls this once it has given up everything: by executing it, or, where it
//! was captured before, by executing the stub that becomes it.

use std::ffi::{CStr, CString};
use std::fs;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{Pid, pipe2};

use super::maker::{During, Failure};
use crate::image::{GATE, MEMORY, NUMBERS_APART};
use crate::message::{Beginning, EXECUTE, Order};
use crate::system::{Forked, exit_now, fork, pass_process_number};

/// The first descriptor that is in nobody's way.
const ASIDE: i32 = 64;

/// A program that runs.
pub(super) struct Started {
    pub(super) process: Pid,
    /// The other end of a template's gate.
    pub(super) gate: Option<OwnedFd>,
}

/// What a program is started with beside its order.
struct Texts {
    program: CString,
    arguments: Vec<CString>,
    variables: Vec<CString>,
}

impl Texts {
    fn of(order: &Order) -> io::Result<Texts> {
        let program = CString::new(order.program.as_os_str().as_bytes())?;
        let mut arguments = vec![program.clone()];
        for argument in &order.arguments {
            arguments.push(CString::new(argument.as_bytes())?);
        }
        let variables = order.variables.iter().map(|(name, value)| CString::new(format!("{name}={value}")));
        let variables = variables.collect::<Result<_, _>>()?;
        Ok(Texts { program, arguments, variables })
    }
}

/// Forks the program, and waits until it runs or could not. `image` is its memory and stub, where it has been captured.
pub(super) fn start(order: &Order, output: &OwnedFd, image: Vec<OwnedFd>) -> Result<Started, Failure> {
    const STEP: &str = "start the program of";
    let texts = Texts::of(order).during(STEP)?;
    let (gate, inner) = gate(order.beginning, &texts).during(STEP)?;
    if order.beginning == Beginning::Copy {
        (0..NUMBERS_APART).try_for_each(|_| pass_process_number()).during(STEP)?;
    }
    let (problem, tell) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).during(STEP)?;
    match fork().during(STEP)? {
        Forked::Child => {
            let error = prepare(order, output).and_then(|()| execute(&texts, inner, image));
            let error = error.err().unwrap_or(Errno::UnknownErrno) as i32;
            let _ = nix::unistd::write(tell.as_fd(), &error.to_ne_bytes());
            exit_now(127)
        }
        Forked::Parent(process) => {
            drop(tell);
            let mut error = [0; 4];
            match fs::File::from(problem).read(&mut error) {
                Ok(0) => Ok(Started { process, gate }),
                _ => Err(Errno::from_raw(i32::from_ne_bytes(error)).desc()).during(EXECUTE),
            }
        }
    }
}

/// The two ends of the gate, where there is one: a template's leads to this process, a copy's holds its variables.
fn gate(beginning: Beginning, texts: &Texts) -> io::Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    match beginning {
        Beginning::Program => Ok((None, None)),
        Beginning::Template => {
            let (ours, theirs) =
                socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
            Ok((Some(ours), Some(theirs)))
        }
        Beginning::Copy => {
            let mut file = fs::File::from(memfd_create("gate", MFdFlags::MFD_CLOEXEC)?);
            let variables: Vec<u8> =
                texts.variables.iter().flat_map(|variable| variable.as_bytes_with_nul()).copied().collect();
            file.write_all(&variables)?;
            file.rewind()?;
            Ok((None, Some(file.into())))
        }
    }
}

/// The last steps before exec, in the program's own process.
fn prepare(order: &Order, output: &OwnedFd) -> nix::Result<()> {
    nix::unistd::setsid()?;
    for reset in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE] {
        // SAFETY: the default action installs no handler.
        unsafe { signal(reset, SigHandler::SigDfl) }?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    // Standard input is /dev/null since the maker; everything else closes on exec.
    nix::unistd::dup2_stdout(output)?;
    nix::unistd::dup2_stderr(output)?;
    nix::unistd::chdir(&order.working_directory)
}

/// Becomes the program. Returns only if it cannot.
fn execute(texts: &Texts, gate: Option<OwnedFd>, image: Vec<OwnedFd>) -> nix::Result<()> {
    // Both may be where the other belongs.
    let aside = |file: &OwnedFd| fcntl(file, FcntlArg::F_DUPFD_CLOEXEC(ASIDE));
    let gate = gate.as_ref().map(aside).transpose()?;
    let image = image.iter().map(aside).collect::<nix::Result<Vec<_>>>()?;
    let keep = |file: i32, number: u8| {
        // SAFETY: these numbers belong to nobody here any more: exec follows.
        Errno::result(unsafe { libc::dup2(file, i32::from(number)) }).map(drop)
    };
    if let Some(gate) = gate {
        keep(gate, GATE)?;
    }
    match image[..] {
        [memory, stub] => {
            keep(memory, MEMORY)?;
            // SAFETY: made just above, and open until exec.
            let stub = unsafe { std::os::fd::BorrowedFd::borrow_raw(stub) };
            let nothing: [&CStr; 0] = [];
            nix::unistd::fexecve(stub, &texts.arguments[..1], &nothing)?;
        }
        _ => drop(nix::unistd::execve(&texts.program, &texts.arguments, &texts.variables)?),
    }
    Ok(())
}
