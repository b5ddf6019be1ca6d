//! Opening a store in order to move it: a source must be there, a target may be unfinished.

use std::path::Path;

use super::error::TransferError;
use crate::store::{Options, Store};

/// Opens a store to read it; never makes one in a folder, as [`Store::open`] would.
pub async fn open_source(options: Options) -> Result<Store, TransferError> {
    if let Some(path) = options.url.strip_prefix("file:") {
        let path = Path::new(path.strip_prefix("//").unwrap_or(path));
        if !path.join("format").is_file() && !path.join("engine").is_dir() {
            return Err(TransferError::NoStore(path.to_owned()));
        }
    }
    Ok(Store::open_with(options).await?)
}

/// Opens a store to fill it, also if an earlier copy or restore into it was interrupted.
pub async fn open_target(options: Options) -> Result<Store, TransferError> {
    Ok(Store::open_unfinished(options).await?)
}
