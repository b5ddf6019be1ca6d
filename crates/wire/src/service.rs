//! What a service shows to the front door. The gateway finds the operation, proves who asks and hands over a [`Call`];
//! the service gives back a [`Reply`] or an [`ApiError`]. Neither knows more of the other than this.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use freehold_base::id::{AccountId, Region, RequestId};
use http::{HeaderMap, Method, StatusCode};

use crate::error::ApiError;

/// How a service's requests and errors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Operations by method and path, JSON bodies (Lambda, Scheduler, API Gateway v2, X-Ray).
    RestJson,
    /// Operations by `X-Amz-Target`, JSON 1.0 (DynamoDB, SQS, Step Functions).
    Json10,
    /// Operations by `X-Amz-Target`, JSON 1.1 (EventBridge, Logs, ECS, Cognito).
    Json11,
    /// Operations by the form parameter `Action`, XML answers (STS, IAM, SNS, CloudFormation) in this namespace.
    Query(&'static str),
    /// Operations by method and path, XML bodies (S3).
    RestXml,
}

/// How an operation is recognised.
#[derive(Clone, Copy, Debug)]
pub enum Route {
    /// Method and path template as in AWS's model: `/2015-03-31/functions/{FunctionName}`; `{Name+}` takes the rest
    /// of the path, slashes and all; `?List=ALL` at its end asks for that query parameter.
    Rest(Verb, &'static str),
    /// The value of `X-Amz-Target`.
    Target(&'static str),
    /// The value of the form parameter `Action`.
    Action(&'static str),
}

/// The methods that AWS's REST models use; const, unlike [`http::Method`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Verb {
    Get,
    Put,
    Post,
    Delete,
    Patch,
    Head,
}

impl Verb {
    /// Whether this is `method`.
    pub fn is(self, method: &Method) -> bool {
        let own = match self {
            Self::Get => Method::GET,
            Self::Put => Method::PUT,
            Self::Post => Method::POST,
            Self::Delete => Method::DELETE,
            Self::Patch => Method::PATCH,
            Self::Head => Method::HEAD,
        };
        own == *method
    }
}

/// One operation of a service.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// AWS's name for it, such as `CreateFunction`.
    pub name: &'static str,
    /// How it is recognised.
    pub route: Route,
    /// The IAM action that it needs, such as `lambda:CreateFunction`.
    pub action: &'static str,
    /// The template of the ARN that the action is checked on, `*` where the action has none. `{Label}` is filled from
    /// the path, as in `function:{FunctionName}`.
    pub resource: &'static str,
    /// The largest body, in bytes; a larger one is refused with 413 before it is read.
    pub body_limit: usize,
}

/// An operation that AWS has and this service has not (yet): recognised only to be named in the error.
#[derive(Clone, Copy, Debug)]
pub struct KnownOperation {
    /// AWS's name for it.
    pub name: &'static str,
    /// How it is recognised.
    pub route: Route,
}

/// Who asks, as proven by the signature or by the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The account that the principal belongs to.
    pub account: AccountId,
    /// The principal's ARN, as `GetCallerIdentity` shows it.
    pub arn: String,
    /// The principal's unique id, as `GetCallerIdentity` shows it.
    pub user_id: String,
    /// The access key that signed, where one did.
    pub access_key_id: Option<String>,
}

/// One verified request for one operation.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is asked for.
    pub operation: &'static Operation,
    /// Who asks.
    pub principal: Principal,
    /// The region that the request was signed for.
    pub region: Region,
    /// The id that the answer will carry.
    pub request_id: RequestId,
    /// The path's labels, percent-decoded.
    pub labels: BTreeMap<&'static str, String>,
    /// The query string's (or, for the query protocol, the form's) parameters, decoded, in order.
    pub query: Vec<(String, String)>,
    /// The request's headers.
    pub headers: HeaderMap,
    /// The request's body, whole, its hash checked.
    pub body: Bytes,
}

impl Call {
    /// The first query parameter of this name.
    pub fn query_value(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A header as text, where it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A successful answer. The gateway adds `x-amzn-RequestId`, `Content-Length` and, where none is set, the protocol's
/// content type.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status, mostly 200, 201, 202 or 204.
    pub status: StatusCode,
    /// Headers of the operation's own.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// What is fixed about a service.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// The name in the signature's credential scope, such as `lambda`.
    pub scope: &'static str,
    /// How its requests and errors are written.
    pub protocol: Protocol,
    /// Every operation that it answers.
    pub operations: &'static [Operation],
    /// Operations that AWS has and that are missing here: each answers `UnknownOperationException` by its name.
    pub known: &'static [KnownOperation],
}

/// One AWS service behind the front door.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// What is fixed about it.
    fn definition(&self) -> &'static Definition;

    /// Carries out one call. Dropping the future (the client went away) must leave nothing half done.
    async fn call(&self, call: Call) -> Result<Reply, ApiError>;
}
