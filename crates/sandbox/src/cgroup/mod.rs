//! Control groups: what limits, counts, freezes and kills an environment.
//!
//! - [`detect`]: which hierarchies this host has (v2, v1, or both at once) and where our folder goes
//! - [`prepare`]: makes our folder in each, enables controllers, removes what a dead predecessor left
//! - [`group`]: the folders of one environment
//!
//! ```text
//! <where the server runs, or the root of v2>/freehold-<mark>/        one per state folder
//!                                           /freehold-<mark>/e12     one per environment, in each hierarchy
//! ```
//!
//! The mark is taken from the state folder, so two servers on one host never touch each other's groups.

pub(crate) mod detect;
pub(crate) mod group;
pub(crate) mod prepare;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which of the two interfaces a hierarchy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

/// What one hierarchy is used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Roles {
    pub(crate) memory: bool,
    pub(crate) pids: bool,
    pub(crate) cpu: bool,
    pub(crate) freeze: bool,
}

impl Roles {
    fn any(self) -> bool {
        self.memory || self.pids || self.cpu || self.freeze
    }
}

/// One hierarchy in which environments get a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) version: Version,
    /// The folder below which ours is made.
    pub(crate) parent: PathBuf,
    pub(crate) roles: Roles,
}

/// Which descriptors a blank environment hands over, in this order.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct HandleKinds {
    /// `/tmp`.
    pub(crate) has_tmp: bool,
    /// The user namespace that it made for its user.
    pub(crate) has_namespace: bool,
}
