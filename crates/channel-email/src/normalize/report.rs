//! What servers tell of our mail, as receipts; and events of the account. Pure.

use adapter::contract::envelope::{
    Envelope, EnvelopeKind, Identity, Mail, MailClass, Party, Receipt, ReceiptStatus, Role, Scope, Signal,
};
use adapter::contract::{SmolStr, Timestamp};

use super::{Facts, Place, blank, thread};
use crate::address::Mailbox;
use crate::dsn::{Outcome, Report};
use crate::token::Token;

/// The thread that events of the account itself are on.
const ACCOUNT_THREAD: &str = "account";

/// The account, speaking of itself.
pub(super) fn system(place: &Place) -> Party {
    let id = SmolStr::from(place.account.id.clone());
    let identity = Identity {
        scheme: "account".into(),
        value: id.clone(),
        scope: Scope::Account,
        scope_id: Some(id),
        raw: None,
        assurance: None,
    };
    Party { identity, aliases: Vec::new(), display: None, username: None, role: Role::System, named_as: None }
}

/// A receipt for each recipient of a report; one event when the report does not say what it is about.
pub(super) fn envelopes(place: &Place, facts: &Facts<'_>, report: &Report, received_at: Timestamp) -> Vec<Envelope> {
    let by_id = report.ids.iter().find_map(|id| place.tokens.read_message_id(id).map(|token| (token, Some(id))));
    let known = by_id.or_else(|| {
        let paths = report.return_paths.iter().filter_map(|path| Mailbox::parse(path));
        let by_path = paths
            .filter_map(|path| place.ours.detail(&path).and_then(|detail| place.tokens.read_detail(detail)))
            .find(|token| token.message.is_some());
        let by_recipient = || thread::in_addresses(place, facts).filter(|token| token.message.is_some());
        by_path.or_else(by_recipient).map(|token| (token, None))
    });
    let receipts: Vec<Envelope> = match &known {
        Some((token, id)) => report
            .outcomes
            .iter()
            .enumerate()
            .filter_map(|(n, outcome)| receipt(place, facts, token, id.map(String::as_str), n, outcome, received_at))
            .collect(),
        None => Vec::new(),
    };
    if receipts.is_empty() {
        let why = match report.outcomes.first() {
            Some(outcome) => outcome.reason.clone().unwrap_or_else(|| outcome.status.to_string()),
            None => "the report says nothing of any recipient".to_owned(),
        };
        return vec![event(place, facts, "bounce_unmatched", &why, received_at)];
    }
    receipts
}

/// A server's mail without a report: failed, when its recipient is a return path of ours.
pub(super) fn without_report(place: &Place, facts: &Facts<'_>, received_at: Timestamp) -> Vec<Envelope> {
    let ids = facts.headers.ids("in-reply-to").into_iter().chain(facts.headers.ids("references")).collect();
    let outcome = Outcome {
        status: ReceiptStatus::Failed,
        recipient: None,
        code: None,
        reason: (!facts.subject.is_empty()).then(|| facts.subject.clone()),
    };
    envelopes(place, facts, &Report { outcomes: vec![outcome], ids, return_paths: Vec::new() }, received_at)
}

fn receipt(
    place: &Place,
    facts: &Facts<'_>,
    token: &Token,
    id: Option<&str>,
    n: usize,
    outcome: &Outcome,
    received_at: Timestamp,
) -> Option<Envelope> {
    let command_id = token.message.as_deref().and_then(|message| place.tokens.command_of(message));
    let targets: Vec<SmolStr> = id.into_iter().map(SmolStr::from).collect();
    if command_id.is_none() && targets.is_empty() {
        return None;
    }
    let mut envelope = blank(place, facts, EnvelopeKind::Receipt, received_at);
    envelope.thread.key = token.thread.clone();
    envelope.dedup_key = format!("report/{}/{n}", facts.dedup).into();
    envelope.mail = Some(mail(facts, &outcome.status));
    envelope.receipt = Some(Receipt {
        status: outcome.status.clone(),
        command_id,
        part: None,
        targets,
        watermark: None,
        through_seq: None,
        code: outcome.code.clone(),
        reason: outcome.reason.clone(),
        retryable: None,
        recipient: outcome.recipient.clone(),
        price: None,
    });
    Some(envelope)
}

fn mail(facts: &Facts<'_>, status: &ReceiptStatus) -> Mail {
    Mail {
        message_id: facts.message_id.as_deref().map(SmolStr::from),
        in_reply_to: None,
        references: Vec::new(),
        subject: (!facts.subject.is_empty()).then(|| facts.subject.clone()),
        headers_ref: None,
        class: if *status == ReceiptStatus::Complained { MailClass::Complaint } else { MailClass::Bounce },
        auth_results: None,
        aligned_domain: None,
        envelope_to: Vec::new(),
        reply_to: Vec::new(),
        bytes: None,
        thread_proven: false,
    }
}

/// Something that concerns the account and no customer.
pub(super) fn event(place: &Place, facts: &Facts<'_>, name: &str, why: &str, received_at: Timestamp) -> Envelope {
    let mut envelope = blank(place, facts, EnvelopeKind::AccountEvent, received_at);
    envelope.thread.key = ACCOUNT_THREAD.into();
    envelope.dedup_key = format!("{name}/{}", facts.dedup).into();
    let mut data = serde_json::Map::new();
    if let Some(id) = &facts.message_id {
        data.insert("message_id".into(), id.as_str().into());
    }
    envelope.signal = Some(Signal { name: name.into(), detail: Some(why.chars().take(500).collect()), data });
    envelope
}
