//! What holds for an ordinary user: which protections he gets here, which need a word of his, and how to get them all.

use std::path::Path;

use nix::errno::Errno;

use super::{Finding, Verdict, finding, kernel, read, seccomp};
use crate::cgroup::Hierarchy;
use crate::helper::hierarchies;
use crate::helper::ordinary::NO_INTERNET;
use crate::options::{Options, POOL_DEFAULT};
use crate::protection::{Lack, Protection, lacks, process_limit, words};
use crate::system::{Trial, kernel_version, try_namespaces};
use crate::users::Ranges;

/// What to do where a user namespace is refused.
pub(crate) const USER_NAMESPACE_ADVICE: &str = "let ordinary users make user namespaces (`sysctl user.max_user_namespaces`, on Debian \
    also `kernel.unprivileged_userns_clone=1`, on Ubuntu an AppArmor profile with `userns,` or \
    `kernel.apparmor_restrict_unprivileged_userns=0`), or run the server as root";

const PROTECTIONS: [Protection; 5] = [
    Protection::TmpOnDisk,
    Protection::MemoryLimit,
    Protection::CpuShare,
    Protection::Freezer,
    Protection::SeparateUsers,
];

/// Everything, for this user.
pub(super) fn examine(user: nix::unistd::Uid) -> Vec<Finding> {
    let privilege = format!("user {user}, not root: what follows is what this user gets");
    let mut findings = vec![finding("privilege", true, Verdict::Good, privilege, ""), kernel()];
    findings.push(namespaces());
    let hierarchies = match hierarchies() {
        Ok(hierarchies) => hierarchies,
        Err(reason) => {
            findings.push(finding("cgroups", false, Verdict::Missing, reason, "mount /proc"));
            return findings;
        }
    };
    let ranges = Ranges::find(Options::new("").max_environments + POOL_DEFAULT);
    let lacks = lacks(&hierarchies, &ranges);
    findings.extend(PROTECTIONS.map(|protection| {
        let lack = lacks.iter().find(|lack| lack.protection == protection);
        lack.map_or_else(|| enforced(protection, &hierarchies, &ranges), lacking)
    }));
    findings.push(processes(&hierarchies));
    findings.push(seccomp());
    let detail = "not possible without root".to_owned();
    let advice = format!("{NO_INTERNET}; isolated functions need nothing of this");
    findings.push(finding("internet access", false, Verdict::Degraded, detail, &advice));
    findings
}

fn namespaces() -> Finding {
    const NAME: &str = "user namespaces";
    match try_namespaces() {
        Ok(()) => finding(
            NAME,
            true,
            Verdict::Good,
            "this user may make them, with all that belongs to them".to_owned(),
            "",
        ),
        Err(Trial::Proc(error)) => {
            let advice = "a part of /proc is covered here, as containers do it, and a new one may not show more: uncover it (Docker: \
                          `--security-opt systempaths=unconfined`), or run the server as root";
            finding(
                NAME,
                false,
                Verdict::Missing,
                format!("/proc cannot be mounted: {}", error.desc()),
                advice,
            )
        }
        Err(Trial::Namespaces(error)) => {
            let switches = [
                "kernel/unprivileged_userns_clone",
                "kernel/apparmor_restrict_unprivileged_userns",
                "user/max_user_namespaces",
            ];
            let switches = switches.iter().filter_map(|name| {
                let value = read(&Path::new("/proc/sys").join(name).display().to_string())?;
                Some(format!("{}={value}", name.replace('/', ".")))
            });
            let reason = if error == Errno::ENOSPC { "too many, or none allowed" } else { error.desc() };
            let detail = format!("refused: {reason} ({})", switches.collect::<Vec<_>>().join(", "));
            finding(NAME, false, Verdict::Missing, detail, USER_NAMESPACE_ADVICE)
        }
    }
}

fn enforced(protection: Protection, hierarchies: &[Hierarchy], ranges: &Result<Ranges, String>) -> Finding {
    let place = |wanted: fn(&Hierarchy) -> bool| super::place(hierarchies, wanted);
    let detail = match protection {
        Protection::MemoryLimit => place(|hierarchy| hierarchy.roles.memory),
        Protection::CpuShare => place(|hierarchy| hierarchy.roles.cpu),
        Protection::Freezer => place(|hierarchy| hierarchy.roles.freeze),
        Protection::SeparateUsers => format!("{} ids", ranges.as_ref().map_or(0, Ranges::count)),
        Protection::TmpOnDisk => String::new(),
    };
    finding(protection.name(), true, Verdict::Good, detail, "")
}

fn lacking(lack: &Lack) -> Finding {
    let Lack { protection, reason, remedy } = lack;
    let advice = format!("{remedy}; or do without (`{}`): {}", words(&[*protection]), protection.instead());
    let finding = finding(protection.name(), false, Verdict::NeedsFlag, reason.clone(), &advice);
    Finding { protection: Some(*protection), ..finding }
}

fn processes(hierarchies: &[Hierarchy]) -> Finding {
    let (good, detail) = match process_limit(hierarchies, kernel_version()) {
        Ok(detail) => (true, detail.to_owned()),
        Err(reason) => (false, reason),
    };
    let advice = "a newer kernel, a delegated cgroup with `pids`, or run the server as root";
    finding("process limit", good, Verdict::Missing, detail, advice)
}
