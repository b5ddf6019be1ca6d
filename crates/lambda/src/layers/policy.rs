//! The policy of a layer version: which other accounts may use it, and how AWS writes that down.
//!
//! Knows nothing of requests or the store; a policy of functions is another matter (it has more kinds of statements).

use freehold_base::id::AccountId;
use serde::Serialize;

use super::error::LayerError;
use super::id::LayerVersionId;
use super::records::{PolicyRecord, PrincipalRecord, StatementRecord};

/// Length of a policy, in bytes. Source: "Lambda quotas" (function resource-based policy, 20 KB).
pub(crate) const POLICY_BYTES: usize = 20_480;
/// The only action that a statement can have.
pub(crate) const ACTION: &str = "lambda:GetLayerVersion";

/// A policy as AWS writes it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Policy<'a> {
    version: &'static str,
    id: &'static str,
    statement: Vec<Statement<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement<'a> {
    sid: &'a str,
    effect: &'static str,
    principal: Principal,
    action: &'static str,
    resource: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<Condition<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Principal {
    Everybody(&'static str),
    Account {
        #[serde(rename = "AWS")]
        arn: String,
    },
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Condition<'a> {
    string_equals: StringEquals<'a>,
}

#[derive(Debug, Serialize)]
struct StringEquals<'a> {
    #[serde(rename = "aws:PrincipalOrgID")]
    organization: &'a str,
}

impl PolicyRecord {
    /// Whether it lets this account in. No account here is known to be of an organization, so a statement that asks for
    /// one lets nobody in.
    pub(crate) fn admits(&self, account: &AccountId) -> bool {
        self.statements.iter().any(|statement| {
            statement.organization.is_none()
                && match &statement.principal {
                    PrincipalRecord::Everybody => true,
                    PrincipalRecord::Account(admitted) => admitted == account,
                }
        })
    }

    /// As AWS writes it.
    pub(crate) fn text(&self, id: &LayerVersionId) -> String {
        let statement = self.statements.iter().map(|statement| statement.shown(id)).collect();
        written(&Policy { version: "2012-10-17", id: "default", statement })
    }

    /// Refuses a policy that is too long.
    pub(crate) fn check_length(&self, id: &LayerVersionId) -> Result<(), LayerError> {
        let length = self.text(id).len();
        if length > POLICY_BYTES { Err(LayerError::PolicyTooLong(length)) } else { Ok(()) }
    }
}

impl StatementRecord {
    /// As AWS writes it.
    pub(crate) fn text(&self, id: &LayerVersionId) -> String {
        written(&self.shown(id))
    }

    fn shown(&self, id: &LayerVersionId) -> Statement<'_> {
        Statement {
            sid: &self.id,
            effect: "Allow",
            principal: match &self.principal {
                PrincipalRecord::Everybody => Principal::Everybody("*"),
                PrincipalRecord::Account(account) => {
                    Principal::Account { arn: format!("arn:aws:iam::{account}:root") }
                }
            },
            action: ACTION,
            resource: id.arn(),
            condition: self
                .organization
                .as_deref()
                .map(|organization| Condition { string_equals: StringEquals { organization } }),
        }
    }
}

impl PrincipalRecord {
    /// Reads `*`, an account's number or the ARN of its root.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Everybody);
        }
        let account = match text.strip_prefix("arn:aws") {
            Some(rest) => {
                let (partition, rest) = rest.split_once(":iam::")?;
                let fits = partition.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-');
                rest.strip_suffix(":root").filter(|_| fits)?
            }
            None => text,
        };
        AccountId::parse(account).map(Self::Account)
    }
}

fn written(document: &impl Serialize) -> String {
    serde_json::to_string(document).expect("these structures are texts through and through")
}

#[cfg(test)]
mod tests {
    use freehold_base::id::{Region, RevisionId};

    use super::*;
    use crate::layers::id::LayerId;

    fn statement(principal: &str, organization: Option<&str>) -> StatementRecord {
        StatementRecord {
            id: "s".to_owned(),
            principal: PrincipalRecord::parse(principal).expect("a principal"),
            organization: organization.map(str::to_owned),
        }
    }

    fn id() -> LayerVersionId {
        let (account, region) = (AccountId::new("123456789012"), Region::new("us-east-1"));
        LayerVersionId { layer: LayerId { account, region, name: "l".to_owned() }, number: 2 }
    }

    #[test]
    fn statements_are_written_as_aws_does() {
        let resource = r#""Action":"lambda:GetLayerVersion","Resource":"arn:aws:lambda:us-east-1:123456789012:layer:l:2""#;
        let cases = [
            ("*", None, r#""Principal":"*""#, ""),
            ("111122223333", None, r#""Principal":{"AWS":"arn:aws:iam::111122223333:root"}"#, ""),
            (
                "arn:aws:iam::111122223333:root",
                None,
                r#""Principal":{"AWS":"arn:aws:iam::111122223333:root"}"#,
                "",
            ),
            (
                "*",
                Some("o-a1b2c3d4e5"),
                r#""Principal":"*""#,
                r#","Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-a1b2c3d4e5"}}"#,
            ),
        ];
        for (principal, organization, shown, condition) in cases {
            let text = statement(principal, organization).text(&id());
            assert_eq!(text, format!(r#"{{"Sid":"s","Effect":"Allow",{shown},{resource}{condition}}}"#));
        }
    }

    #[test]
    fn only_those_who_are_named_are_let_in() {
        let asks = |statements: Vec<StatementRecord>| {
            let policy = PolicyRecord { statements, revision_id: RevisionId::random() };
            ["111122223333", "444455556666"].map(|account| policy.admits(&AccountId::new(account)))
        };
        assert_eq!(asks(vec![statement("111122223333", None)]), [true, false]);
        assert_eq!(asks(vec![statement("*", None)]), [true, true]);
        assert_eq!(asks(vec![statement("*", Some("o-a1b2c3d4e5"))]), [false, false]);
        for text in ["", "**", "11112222333", "arn:aws:iam::111122223333:user/x", "s3.amazonaws.com"] {
            assert_eq!(PrincipalRecord::parse(text), None, "{text}");
        }
    }
}
