//! The members of an answer that say how far a function or a version is.

use std::borrow::Cow;

use serde::Serialize;

use crate::records::Snapshot;

/// How far a creation or an update has come, as AWS shows it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StateMembers<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_reason: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_reason_code: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_update_status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_update_status_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_update_status_reason_code: Option<&'static str>,
}

/// AWS's reason for both a creation and an update that has not ended.
const BEING_CREATED: &str = "The function is being created.";
/// The code that goes with it.
const CREATING: &str = "Creating";

impl<'a> StateMembers<'a> {
    /// What was just created.
    pub(super) fn pending() -> Self {
        Self {
            state: Some("Pending"),
            state_reason: Some(BEING_CREATED.into()),
            state_reason_code: Some(CREATING.into()),
            ..Self::default()
        }
    }

    /// A version as it is. Its code was unpacked before it was committed: what can be read can be invoked, unless it is to
    /// start from a snapshot which is not there.
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        let done = Self { last_update_status: Some("Successful"), ..Self::default() };
        match snapshot {
            Snapshot::None | Snapshot::Made => Self { state: Some("Active"), ..done },
            Snapshot::Pending => Self::pending(),
            Snapshot::Failed { reason, code } => Self {
                state: Some("Failed"),
                state_reason: Some(reason.into()),
                state_reason_code: Some(code.into()),
                ..done
            },
        }
    }

    /// What was just changed: on AWS that is never done so soon.
    pub(super) fn updating() -> Self {
        Self {
            state: Some("Active"),
            last_update_status: Some("InProgress"),
            last_update_status_reason: Some(BEING_CREATED),
            last_update_status_reason_code: Some(CREATING),
            ..Self::default()
        }
    }
}
