//! May they: the one place that says yes or no.
//!
//! For now every principal of the account may do everything. What a policy will need is here already: the operation's
//! IAM action, and the ARN that it is checked on.

use freehold_base::id::{AccountId, Region};
use freehold_wire::error::ApiError;
use freehold_wire::route::Labels;
use freehold_wire::service::{Operation, Principal};
use http::StatusCode;

/// One question: may this principal do this to that.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// Who asks.
    pub principal: &'a Principal,
    /// What they ask for.
    pub operation: &'a Operation,
    /// The path's labels, which name the resource.
    pub labels: &'a Labels,
    /// Where.
    pub region: &'a Region,
    /// Whose.
    pub account: &'a AccountId,
}

impl Access<'_> {
    /// The ARN that the action is checked on, or `*`.
    pub fn resource(&self) -> String {
        let mut resource = self.operation.resource.to_owned();
        for (label, value) in self.labels {
            let place = format!("{{{label}}}");
            if !resource.contains(&place) {
                continue;
            }
            // Callers may name a resource by its ARN, which then stands for all up to its place.
            match resource.split_once(&place) {
                Some((_, rest)) if value.starts_with("arn:") => resource = format!("{value}{rest}"),
                _ => resource = resource.replace(&place, value),
            }
        }
        if resource == "*" || resource.starts_with("arn:") {
            return resource;
        }
        let service = self.operation.action.split(':').next().unwrap_or_default();
        format!("arn:aws:{service}:{}:{}:{resource}", self.region, self.account)
    }

    fn denied(&self) -> ApiError {
        let (who, what) = (&self.principal.arn, self.operation.action);
        let message =
            format!("User: {who} is not authorized to perform: {what} on resource: {}", self.resource());
        ApiError::new("AccessDeniedException", StatusCode::FORBIDDEN, message)
    }
}

/// Yes, or the error that the caller sees.
pub fn authorise(access: Access<'_>) -> Result<(), ApiError> {
    if access.principal.account == *access.account { Ok(()) } else { Err(access.denied()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use freehold_wire::service::{Route, Verb};

    static OPERATION: Operation = Operation {
        name: "GetFunction",
        route: Route::Rest(Verb::Get, "/functions/{FunctionName}"),
        action: "lambda:GetFunction",
        resource: "function:{FunctionName}",
        body_limit: 0,
    };

    #[test]
    fn the_account_may_do_everything_and_others_nothing() {
        let (account, region) = (AccountId::new("123456789012"), Region::new("us-east-1"));
        let labels = Labels::from([("FunctionName", "hello".to_owned())]);
        let mut principal = Principal {
            account: account.clone(),
            arn: "arn:aws:iam::123456789012:root".to_owned(),
            user_id: "123456789012".to_owned(),
            access_key_id: None,
        };
        let ask = |principal: &Principal| {
            authorise(Access {
                principal,
                operation: &OPERATION,
                labels: &labels,
                region: &region,
                account: &account,
            })
        };
        assert!(ask(&principal).is_ok());
        principal.account = AccountId::new("000000000000");
        let error = ask(&principal).expect_err("another account");
        assert_eq!(error.code, "AccessDeniedException");
        assert!(error.message.ends_with("on resource: arn:aws:lambda:us-east-1:123456789012:function:hello"));
    }

    #[test]
    fn a_resource_may_be_named_by_its_arn() {
        let (account, region) = (AccountId::new("123456789012"), Region::new("us-east-1"));
        let arn = "arn:aws:lambda:eu-west-1:123456789012:function:hello";
        let labels = Labels::from([("FunctionName", arn.to_owned())]);
        let principal = Principal {
            account: account.clone(),
            arn: String::new(),
            user_id: String::new(),
            access_key_id: None,
        };
        let access = Access {
            principal: &principal,
            operation: &OPERATION,
            labels: &labels,
            region: &region,
            account: &account,
        };
        assert_eq!(access.resource(), arn);
        let layer = "arn:aws:lambda:eu-west-1:123456789012:layer:shared";
        let versions = Labels::from([("LayerName", layer.to_owned()), ("VersionNumber", "7".to_owned())]);
        let version = Operation { resource: "layer:{LayerName}:{VersionNumber}", ..OPERATION };
        let asked = Access { operation: &version, labels: &versions, ..access };
        assert_eq!(asked.resource(), format!("{layer}:7"));
        let anywhere = Operation { resource: "*", ..OPERATION };
        assert_eq!(Access { operation: &anywhere, ..access }.resource(), "*");
    }
}
