//! What the host has left of its memory.

use std::sync::Arc;

use crate::core::HostMemory;

/// Tells it. `None`: the host does not say, and memory limits nothing.
pub type ReadMemory = Arc<dyn Fn() -> Option<HostMemory> + Send + Sync>;

const MEMORY_INFORMATION: &str = "/proc/meminfo";

/// The system's own account.
pub fn memory() -> Option<HostMemory> {
    parse(&std::fs::read_to_string(MEMORY_INFORMATION).ok()?)
}

fn parse(text: &str) -> Option<HostMemory> {
    let mib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib / 1024)
    };
    Some(HostMemory { available_mib: mib("MemAvailable")?, total_mib: mib("MemTotal")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_account_is_read() {
        let text = "MemTotal:       24689764 kB\nMemFree:         123456 kB\nMemAvailable:   20315136 kB\n";
        assert_eq!(parse(text), Some(HostMemory { available_mib: 19_839, total_mib: 24_111 }));
        assert_eq!(parse("MemTotal:       24689764 kB\n"), None, "a kernel older than 3.14");
        let host = memory().expect("this is Linux");
        assert!(0 < host.available_mib && host.available_mib <= host.total_mib, "{host:?}");
    }
}
