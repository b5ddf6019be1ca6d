//! Query strings and `application/x-www-form-urlencoded` bodies.
//!
//! Reading never fails: a broken escape stays as it is, and bytes that are no UTF-8 become U+FFFD, which the service's
//! own validation then refuses with its own words.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// The pairs of a query string, still encoded; empty ones are left out.
pub fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Decodes one name or value: escapes, and `+` for a blank.
pub fn decode(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('+') {
        return percent_decode(text.as_bytes()).into();
    }
    let blanks: Vec<u8> = text.bytes().map(|byte| if byte == b'+' { b' ' } else { byte }).collect();
    Cow::Owned(percent_decode(&blanks).collect())
}

/// Decodes one name or value to text.
pub fn decode_text(text: &str) -> Cow<'_, str> {
    if !text.contains(['+', '%']) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(String::from_utf8_lossy(&decode(text)).into_owned())
}

/// All pairs, decoded, in order.
pub fn parse(text: &str) -> Vec<(String, String)> {
    pairs(text)
        .map(|(name, value)| (decode_text(name).into_owned(), decode_text(value).into_owned()))
        .collect()
}

/// The decoded value of the first pair of this name.
pub fn value<'a>(text: &'a str, name: &str) -> Option<Cow<'a, str>> {
    pairs(text).find(|(key, _)| decode_text(key) == name).map(|(_, value)| decode_text(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pairs_are_decoded_in_order() {
        let expected = [("a", "1 2"), ("b", ""), ("c", "x=y"), ("", ""), ("%zz", "é")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(parse("a=1+2&b&&c=x%3Dy&=&%zz=%C3%A9"), expected);
        assert_eq!(value("a=1&b=2&a=3", "a").as_deref(), Some("1"));
        assert_eq!(value("a=1", "b"), None);
    }

    proptest! {
        #[test]
        fn reading_never_fails(text in ".*") {
            parse(&text);
        }
    }
}
