//! Lossy signals over core NATS: typing, presence, and messages for the other processes of a channel.

use bus::{Bus, Publish, Subscription};
use bytes::Bytes;
use contract::limits::MESSAGE_BYTES_MAX;
use contract::outbound::{self, OutCommand};
use contract::{ConversationId, Encoding, SmolStr, TenantId, codec, subject};

/// Name of the header that names the process that sent a signal.
const INSTANCE: &str = "tl-instance";
/// What a message for the other processes of a channel is called.
pub const MESSAGE: &str = "message";

/// Sends and receives the signals of one tenant. Cheap to clone.
#[derive(Clone)]
pub struct Live {
    bus: Bus,
    tenant: TenantId,
    instance: SmolStr,
}

/// The signals that arrive.
pub struct Signals {
    subscription: Subscription,
    instance: SmolStr,
}

/// A signal.
#[derive(Debug, Clone, PartialEq)]
pub enum Signal {
    /// Typing or presence.
    Live(Box<outbound::Live>),
    /// Another process got a command to send.
    Command(Box<OutCommand>),
}

impl Live {
    pub(crate) const fn new(bus: Bus, tenant: TenantId, instance: SmolStr) -> Self {
        Self { bus, tenant, instance }
    }

    /// Tells who listens. A signal that cannot be sent is lost, which is what signals are for.
    pub async fn publish(&self, live: &outbound::Live) {
        // The subject's last token tells listeners what to expect without decoding.
        let what = match live.what.as_str() {
            "typing" | "stopped" => "typing",
            _ => "presence",
        };
        match Encoding::MsgPack.encode(live) {
            Ok(payload) => self.send(live.conversation, what, payload).await,
            Err(error) => tracing::error!(%error, "a live signal cannot be encoded"),
        }
    }

    /// Tells the other processes of the channel about a command, payload as it came.
    pub async fn publish_command(&self, command: &OutCommand) {
        match Encoding::MsgPack.encode(command) {
            Ok(payload) => self.send(command.conversation, MESSAGE, payload).await,
            Err(error) => tracing::error!(%error, "a command cannot be encoded"),
        }
    }

    async fn send(&self, conversation: ConversationId, what: &str, payload: Vec<u8>) {
        let publish = Publish {
            subject: subject::live(&self.tenant, conversation, what),
            payload: Bytes::from(payload),
            content_type: Some(Encoding::MsgPack.content_type()),
            headers: vec![(INSTANCE, self.instance.to_string())],
            ..Publish::default()
        };
        if let Err(error) = self.bus.send(publish).await {
            tracing::debug!(kind = ?error.kind, "a live signal was lost");
        }
    }

    /// Listens to every signal of the tenant, except this process's own.
    ///
    /// # Errors
    /// When the bus refuses.
    pub async fn subscribe(&self) -> Result<Signals, bus::Error> {
        let subscription = self.bus.subscribe(&subject::live_all(&self.tenant)).await?;
        Ok(Signals { subscription, instance: self.instance.clone() })
    }
}

impl Signals {
    /// The next signal; `None` when the subscription ended. What cannot be read is passed over.
    pub async fn next(&mut self) -> Option<Signal> {
        loop {
            let message = self.subscription.next().await?;
            if message.headers.get(INSTANCE) == Some(self.instance.as_str()) {
                continue;
            }
            let content_type = message.headers.get(codec::CONTENT_TYPE);
            match decode(&message.subject, content_type, &message.payload) {
                Ok(signal) => return Some(signal),
                Err(error) => tracing::debug!(subject = %message.subject, %error, "a live signal cannot be read"),
            }
        }
    }
}

fn decode(subject: &str, content_type: Option<&str>, payload: &[u8]) -> Result<Signal, contract::CodecError> {
    let encoding = Encoding::detect(content_type, payload)?;
    if subject.rsplit('.').next() == Some(MESSAGE) {
        Ok(Signal::Command(encoding.decode(payload, MESSAGE_BYTES_MAX)?))
    } else {
        Ok(Signal::Live(encoding.decode(payload, MESSAGE_BYTES_MAX)?))
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}
