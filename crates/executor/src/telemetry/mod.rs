//! The Telemetry API and the older Logs API: what an environment's extensions hear of its log and its life.
//!
//! ```text
//! journal --Record--> Hub --(those who want it)--> queue, bounded --batch--> delivery --HTTP, TCP--> the subscriber, inside
//! ```
//!
//! - [`mod@self`]: [`Hub`]: who has subscribed, and what was said before; [`Record`]
//! - `subscription`: the request, and what is wrong with it
//! - `queue`: what waits for one subscriber; `delivery`: how it gets there
//!
//! A subscriber is the customer's code. What it does not take is held up to its buffer's bound and then dropped, which it
//! is told of; it holds up neither its environment nor anybody else. It listens inside the sandbox, and is reached by a
//! socket made there: no address that it names leads anywhere else.
//!
//! An environment without extensions has no hub and pays nothing.

mod delivery;
mod queue;
mod subscription;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use freehold_base::clock::SharedClock;
use freehold_sandbox::spec::Environment;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::IgnoredAny;
use tokio::sync::watch;

use self::delivery::Delivery;
use self::queue::Shared;
pub(crate) use self::subscription::Subscription;
use crate::runtime_api::{Api, Refusal};

/// What is kept for those who have not subscribed yet, in records and bytes. It begins with the start of the environment.
const EARLY_RECORDS: usize = 1_000;
const EARLY_BYTES: usize = 256 * 1024;

/// What subscribers choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// What the system says of the environment's life.
    Platform,
    /// What the function writes.
    Function,
    /// What extensions write.
    Extension,
}

impl Stream {
    /// AWS's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Function => "function",
            Self::Extension => "extension",
        }
    }

    /// As the log writes it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Platform => "Platform",
            Self::Function => "Function",
            Self::Extension => "Extension",
        }
    }
}

/// One thing that was said.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    stream: Stream,
    /// Such as `platform.start`.
    kind: &'static str,
    /// The event's JSON text.
    text: Bytes,
    /// The same with a record that is an object, where the function writes JSON and the schema knows that.
    object: Option<Bytes>,
}

/// An event as it is sent.
#[derive(Serialize)]
struct Line<'a, R> {
    time: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    record: R,
}

impl Record {
    /// What the system says: already an event's JSON text.
    pub(crate) fn platform(kind: &'static str, json: String) -> Self {
        Self { stream: Stream::Platform, kind, text: json.into(), object: None }
    }

