//! From the bytes of a mail to envelopes. Pure.
//!
//! Whatever the bytes are, this gives something: a message, what became of one of ours, or a copy of
//! our own that came back. Every list, text and depth has a bound; what is left out is told in
//! `adapter.warnings`, and the raw mail is kept whole beside it.

mod body;
mod report;
mod thread;

use adapter::contract::envelope::{
    Account, AdapterInfo, AuthLevel, Direction, Envelope, EnvelopeKind, Identity, Mail, MailClass, Part, Party,
    ReplyTarget, Role, Scope, SenderAuth, Thread, ThreadKind, VERSION,
};
use adapter::contract::{SmolStr, TenantId, Timestamp};
use mail_parser::{Address, Message, MessageParser};
use sha2::{Digest, Sha256};

pub(crate) use self::body::File;
pub(crate) use self::thread::plain_subject;
use crate::address::{Mailbox, Ours};
use crate::headers::Headers;
use crate::token::{Tokens, base32, key_of};
use crate::{authres, classify, dsn};

/// Most recipients that an envelope names.
const RECIPIENTS_MAX: usize = 100;
/// Most references that an envelope names.
const REFERENCES_MAX: usize = 50;
const NAME_CHARS_MAX: usize = 200;
const SUBJECT_CHARS_MAX: usize = 500;
/// Years that a Date is believed to be of.
const SECONDS_MIN: i64 = 631_152_000;
const SECONDS_MAX: i64 = 4_102_444_800;

/// The header that copies of our own mail are known by, wherever they turn up.
pub(crate) const OWN: &str = "X-Throughline-Id";

/// Where a mail came in.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) tenant: TenantId,
    pub(crate) account: Account,
    /// Which addresses are ours.
    pub(crate) ours: Ours,
    pub(crate) tokens: Tokens,
    /// The receiver whose results are believed.
    pub(crate) authserv_id: Option<String>,
    pub(crate) parts_max: usize,
    pub(crate) attachments_max: usize,
    pub(crate) attachments_bytes_max: usize,
}

/// What a mail turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reading {
    /// Somebody wrote to us.
    Message(Box<Draft>),
    /// A server tells what became of mail of ours; or an event of the account, when it does not say
    /// which.
    Reports(Vec<Envelope>),
    /// Our own mail, back by a loop or as the copy that the provider keeps of what is sent.
    Own {
        /// The thread that it was sent in.
        thread: SmolStr,
        /// The id that it has here, where that is not the one we gave it.
        alias: Option<String>,
    },
}

/// A message whose files are not stored yet, and whose thread may still be found by an id.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Draft {
    pub(crate) envelope: Envelope,
    /// What is to be stored; each names its place in the content.
    pub(crate) files: Vec<File>,
    /// Ids by which mail of ours may be meant, newest first, when nothing proves the thread.
    pub(crate) ids: Vec<String>,
}

impl Draft {
    /// One of the ids is an alias of mail that we sent in this thread.
    pub(crate) fn prove(&mut self, thread: SmolStr) {
        self.envelope.thread.key = thread;
        if let Some(mail) = &mut self.envelope.mail {
            mail.thread_proven = true;
        }
    }
}

/// What is the same for all envelopes of a mail.
struct Facts<'a> {
    raw: &'a [u8],
    headers: Headers,
    mail: Option<Message<'a>>,
    /// The addresses of all From fields.
    from: Vec<(Mailbox, Option<SmolStr>)>,
    subject: String,
    message_id: Option<String>,
    /// Names the mail when it has no id.
    synthetic_id: String,
    /// The same for each copy of the mail, and for no other mail.
    dedup: String,
    warnings: Vec<String>,
}

