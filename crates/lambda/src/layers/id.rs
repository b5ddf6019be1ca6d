//! How layers and their versions are named: by name or ARN in a path, by ARN in a function's `Layers`.

use freehold_base::arn::Arn;
use freehold_base::id::{AccountId, Region};
use freehold_store::Part;
use freehold_wire::service::Call;

use crate::error::LambdaError;
use crate::model::validation::Violations;

/// Length of a layer's name, in characters.
const NAME_LENGTH: usize = 140;
/// Length of a layer's name or ARN, in characters.
const REFERENCE_LENGTH: usize = 2_048;
/// AWS's pattern for a layer's name or ARN, as its error texts show it.
const REFERENCE_PATTERN: &str = r"(arn:(aws[a-zA-Z-]*)?:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:layer:[a-zA-Z0-9-_]{1,140}|[a-zA-Z0-9-_]{1,140})";
/// AWS's pattern for a layer version's ARN, as its error texts show it.
pub(crate) const VERSION_PATTERN: &str = r"(arn:(aws[a-zA-Z-]*)?:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:layer:[a-zA-Z0-9-_]+:[0-9]+)|(arn:[a-zA-Z0-9-]+:lambda:::awslayer:[a-zA-Z0-9-_]+)";

/// Which layer, of all accounts and regions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LayerId {
    pub(crate) account: AccountId,
    pub(crate) region: Region,
    pub(crate) name: String,
}

impl LayerId {
    /// Reads the path's `LayerName`; what is wrong with it is noted.
    pub(crate) fn of(call: &Call, violations: &mut Violations) -> Self {
        let text = call.labels.get("LayerName").map_or("", String::as_str);
        if let Some(id) = Self::parse(text) {
            return id;
        }
        if text.chars().count() > REFERENCE_LENGTH || text.is_empty() {
            violations.length("layerName", text, 1..=REFERENCE_LENGTH);
        } else if !is_name(text) {
            violations.pattern("layerName", text, REFERENCE_PATTERN);
        }
        Self { account: call.principal.account.clone(), region: call.region.clone(), name: text.to_owned() }
    }

    /// Reads a layer's ARN.
    fn parse(text: &str) -> Option<Self> {
        let arn: Arn = text.parse().ok()?;
        let name = arn.resource.strip_prefix("layer:").filter(|name| is_name(name))?;
        if arn.service != "lambda" || !is_region(&arn.region) || arn.partition != "aws" {
            return None;
        }
        Some(Self {
            account: AccountId::parse(&arn.account)?,
            region: Region::new(arn.region.clone()),
            name: name.to_owned(),
        })
    }

    /// The layer's ARN.
    pub(crate) fn arn(&self) -> String {
        format!("arn:aws:lambda:{}:{}:layer:{}", self.region, self.account, self.name)
    }

    /// The layer's place in the store.
    pub(crate) fn parts(&self) -> [Part<'_>; 3] {
        [Part::Text(self.account.as_str()), Part::Text(self.region.as_str()), Part::Text(&self.name)]
    }

    /// One of its versions.
    pub(crate) fn version(&self, number: u64) -> LayerVersionId {
        LayerVersionId { layer: self.clone(), number }
    }
}

/// Which version of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LayerVersionId {
    pub(crate) layer: LayerId,
    pub(crate) number: u64,
}

impl LayerVersionId {
    /// Reads the path's `LayerName` and `VersionNumber`.
    pub(crate) fn of(call: &Call) -> Result<Self, LambdaError> {
        let mut violations = Violations::default();
        let layer = LayerId::of(call, &mut violations);
        let text = call.labels.get("VersionNumber").map_or("", String::as_str);
        let number: i64 = text.parse().map_err(|_| {
            let shown: String = text.chars().take(100).collect();
            LambdaError::Serialization(format!("'{shown}' can not be converted to a Long"))
        })?;
        violations.into_result()?;
        match u64::try_from(number) {
            Ok(number) if number > 0 => Ok(Self { layer, number }),
            _ => Err(LambdaError::InvalidParameter("Layer Version Cannot be less than 1".to_owned())),
        }
    }

    /// Reads a layer version's ARN; `None` for any other, also of a version that can never be.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (layer, number) = text.rsplit_once(':')?;
        let number = number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())??;
        Some(Self { layer: LayerId::parse(layer)?, number })
    }

    /// Its ARN.
    pub(crate) fn arn(&self) -> String {
        format!("{}:{}", self.layer.arn(), self.number)
    }

    /// Its place in the store.
    pub(crate) fn parts(&self) -> [Part<'_>; 4] {
        let [account, region, name] = self.layer.parts();
        [account, region, name, Part::Number(self.number)]
    }
}

/// Whether `text` matches [`VERSION_PATTERN`] as a whole, also as one of AWS's own layers or of another partition.
pub(crate) fn is_version_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let word = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    match parts.as_slice() {
        ["arn", partition, "lambda", region, account, "layer", name, number] => {
            let partition_fits = partition.is_empty() || partition.starts_with("aws") && word(partition);
            partition_fits
                && is_region(region)
                && AccountId::parse(account).is_some()
                && word(name)
                && !number.is_empty()
                && number.bytes().all(|byte| byte.is_ascii_digit())
        }
        ["arn", partition, "lambda", "", "", "awslayer", name] => word(partition) && word(name),
        _ => false,
    }
}

fn is_name(text: &str) -> bool {
    (1..=NAME_LENGTH).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// Two letters, words between hyphens, and a digit: `us-gov-west-1`, `eusc-de-east-1`.
fn is_region(text: &str) -> bool {
    let words: Vec<&str> = text.split('-').collect();
    let Some((number, words)) = words.split_last() else { return false };
    number.len() == 1
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && (2..=4).contains(&words.len())
        && words.iter().all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_arns_are_read_back_as_they_are_written() {
        let text = "arn:aws:lambda:us-east-1:123456789012:layer:my_layer-1:17";
        let id = LayerVersionId::parse(text).expect("an ARN");
        assert_eq!((id.arn().as_str(), id.number, id.layer.name.as_str()), (text, 17, "my_layer-1"));
        assert!(is_version_arn(text));
        assert_eq!(id.layer.version(17), id);
    }

    #[test]
    fn what_is_no_version_arn_is_told_from_one_that_is_not_ours() {
        let others = [
            "arn:aws:lambda:::awslayer:AmazonLinux1803",
            "arn:aws-cn:lambda:cn-north-1:123456789012:layer:x:1",
            "arn:aws:lambda:us-gov-west-1:123456789012:layer:x:99999999999999999999999999",
        ];
        for text in others {
            assert!(is_version_arn(text) && LayerVersionId::parse(text).is_none(), "{text}");
        }
        for text in [
            "",
            "x",
            "arn:aws:lambda:us-east-1:123456789012:layer:x",
            "arn:aws:lambda:us-east-1:123456789012:layer:x:",
            "arn:aws:lambda:us-east-1:123456789012:layer:x:$LATEST",
            "arn:aws:lambda:us-east-1:123456789012:layer:x:-1",
            "arn:aws:lambda:us-east-1:123456789012:layer::1",
            "arn:aws:lambda:us-east-1:12345678901:layer:x:1",
            "arn:aws:lambda:us-east:123456789012:layer:x:1",
            "arn:aws:lambda:us-east-1:123456789012:function:x:1",
            "arn:aws:s3:us-east-1:123456789012:layer:x:1",
        ] {
            assert!(!is_version_arn(text) && LayerVersionId::parse(text).is_none(), "{text}");
        }
    }
}
