//! How a request names a function: a name, a partial ARN or an ARN, with or without a qualifier, plus the parameter
//! `Qualifier`; and what AWS answers when the two, the region or the account do not fit.

use freehold_base::arn::{Arn, FunctionReference};
use freehold_base::id::{AccountId, Region};
use freehold_store::{Key, Part, PartValue};
use freehold_wire::service::Call;

use crate::error::LambdaError;
use crate::model::validation::Violations;
use crate::records::FUNCTIONS;

/// The version that every function has, and that alone changes.
pub(crate) const LATEST: &str = "$LATEST";
/// Length of a function's name or ARN where a function is created or changed, in characters.
const NAME_LENGTH: usize = 140;
/// Length of a bare name, in characters.
const BARE_NAME_LENGTH: usize = 64;
/// Length of a qualifier, in characters.
const QUALIFIER_LENGTH: usize = 128;
/// AWS's pattern for a function's name or ARN, as its error texts show it.
const NAME_PATTERN: &str = r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?";
/// AWS's pattern for a qualifier, as its error texts show it.
const QUALIFIER_PATTERN: &str = "(|[a-zA-Z0-9$_-]+)";

/// Which function, of all accounts and regions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FunctionId {
    pub(crate) account: AccountId,
    pub(crate) region: Region,
    pub(crate) name: String,
}

impl FunctionId {
    /// The function's place in the store.
    pub(crate) fn parts(&self) -> [Part<'_>; 3] {
        [Part::Text(self.account.as_str()), Part::Text(self.region.as_str()), Part::Text(&self.name)]
    }

    /// The function in the parts of a key that begins with its place.
    pub(crate) fn from_parts(parts: Vec<PartValue>) -> Option<Self> {
        let mut parts = parts.into_iter();
        let mut text = || match parts.next() {
            Some(PartValue::Text(text)) => Some(text),
            _ => None,
        };
        let (account, region, name) = (text()?, text()?, text()?);
        Some(Self { account: AccountId::new(account), region: Region::new(region), name })
    }

    /// A published version's place in the store.
    pub(crate) fn version_parts(&self, number: u64) -> [Part<'_>; 4] {
        let [account, region, name] = self.parts();
        [account, region, name, Part::Number(number)]
    }

    /// An alias's place in the store.
    pub(crate) fn alias_parts<'a>(&'a self, alias: &'a str) -> [Part<'a>; 4] {
        let [account, region, name] = self.parts();
        [account, region, name, Part::Text(alias)]
    }

    /// The place in the store of the policy of the function itself (`$LATEST`), of a version or of an alias.
    pub(crate) fn policy_parts<'a>(&'a self, qualifier: &'a str) -> [Part<'a>; 4] {
        self.alias_parts(qualifier)
    }

    /// The place in the store of the provisioned concurrency of a version (its number) or of an alias.
    pub(crate) fn provisioned_parts<'a>(&'a self, qualifier: &'a str) -> [Part<'a>; 4] {
        self.alias_parts(qualifier)
    }

    /// The place in the store that says that the function is deployed by a code-signing configuration.
    pub(crate) fn signing_parts<'a>(&'a self, config: &'a str) -> [Part<'a>; 4] {
        let [account, region, name] = self.parts();
        [account, region, Part::Text(config), name]
    }

    /// The function's key in the store.
    pub(crate) fn key(&self) -> Key {
        FUNCTIONS.key(&self.parts())
    }

    /// The ARN without a qualifier.
    pub(crate) fn arn(&self) -> String {
        format!("arn:aws:lambda:{}:{}:function:{}", self.region, self.account, self.name)
    }

    /// The ARN with a qualifier, where there is one.
    pub(crate) fn qualified_arn(&self, qualifier: Option<&str>) -> String {
        match qualifier {
            Some(qualifier) => format!("{}:{qualifier}", self.arn()),
            None => self.arn(),
        }
    }
}

/// Which version or alias of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Qualified<'a> {
    /// `$LATEST`.
    Latest,
    /// A published version.
    Number(u64),
    /// An alias.
    Alias(&'a str),
    /// A number that no version can have, or a name that no alias can have.
    Nothing,
}

impl<'a> Qualified<'a> {
    /// Reads a qualifier. One of digits alone is a version: no alias may be called so.
    pub(crate) fn of(text: &'a str) -> Self {
        if text == LATEST {
            Self::Latest
        } else if text.contains('$') {
            Self::Nothing
        } else if text.bytes().all(|byte| byte.is_ascii_digit()) {
            // Numbers are written without zeros in front, so that each version has one name.
            let number = text.parse().ok().filter(|_| !text.starts_with('0'));
            number.map_or(Self::Nothing, Self::Number)
        } else {
            Self::Alias(text)
        }
    }
}

