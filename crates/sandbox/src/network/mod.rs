//! The way to the internet: a pair of linked interfaces per environment, and one set of rules for all.
//!
//! - [`range`]: the addresses of environments
//! - [`link`]: one environment's pair of interfaces; [`netlink`]: how the kernel is asked for it
//! - [`rules`]: what environments may reach, and the translation of addresses (nftables)
//! - [`guard`]: notices when somebody else takes the rules away
//! - [`uplink`]: where the host's own way out is, and that it forwards
//!
//! ```text
//! environment                     host
//! eth0 198.18.64.2 --(veth)-- fhd3f2a1b4-0001 --(rules, masquerade)--> uplink
//!                      one address on either end, no shared segment
//! ```
//!
//! Each pair is routed by itself: there is no bridge, so environments have no neighbours. The rules name interfaces by prefix and
//! never change while environments come and go. Knows nothing of what else an environment is.

pub(crate) mod guard;
pub(crate) mod link;
pub(crate) mod netlink;
pub(crate) mod range;
pub(crate) mod rules;
pub(crate) mod uplink;

use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;

use crate::options::InternetOptions;
use range::Range;
use uplink::Uplink;

/// How every environment's interface on the host begins, whichever sandbox made it.
pub(crate) const LINK_PREFIX: &str = "fhd";

/// The way to the internet, ready for environments.
pub(crate) struct Internet {
    pub(crate) range: Range,
    pub(crate) resolvers: Vec<Ipv4Addr>,
    pub(crate) allow_private: bool,
    pub(crate) uplinks: Vec<Uplink>,
    /// Distinguishes this sandbox's interfaces and rules from another's.
    pub(crate) mark: u64,
}

impl Internet {
    /// Looks at the host: the ways out, the resolvers, whether the range fits. Changes nothing.
    pub(crate) fn plan(
        options: &InternetOptions,
        mark: u64,
        environments: usize,
        taken: &[Range],
    ) -> Result<Internet, String> {
        if rules::nft().is_none() {
            return Err(format!("the program nft is missing: {}", rules::NFT_ADVICE));
        }
        let uplinks = uplink::find()?;
        let occupied: Vec<Range> = uplink::routed()?.into_iter().chain(taken.iter().copied()).collect();
        let range = match options.range {
            Some(range) => match occupied.iter().find(|other| other.overlaps(range)) {
                Some(other) => {
                    return Err(format!(
                        "the range {range} for functions overlaps {other}, which this host uses already"
                    ));
                }
                None => range,
            },
            None => Range::free(&occupied, mark).ok_or(
                "no addresses for functions are left in 198.18.0.0/15: configure a range that is unused here",
            )?,
        };
        if range.environments() < environments {
            return Err(format!("the range {range} has no room for {environments} environments"));
        }
        let resolvers =
            if options.resolvers.is_empty() { uplink::resolvers()? } else { options.resolvers.clone() };
        if let Some(own) = resolvers.iter().find(|resolver| uplink::is_own(**resolver)) {
            return Err(format!(
                "the resolver {own} is this host itself, which functions do not reach: configure another one"
            ));
        }
        Ok(Internet { range, resolvers, allow_private: options.allow_private, uplinks, mark })
    }

    /// The beginning of the names of this sandbox's interfaces.
    pub(crate) fn prefix(&self) -> String {
        prefix(self.mark)
    }

    /// The address of the host's end, the same for every environment.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        self.range.address(1)
    }

    /// The address of an environment.
    pub(crate) fn inside(&self, number: u32) -> Ipv4Addr {
        self.range.address(2 + number)
    }

    /// What `/etc/resolv.conf` says inside.
    pub(crate) fn resolver_file(&self) -> String {
        self.resolvers.iter().map(|resolver| format!("nameserver {resolver}\n")).collect()
    }
}

/// The beginning of the names of one sandbox's interfaces. With four more digits, a name has the kernel's 15 characters.
pub(crate) fn prefix(mark: u64) -> String {
    format!("{LINK_PREFIX}{:07x}-", mark & 0xfff_ffff)
}

/// Which network namespace this process is in.
pub(crate) fn namespace() -> io::Result<u64> {
    Ok(std::fs::metadata("/proc/self/ns/net")?.ino())
}
