//! Envelopes of calls: who calls, how a leg goes, what was recorded.

use adapter::contract::call::is_withheld;
use adapter::contract::envelope::{
    Account, AdapterInfo, Assurance, AuthLevel, Call, EnvelopeKind, Identity, Media, MediaStatus, Part, Party,
    ReplyTarget, Role, Scope, SenderAuth, Sequence, Thread, ThreadKind,
};
use adapter::contract::{AgentId, Envelope, SmolStr, TenantId, Timestamp};
use adapter::webhook::{Fetch, Item};
use serde_json::json;

use super::script::Callee;
use super::told::{Recording, Told};

/// Which call something happened to, and who is on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene<'a> {
    /// Whose customers.
    pub(crate) tenant: &'a TenantId,
    /// The account.
    pub(crate) account: &'a Account,
    /// The call.
    pub(crate) thread: &'a SmolStr,
    /// What the provider told.
    pub(crate) told: &'a Told,
    /// When it came.
    pub(crate) now: Timestamp,
}

/// Whose leg an event is of.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Of<'a> {
    /// The agent's, else the customer's.
    pub(crate) agent: Option<&'a AgentId>,
    /// The order that began it.
    pub(crate) command: Option<&'a SmolStr>,
}

/// The number of the customer on their own leg: who calls, or whom we called. `None`: it is not shown to us.
pub(crate) fn number(told: &Told) -> Option<&SmolStr> {
    let number = if told.outbound { told.to.as_ref() } else { told.from.as_ref() };
    number.filter(|number| Callee::read(number).is_some() && !is_withheld(number))
}

impl Scene<'_> {
    /// An event of a leg. `what` tells it from every other event of that leg.
    pub(crate) fn event(&self, leg: &SmolStr, state: &str, what: &str, of: Of<'_>) -> Envelope {
        let told = self.told;
        let own = of.agent.is_none() && *leg == told.leg;
        let caller = if own { number(told) } else { None };
        let mut thread = Thread::new(self.thread.clone(), ThreadKind::Call);
        thread.reply_target =
            caller.map(|number| ReplyTarget { address: number.clone(), token: None, token_until: None });
        let attested = own && told.attested && caller.is_some();
        let mut sender = Party::new(self.caller(caller, attested), Role::Customer);
        sender.display = told.name.clone().filter(|_| caller.is_some());
        let auth = if attested {
            let detail = "the caller's carrier signed the number (STIR/SHAKEN, attestation A)";
            SenderAuth { level: AuthLevel::SignedWebhook, detail: Some(SmolStr::new_static(detail)) }
        } else {
            let detail = "the provider signed the request; nobody vouches for the caller's number";
            SenderAuth { level: AuthLevel::Unverified, detail: Some(SmolStr::new_static(detail)) }
        };
        let mut envelope = Envelope::new(self.tenant.clone(), self.account.clone(), thread, sender, auth, self.now);
        envelope.kind = EnvelopeKind::Call;
        envelope.dedup_key = format!("call/{leg}/{what}").into();
        // When a webhook tells of another leg than its own, the numbers are not that leg's.
        let same = *leg == told.leg;
        if same {
            (envelope.sent_at, envelope.sent_at_raw) = (told.at, told.at_raw.clone());
            envelope.seq = told.seq.map(|n| Sequence { scope: leg.clone(), n });
        }
        envelope.adapter = Some(AdapterInfo {
            name: "throughline-channel-phone".into(),
            version: Some(env!("CARGO_PKG_VERSION").into()),
            warnings: Vec::new(),
        });
        let over = !matches!(state, "ringing" | "queued" | "answered" | "voicemail" | "callback");
        envelope.call = Some(Call {
            leg: leg.clone(),
            parent: told.parent.clone().filter(|_| same),
            state: state.into(),
            from: told.from.clone().filter(|_| same),
            to: told.to.clone().filter(|_| same),
            started_at: None,
            answered_at: None,
            ended_at: told.at.filter(|_| same && over),
            recording: None,
            transcript: None,
            queue: None,
            agent: of.agent.cloned(),
            command_id: of.command.cloned(),
        });
        envelope
    }

    fn caller(&self, number: Option<&SmolStr>, attested: bool) -> Identity {
        let Some(number) = number else {
            // Nobody is known by this but whoever is on this call.
            return Identity {
                scheme: "thread".into(),
                value: format!("{}/{}", self.account.kind, self.thread).into(),
                scope: Scope::Account,
                scope_id: Some(self.account.id.as_str().into()),
                raw: None,
                assurance: Some(Assurance::Claimed),
            };
        };
        let scheme = if number.starts_with("sip") { "sip" } else { "tel" };
        Identity {
            scheme: scheme.into(),
            value: number.clone(),
            scope: Scope::Global,
            scope_id: None,
            raw: None,
            assurance: Some(if attested { Assurance::Verified } else { Assurance::Claimed }),
        }
    }

    /// An event with a recording, which is fetched.
    pub(crate) fn recorded(&self, leg: &SmolStr, state: &str, what: &str, recording: &Recording) -> Item {
        let mut envelope = self.event(leg, state, &format!("{what}/{}", recording.id), Of::default());
        envelope.external_id = Some(recording.id.clone());
        let media = Media {
            kind: "audio".into(),
            external_id: Some(recording.id.clone()),
            mime: Some("audio/mpeg".into()),
            name: Some(format!("{what}.mp3").into()),
            bytes: recording.bytes,
            duration: recording.duration,
            voice: true,
            ..Media::default()
        };
        if let Some(call) = &mut envelope.call {
            call.recording = Some(media.clone());
        }
        envelope.content = vec![Part::Media(Media { status: Some(MediaStatus::Pending), ..media })];
        let fetch = vec![Fetch { part: 0, source: json!({ "recording": recording.source }) }];
        Item::Envelope { envelope: Box::new(envelope), raw: None, fetch }
    }
}

/// An event by itself.
pub(crate) fn item(envelope: Envelope) -> Item {
    Item::Envelope { envelope: Box::new(envelope), raw: None, fetch: Vec::new() }
}
