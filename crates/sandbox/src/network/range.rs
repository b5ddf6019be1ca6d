//! A range of IPv4 addresses, and which one is free.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where ranges are looked for: set aside for measuring networks (RFC 2544), so neither the internet nor a private network
/// should have them.
const POOL: Range = Range { address: 0xc612_0000, length: 15 };
/// The size of a range that was looked for: 16,384 addresses, so an address comes back late.
const DEFAULT_LENGTH: u8 = 18;
/// The network's own address, the gateway and the last one are no environment's.
const RESERVED: u32 = 3;

/// A range of IPv4 addresses, such as `198.18.64.0/18`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Range {
    address: u32,
    length: u8,
}

/// Why a text is not a range.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a range of IPv4 addresses such as 198.18.64.0/18")]
pub struct RangeError(String);

impl Range {
    /// The range around an address.
    pub(crate) fn around(address: Ipv4Addr, length: u8) -> Range {
        let length = length.min(32);
        Range { address: u32::from(address) & mask(length), length }
    }

    /// Its address with this number.
    pub(crate) fn address(self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.address.wrapping_add(number))
    }

    /// How many environments have room.
    pub(crate) fn environments(self) -> usize {
        // A name of an interface has room for four hexadecimal digits.
        let size = (1_u64 << (32 - self.length)).min(1 << 16) as usize;
        size.saturating_sub(RESERVED as usize)
    }

    pub(crate) fn overlaps(self, other: Range) -> bool {
        let mask = mask(self.length.min(other.length));
        self.address & mask == other.address & mask
    }

    /// A range that overlaps none of these. Different marks begin to look at different places.
    pub(crate) fn free(occupied: &[Range], mark: u64) -> Option<Range> {
        let count = 1_u32 << (DEFAULT_LENGTH - POOL.length);
        (0..count)
            .map(|number| (number + mark as u32 % count) % count)
            .map(|number| Range {
                address: POOL.address + (number << (32 - DEFAULT_LENGTH)),
                length: DEFAULT_LENGTH,
            })
            .find(|range| !occupied.iter().any(|other| other.overlaps(*range)))
    }
}

fn mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

impl fmt::Display for Range {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", Ipv4Addr::from(self.address), self.length)
    }
}

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Range, RangeError> {
        let problem = || RangeError(text.to_owned());
        let (address, length) = text.split_once('/').ok_or_else(problem)?;
        let address: Ipv4Addr = address.parse().map_err(|_| problem())?;
        let length: u8 = length.parse().map_err(|_| problem())?;
        let range = Range { address: u32::from(address), length };
        // Below 8 the range would swallow the internet; host bits are most likely a mistake.
        if !(8..=30).contains(&length) || range.address & !mask(length) != 0 {
            return Err(problem());
        }
        Ok(range)
    }
}

impl TryFrom<String> for Range {
    type Error = RangeError;

    fn try_from(text: String) -> Result<Range, RangeError> {
        text.parse()
    }
}

impl From<Range> for String {
    fn from(range: Range) -> String {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written() {
        for text in ["198.18.64.0/18", "10.0.0.0/8", "10.1.2.4/30"] {
            assert_eq!(text.parse::<Range>().unwrap().to_string(), text);
        }
        for text in ["", "10.0.0.0", "10.0.0.1/24", "10.0.0.0/33", "10.0.0.0/31", "0.0.0.0/0", "::/64", "a/8"]
        {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
        assert_eq!("10.1.2.4/30".parse::<Range>().unwrap().environments(), 1);
    }

    #[test]
    fn free_ranges_avoid_what_is_there() {
        let mut occupied = vec!["198.18.0.0/16".parse().unwrap(), Range::around([198, 19, 0, 7].into(), 32)];
        let first = Range::free(&occupied, 3).unwrap();
        assert!(!occupied.iter().any(|other| other.overlaps(first)));
        while let Some(range) = Range::free(&occupied, 5) {
            occupied.push(range);
        }
        assert_eq!(occupied.len(), 5, "{occupied:?}");
        assert_eq!(Range::free(&[Range::around(Ipv4Addr::UNSPECIFIED, 0)], 0), None);
    }
}
