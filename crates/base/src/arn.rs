//! Amazon Resource Names, and the ways in which a Lambda function can be named.
//!
//! `arn:partition:service:region:account:resource`; the resource part is the service's own.
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html>.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{AccountId, Region};

/// A parsed ARN. Region and account may be empty (as in `arn:aws:iam::123456789012:role/name`, `arn:aws:s3:::bucket`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Arn {
    /// `aws`, `aws-cn`, `aws-us-gov`, …
    pub partition: String,
    /// The service's namespace, such as `lambda`.
    pub service: String,
    /// The region, or nothing.
    pub region: String,
    /// The account, or nothing.
    pub account: String,
    /// Everything after the fifth colon.
    pub resource: String,
}

/// Why a text is not an ARN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an ARN: expected arn:partition:service:region:account:resource")]
pub struct ArnError(pub String);

impl FromStr for Arn {
    type Err = ArnError;

    fn from_str(text: &str) -> Result<Self, ArnError> {
        let wrong = || ArnError(text.to_owned());
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next().map(str::to_owned).ok_or_else(wrong);
        let (scheme, partition, service) = (next()?, next()?, next()?);
        let (region, account, resource) = (next()?, next()?, next()?);
        if scheme != "arn" || !partition.starts_with("aws") || service.is_empty() || resource.is_empty() {
            return Err(wrong());
        }
        if !account.is_empty() && account != "aws" && AccountId::parse(&account).is_none() {
            return Err(wrong());
        }
        Ok(Self { partition, service, region, account, resource })
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, service, region, account, resource } = self;
        write!(formatter, "arn:{partition}:{service}:{region}:{account}:{resource}")
    }
}

impl TryFrom<String> for Arn {
    type Error = ArnError;

    fn try_from(text: String) -> Result<Self, ArnError> {
        text.parse()
    }
}

impl From<Arn> for String {
    fn from(arn: Arn) -> Self {
        arn.to_string()
    }
}

/// How a caller named a function: by name, by partial ARN (`account:function:name`) or by ARN, each with or without
/// a `:qualifier`. Source: the `FunctionName` parameter of every operation in the Lambda API reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionReference {
    /// The function's bare name.
    pub name: String,
    /// The version or alias that the reference itself carries.
    pub qualifier: Option<String>,
    /// The region, where the reference says it.
    pub region: Option<Region>,
    /// The account, where the reference says it.
    pub account: Option<AccountId>,
}

/// Why a text does not name a function.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' does not name a function: expected a name (1 to 64 letters, digits, - and _), account:function:name, or \
     arn:aws:lambda:region:account:function:name, each optionally followed by :qualifier"
)]
pub struct FunctionReferenceError(pub String);

/// The longest function name.
const NAME_LENGTH: usize = 64;
/// The longest qualifier.
const QUALIFIER_LENGTH: usize = 128;

impl FromStr for FunctionReference {
    type Err = FunctionReferenceError;

    fn from_str(text: &str) -> Result<Self, FunctionReferenceError> {
        let wrong = || FunctionReferenceError(text.chars().take(200).collect());
        let parts: Vec<&str> = text.split(':').collect();
        let (region, account, rest) = match parts.as_slice() {
            ["arn", partition, "lambda", region, account, "function", rest @ ..]
                if partition.starts_with("aws") =>
            {
                (Some(Region::new(*region)), Some(*account), rest)
            }
            [account, "function", rest @ ..] => (None, Some(*account), rest),
            ["function", rest @ ..] if !rest.is_empty() => (None, None, rest),
            rest => (None, None, rest),
        };
        let account = match account {
            Some(text) => Some(AccountId::parse(text).ok_or_else(wrong)?),
            None => None,
        };
        let (name, qualifier) = match rest {
            [name] => (*name, None),
            [name, qualifier] => (*name, Some(*qualifier)),
            _ => return Err(wrong()),
        };
        if !is_function_name(name) || qualifier.is_some_and(|qualifier| !is_qualifier(qualifier)) {
            return Err(wrong());
        }
        Ok(Self { name: name.to_owned(), qualifier: qualifier.map(str::to_owned), region, account })
    }
}

/// Whether `text` is a function's bare name: 1 to 64 letters, digits, `-` and `_`.
pub fn is_function_name(text: &str) -> bool {
    (1..=NAME_LENGTH).contains(&text.len()) && text.bytes().all(is_name_byte)
}

/// Whether `text` can be a version (`$LATEST`, a number) or an alias.
pub fn is_qualifier(text: &str) -> bool {
    text == "$LATEST" || ((1..=QUALIFIER_LENGTH).contains(&text.len()) && text.bytes().all(is_name_byte))
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_reads_back_as_it_was_written() {
        for text in [
            "arn:aws:iam::123456789012:role/lambda-exec-role",
            "arn:aws:lambda:us-east-1:000000000000:function:hello:PROD",
            "arn:aws:s3:::bucket/key:with:colons",
        ] {
            assert_eq!(text.parse::<Arn>().expect("valid").to_string(), text);
        }
        for text in ["", "arn", "arn:aws:iam::12:role/x", "arn:gcp:iam::123456789012:role/x", "arn:aws:::: "]
        {
            assert!(text.parse::<Arn>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_function_is_named_in_every_way_that_aws_allows() {
        let cases = [
            ("hello", None, None),
            ("hello:PROD", Some("PROD"), None),
            ("hello:$LATEST", Some("$LATEST"), None),
            ("123456789012:function:hello", None, Some("123456789012")),
            ("function:hello:7", Some("7"), None),
            ("arn:aws:lambda:us-east-1:123456789012:function:hello", None, Some("123456789012")),
            ("arn:aws:lambda:us-east-1:123456789012:function:hello:7", Some("7"), Some("123456789012")),
        ];
        for (text, qualifier, account) in cases {
            let reference: FunctionReference = text.parse().expect(text);
            assert_eq!(reference.name, "hello", "{text}");
            assert_eq!(reference.qualifier.as_deref(), qualifier, "{text}");
            assert_eq!(reference.account.as_ref().map(AccountId::as_str), account, "{text}");
        }
        let long = "x".repeat(65);
        for text in [
            "",
            "he llo",
            "a:b:c",
            "12:function:hello",
            "hello:",
            "arn:aws:lambda:r:1:function:x",
            &long,
            "../x",
        ] {
            assert!(text.parse::<FunctionReference>().is_err(), "{text}");
        }
    }
}
