//! What holds for an ordinary user: which protections he gets here, which need a word of his, and how to get them all.

use nix::errno::Errno;

use super::{Finding, Verdict, finding, kernel, read, seccomp};
use crate::cgroup::Hierarchy;
use crate::helper::hierarchies;
use crate::helper::ordinary::NO_INTERNET;
use crate::options::{ENVIRONMENTS_DEFAULT, POOL_DEFAULT};
use crate::protection::{Lack, Protection, lacks, process_limit, words};
use crate::system::{Trial, kernel_version, try_namespaces};
use crate::users::Ranges;

/// What to do where a user namespace is refused.
const NAMESPACES_REMEDY: &str = "let ordinary users make user namespaces (`sysctl user.max_user_namespaces`, on Debian \
    also `kernel.unprivileged_userns_clone=1`, on Ubuntu an AppArmor profile with `userns,` or \
    `kernel.apparmor_restrict_unprivileged_userns=0`), or run the server as root";

/// What decides about that, of the kernel and of distributions.
const SWITCHES: &[&str] = &[
    "user/max_user_namespaces",
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
];

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
    let ranges = ranges();
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

fn ranges() -> Result<Ranges, String> {
    Ranges::find(ENVIRONMENTS_DEFAULT + POOL_DEFAULT)
}

/// What this user does not get, of what can be done without.
pub(super) fn lacking_protections() -> Vec<Protection> {
    let lacks = hierarchies().map(|hierarchies| lacks(&hierarchies, &ranges())).unwrap_or_default();
    lacks.into_iter().map(|lack| lack.protection).collect()
}

fn namespaces() -> Finding {
    const NAME: &str = "user namespaces";
    match possible() {
        Ok(()) => {
            let detail = "this user may make them, with all that belongs to them".to_owned();
            finding(NAME, true, Verdict::Good, detail, "")
        }
        Err(Impossible { reason, remedy }) => finding(NAME, false, Verdict::Missing, reason, remedy),
    }
}

/// Why an ordinary user can make no environments, and what to do.
pub(crate) struct Impossible {
    pub(crate) reason: String,
    pub(crate) remedy: &'static str,
}

/// Tries whether this user can make the namespaces that environments need.
pub(crate) fn possible() -> Result<(), Impossible> {
    try_namespaces().map_err(|trial| match trial {
        Trial::Proc(error) => Impossible {
            reason: format!("/proc cannot be mounted in a new namespace: {}", error.desc()),
            remedy: "a part of /proc is covered here, as containers do it, and a new one may not show more: uncover it (Docker: \
                     `--security-opt systempaths=unconfined`), or run the server as root",
        },
        Trial::Namespaces(error) => {
            let values = SWITCHES.iter().filter_map(|name| {
                let value = read(&format!("/proc/sys/{name}"))?;
                Some(format!("{}={value}", name.replace('/', ".")))
            });
            let reason = if error == Errno::ENOSPC { "there are too many, or may be none" } else { error.desc() };
            let values: Vec<_> = values.collect();
            Impossible {
                reason: format!("the kernel refuses new user namespaces: {reason} ({})", values.join(", ")),
                remedy: NAMESPACES_REMEDY,
            }
        }
    })
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