/// Reads a mail that arrived at `received_at`.
pub(crate) fn read(place: &Place, raw: &[u8], received_at: Timestamp) -> Reading {
    let raw = &*with_readable_header(raw);
    let mut facts = Facts::new(raw, MessageParser::default().parse(raw));
    if let Some(own) = own(place, &facts) {
        return own;
    }
    if let Some(report) = facts.mail.as_ref().and_then(dsn::read) {
        return Reading::Reports(report::envelopes(place, &facts, &report, received_at));
    }
    let class = classify::class(&facts.headers, facts.sender(), &facts.subject, &place.ours.main);
    if class == MailClass::Bounce {
        // A server's word without a report: its recipient may say what it is about.
        return Reading::Reports(report::without_report(place, &facts, received_at));
    }
    let found = thread::find(place, &facts);
    let (content, files) = body::read(place, &mut facts);
    let verdict = {
        let only = if let [(from, _)] = facts.from.as_slice() { Some(from.domain()) } else { None };
        let only = only.filter(|_| facts.headers.all("from").count() == 1);
        authres::judge(&facts.headers, place.authserv_id.as_deref(), only)
    };
    let mut envelope = blank(place, &facts, EnvelopeKind::Message, received_at);
    envelope.thread = found.thread;
    envelope.dedup_key = format!("mail/{}", facts.dedup).into();
    envelope.external_id = Some(facts.message_id.as_deref().unwrap_or(&facts.synthetic_id).into());
    envelope.sender = sender(place, &facts);
    envelope.recipients = recipients(place, &facts);
    envelope.sender_auth = verdict.auth;
    envelope.content = content;
    envelope.tags = match class {
        MailClass::AutoReply => vec!["auto_reply".into()],
        MailClass::List => vec!["list".into()],
        _ => Vec::new(),
    };
    let in_reply_to = facts.headers.ids("in-reply-to").into_iter().next();
    envelope.reply_to = in_reply_to
        .as_deref()
        .map(|id| adapter::contract::envelope::MessageRef { external_id: Some(id.into()), ..Default::default() });
    envelope.mail = Some(Mail {
        message_id: facts.message_id.as_deref().map(SmolStr::from),
        in_reply_to: in_reply_to.as_deref().map(SmolStr::from),
        references: bounded_references(&facts.headers.ids("references")),
        subject: (!facts.subject.is_empty()).then(|| facts.subject.clone()),
        headers_ref: None,
        class,
        auth_results: verdict.header.map(|text| text.chars().take(2000).collect()),
        aligned_domain: verdict.aligned,
        envelope_to: delivered_to(&facts.headers).iter().map(|to| SmolStr::from(to.as_str())).collect(),
        reply_to: addresses(facts.mail.as_ref().and_then(Message::reply_to))
            .into_iter()
            .map(|(to, _)| to.as_str().into())
            .take(10)
            .collect(),
        bytes: Some(raw.len() as u64),
        thread_proven: found.proven,
    });
    if let Some(adapter) = &mut envelope.adapter {
        adapter.warnings = std::mem::take(&mut facts.warnings);
    }
    Reading::Message(Box::new(Draft { envelope, files, ids: found.ids }))
}

/// A mail that cannot be made an envelope of, for the operator: where its raw bytes are is told by the caller.
pub(crate) fn unprocessable(place: &Place, raw: &[u8], name: &str, why: &str, received_at: Timestamp) -> Envelope {
    // Without its structure: whatever is wrong with that must not be wrong twice.
    let facts = Facts::new(raw, None);
    let mut envelope = report::event(place, &facts, name, why, received_at);
    envelope.dedup_key = format!("{name}/{}", facts.dedup).into();
    envelope
}

/// Something that happened to the account itself, not to a mail.
pub(crate) fn of_account(place: &Place, name: &str, why: &str, at: Timestamp) -> Envelope {
    let facts = Facts::new(b"", None);
    let mut envelope = report::event(place, &facts, name, why, at);
    envelope.dedup_key = format!("{name}/{}/{}", place.account.id, at.0).into();
    envelope
}

impl<'a> Facts<'a> {
    fn new(raw: &'a [u8], mail: Option<Message<'a>>) -> Self {
        let headers = Headers::parse(raw);
        let from = addresses_of(mail.iter().flat_map(|mail| mail.header_values("From")).filter_map(|v| v.as_address()));
        let subject = mail.as_ref().and_then(Message::subject).map(one_line).unwrap_or_default();
        let message_id = headers.ids("message-id").into_iter().next();
        let body = raw.get(headers.body_at()..).unwrap_or_default();
        let (digest, whole) = (body_digest(body), Sha256::digest(raw));
        let synthetic_id = format!("sha256:{}", base32(whole.get(..20).unwrap_or_default()));
        // Relays add fields, so a copy is known by what the sender wrote. Without an id and a date, by
        // every byte.
        let dedup = match (&message_id, headers.first("date")) {
            (None, None) => key_of(&["raw", &synthetic_id]),
            (id, date) => key_of(&[
                "mail",
                id.as_deref().unwrap_or_default(),
                headers.first("from").unwrap_or_default(),
                date.unwrap_or_default(),
                &digest,
            ]),
        };
        let synthetic_id = if headers.has("date") { format!("digest:{dedup}") } else { synthetic_id };
        Self { raw, headers, mail, from, subject, message_id, synthetic_id, dedup: dedup.into(), warnings: Vec::new() }
    }

