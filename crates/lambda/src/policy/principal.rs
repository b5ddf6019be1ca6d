//! Whom a statement names: everyone, services, accounts, users and roles.

use freehold_base::arn::Arn;
use freehold_base::id::AccountId;
use serde::{Deserialize, Serialize};

use super::{OneOrMany, PolicyError};

/// The text that stands for everyone.
const EVERYONE: &str = "*";
/// AWS's pattern for an organization's id, as its error texts show it.
pub(crate) const ORGANIZATION_PATTERN: &str = "o-[a-z0-9]{10,32}";
/// Letters and digits of an organization's id after `o-`.
const ORGANIZATION_LENGTH: std::ops::RangeInclusive<usize> = 10..=32;
/// How the names of services end: most, and Alexa's.
const SERVICE_ENDINGS: [&str; 3] = [".amazonaws.com", ".amazonaws.com.cn", ".amazon.com"];

/// A statement's principal, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Principal {
    /// `*`: everyone.
    Everyone(String),
    /// By kind.
    Named(Named),
}

/// Principals by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    /// ARNs of accounts, users and roles, or `*`.
    #[serde(rename = "AWS", skip_serializing_if = "Option::is_none")]
    pub(crate) aws: Option<OneOrMany>,
    /// Services, such as `s3.amazonaws.com`.
    #[serde(rename = "Service", skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<OneOrMany>,
}

/// Who makes a request. A service has a name and neither account nor ARN; without any of the three it is somebody unknown.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Caller<'a> {
    /// The account that the caller belongs to.
    pub(crate) account: Option<&'a str>,
    /// The caller's ARN, as `GetCallerIdentity` shows it.
    pub(crate) arn: Option<&'a str>,
    /// The service, such as `s3.amazonaws.com`.
    pub(crate) service: Option<&'a str>,
}

impl Principal {
    /// Everyone.
    pub(crate) fn everyone() -> Self {
        Self::Everyone(EVERYONE.to_owned())
    }

    /// Reads what a client names: `*`, a service, an account's id, or an ARN of an account, a user or a role.
    pub(crate) fn parse(text: &str) -> Result<Self, PolicyError> {
        if text == EVERYONE {
            return Ok(Self::everyone());
        }
        let one = |text: &str| Some(OneOrMany::One(text.to_owned()));
        if is_service(text) {
            return Ok(Self::Named(Named { service: one(text), aws: None }));
        }
        let arn = identity(text).ok_or(PolicyError::InvalidPrincipal)?;
        Ok(Self::Named(Named { aws: one(&arn), service: None }))
    }

    /// Checks what a document says, and writes accounts as AWS does: as ARNs.
    pub(super) fn settle(&mut self) -> Result<(), PolicyError> {
        match self {
            Self::Everyone(text) if text == EVERYONE => Ok(()),
            Self::Everyone(_) => Err(PolicyError::InvalidPrincipal),
            Self::Named(named) => named.settle(),
        }
    }

    /// Whether it names this caller.
    pub(super) fn names(&self, caller: &Caller<'_>) -> bool {
        let Self::Named(named) = self else { return true };
        let listed = |texts: &Option<OneOrMany>, is: &dyn Fn(&str) -> bool| {
            texts.as_ref().is_some_and(|texts| texts.as_slice().iter().any(|text| is(text)))
        };
        listed(&named.service, &|text| caller.service == Some(text))
            || (caller.service.is_none() && listed(&named.aws, &|text| is_identity(text, caller)))
    }
}

impl Named {
    fn settle(&mut self) -> Result<(), PolicyError> {
        let aws = self.aws.as_mut().map_or(&mut [][..], OneOrMany::as_mut_slice);
        let service = self.service.as_mut().map_or(&mut [][..], OneOrMany::as_mut_slice);
        if aws.is_empty() && service.is_empty() {
            return Err(PolicyError::InvalidPrincipal);
        }
        for text in aws {
            if text != EVERYONE {
                *text = identity(text).ok_or(PolicyError::InvalidPrincipal)?;
            }
        }
        let known = service.iter().all(|text| is_service(text));
        if known { Ok(()) } else { Err(PolicyError::InvalidPrincipal) }
    }
}

/// The ARN of the account, user, role or session that `text` names.
fn identity(text: &str) -> Option<String> {
    if AccountId::parse(text).is_some() {
        return Some(format!("arn:aws:iam::{text}:root"));
    }
    let arn: Arn = text.parse().ok()?;
    let kinds: &[&str] = match arn.service.as_str() {
        "iam" if arn.resource == "root" => &["root"],
        "iam" => &["user/", "role/"],
        "sts" => &["assumed-role/"],
        _ => return None,
    };
    let is_kind = |kind: &&str| arn.resource.strip_prefix(*kind).is_some_and(|name| !name.starts_with('/'));
    let whole = arn.region.is_empty() && AccountId::parse(&arn.account).is_some();
    let plain = !arn.resource.contains(['*', '?']) && !arn.resource.ends_with('/');
    (whole && plain && kinds.iter().any(is_kind)).then(|| text.to_owned())
}

/// Whether the caller is what `text`, an ARN or `*`, names.
fn is_identity(text: &str, caller: &Caller<'_>) -> bool {
    if text == EVERYONE || caller.arn == Some(text) {
        return true;
    }
    let (Some(account), Ok(arn)) = (caller.account, text.parse::<Arn>()) else { return false };
    if arn.service != "iam" || arn.account != account {
        return false;
    }
    match arn.resource.strip_prefix("role/") {
        Some(role) => caller.arn.and_then(role_of).is_some_and(|own| Some(own) == role.rsplit('/').next()),
        None => arn.resource == "root",
    }
}

/// The name of the role whose session this is.
pub(crate) fn role_of(arn: &str) -> Option<&str> {
    let (_, session) = arn.split_once(":assumed-role/")?;
    session.split('/').next()
}

/// Whether a text matches [`ORGANIZATION_PATTERN`] as a whole.
pub(crate) fn is_organization(text: &str) -> bool {
    text.strip_prefix("o-").is_some_and(|id| {
        ORGANIZATION_LENGTH.contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    })
}

/// Whether a text is a service's name.
fn is_service(text: &str) -> bool {
    let name = SERVICE_ENDINGS.iter().find_map(|ending| text.strip_suffix(ending)).unwrap_or_default();
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    name.split('.').all(is_label)
}
