//! `DeleteFunction`: 204. The function is gone for every later call; an event that is running still ends.

use freehold_wire::service::{Call, Reply};
use http::StatusCode;

use crate::Lambda;
use crate::error::LambdaError;
use crate::names::{LATEST, Target};
use crate::operations::empty_reply;
use crate::records::{self, FUNCTIONS};

pub(super) async fn delete_function(lambda: Lambda, call: Call) -> Result<Reply, LambdaError> {
    let target = Target::of(&call)?;
    if target.qualifier.as_deref() == Some(LATEST) {
        let text = "$LATEST version cannot be deleted without deleting the function.";
        return Err(LambdaError::InvalidParameter(text.to_owned()));
    }
    let (store, id) = (&lambda.store, &target.id);
    let target = &target;
    let old = store
        .transact(|transaction| async move {
            let Some(old) = FUNCTIONS.get(&transaction, &id.parts()).await? else {
                return Err(LambdaError::FunctionNotFound(id.arn()));
            };
            // A version or an alias that is not there; there are no others (yet).
            target.check_qualifier()?;
            records::delete(&transaction, id, &old);
            Ok(old)
        })
        .await?;
    lambda.functions.replaced(id, &old);
    lambda.code.retire(old.code.zip);
    Ok(empty_reply(StatusCode::NO_CONTENT))
}