    /// Who wrote it, as far as it says.
    fn sender(&self) -> Option<&Mailbox> {
        self.from.first().map(|(address, _)| address)
    }
}

/// Eight-bit text in the header that is not UTF-8 was meant as Latin-1, mostly.
fn with_readable_header(raw: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    let (header, body) = raw.split_at(Headers::parse(raw).body_at());
    if std::str::from_utf8(header).is_ok() {
        return raw.into();
    }
    let mut readable = header.iter().map(|byte| char::from(*byte)).collect::<String>().into_bytes();
    readable.extend_from_slice(body);
    readable.into()
}

/// A digest of a body that does not change with line ends, or with empty lines at the end.
fn body_digest(body: &[u8]) -> String {
    let mut hasher = Sha256::new();
    for line in body.trim_ascii_end().split(|byte| *byte == b'\n') {
        hasher.update(line.strip_suffix(b"\r").unwrap_or(line));
        hasher.update(b"\n");
    }
    base32(hasher.finalize().get(..16).unwrap_or_default())
}

/// Our own mail: by its id, or by the mark that copies keep.
fn own(place: &Place, facts: &Facts<'_>) -> Option<Reading> {
    let by_id = facts.message_id.as_deref().and_then(|id| place.tokens.read_message_id(id));
    if let Some(token) = by_id {
        return Some(Reading::Own { thread: token.thread, alias: None });
    }
    // Only from ourselves: a mail that carries the field along (a forward by redirection) is another's.
    if !facts.sender().is_some_and(|from| place.ours.has(from)) {
        return None;
    }
    let mark = facts.headers.first(&OWN.to_ascii_lowercase())?;
    let token = place.tokens.read_message_id(mark)?;
    Some(Reading::Own { thread: token.thread, alias: facts.message_id.clone() })
}

fn sender(place: &Place, facts: &Facts<'_>) -> Party {
    let (identity, display) = match facts.from.first() {
        Some((address, name)) => {
            let raw = facts.headers.first("from").map(|text| text.chars().take(300).collect::<String>().into());
            let identity = Identity {
                scheme: "email".into(),
                value: address.as_str().into(),
                scope: Scope::Global,
                scope_id: None,
                raw,
                assurance: None,
            };
            (identity, name.clone())
        }
        // Nobody's mail: a customer of its own, whom nothing else can be joined to.
        None => {
            let identity = Identity {
                scheme: "email_unknown".into(),
                value: facts.dedup.as_str().into(),
                scope: Scope::Account,
                scope_id: Some(SmolStr::from(place.account.id.clone())),
                raw: None,
                assurance: None,
            };
            (identity, None)
        }
    };
    Party { identity, aliases: Vec::new(), display, username: None, role: Role::Customer, named_as: None }
}

fn recipients(place: &Place, facts: &Facts<'_>) -> Vec<Party> {
    let Some(mail) = &facts.mail else { return Vec::new() };
    let named = |field: &'static str, found: Vec<(Mailbox, Option<SmolStr>)>| {
        found.into_iter().map(move |(address, display)| (field, address, display))
    };
    let to = addresses_of(mail.header_values("To").filter_map(|v| v.as_address()));
    let cc = addresses_of(mail.header_values("Cc").filter_map(|v| v.as_address()));
    let mut seen: Vec<Mailbox> = Vec::new();
    let mut parties = Vec::new();
    for (field, address, display) in named("to", to).chain(named("cc", cc)) {
        if parties.len() >= RECIPIENTS_MAX {
            break;
        }
        if place.ours.has(&address) || seen.contains(&address) {
            continue;
        }
        let identity = Identity {
            scheme: "email".into(),
            value: address.as_str().into(),
            scope: Scope::Global,
            scope_id: None,
            raw: None,
            assurance: None,
        };
        seen.push(address);
        parties.push(Party {
            identity,
            aliases: Vec::new(),
            display,
            username: None,
            role: Role::Customer,
            named_as: Some(field.into()),
        });
    }
    parties
}

