//! Timers: something to be done at a time, set inside a transaction, and due once.
//!
//! ```text
//! Timers::set / cancel (anyone, in any transaction)          TimerOwner (one per partition, by lease)
//!   TIMERS_DUE [partition, due, id] -> payload  ──watch, scan──>  window: the next few, in memory
//!   TIMERS     [partition, id] -> due                                │ due()
//!                      ▲                                             ▼
//!                      └──────── Due::complete, in the transaction of the effect: fenced, at most once
//! ```
//!
//! - [`Timers`]: a partition's timers, to set, move, cancel and look at; holds nothing
//! - [`TimerOwner`]: waits until timers are due and gives them out
//! - [`Due`]: a timer that was given out; completed in a transaction, or given again
//! - `window`: which timers the owner has in memory, and how far they reach; pure
//!
//! **Once.** Completing a timer deletes it in the same transaction as its effect, and only if it still stands as it was
//! given out: so a timer that was moved or cancelled meanwhile, or completed by another, has no effect twice, and an
//! owner that lost its lease has none at all.
//!
//! **Cost.** Pending timers lie in the store in the order in which they fall due; the owner reads those that come next.
//! Millions of pending ones cost nothing until then.
//!
//! This module doesn't know what a timer is for.

mod due;
mod owner;
mod timers;
mod window;

pub use due::Due;
pub use owner::TimerOwner;
pub use timers::{PendingTimer, Timers};
