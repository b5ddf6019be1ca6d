//! What an environment does and cannot do, on the real kernel, as root.
//!
//! - [`running`]: programs run, speak, end, freeze, are stopped
//! - [`images`]: a process is captured and goes on in other environments
//! - [`companions`]: programs beside the main one, and sockets made inside
//! - [`limits`]: memory, processes, `/tmp`
//! - [`walls`]: what is seen and allowed from inside
//! - [`internet`]: what functions with access to the internet reach, in a network made for that
//! - [`restart`]: the helper dies, and is replaced
//! - [`orphans`]: nothing survives the server, however it ends
//! - [`ordinary`]: the same without root, as users of three kinds
//!
//! Has a main of its own, because the sandbox re-executes the program that uses it as its helper, and because the orphan tests
//! need a server process to kill. Without root only what needs none is run; the rest is skipped, counted and named.

#![allow(clippy::unwrap_used)] // a test of its own harness: the lint only knows the built-in one

mod companions;
mod harness;
mod images;
mod internet;
mod limits;
mod ordinary;
mod orphans;
mod restart;
mod running;
mod walls;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some(freehold_sandbox::HELPER_ARGUMENT) => freehold_sandbox::helper_main(arguments),
        Some(orphans::SERVER_ARGUMENT) => orphans::server(&arguments[2..]),
        Some(ordinary::ARGUMENT) => std::process::exit(ordinary::run(&arguments[2..])),
        _ => {}
    }
    let roots = [
        running::TESTS,
        images::TESTS,
        companions::TESTS,
        limits::TESTS,
        walls::TESTS,
        internet::TESTS,
        restart::TESTS,
        orphans::TESTS,
    ];
    let tests = [roots.concat(), ordinary::TESTS.to_vec()].concat();
    std::process::exit(
        if nix::unistd::geteuid().is_root() || arguments.iter().any(|word| word == "--list") {
            harness::run(&tests, &arguments[1..])
        } else {
            harness::skip(&tests, &arguments[1..]);
            ordinary::run(
                &["plain".to_owned()].into_iter().chain(arguments[1..].to_vec()).collect::<Vec<_>>(),
            )
        },
    );
}