/// Where an answer goes: Reply-To where there is one, which says nothing of who the sender is.
fn reply_target(facts: &Facts<'_>) -> Option<ReplyTarget> {
    let asked = addresses(facts.mail.as_ref().and_then(Message::reply_to)).into_iter().next().map(|(to, _)| to);
    let address = asked.or_else(|| facts.sender().cloned())?;
    Some(ReplyTarget { address: address.as_str().into(), token: None, token_until: None })
}

/// The addresses that servers say it was delivered to.
fn delivered_to(headers: &Headers) -> Vec<Mailbox> {
    let mut found: Vec<Mailbox> = Vec::new();
    for name in ["delivered-to", "x-original-to", "envelope-to", "x-delivered-to"] {
        for address in headers.all(name).flat_map(|value| value.split(',')).filter_map(Mailbox::parse) {
            if !found.contains(&address) && found.len() < 20 {
                found.push(address);
            }
        }
    }
    found
}

fn bounded_references(ids: &[String]) -> Vec<SmolStr> {
    // The first is the root, the newest are what is answered.
    let skip = ids.len().saturating_sub(REFERENCES_MAX - 1);
    let (root, newest) = (ids.first().filter(|_| skip > 0), ids.get(skip..).unwrap_or_default());
    root.into_iter().chain(newest).map(|id| id.as_str().into()).collect()
}

fn addresses_of<'a, 'x: 'a>(fields: impl Iterator<Item = &'a Address<'x>>) -> Vec<(Mailbox, Option<SmolStr>)> {
    fields.flat_map(|field| addresses(Some(field))).take(1000).collect()
}

fn addresses(field: Option<&Address<'_>>) -> Vec<(Mailbox, Option<SmolStr>)> {
    let all = field.into_iter().flat_map(Address::iter).take(1000);
    let known = all.filter_map(|one| {
        let address = Mailbox::parse(one.address()?)?;
        let name = one.name().map(one_line).filter(|name| !name.is_empty());
        Some((address, name.map(|name| name.chars().take(NAME_CHARS_MAX).collect::<String>().into())))
    });
    known.collect()
}

/// Text as one line, without what does not print.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if line.chars().count() > SUBJECT_CHARS_MAX { line.chars().take(SUBJECT_CHARS_MAX).collect() } else { line }
}

/// An envelope with what every one of a mail has.
fn blank(place: &Place, facts: &Facts<'_>, kind: EnvelopeKind, received_at: Timestamp) -> Envelope {
    let date = facts.mail.as_ref().and_then(Message::date).filter(|date| date.is_valid());
    let seconds = date.map(mail_parser::DateTime::to_timestamp).filter(|at| (SECONDS_MIN..SECONDS_MAX).contains(at));
    let sent_at = seconds.and_then(|at| u64::try_from(at).ok()).map(|at| Timestamp(at * 1000));
    let raw_date = facts.headers.first("date").map(|text| text.chars().take(100).collect::<String>());
    Envelope {
        v: VERSION,
        kind,
        tenant: place.tenant.clone(),
        account: place.account.clone(),
        dedup_key: facts.dedup.as_str().into(),
        external_id: None,
        external_ids: Vec::new(),
        direction: Direction::In,
        thread: Thread {
            key: SmolStr::default(),
            kind: ThreadKind::Thread,
            external_id: None,
            sub_id: None,
            subject: None,
            reply_target: None,
        },
        sender: report::system(place),
        recipients: Vec::new(),
        sender_auth: SenderAuth { level: AuthLevel::Unverified, detail: None },
        sent_at,
        received_at,
        sent_at_raw: raw_date.filter(|text| !text.is_empty()).map(SmolStr::from),
        seq: None,
        content: Vec::<Part>::new(),
        language: None,
        tags: Vec::new(),
        group: None,
        reply_to: None,
        forward: None,
        target: None,
        reaction: None,
        receipt: None,
        signal: None,
        referral: None,
        call: None,
        mail: None,
        window: None,
        raw_ref: None,
        adapter: Some(AdapterInfo {
            name: "throughline-channel-email".into(),
            version: Some(env!("CARGO_PKG_VERSION").into()),
            warnings: Vec::new(),
        }),
    }
}

#[cfg(test)]
mod tests;
