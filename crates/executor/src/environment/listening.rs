//! What extensions ask of the task, and what it lets them hear.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::Task;
use super::instance::Instance;
use super::system::SystemEvent;
use crate::runtime_api::{Api, ExtensionCall, Refusal};
use crate::telemetry::Subscription;

impl Task {
    /// Answers an extension. Whoever has gone meanwhile does not want to know.
    pub(super) fn extension_call(&mut self, instance: &mut Instance, call: ExtensionCall) {
        match call {
            ExtensionCall::Register { name, events, wants_account, reply } => {
                let registered = instance.extensions.register(&name, &events, wants_account, &self.version);
                // The first internal one, of which nobody could know.
                if registered.is_ok() && self.journal.open_telemetry() {
                    let (version, log_stream) = (&self.version, self.log_stream.as_str());
                    let event = SystemEvent::InitStart {
                        initialization_type: self.initialization_type,
                        installed: &instance.installed,
                        version,
                        log_stream,
                    };
                    self.journal.tell_telemetry(&event, self.began_ms);
                }
                let _ = reply.send(registered);
            }
            ExtensionCall::Next { id, reply } => instance.extensions.next(id, reply),
            ExtensionCall::Error { id, when, error_type, reply } => {
                let _ = reply.send(instance.extensions.fail(id, when, error_type));
            }
            ExtensionCall::Subscribe { id, api, body, reply } => {
                let _ = reply.send(self.subscribe(instance, id, api, &body));
            }
        }
    }

    fn subscribe(
        &mut self,
        instance: &mut Instance,
        id: Uuid,
        api: Api,
        body: &Bytes,
    ) -> Result<(), Refusal> {
        let name = instance.extensions.name_of(id)?;
        let Some(telemetry) = self.journal.telemetry() else { return Err(api.closed()) };
        let subscription = Subscription::parse(api, body)?;
        let streams = subscription.streams.clone();
        if telemetry.subscribe(&name, subscription, Arc::downgrade(&instance.environment))? {
            self.journal.system(&SystemEvent::Subscription { api, name: &name, streams: &streams });
        }
        Ok(())
    }

    /// What the log says of each extension at the end of Init.
    pub(super) fn tell_extensions(&mut self, extensions: &super::extensions::Extensions) {
        for status in extensions.statuses() {
            self.journal.system(&SystemEvent::Extension(&status));
        }
    }
}