    /// A line of the function or of an extension. `is_json`: its log is configured to be.
    pub(crate) fn line(stream: Stream, time: &str, line: &[u8], is_json: bool) -> Self {
        let kind = stream.name();
        // Runtimes write an entry of several lines with CR between them.
        let text = String::from_utf8_lossy(line).replace('\r', "\n");
        let is_object =
            |text: &&str| text.starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok();
        // Its own text is kept, as it was written.
        let object = Some(text.as_str()).filter(|_| is_json).filter(is_object).map(|record| {
            let record = record.replace('\n', " ");
            Bytes::from(format!(r#"{{"time":"{time}","type":"{kind}","record":{record}}}"#))
        });
        Self { stream, kind, text: write(&Line { time, kind, record: text.as_str() }), object }
    }

    fn bytes(&self) -> usize {
        self.text.len() + self.object.as_ref().map_or(0, Bytes::len)
    }
}

fn write(line: &impl Serialize) -> Bytes {
    serde_json::to_vec(line).expect("texts and numbers can be written").into()
}

/// That a subscriber has missed something.
fn dropped(time: &str, records: u64, bytes: u64) -> Bytes {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Dropped {
        dropped_bytes: u64,
        dropped_records: u64,
        reason: &'static str,
    }
    let record = Dropped {
        dropped_bytes: bytes,
        dropped_records: records,
        reason: "Consumer seems to have fallen behind as it has not acknowledged receipt of logs.",
    };
    write(&Line { time, kind: "platform.logsDropped", record })
}

/// Wall time as events carry it.
pub(crate) fn timestamp(ms: u64) -> String {
    let moment = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", moment.unwrap_or(Timestamp::MAX))
}

struct Subscriber {
    name: String,
    subscription: Subscription,
    queue: Arc<Shared>,
    _delivery: Delivery,
}

/// Everybody who listens to one environment.
pub(crate) struct Hub {
    clock: SharedClock,
    /// What was said since the start, until Init is over.
    early: Option<(VecDeque<Record>, usize)>,
    subscribers: Vec<Subscriber>,
    /// Odd while the environment is frozen: then nobody can take anything, and no time counts.
    freezes: watch::Sender<u64>,
}

impl Hub {
    /// Nobody yet.
    pub(crate) fn new(clock: SharedClock) -> Self {
        let early = Some((VecDeque::new(), 0));
        Self { clock, early, subscribers: Vec::new(), freezes: watch::Sender::new(0) }
    }

    /// Tells everybody who wants to know.
    pub(crate) fn publish(&mut self, record: &Record) {
        if let Some((early, bytes)) = &mut self.early
            && early.len() < EARLY_RECORDS
            && *bytes + record.bytes() <= EARLY_BYTES
        {
            *bytes += record.bytes();
            early.push_back(record.clone());
        }
        for subscriber in &self.subscribers {
            subscriber.offer(record);
        }
    }

    /// An extension wants to be told, from the beginning. `Ok(false)`: it is told already.
    pub(crate) fn subscribe(
        &mut self,
        name: &str,
        subscription: Subscription,
        environment: Weak<dyn Environment>,
    ) -> Result<bool, Refusal> {
        let Some((early, _)) = &self.early else { return Err(subscription.api().closed()) };
        if let Some(known) = self.subscribers.iter().find(|subscriber| subscriber.name == name) {
            return match known.subscription.api() == subscription.api() {
                true => Ok(false),
                false => {
                    Err(subscription.api().invalid("The extension has subscribed by the other API already"))
                }
            };
        }
        let queue = Arc::new(Shared::new(subscription.buffering, Arc::clone(&self.clock)));
        let delivery = Delivery::start(
            Arc::clone(&queue),
            subscription.destination.clone(),
            environment,
            self.freezes.subscribe(),
        );
        let subscriber = Subscriber { name: name.to_owned(), subscription, queue, _delivery: delivery };
        early.iter().for_each(|record| subscriber.offer(record));
        self.subscribers.push(subscriber);
        Ok(true)
    }

    /// Init is over: nobody subscribes any more. `false`: nobody has.
    pub(crate) fn close(&mut self) -> bool {
        self.early = None;
        !self.subscribers.is_empty()
    }

    /// The environment has been frozen or thawed.
    pub(crate) fn set_frozen(&self, frozen: bool) {
        self.freezes.send_if_modified(|count| {
            let changed = (*count % 2 == 1) != frozen;
            *count += u64::from(changed);
            changed
        });
    }

    /// Waits until everybody has everything.
    pub(crate) async fn delivered(&self) {
        for subscriber in &self.subscribers {
            subscriber.queue.idle().await;
        }
    }

    /// Sends what there is, however little.
    pub(crate) fn flush(&self) {
        self.subscribers.iter().for_each(|subscriber| subscriber.queue.flush());
    }
}

impl Subscriber {
    fn offer(&self, record: &Record) {
        if !self.subscription.wants(record.stream, record.kind) {
            return;
        }
        let object = record.object.as_ref().filter(|_| self.subscription.knows_objects());
        self.queue.push(object.unwrap_or(&record.text).clone());
    }
}

impl Api {
    /// 403: Init is over.
    pub(crate) fn closed(self) -> Refusal {
        match self {
            Self::Logs => {
                Refusal::forbidden("Logs.SubscriptionClosed", "Logs API subscription is closed already")
            }
            Self::Telemetry => Refusal::forbidden(
                "Telemetry.SubscriptionClosed",
                "Telemetry API subscription is closed already",
            ),
        }
    }

    /// 400: the request cannot be accepted.
    fn invalid(self, message: impl Into<String>) -> Refusal {
        let error_type = match self {
            Self::Logs => "Logs.ValidationError",
            Self::Telemetry => "ValidationError",
        };
        Refusal { status: 400, error_type, message: message.into() }
    }
}
