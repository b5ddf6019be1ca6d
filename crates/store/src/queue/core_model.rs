//! The core under random schedules, against a naive model; and with a small window over a simulated store.
