//! `DownloadPackage`: the zip of a function. Not an operation of AWS's, whose links lead to S3: it is what the links of
//! `GetFunction` lead to here.
//!
//! A link is a presigned request for it, signed with a key that only this process knows ([`Downloads`]); so the front
//! door checks it like any other request, and it opens nothing else.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use freehold_store::{BlobError, BlobId, Part};
use freehold_wire::service::{Call, Reply};
use freehold_wire::sigv4::{Credentials, presign};
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};

use crate::Lambda;
use crate::error::LambdaError;
use crate::records::CODE_USES;

/// Where the packages are, under their hashes.
const FOLDER: &str = "/freehold/packages/";
/// How long a link works: as long as AWS's.
const LINK_LIFE: Duration = Duration::from_secs(600);

pub(super) async fn download_package(lambda: &Lambda, call: Call) -> Result<Reply, LambdaError> {
    let name = call.labels.get("Package").map_or("", String::as_str);
    let not_found = || LambdaError::PackageNotFound(name.chars().take(100).collect());
    let id = BlobId::parse(name).ok_or_else(not_found)?;
    let snapshot = lambda.store.snapshot().await?;
    let place = [Part::Text(id.as_str()), Part::Text(call.principal.account.as_str())];
    // Who has a link was let in when it was made, also to a layer of another account.
    let place =
        if lambda.downloads.as_ref().is_some_and(|own| own.made(&call)) { &place[..1] } else { &place };
    if CODE_USES.scan(&snapshot, place, None, 1).await?.is_empty() {
        return Err(not_found());
    }
    let body = match lambda.store.blobs().get(&id).await {
        // What layers were merged to has a name like a package's.
        Err(BlobError::NotFound(_)) => return Err(not_found()),
        body => body?,
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    Ok(Reply { status: StatusCode::OK, headers, body })
}

impl Lambda {
    /// A link to a zip, where there can be one.
    pub(crate) fn location(&self, call: &Call, zip: &BlobId) -> Option<String> {
        self.downloads.as_ref().and_then(|downloads| downloads.location(call, zip, self.clock.wall()))
    }
}

/// Makes the links.
#[derive(Clone, Debug)]
pub(crate) struct Downloads(Credentials);

impl Downloads {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self(credentials)
    }

    /// Whether the request is one of the links.
    fn made(&self, call: &Call) -> bool {
        call.principal.access_key_id.as_deref() == Some(self.0.access_key_id.as_str())
    }

    /// A link to the zip, on the host by which the caller reached us. None for a function's own role: the listener
    /// inside its environment knows no key but the role's, and a link that is refused is worse than none.
    fn location(&self, call: &Call, zip: &BlobId, now: SystemTime) -> Option<String> {
        if call.principal.arn.contains(":assumed-role/") {
            return None;
        }
        let uri: Uri = format!("http://{}{FOLDER}{zip}", call.header(HOST.as_str())?).parse().ok()?;
        let request = Request::get(uri).body(Bytes::new()).ok()?;
        let link = presign(&request, &self.0, call.region.as_str(), "lambda", now, LINK_LIFE);
        link.ok().map(|link| link.to_string())
    }
}
