//! Reads JSON bodies as AWS's services do: unknown members are ignored, a wrong type or broken JSON is a
//! `SerializationException` in AWS's words.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{DeserializeOwned, Error as _, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;

use crate::error::LambdaError;

/// Bodies from this size on are parsed where blocking is allowed, in bytes.
const LARGE_BODY_BYTES: usize = 256 * 1024;

/// Bytes that the body holds as base64, decoded while it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob(pub(crate) Bytes);

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Base64;

        impl Visitor<'_> for Base64 {
            type Value = Blob;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a base64 string")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Blob, E> {
                let bytes = STANDARD.decode(text).map_err(|_| E::custom(NOT_BASE64))?;
                Ok(Blob(bytes.into()))
            }
        }

        deserializer.deserialize_str(Base64)
    }
}

const NOT_BASE64: &str = "a blob is not base64";

/// Any JSON value, skipped; only its presence matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Present;

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// Reads a request's body; an empty one is a request without members.
pub(crate) async fn read<T: DeserializeOwned + Send + 'static>(body: Bytes) -> Result<T, LambdaError> {
    if body.len() < LARGE_BODY_BYTES {
        return parse(&body);
    }
    let parsed = tokio::task::spawn_blocking(move || parse(&body)).await;
    parsed.map_err(|error| LambdaError::Internal { step: "read the request", reason: error.to_string() })?
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, LambdaError> {
    let body = if body.is_empty() { b"{}" } else { body };
    // Otherwise a list would be taken for a structure's members in order.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(LambdaError::Serialization("Start of list found where not expected".to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| LambdaError::Serialization(describe(&error)))
}

/// AWS's words for what serde found.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if error.classify() != Category::Data {
        return format!("Could not parse request body into json: {text}");
    }
    let text = text.split(" at line ").next().unwrap_or_default().to_owned();
    let (got, expected) = text.split_once(", expected ").unwrap_or((&text, ""));
    let Some(got) = got.strip_prefix("invalid type: ") else {
        return text;
    };
    let wanted = match expected {
        "a string" => "a String",
        "a boolean" => "a Boolean",
        "a base64 string" => "a Blob",
        expected if expected.starts_with(['i', 'u']) => "an Integer",
        _ => "the expected type",
    };
    let token = match got {
        got if got.starts_with("map") => {
            return "Start of structure or map found where not expected".to_owned();
        }
        got if got.starts_with("sequence") => return "Start of list found where not expected".to_owned(),
        "boolean `true`" => "TRUE_VALUE",
        "boolean `false`" => "FALSE_VALUE",
        got if got.starts_with("string") => "STRING_VALUE",
        got if got.starts_with("integer") => "NUMBER_VALUE",
        got if got.starts_with("floating point") => "DECIMAL_VALUE",
        _ => return text,
    };
    format!("{token} can not be converted to {wanted}")
}

/// A whole number as AWS reads one: of any size that a 32-bit integer has.
pub(crate) fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let number = Option::<i64>::deserialize(deserializer)?;
    match number {
        Some(number) if i32::try_from(number).is_err() => {
            Err(D::Error::custom(format_args!("Numeric value ({number}) out of range of int")))
        }
        number => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Sample {
        text: Option<String>,
        #[serde(deserialize_with = "integer")]
        number: Option<i64>,
        flag: Option<bool>,
        blob: Option<Blob>,
    }

    #[test]
    fn wrong_types_are_told_in_awss_words() {
        let cases = [
            (r#"{"Text":5}"#, "NUMBER_VALUE can not be converted to a String"),
            (r#"{"Number":"5"}"#, "STRING_VALUE can not be converted to an Integer"),
            (r#"{"Number":99999999999}"#, "Numeric value (99999999999) out of range of int"),
            (r#"{"Flag":"x"}"#, "STRING_VALUE can not be converted to a Boolean"),
            (r#"{"Text":true}"#, "TRUE_VALUE can not be converted to a String"),
            (r#"{"Text":{}}"#, "Start of structure or map found where not expected"),
            (r#"{"Text":[]}"#, "Start of list found where not expected"),
            ("[]", "Start of list found where not expected"),
            (r#"{"Blob":"*"}"#, "a blob is not base64"),
        ];
        for (body, text) in cases {
            let error = parse::<Sample>(body.as_bytes()).expect_err(body);
            assert!(matches!(&error, LambdaError::Serialization(found) if found == text), "{body}: {error}");
        }
        for body in ["{", "x", "{\"Text\":\"\u{0}\"}", "null x", "{}{}"] {
            assert!(matches!(parse::<Sample>(body.as_bytes()), Err(LambdaError::Serialization(_))), "{body}");
        }
        assert!(matches!(parse::<Sample>(b"{\"Text\":\"\xff\"}"), Err(LambdaError::Serialization(_))));
    }

    #[test]
    fn unknown_members_and_nulls_are_nothing_however_deep() {
        let deep = format!(r#"{{"Unknown":{}1{},"Text":null}}"#, "[".repeat(100_000), "]".repeat(100_000));
        let sample: Sample = parse(deep.as_bytes()).expect("ignored");
        assert!(
            sample.text.is_none()
                && sample.number.is_none()
                && sample.flag.is_none()
                && sample.blob.is_none()
        );
        assert!(parse::<Sample>(b"").is_ok());
    }
}
