//! Security Token Service: who am I. Every tool asks this first.
//!
//! It lives in the gateway since it tells nothing but what the front door has just found out. Sessions
//! (`AssumeRole` and its kin) come with IAM.

use async_trait::async_trait;
use freehold_wire::error::ApiError;
use freehold_wire::protocol::query;
use freehold_wire::service::{Call, Definition, KnownOperation, Operation, Protocol, Reply, Route, Service};
use freehold_wire::xml::Xml;

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// The largest request, in bytes: session policies and tokens of every operation fit; AWS names no figure.
const BODY_LIMIT: usize = 64 * 1024;

const fn known(name: &'static str) -> KnownOperation {
    KnownOperation { name, route: Route::Action(name) }
}

static OPERATIONS: [Operation; 1] = [Operation {
    name: "GetCallerIdentity",
    route: Route::Action("GetCallerIdentity"),
    action: "sts:GetCallerIdentity",
    resource: "*",
    body_limit: BODY_LIMIT,
}];

static KNOWN: [KnownOperation; 10] = [
    known("AssumeRole"),
    known("AssumeRoleWithSAML"),
    known("AssumeRoleWithWebIdentity"),
    known("AssumeRoot"),
    known("DecodeAuthorizationMessage"),
    known("GetAccessKeyInfo"),
    known("GetDelegatedAccessToken"),
    known("GetFederationToken"),
    known("GetSessionToken"),
    known("GetWebIdentityToken"),
];

static DEFINITION: Definition =
    Definition { scope: "sts", protocol: Protocol::Query(NAMESPACE), operations: &OPERATIONS, known: &KNOWN };

/// The service.
#[derive(Clone, Copy, Debug)]
pub struct Sts;

#[async_trait]
impl Service for Sts {
    fn definition(&self) -> &'static Definition {
        &DEFINITION
    }

    async fn call(&self, call: Call) -> Result<Reply, ApiError> {
        // The only operation there is.
        let principal = &call.principal;
        let result = Xml::new()
            .text("Arn", &principal.arn)
            .text("UserId", &principal.user_id)
            .text("Account", principal.account.as_str());
        Ok(query::reply(NAMESPACE, call.operation.name, &call.request_id, result))
    }
}
