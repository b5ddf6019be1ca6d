//! What this host can enforce, and what to do about the rest. Looks only; changes nothing. What differs for an ordinary user is in
//! `ordinary`.

mod ordinary;

use std::fs;
use std::path::Path;

use crate::cgroup::prepare::lacking;
use crate::cgroup::{Hierarchy, Version};
use crate::disk::mkfs;
use crate::helper::hierarchies;
use crate::network::{Internet, LINK_PREFIX, rules, uplink};
use crate::options::InternetOptions;
use crate::protection::Protection;
use crate::seccomp::Filters;
use crate::system::kernel_version;

pub(crate) use self::ordinary::{Impossible, possible};

/// How good a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As designed.
    Good,
    /// Works, but something that is not needed by default is missing or weaker.
    Degraded,
    /// A protection that this user cannot have here; `serve` refuses unless told by name to do without.
    NeedsFlag,
    /// Functions cannot run as designed until this is mended.
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub detail: String,
    /// What to do; empty where nothing needs to be done.
    pub advice: String,
    /// The protection that needs a flag to be done without.
    pub protection: Option<Protection>,
}

/// Looks at everything that the sandbox needs.
pub fn examine() -> Vec<Finding> {
    let user = nix::unistd::geteuid();
    if !user.is_root() {
        return ordinary::examine(user);
    }
    let mut findings = vec![root(), kernel(), user_namespaces()];
    findings.extend(control_groups());
    findings.extend([seccomp(), tmp(), internet()]);
    findings
}

/// The protections that this user does not get here, and that `serve` therefore needs to be told to do without. None as root.
pub fn lacking_protections() -> Vec<Protection> {
    if nix::unistd::geteuid().is_root() { Vec::new() } else { ordinary::lacking_protections() }
}

