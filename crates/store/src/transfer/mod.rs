//! Whole stores: copied, backed up, restored, checked.