/// What a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) id: FunctionId,
    /// The version or alias, where the request says one.
    pub(crate) qualifier: Option<String>,
}

impl Target {
    /// Reads the path's `FunctionName` and the parameter `Qualifier`.
    pub(crate) fn of(call: &Call) -> Result<Self, LambdaError> {
        let name = call.labels.get("FunctionName").map_or("", String::as_str);
        let qualifier = call.query_value("Qualifier").filter(|qualifier| !qualifier.is_empty());
        Self::resolve(call, name, qualifier)
    }

    /// Reads `text`, the function's name as the caller wrote it.
    pub(crate) fn resolve(call: &Call, text: &str, qualifier: Option<&str>) -> Result<Self, LambdaError> {
        let mut violations = Violations::default();
        let reference = text.parse::<FunctionReference>();
        if reference.is_err() {
            check_name(&mut violations, text);
        }
        if let Some(qualifier) = qualifier {
            violations.length("qualifier", qualifier, 1..=QUALIFIER_LENGTH);
            let may_be = |byte: u8| byte.is_ascii_alphanumeric() || b"$_-".contains(&byte);
            if qualifier.len() <= QUALIFIER_LENGTH && !qualifier.bytes().all(may_be) {
                violations.pattern("qualifier", qualifier, QUALIFIER_PATTERN);
            }
        }
        violations.into_result()?;
        let reference = reference.expect("a name that cannot be read has just been refused");
        let id = here(call, &reference)?;
        let qualifier = match (qualifier, reference.qualifier) {
            (Some(given), Some(own)) if given != own => {
                let text =
                    "The derived qualifier from the function name does not match the specified qualifier.";
                return Err(LambdaError::InvalidParameter(text.to_owned()));
            }
            (given, own) => given.map(str::to_owned).or(own),
        };
        Ok(Self { id, qualifier })
    }

    /// The version or alias that is meant.
    pub(crate) fn qualified(&self) -> Qualified<'_> {
        self.qualifier.as_deref().map_or(Qualified::Latest, Qualified::of)
    }

    /// Refuses a version or an alias where only `$LATEST` can be changed.
    pub(crate) fn require_latest(&self) -> Result<(), LambdaError> {
        match self.qualified() {
            Qualified::Latest => Ok(()),
            _ => Err(self.not_found()),
        }
    }

    /// The function, where a version or an alias cannot be meant.
    pub(crate) fn into_function(self) -> Result<FunctionId, LambdaError> {
        match self.qualifier {
            None => Ok(self.id),
            Some(_) => Err(LambdaError::InvalidParameter(
                "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. \
                 Please specify either a function name or an unqualified function ARN."
                    .to_owned(),
            )),
        }
    }

    /// AWS's answer when it is not there: with the qualifier that was asked for.
    pub(crate) fn not_found(&self) -> LambdaError {
        LambdaError::FunctionNotFound(self.id.qualified_arn(self.qualifier.as_deref()))
    }
}

/// The resource part of an ARN of Lambda's, where `text` is one that names region and account; a function's can be read.
pub(crate) fn arn(text: &str) -> Option<String> {
    let arn: Arn = text.parse().ok()?;
    let whole = arn.service == "lambda" && !arn.region.is_empty() && !arn.account.is_empty();
    let readable = !arn.resource.starts_with("function:") || text.parse::<FunctionReference>().is_ok();
    (whole && readable).then_some(arn.resource)
}

/// The function's place, which must be the caller's own account and the region that was asked.
fn here(call: &Call, reference: &FunctionReference) -> Result<FunctionId, LambdaError> {
    let id = FunctionId {
        account: call.principal.account.clone(),
        region: call.region.clone(),
        name: reference.name.clone(),
    };
    if reference.account.as_ref().is_some_and(|account| *account != id.account) {
        return Err(LambdaError::OtherAccount {
            principal: call.principal.arn.clone(),
            action: call.operation.action,
            resource: FunctionId {
                account: reference.account.clone().unwrap_or(id.account),
                region: reference.region.clone().unwrap_or(id.region),
                name: id.name,
            }
            .arn(),
        });
    }
    match &reference.region {
        Some(region) if *region != id.region => {
            Err(LambdaError::OtherRegion { named: region.to_string(), here: id.region.to_string() })
        }
        _ => Ok(id),
    }
}

/// Notes what is wrong with a name that could not be read.
fn check_name(violations: &mut Violations, text: &str) {
    let bare = !text.contains(':');
    let longest = if bare { BARE_NAME_LENGTH } else { NAME_LENGTH };
    let before = violations.len();
    violations.length("functionName", text, 1..=longest);
    if violations.len() == before {
        violations.pattern("functionName", text, NAME_PATTERN);
    }
}