fn finding(name: &'static str, good: bool, otherwise: Verdict, detail: String, advice: &str) -> Finding {
    let verdict = if good { Verdict::Good } else { otherwise };
    let advice = if good { String::new() } else { advice.to_owned() };
    Finding { name, verdict, detail, advice, protection: None }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn root() -> Finding {
    let capabilities = read("/proc/self/status").unwrap_or_default();
    let effective = capabilities
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    // The capabilities that the helper uses, by their numbers in <linux/capability.h>.
    let needed: [(u8, &str); 9] = [
        (0, "CAP_CHOWN"),
        (1, "CAP_DAC_OVERRIDE"),
        (5, "CAP_KILL"),
        (6, "CAP_SETGID"),
        (7, "CAP_SETUID"),
        (8, "CAP_SETPCAP"),
        (12, "CAP_NET_ADMIN"),
        (19, "CAP_SYS_PTRACE"),
        (21, "CAP_SYS_ADMIN"),
    ];
    let missing: Vec<_> =
        needed.iter().filter(|(bit, _)| effective >> bit & 1 == 0).map(|(_, name)| *name).collect();
    let detail = match missing.as_slice() {
        [] => "root".to_owned(),
        missing => format!("root, but without {}", missing.join(", ")),
    };
    let advice = "in a container, run the server with these capabilities (for Docker: --privileged)";
    finding("privilege", missing.is_empty(), Verdict::Missing, detail, advice)
}

fn kernel() -> Finding {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    // 5.12 brought mount_setattr, the newest call without which nothing works.
    finding(
        "kernel",
        kernel_version() >= (5, 12),
        Verdict::Missing,
        format!("Linux {release}"),
        "Linux 5.12 or newer is needed",
    )
}

fn user_namespaces() -> Finding {
    let most = read("/proc/sys/user/max_user_namespaces").and_then(|text| text.parse::<u64>().ok());
    let detail = most.map_or("not in this kernel".to_owned(), |most| format!("at most {most} at a time"));
    let advice =
        "a kernel with user namespaces, and `sysctl user.max_user_namespaces` of at least a few thousand";
    finding("user namespaces", most.unwrap_or(0) > 0, Verdict::Missing, detail, advice)
}

fn control_groups() -> Vec<Finding> {
    let hierarchies = match hierarchies() {
        Ok(hierarchies) => hierarchies,
        Err(reason) => {
            let advice = "mount /proc and the cgroup file systems";
            return vec![finding("cgroups", false, Verdict::Missing, reason, advice)];
        }
    };
    let lacking = lacking(&hierarchies);
    let place = |wanted: fn(&Hierarchy) -> bool| place(&hierarchies, wanted);
    let advice = "enable this controller: `cgroup_enable=` on the kernel's command line, or `Delegate=yes` for the service";
    let all = [
        ("memory limit", lacking.memory, place(|hierarchy| hierarchy.roles.memory)),
        ("process limit", lacking.pids, place(|hierarchy| hierarchy.roles.pids)),
        ("CPU share", lacking.cpu, place(|hierarchy| hierarchy.roles.cpu)),
        ("freezer", lacking.freeze, place(|hierarchy| hierarchy.roles.freeze)),
    ];
    let mut findings: Vec<_> = all
        .into_iter()
        .map(|(name, lacks, detail)| finding(name, !lacks, Verdict::Missing, detail, advice))
        .collect();
    let writable = hierarchies
        .iter()
        .all(|hierarchy| nix::unistd::access(&hierarchy.parent, nix::unistd::AccessFlags::W_OK).is_ok());
    let detail = if writable { "our folders can be made" } else { "not writable for this user" }.to_owned();
    let advice = "run as root, or (cgroup v2 only) as a systemd service with `Delegate=yes`";
    findings.push(finding("cgroup folders", writable, Verdict::Missing, detail, advice));
    findings
}

/// Which hierarchy does this.
fn place(hierarchies: &[Hierarchy], wanted: fn(&Hierarchy) -> bool) -> String {
    hierarchies.iter().find(|hierarchy| wanted(hierarchy)).map_or("none".to_owned(), |hierarchy| {
        let version = if hierarchy.version == Version::V2 { "v2" } else { "v1" };
        format!("{version}, {}", hierarchy.parent.display())
    })
}

fn seccomp() -> Finding {
    let actions = read("/proc/sys/kernel/seccomp/actions_avail");
    let compiled = Filters::compile().map(drop);
    let good = actions.as_ref().is_some_and(|actions| actions.contains("errno")) && compiled.is_ok();
    let detail = match (actions, compiled) {
        (_, Err(reason)) => reason,
        (None, _) => "not in this kernel".to_owned(),
        (Some(_), Ok(())) => "system call filters".to_owned(),
    };
    finding(
        "seccomp",
        good,
        Verdict::Missing,
        detail,
        "a kernel with CONFIG_SECCOMP_FILTER, on x86-64 or arm64",
    )
}

fn tmp() -> Finding {
    let loops = Path::new("/dev/loop-control").exists();
    let ext4 = read("/proc/filesystems").is_some_and(|text| text.lines().any(|line| line.ends_with("ext4")));
    let program = mkfs();
    let has = |there: bool| if there { "yes" } else { "no" };
    let detail =
        format!("loop devices: {}, ext4: {}, mkfs.ext4: {}", has(loops), has(ext4), has(program.is_some()));
    let advice = "`modprobe loop ext4`, and install e2fsprogs; or choose the setting that keeps /tmp in the function's memory";
    finding("/tmp on disk", loops && ext4 && program.is_some(), Verdict::Missing, detail, advice)
}

fn internet() -> Finding {
    const NAME: &str = "internet access";
    let only = "; isolated functions need nothing of this";
    let internet = match Internet::plan(&InternetOptions::default(), 0, 0, &[]) {
        Err(reason) => {
            let advice = format!("{reason}{only}");
            return finding(NAME, false, Verdict::Degraded, "not possible here".to_owned(), &advice);
        }
        Ok(internet) => internet,
    };
    let silent = |name: &str| uplink::forwards(name).is_ok_and(|forwards| !forwards);
    let list = |texts: Vec<String>| texts.join(", ");
    let names = list(internet.uplinks.iter().map(|uplink| uplink.name.clone()).collect());
    let resolvers = list(internet.resolvers.iter().map(ToString::to_string).collect());
    let mut detail = format!("through {names}, names by {resolvers}");
    if internet.uplinks.iter().any(|uplink| silent(&uplink.name)) {
        detail += "; while the server runs, it forwards IPv4 there for functions alone";
    }
    let advice = format!(
        "another firewall of this host drops what it forwards: let it accept what comes in from interfaces `{LINK_PREFIX}*` \
         and the answers (with Docker: `iptables -I DOCKER-USER -i {LINK_PREFIX}+ -j ACCEPT` and `iptables -I DOCKER-USER \
         -o {LINK_PREFIX}+ -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`){only}"
    );
    finding(NAME, !rules::blocking(), Verdict::Degraded, detail, &advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_that_is_not_good_has_an_advice() {
        let findings = examine();
        assert!(findings.len() >= 9);
        for finding in findings {
            assert_eq!(finding.advice.is_empty(), finding.verdict == Verdict::Good, "{finding:?}");
        }
    }
}
