//! The whole executor against a sandbox whose programs are tasks of the test: they speak the Runtime API over loopback
//! as a function's runtime would, well or badly.

mod answers;
mod extension;
mod extensions;
mod fake;
mod hostile;
mod life;
mod limits;
mod logging;
mod provisioned;
mod speed;
mod telemetry;
mod tenants;
