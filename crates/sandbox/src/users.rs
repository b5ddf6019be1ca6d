//! Which user ids an ordinary user has for environments: the ranges of `/etc/subuid` and `/etc/subgid`, and the two setuid programs
//! that map them into a user namespace (Debian's package `uidmap`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{Gid, Pid, Uid, User};

/// Where the programs are looked for: the helper has no PATH.
const PLACES: &[&str] = &["/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin"];

/// Consecutive ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    first: u32,
    count: u32,
}

/// The ids that this user may map, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ranges {
    users: Range,
    groups: Range,
    map_users: PathBuf,
    map_groups: PathBuf,
}

impl Ranges {
    /// Looks for ranges of at least `wanted` ids, or says what is missing.
    pub(crate) fn find(wanted: usize) -> Result<Ranges, String> {
        let program = |name: &str| {
            let found = PLACES.iter().map(|place| Path::new(place).join(name)).find(|path| path.exists());
            found.ok_or_else(|| format!("the program {name} is missing"))
        };
        let (map_users, map_groups) = (program("newuidmap")?, program("newgidmap")?);
        let own = Uid::current();
        let name = User::from_uid(own).ok().flatten().map(|user| user.name);
        let name = name.ok_or_else(|| format!("user {own} has no name, so no range of ids"))?;
        let range = |path: &str| {
            let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
            let widest = ranges(&text, &name, own.as_raw()).max_by_key(|range| range.count);
            let range = widest.ok_or_else(|| format!("{path} has no range for {name}"))?;
            if (range.count as usize) < wanted {
                return Err(format!(
                    "the range in {path} has {} ids, fewer than the {wanted} needed",
                    range.count
                ));
            }
            Ok(range)
        };
        Ok(Ranges { users: range("/etc/subuid")?, groups: range("/etc/subgid")?, map_users, map_groups })
    }

    /// How many environments have a user of their own.
    pub(crate) fn count(&self) -> usize {
        self.users.count.min(self.groups.count) as usize
    }

    /// Maps them behind this user himself, who is 0, in the user namespace of a child.
    pub(crate) fn map(&self, child: Pid) -> Result<(), String> {
        run(&self.map_users, child, Uid::current().as_raw(), self.users)?;
        run(&self.map_groups, child, Gid::current().as_raw(), self.groups)
    }

    /// Some.
    #[cfg(test)]
    pub(crate) fn of_test() -> Ranges {
        let range = Range { first: 100_000, count: 65_536 };
        let program = |name| Path::new("/usr/bin").join(name);
        Ranges {
            users: range,
            groups: range,
            map_users: program("newuidmap"),
            map_groups: program("newgidmap"),
        }
    }
}

fn run(program: &Path, child: Pid, own: u32, range: Range) -> Result<(), String> {
    let numbers = [child.as_raw() as u32, 0, own, 1, 1, range.first, range.count];
    let output = Command::new(program)
        .args(numbers.map(|number| number.to_string()))
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("{} failed: {}", program.display(), text.trim()))
}

/// The ranges of one user, by name or number: `name:first:count`, a line each.
fn ranges<'a>(text: &'a str, name: &'a str, number: u32) -> impl Iterator<Item = Range> + 'a {
    text.lines().filter_map(move |line| {
        let mut parts = line.trim().split(':');
        let (owner, first, count) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let is_ours = owner == name || owner.parse() == Ok(number);
        (is_ours && parts.next().is_none() && count > 0).then_some(Range { first, count })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_number_and_nonsense_is_passed_over() {
        let text =
            "alice:100000:65536\n# bob:1:2\nbob:165536:65536\n1001:300000:10\nbob:x:5\nbob:5\nbob:7:0\n";
        let of = |name: &str, number| {
            ranges(text, name, number).map(|range| (range.first, range.count)).collect::<Vec<_>>()
        };
        assert_eq!(of("alice", 1000), [(100_000, 65_536)]);
        assert_eq!(of("bob", 1001), [(165_536, 65_536), (300_000, 10)]);
        assert_eq!(of("carol", 1002), []);
    }
}
