//! The canonical request and the string to sign. Both sides of a signature build them here, so they cannot differ.
//!
//! Built as bytes, since header values need not be UTF-8.

use std::borrow::Cow;

use http::{HeaderMap, Method, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::{ALGORITHM, BodyHash, TERMINATOR};
use crate::form;

/// Everything but RFC 3986's unreserved characters is escaped.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// In a path the slash stays too.
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

/// The day, region and service that a signature is good for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    pub(super) date: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

impl Scope<'_> {
    /// `date/region/service/aws4_request`.
    pub(super) fn text(&self) -> String {
        let Self { date, region, service } = self;
        format!("{date}/{region}/{service}/{TERMINATOR}")
    }

    /// S3 signs the path as it is sent: its keys may contain `//` and `..`, and are not encoded twice.
    pub(super) fn path_as_sent(&self) -> bool {
        matches!(self.service, "s3" | "s3express" | "s3-outposts" | "s3-object-lambda")
    }
}

/// What a canonical request is made of.
pub(super) struct Canonical<'a> {
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    /// Decoded query parameters that come on top of the URI's own.
    pub(super) added_query: &'a [(&'a str, &'a str)],
    pub(super) headers: &'a HeaderMap,
    /// Lower-case names in order, separated by semicolons.
    pub(super) signed_headers: &'a str,
    /// The body's hash, or the word that stands for it.
    pub(super) payload: &'a str,
    pub(super) path_as_sent: bool,
}

impl Canonical<'_> {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.push(b'\n');
        out.extend_from_slice(path(self.uri.path(), self.path_as_sent).as_bytes());
        out.push(b'\n');
        out.extend_from_slice(query(self.uri.query().unwrap_or_default(), self.added_query).as_bytes());
        out.push(b'\n');
        for name in self.signed_headers.split(';').filter(|name| !name.is_empty()) {
            self.header(name, &mut out);
        }
        out.push(b'\n');
        out.extend_from_slice(self.signed_headers.as_bytes());
        out.push(b'\n');
        out.extend_from_slice(self.payload.as_bytes());
        out
    }

    /// `name:value,value`; a header that is not there counts as an empty one.
    fn header(&self, name: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        let mut first = true;
        for value in self.headers.get_all(name) {
            if !first {
                out.push(b',');
            }
            first = false;
            fold(value.as_bytes(), out);
        }
        if let Some(authority) = self.uri.authority().filter(|_| first && name == "host") {
            out.extend_from_slice(authority.as_str().as_bytes());
        }
        out.push(b'\n');
    }
}

/// The string to sign for a canonical request.
pub(super) fn string_to_sign(timestamp: &str, scope: &Scope<'_>, canonical: &[u8]) -> String {
    format!("{ALGORITHM}\n{timestamp}\n{}\n{}", scope.text(), BodyHash::of(canonical))
}

/// Without blanks at both ends, and with single ones between.
fn fold(value: &[u8], out: &mut Vec<u8>) {
    let mut words = value.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    out.extend_from_slice(words.next().unwrap_or_default());
    for word in words {
        out.push(b' ');
        out.extend_from_slice(word);
    }
}

/// The path as it was sent, normalised and encoded once more, except where it is signed as sent.
fn path(sent: &str, path_as_sent: bool) -> Cow<'_, str> {
    if path_as_sent {
        return if sent.is_empty() { Cow::Borrowed("/") } else { Cow::Borrowed(sent) };
    }
    match normalise(sent) {
        Cow::Borrowed(path) => percent_encode(path.as_bytes(), RESERVED_IN_PATH).into(),
        Cow::Owned(path) => Cow::Owned(percent_encode(path.as_bytes(), RESERVED_IN_PATH).to_string()),
    }
}

/// RFC 3986, section 5.2.4, and no empty segments.
fn normalise(path: &str) -> Cow<'_, str> {
    if path.starts_with('/') && !path.contains('.') && !path.contains("//") {
        return Cow::Borrowed(path);
    }
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let is_folder = ["/", "/.", "/.."].iter().any(|end| path.ends_with(end));
    let end = if is_folder && !segments.is_empty() { "/" } else { "" };
    Cow::Owned(format!("/{}{end}", segments.join("/")))
}

/// Decoded, encoded in the one right way, sorted by name and value; a signature is no part of what it signs.
fn query(sent: &str, added: &[(&str, &str)]) -> String {
    let sent =
        form::pairs(sent).map(|(name, value)| (encode(&form::decode(name)), encode(&form::decode(value))));
    let added = added.iter().map(|(name, value)| (encode(name.as_bytes()), encode(value.as_bytes())));
    let mut pairs: Vec<_> = sent.filter(|(name, _)| name != "X-Amz-Signature").chain(added).collect();
    pairs.sort_unstable();
    let mut out = String::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        out.extend([name.as_str(), "=", value.as_str()]);
    }
    out
}

pub(super) fn encode(bytes: &[u8]) -> String {
    percent_encode(bytes, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_normalised_and_encoded_twice_unless_it_is_s3s() {
        let cases = [
            ("/", "/", "/"),
            ("/a%20b", "/a%2520b", "/a%20b"),
            ("//a/./b/../c/", "/a/c/", "//a/./b/../c/"),
            ("/a/..", "/", "/a/.."),
            ("/../x", "/x", "/../x"),
            ("/a:b@c", "/a%3Ab%40c", "/a:b@c"),
        ];
        for (sent, twice, as_sent) in cases {
            assert_eq!(path(sent, false), twice);
            assert_eq!(path(sent, true), as_sent);
        }
    }

    #[test]
    fn a_query_has_one_order_and_one_spelling() {
        assert_eq!(query("b=2&a=%7e&a=+&c&X-Amz-Signature=x", &[("B", "/")]), "B=%2F&a=%20&a=~&b=2&c=");
        assert_eq!(query("", &[]), "");
        assert_eq!(query("&&", &[]), "");
        assert_eq!(query("%zz=%", &[]), "%25zz=%25");
    }

    #[test]
    fn blanks_in_a_header_are_folded() {
        let mut out = Vec::new();
        fold(b"  a   b c  ", &mut out);
        assert_eq!(out, b"a b c");
    }
}
