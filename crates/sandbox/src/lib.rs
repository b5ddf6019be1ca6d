//! What an execution environment is and what it cannot do.
//!
//! - [`spec`]: what the executor asks for, and what it gets
//! - [`namespaces`]: the implementation on Linux namespaces and cgroups, as the server sees it
//! - [`image`]: a process captured once and made again in many environments
//! - [`helper_main`]: the small process that clones, mounts and limits on the server's behalf
//! - [`protection`]: what a server without root may have to do without, and how that is said
//! - [`doctor`]: what this host can enforce, and what to do about the rest
//!
//! ```text
//! server (many threads, needs no privilege)          helper (one thread, root or a user's own namespace, no inherited environment)
//!   NamespaceSandbox --- requests, SCM_RIGHTS --->     event loop --- fork ---> maker --- clone ---> init (pid 1 inside)
//!                    <-- answers, descriptors ----       |                                            |
//!   freeze, thaw, peak: by descriptors of its own        cgroups, pool of blank environments          the program
//! ```
//!
//! This crate knows neither AWS nor who the caller is. It is the only one with `unsafe` code, nearly all of it in `system`.

pub mod doctor;
pub mod namespaces;
pub mod options;
pub mod protection;
pub mod spec;

mod cgroup;
mod client;
mod disk;
mod helper;
pub mod image;
mod message;
mod network;
mod packet;
mod seccomp;
mod system;
mod users;

pub use helper::{HELPER_ARGUMENT, helper_main};
pub use namespaces::NamespaceSandbox;
pub use network::range::{Range, RangeError};
pub use options::{InternetOptions, Options};
