//! The basic ISO 8601 form of SigV4, `20150830T123600Z`, to and from seconds since 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

/// `YYYYMMDDTHHMMSSZ`; a time outside of years 0 to 9999 shows as 1970.
pub(super) fn format(time: SystemTime) -> String {
    let civil = Offset::UTC.to_datetime(Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH));
    let (year, month, day) = (civil.year().clamp(0, 9999), civil.month(), civil.day());
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", civil.hour(), civil.minute(), civil.second())
}

/// Reads `YYYYMMDDTHHMMSSZ` and nothing else.
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    let bytes: &[u8; 16] = text.as_bytes().try_into().ok()?;
    if bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let year = i16::try_from(number(&bytes[..4])?).ok()?;
    let small =
        |range: std::ops::Range<usize>| number(&bytes[range]).and_then(|value| i8::try_from(value).ok());
    let date = Date::new(year, small(4..6)?, small(6..8)?).ok()?;
    let (hour, minute, second) = (small(9..11)?, small(11..13)?, small(13..15)?);
    let time = jiff::civil::Time::new(hour, minute, second, 0).ok()?;
    let timestamp = Offset::UTC.to_timestamp(date.to_datetime(time)).ok()?;
    since_epoch(timestamp.as_second())
}

/// Reads a `Date` header: the basic form, or RFC 2822 as HTTP has it.
pub(super) fn parse_header(text: &str) -> Option<SystemTime> {
    parse(text).or_else(|| {
        let zoned = jiff::fmt::rfc2822::parse(text).ok()?;
        since_epoch(zoned.timestamp().as_second())
    })
}

fn number(digits: &[u8]) -> Option<i32> {
    digits
        .iter()
        .try_fold(0, |sum, &digit| digit.is_ascii_digit().then(|| sum * 10 + i32::from(digit - b'0')))
}

fn since_epoch(seconds: i64) -> Option<SystemTime> {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back_as_they_were_written() {
        let time = UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        assert_eq!(format(time), "20150830T123600Z");
        assert_eq!(parse("20150830T123600Z"), Some(time));
        assert_eq!(parse_header("Sun, 30 Aug 2015 12:36:00 GMT"), Some(time));
        assert_eq!(parse("19691231T235959Z"), Some(UNIX_EPOCH - Duration::from_secs(1)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in
            ["", "20150830", "20150830T123600", "20151330T123600Z", "20150832T123600Z", "20150830T256100Z"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        for text in
            ["2015-08-30T12:36", "+2150830T123600Z", "２０１５", "99991231T235961Z", "20150830t123600z"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse_header("yesterday"), None);
    }
}
