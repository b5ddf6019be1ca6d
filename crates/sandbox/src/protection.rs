//! The protections that a host may not be able to give: each can be done without, but only if told so by name.
//!
//! As root all of them are there on an ordinary host. An ordinary user gets what the kernel and the host's owner let him have;
//! `Lack` says what that is not, why, and how to get it. Helper and doctor judge by the same list.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::cgroup::Hierarchy;
use crate::cgroup::prepare::lacking;
use crate::options::{Options, TmpBacking};
use crate::users::Ranges;

/// Since then the kernel counts processes per user namespace, so that a process limit needs no cgroup.
pub(crate) const PROCESS_COUNT_KERNEL: (u32, u32) = (5, 14);

/// One protection that can be done without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Protection {
    /// `/tmp` of its own size that is not counted as the function's memory.
    TmpOnDisk,
    /// A limit on the memory of all processes of an environment together.
    MemoryLimit,
    /// CPU by weight and ceiling.
    CpuShare,
    /// Idle environments stand still.
    Freezer,
    /// Each environment is a user of its own, who owns nothing on the host.
    SeparateUsers,
}

impl Protection {
    /// What it is called, for people.
    pub fn name(self) -> &'static str {
        match self {
            Protection::TmpOnDisk => "/tmp on disk",
            Protection::MemoryLimit => "memory limit",
            Protection::CpuShare => "CPU share",
            Protection::Freezer => "freezer",
            Protection::SeparateUsers => "separate users",
        }
    }

    /// What holds instead where it is done without.
    pub fn instead(self) -> &'static str {
        match self {
            Protection::TmpOnDisk => {
                "functions' /tmp takes memory, and counts as the function's where that is limited"
            }
            Protection::MemoryLimit => {
                "a function's memory is limited only process by process and loosely, and the memory that it used is not known"
            }
            Protection::CpuShare => "a function may use every processor as much as the server itself",
            Protection::Freezer => "an idle function may go on computing",
            Protection::SeparateUsers => {
                "functions are this user outside, groups included: one that broke out of its namespaces could do what this user can"
            }
        }
    }

    /// Whether `serve` was told to do without it.
    pub fn is_waived(self, options: &Options) -> bool {
        match self {
            Protection::TmpOnDisk => options.tmp_backing == TmpBacking::Memory,
            Protection::MemoryLimit => options.allow_without_memory_limit,
            other => options.allow_without.contains(&other),
        }
    }
}

/// What to add to `freehold serve` in order to do without these.
pub fn words(protections: &[Protection]) -> String {
    let mut words = Vec::new();
    let mut list = Vec::new();
    for protection in protections {
        match protection {
            Protection::TmpOnDisk => words.push("--function-tmp memory".to_owned()),
            Protection::MemoryLimit => words.push("--allow-without-memory-limit".to_owned()),
            Protection::CpuShare => list.push("cpu-share"),
            Protection::Freezer => list.push("freezer"),
            Protection::SeparateUsers => list.push("separate-users"),
        }
    }
    if !list.is_empty() {
        words.push(format!("--allow-without {}", list.join(",")));
    }
    words.join(" ")
}

/// A protection that a server without root cannot have here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lack {
    pub(crate) protection: Protection,
    /// Why not.
    pub(crate) reason: String,
    /// How to get it.
    pub(crate) remedy: &'static str,
}

const DELEGATE: &str = "start the server in cgroups of its own, such as `systemd-run --user --scope -p Delegate=yes freehold serve` on \
                        a host with cgroup v2 and systemd, or as root";

/// What is lacking for an ordinary user, in the order of [`Protection`].
pub(crate) fn lacks(hierarchies: &[Hierarchy], ranges: &Result<Ranges, String>) -> Vec<Lack> {
    let missing = lacking(hierarchies);
    let mut lacks = vec![Lack {
        protection: Protection::TmpOnDisk,
        reason: "loop devices need root".to_owned(),
        remedy: "run the server as root",
    }];
    let groups = [
        (missing.memory, Protection::MemoryLimit, "memory"),
        (missing.cpu, Protection::CpuShare, "cpu"),
        (missing.freeze, Protection::Freezer, "freezer"),
    ];
    for (_, protection, controller) in groups.into_iter().filter(|(missing, ..)| *missing) {
        let reason = format!("no cgroup with `{controller}` is this user's");
        lacks.push(Lack { protection, reason, remedy: DELEGATE });
    }
    if let Err(reason) = ranges {
        let remedy = "install Debian's package uidmap, and give this user a range of ids in /etc/subuid and in /etc/subgid";
        lacks.push(Lack { protection: Protection::SeparateUsers, reason: reason.clone(), remedy });
    }
    lacks
}

