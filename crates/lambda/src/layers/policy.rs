//! The policy of a layer version: which statements it has, and whom they let in. What a policy is, how AWS writes it and what
//! it decides is in `crate::policy`, as for functions; here is what layers have of that.
//!
//! Knows nothing of requests or the store.

use freehold_base::id::AccountId;
use freehold_wire::service;

use super::id::LayerVersionId;
use crate::policy::condition::Context;
use crate::policy::decision::{Decision, Request, decide};
use crate::policy::principal::{Caller, Principal};
use crate::policy::{Document, Statement};

/// The only action that a statement can have, and the one that using a layer version takes.
pub(crate) const ACTION: &str = "lambda:GetLayerVersion";

/// Reads `*`, an account's number or the ARN of its root: layers are opened to nobody smaller.
pub(crate) fn principal(text: &str) -> Option<Principal> {
    let account = match text.strip_prefix("arn:aws") {
        Some(rest) => {
            let (partition, rest) = rest.split_once(":iam::")?;
            let fits = partition.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-');
            rest.strip_suffix(":root").filter(|_| fits)?
        }
        None => text,
    };
    let named = text == "*" || AccountId::parse(account).is_some();
    named.then(|| Principal::parse(account).ok())?
}

/// A statement that lets a principal use the layer version; where an organization is named, if it is of that.
pub(crate) fn statement(
    id: &LayerVersionId,
    sid: String,
    principal: Principal,
    organization: Option<String>,
) -> Statement {
    Statement::allow(sid, principal, ACTION.to_owned(), id.arn()).with_condition(
        "StringEquals",
        "aws:PrincipalOrgID",
        organization,
    )
}

/// Whether the layer version's policy lets this principal, of another account, use it. Nothing is known of organizations,
/// so a statement that asks for one lets nobody in.
pub(crate) fn admits(policy: &Document, id: &LayerVersionId, principal: &service::Principal) -> bool {
    let request = Request {
        caller: Caller {
            account: Some(principal.account.as_str()),
            arn: Some(&principal.arn),
            service: None,
        },
        action: ACTION,
        resources: &[id.arn()],
        context: &Context::default(),
    };
    decide(std::slice::from_ref(policy), &request) == Decision::Allowed
}

#[cfg(test)]
mod tests {
    use freehold_base::id::Region;

    use super::*;
    use crate::layers::id::LayerId;

    fn allow(text: &str, organization: Option<&str>) -> Statement {
        let principal = principal(text).expect("a principal");
        statement(&id(), "s".to_owned(), principal, organization.map(str::to_owned))
    }

    fn id() -> LayerVersionId {
        let (account, region) = (AccountId::new("123456789012"), Region::new("us-east-1"));
        LayerVersionId { layer: LayerId { account, region, name: "l".to_owned() }, number: 2 }
    }

    fn of_account(account: &str, name: &str) -> service::Principal {
        service::Principal {
            account: AccountId::new(account),
            arn: format!("arn:aws:iam::{account}:{name}"),
            user_id: account.to_owned(),
            access_key_id: None,
        }
    }

    #[test]
    fn statements_are_written_as_aws_does() {
        let resource = r#""Action":"lambda:GetLayerVersion","Resource":"arn:aws:lambda:us-east-1:123456789012:layer:l:2""#;
        let account = r#""Principal":{"AWS":"arn:aws:iam::111122223333:root"}"#;
        let cases = [
            ("*", None, r#""Principal":"*""#, ""),
            ("111122223333", None, account, ""),
            ("arn:aws:iam::111122223333:root", None, account, ""),
            ("arn:aws-us-gov:iam::111122223333:root", None, account, ""),
            (
                "*",
                Some("o-a1b2c3d4e5"),
                r#""Principal":"*""#,
                r#","Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-a1b2c3d4e5"}}"#,
            ),
        ];
        for (principal, organization, shown, condition) in cases {
            let text = allow(principal, organization).to_text();
            assert_eq!(text, format!(r#"{{"Sid":"s","Effect":"Allow",{shown},{resource}{condition}}}"#));
        }
    }

    #[test]
    fn only_those_who_are_named_are_let_in() {
        let asks = |statement: Statement| {
            let policy = Document { statement: vec![statement], ..Document::default() };
            [("111122223333", "root"), ("111122223333", "user/x"), ("444455556666", "root")]
                .map(|(account, name)| admits(&policy, &id(), &of_account(account, name)))
        };
        assert_eq!(asks(allow("111122223333", None)), [true, true, false]);
        assert_eq!(asks(allow("*", None)), [true, true, true]);
        assert_eq!(asks(allow("*", Some("o-a1b2c3d4e5"))), [false, false, false]);
        assert_eq!(asks(allow("111122223333", Some("o-a1b2c3d4e5"))), [false, false, false]);
        for text in [
            "",
            "**",
            "arn:aws*",
            "arn:aws:iam::*:root",
            "11112222333",
            "arn:aws:iam::111122223333:user/x",
            "s3.amazonaws.com",
        ] {
            assert_eq!(principal(text), None, "{text}");
        }
    }
}
