//! Code-signing configurations: how they are named, and what they let be deployed.
//!
//! There is no AWS Signer here, so no package has a signature that could be trusted. A configuration that only warns lets every
//! package through; one that enforces lets none through, and says so as AWS does of an unsigned package.

use freehold_base::id::{AccountId, Region};
use freehold_store::{Part, Read, StoreError};
use freehold_wire::service::Call;

use crate::error::LambdaError;
use crate::model::validation::Violations;
use crate::names::FunctionId;
use crate::records::{SIGNING, SigningPolicy, SigningRecord};

/// Length of an id after `csc-`, in characters.
const RANDOM_LENGTH: usize = 17;
/// Length of an ARN, in characters.
const ARN_LENGTH: std::ops::RangeInclusive<usize> = 0..=200;
/// AWS's pattern for an ARN, as its error texts show it.
const ARN_PATTERN: &str = r"arn:(aws[a-zA-Z-]*)?:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:code-signing-config:csc-[a-z0-9]{17}";

/// Which code-signing configuration, of all accounts and regions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SigningId {
    pub(crate) account: AccountId,
    pub(crate) region: Region,
    /// `csc-` and 17 letters and digits.
    pub(crate) id: String,
}

impl SigningId {
    /// A new one of the caller's.
    pub(crate) fn random(call: &Call) -> Self {
        let id = format!("csc-{}", &uuid::Uuid::new_v4().simple().to_string()[..RANDOM_LENGTH]);
        Self { account: call.principal.account.clone(), region: call.region.clone(), id }
    }

    /// The one with this id, of the function's account and region.
    pub(crate) fn beside(function: &FunctionId, id: &str) -> Self {
        Self { account: function.account.clone(), region: function.region.clone(), id: id.to_owned() }
    }

    /// Reads an ARN. One of another account or region gives `None`: it cannot be there.
    pub(crate) fn of(call: &Call, arn: &str) -> Result<Option<Self>, LambdaError> {
        let mut violations = Violations::default();
        violations.length("codeSigningConfigArn", arn, ARN_LENGTH);
        let parts: Vec<&str> = arn.split(':').collect();
        let ["arn", partition, "lambda", region, account, "code-signing-config", id] = parts[..] else {
            violations.pattern("codeSigningConfigArn", arn, ARN_PATTERN);
            return violations.into_result().map(|()| None);
        };
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let random = id.strip_prefix("csc-").unwrap_or_default();
        let whole = random.len() == RANDOM_LENGTH && random.bytes().all(fits);
        if !whole || !partition.starts_with("aws") || AccountId::parse(account).is_none() {
            violations.pattern("codeSigningConfigArn", arn, ARN_PATTERN);
        }
        violations.into_result()?;
        let own = account == call.principal.account.as_str() && region == call.region.as_str();
        Ok(own.then(|| Self {
            account: call.principal.account.clone(),
            region: call.region.clone(),
            id: id.to_owned(),
        }))
    }

    /// Its place in the store.
    pub(crate) fn parts(&self) -> [Part<'_>; 3] {
        [Part::Text(self.account.as_str()), Part::Text(self.region.as_str()), Part::Text(&self.id)]
    }

    /// Its ARN.
    pub(crate) fn arn(&self) -> String {
        format!("arn:aws:lambda:{}:{}:code-signing-config:{}", self.region, self.account, self.id)
    }

    /// What is stored of it.
    pub(crate) async fn find(&self, read: &impl Read) -> Result<Option<SigningRecord>, StoreError> {
        SIGNING.get(read, &self.parts()).await
    }
}

/// Refuses to deploy a function's package, none of which is signed, if its code-signing configuration demands that.
pub(crate) async fn check_deployment(
    read: &impl Read,
    function: &FunctionId,
    signing: Option<&str>,
) -> Result<(), LambdaError> {
    let Some(id) = signing else { return Ok(()) };
    let id = SigningId::beside(function, id);
    let record = id.find(read).await?.ok_or_else(|| LambdaError::SigningNotFound(id.arn()))?;
    match record.policy {
        SigningPolicy::Warn => Ok(()),
        SigningPolicy::Enforce => Err(LambdaError::Unsigned),
    }
}