/// Why processes cannot be limited, if neither a cgroup nor the kernel's count per namespace can do it.
pub(crate) fn process_limit(hierarchies: &[Hierarchy], kernel: (u32, u32)) -> Result<&'static str, String> {
    match (lacking(hierarchies).pids, kernel >= PROCESS_COUNT_KERNEL) {
        (false, _) => Ok("by cgroup"),
        (true, true) => Ok("by the kernel's count per user namespace"),
        (true, false) => Err(format!(
            "nothing can limit the number of processes: Linux {}.{} or newer is needed, or a cgroup with `pids`",
            PROCESS_COUNT_KERNEL.0, PROCESS_COUNT_KERNEL.1
        )),
    }
}

/// The refusal where something is lacking that was not waived.
pub(crate) fn refusal(lacks: &[Lack], options: &Options) -> Option<String> {
    let open: Vec<_> = lacks.iter().filter(|lack| !lack.protection.is_waived(options)).collect();
    if open.is_empty() {
        return None;
    }
    let mut text = "a server without root cannot give functions here:".to_owned();
    for Lack { protection, reason, remedy } in &open {
        let _ = write!(text, "\n  - {} ({reason}); to have it: {remedy}", protection.name());
    }
    let _ = write!(text, "\nRun the server as root, or do without by adding to `freehold serve`: {}", {
        words(&open.iter().map(|lack| lack.protection).collect::<Vec<_>>())
    });
    for lack in &open {
        let _ = write!(text, "\n  - without {}: {}", lack.protection.name(), lack.protection.instead());
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::{Roles, Version};

    fn hierarchy(roles: Roles) -> Hierarchy {
        Hierarchy { version: Version::V2, parent: "/sys/fs/cgroup/mine".into(), roles }
    }

    #[test]
    fn a_refusal_names_every_word_that_is_needed_and_no_other() {
        let none = lacks(&[], &Err("no newuidmap".to_owned()));
        let mut options = Options::new("/nowhere");
        let text = refusal(&none, &options).unwrap();
        let all = "--function-tmp memory --allow-without-memory-limit --allow-without cpu-share,freezer,separate-users";
        assert!(
            text.contains(all) && text.contains("no newuidmap") && text.contains("Delegate=yes"),
            "{text}"
        );
        options.tmp_backing = TmpBacking::Memory;
        options.allow_without = vec![Protection::Freezer, Protection::CpuShare];
        let text = refusal(&none, &options).unwrap();
        assert!(text.contains(": --allow-without-memory-limit --allow-without separate-users\n"), "{text}");
        options.allow_without_memory_limit = true;
        options.allow_without.push(Protection::SeparateUsers);
        assert_eq!(refusal(&none, &options), None);
    }

    #[test]
    fn what_is_delegated_is_not_lacking() {
        let ranges = Ok(Ranges::of_test());
        let full = hierarchy(Roles { memory: true, pids: true, cpu: true, freeze: true });
        let names: Vec<_> = lacks(&[full], &ranges).iter().map(|lack| lack.protection).collect();
        assert_eq!(names, [Protection::TmpOnDisk]);
        let older = hierarchy(Roles { memory: true, pids: true, cpu: false, freeze: true });
        let names: Vec<_> = lacks(&[older], &ranges).iter().map(|lack| lack.protection).collect();
        assert_eq!(names, [Protection::TmpOnDisk, Protection::CpuShare]);
    }

    #[test]
    fn processes_are_limited_by_either_means_or_refused() {
        let pids = hierarchy(Roles { pids: true, ..Roles::default() });
        assert_eq!(process_limit(&[pids], (5, 12)), Ok("by cgroup"));
        assert!(process_limit(&[], (5, 14)).is_ok());
        assert!(process_limit(&[], (5, 13)).unwrap_err().contains("5.14"));
    }
}
