//! Signed requests to a server over one kept-alive connection, as any AWS SDK would send them.

use std::time::SystemTime;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use freehold_gateway::credentials::DEVELOPMENT_KEY;
use freehold_wire::sigv4::{self, Credentials};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::cli::Target;

/// The version of the Lambda API, the first part of every path.
const API: &str = "/2015-03-31/functions";

/// A connection to a server, and the key to sign with.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
    region: String,
    credentials: Credentials,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as JSON, or the API's error as ours.
    pub fn json(&self) -> Result<Value> {
        self.checked()?;
        serde_json::from_slice(&self.body).context("the server's answer is not JSON")
    }

    /// The answer itself, or the API's error as ours.
    pub fn checked(&self) -> Result<&Self> {
        if self.status.is_success() {
            return Ok(self);
        }
        let code = self.header("x-amzn-errortype").unwrap_or("error");
        let body: Value = serde_json::from_slice(&self.body).unwrap_or(Value::Null);
        let message = body["Message"].as_str().or_else(|| body["message"].as_str());
        let text = message.map_or_else(|| String::from_utf8_lossy(&self.body).into_owned(), str::to_owned);
        Err(anyhow!("{code} ({}): {text}", self.status.as_u16()))
    }
}

impl Client {
    /// Connects to the server that a command names, with the environment's credentials.
    pub async fn connect(target: &Target) -> Result<Self> {
        let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        let credentials = match (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
            (Some(id), Some(secret)) => {
                Credentials { session_token: variable("AWS_SESSION_TOKEN"), ..Credentials::new(id, secret) }
            }
            _ => Credentials::new(DEVELOPMENT_KEY, DEVELOPMENT_KEY),
        };
        Self::connect_as(target, credentials).await
    }

    /// Connects with the given credentials.
    pub async fn connect_as(target: &Target, credentials: Credentials) -> Result<Self> {
        let uri: Uri =
            target.endpoint.parse().with_context(|| format!("'{}' is not a URL", target.endpoint))?;
        if uri.scheme_str() != Some("http") {
            bail!(
                "the endpoint '{}' must start with http:// (this version does not speak TLS)",
                target.endpoint
            );
        }
        let authority = uri.authority().context("the endpoint names no host")?;
        let port = authority.port_u16().unwrap_or(80);
        let host = authority.host().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, port)).await.with_context(|| {
            format!("cannot reach a server at {} (start one with `freehold serve`)", target.endpoint)
        })?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, authority: authority.to_string(), region: target.region.clone(), credentials })
    }

    /// Sends one signed request for the Lambda service. `path` follows `/functions`, percent-encoded.
    pub async fn lambda(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<Answer> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{API}{path}"))
            .header("host", &self.authority)
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(body)?;
        sigv4::sign(&mut request, &self.credentials, &self.region, "lambda", SystemTime::now())?;
        self.sender.ready().await.context("the server closed the connection")?;
        let response =
            self.sender.send_request(request.map(Full::new)).await.context("the server did not answer")?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.context("the server's answer broke off")?.to_bytes();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    /// Invokes a function, its log's tail included.
    pub async fn invoke(&mut self, name: &str, payload: Bytes) -> Result<Answer> {
        let path = format!("/{}/invocations", encode(name));
        self.lambda(Method::POST, &path, &[("x-amz-log-type", "Tail")], payload).await
    }

    /// Sends a JSON body.
    pub async fn send_json(&mut self, method: Method, path: &str, body: &Value) -> Result<Answer> {
        self.lambda(method, path, &[], Bytes::from(body.to_string())).await
    }

    /// Asks for something.
    pub async fn get(&mut self, path: &str) -> Result<Answer> {
        self.lambda(Method::GET, path, &[], Bytes::new()).await
    }
}

/// A function's name or ARN as one path segment.
pub fn encode(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, SEGMENT).to_string()
}

/// Everything but what RFC 3986 calls unreserved.
const SEGMENT: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
