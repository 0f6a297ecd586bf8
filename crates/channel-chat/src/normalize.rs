//! From what a page says to envelopes. Pure.

use adapter::contract::envelope::{
    Account, AdapterInfo, Assurance, AuthLevel, Direction, Envelope, EnvelopeKind, Identity, Part, Party, Receipt,
    ReceiptStatus, ReplyTarget, Role, Scope, SenderAuth, Signal, Thread, ThreadKind, VERSION,
};
use adapter::contract::{SmolStr, TenantId, Timestamp};

use crate::frames::{Join, Message, Switch};
use crate::login::Login;

const NAME_CHARS_MAX: usize = 100;
const EMAIL_BYTES_MAX: usize = 254;
const TAGS_MAX: usize = 16;
const TAG_CHARS_MAX: usize = 64;
const PAGE_CHARS_MAX: usize = 200;
const ADDRESS_CHARS_MAX: usize = 254;
const CLIENT_MSG_ID_CHARS_MAX: usize = 64;

/// Where an event came in.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) tenant: TenantId,
    pub(crate) account: Account,
    /// Within which bounds a login's `sub` names one person.
    pub(crate) login_realm: SmolStr,
    pub(crate) text_chars_max: usize,
    /// The language of visitors whose page does not tell one.
    pub(crate) language: Option<SmolStr>,
    /// Tags of every message.
    pub(crate) tags: Vec<SmolStr>,
}

/// Who is at the other end of a socket, and what they say of themselves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Visitor {
    /// Names the session.
    pub(crate) id: SmolStr,
    /// What the site says of them.
    pub(crate) login: Option<Login>,
    name: Option<SmolStr>,
    email: Option<SmolStr>,
    language: Option<SmolStr>,
    tags: Vec<SmolStr>,
}

/// Why something a page sent is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Empty,
    TooLong,
    BadId,
    BadAddress,
}

impl Refusal {
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLong => "too_long",
            Self::BadId => "invalid",
            Self::BadAddress => "address",
        }
    }

    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::Empty => "the message is empty",
            Self::TooLong => "the message is too long",
            Self::BadId => "client_msg_id needs 1 to 64 letters, digits, - or _",
            Self::BadAddress => "that is no address",
        }
    }
}

impl Visitor {
    /// Takes over what the join says, as far as it makes sense; the site's word goes before theirs.
    pub(crate) fn new(id: SmolStr, login: Option<Login>, join: &Join) -> Self {
        let page = join.page.as_deref().and_then(page_path).map(|path| SmolStr::from(format!("page:{path}")));
        let tags = join.tags.iter().filter_map(|tag| clean(tag, TAG_CHARS_MAX)).take(TAGS_MAX).chain(page);
        Self {
            name: join.name.as_deref().and_then(|name| clean(name, NAME_CHARS_MAX)),
            email: join.email.as_deref().and_then(email_address),
            language: join.language.as_deref().and_then(language_code),
            tags: tags.collect(),
            id,
            login,
        }
    }

    /// The thread that they are on: one for each login, so that a person's devices share it.
    pub(crate) fn thread(&self) -> SmolStr {
        match &self.login {
            Some(login) => format!("login:{}", login.sub).into(),
            None => self.id.clone(),
        }
    }
}

/// A message of a page.
pub(crate) fn message(
    place: &Place,
    visitor: &Visitor,
    message: &Message,
    now: Timestamp,
) -> Result<Envelope, Refusal> {
    let id = legal_id(&message.client_msg_id)?;
    if message.text.trim().is_empty() {
        return Err(Refusal::Empty);
    }
    if message.text.chars().count() > place.text_chars_max {
        return Err(Refusal::TooLong);
    }
    let mut envelope = envelope(place, visitor, EnvelopeKind::Message, now);
    envelope.dedup_key = format!("{}/{id}", visitor.id).into();
    envelope.external_id = Some(envelope.dedup_key.clone());
    envelope.content = vec![Part::text(message.text.clone())];
    envelope.language = visitor.language.clone().or_else(|| place.language.clone());
    envelope.tags = place.tags.iter().chain(&visitor.tags).cloned().collect();
    Ok(envelope)
}

/// A page's wish to go on by another channel. Whether it is met is the policy's matter.
pub(crate) fn switch(place: &Place, visitor: &Visitor, wish: &Switch, now: Timestamp) -> Result<Envelope, Refusal> {
    let id = legal_id(&wish.client_msg_id)?;
    let address = match wish.address.as_deref().map(str::trim).filter(|address| !address.is_empty()) {
        None => None,
        Some(text) => {
            let read = if wish.kind.as_str() == "email" { email_address(text) } else { clean(text, ADDRESS_CHARS_MAX) };
            Some(read.ok_or(Refusal::BadAddress)?)
        }
    };
    let mut envelope = envelope(place, visitor, EnvelopeKind::ConversationEvent, now);
    envelope.dedup_key = format!("switch/{}/{id}", visitor.id).into();
    let fields =
        [("kind", Some(wish.kind.as_str())), ("account", Some(wish.account.as_str())), ("address", address.as_deref())];
    let data = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect();
    envelope.signal = Some(Signal { name: "switch".into(), detail: None, data });
    Ok(envelope)
}

fn legal_id(id: &SmolStr) -> Result<&SmolStr, Refusal> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let right = !id.is_empty() && id.len() <= CLIENT_MSG_ID_CHARS_MAX && id.bytes().all(legal);
    right.then_some(id).ok_or(Refusal::BadId)
}

/// The page's own id of a message, from the key under which it was stored.
pub(crate) fn client_msg_id(dedup_key: &str) -> Option<SmolStr> {
    dedup_key.split_once('/').map(|(_, id)| id.into())
}

/// The page has, or showed, everything up to a message.
pub(crate) fn receipt(place: &Place, visitor: &Visitor, status: ReceiptStatus, seq: u64, now: Timestamp) -> Envelope {
    let mut envelope = envelope(place, visitor, EnvelopeKind::Receipt, now);
    envelope.dedup_key = format!("receipt/{}/{status}/{seq}", envelope.thread.key).into();
    envelope.receipt = Some(Receipt {
        status,
        command_id: None,
        part: None,
        targets: Vec::new(),
        watermark: None,
        through_seq: Some(seq),
        code: None,
        reason: None,
        retryable: None,
        recipient: None,
        price: None,
    });
    envelope
}

fn envelope(place: &Place, visitor: &Visitor, kind: EnvelopeKind, now: Timestamp) -> Envelope {
    let thread = visitor.thread();
    let (sender_auth, display) = match &visitor.login {
        Some(login) => {
            let name = login.name.as_deref().and_then(|name| clean(name, NAME_CHARS_MAX));
            (SenderAuth { level: AuthLevel::VerifiedJwt, detail: None }, name.or_else(|| visitor.name.clone()))
        }
        None => {
            let detail = Some("name and address are the visitor's own word".into());
            (SenderAuth { level: AuthLevel::Unverified, detail }, visitor.name.clone())
        }
    };
    let (identity, aliases) = identities(place, visitor);
    Envelope {
        v: VERSION,
        kind,
        tenant: place.tenant.clone(),
        account: place.account.clone(),
        dedup_key: SmolStr::default(),
        external_id: None,
        external_ids: Vec::new(),
        direction: Direction::In,
        thread: Thread {
            kind: ThreadKind::Direct,
            external_id: None,
            sub_id: None,
            subject: None,
            reply_target: Some(ReplyTarget { address: thread.clone(), token: None, token_until: None }),
            key: thread,
        },
        sender: Party { identity, aliases, display, username: None, role: Role::Customer, named_as: None },
        recipients: Vec::new(),
        sender_auth,
        sent_at: None,
        received_at: now,
        sent_at_raw: None,
        seq: None,
        content: Vec::new(),
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
            name: "throughline-channel-chat".into(),
            version: Some(env!("CARGO_PKG_VERSION").into()),
            warnings: Vec::new(),
        }),
    }
}

/// The address that a visitor is known by, and the others.
fn identities(place: &Place, visitor: &Visitor) -> (Identity, Vec<Identity>) {
    // Our own signed token vouches for the session.
    let session = Identity {
        scheme: "visitor".into(),
        value: visitor.id.clone(),
        scope: Scope::Account,
        scope_id: Some(place.account.id.as_str().into()),
        raw: None,
        assurance: Some(Assurance::Verified),
    };
    let (mail, mail_assurance) = match &visitor.login {
        Some(Login { email: Some(email), email_verified, .. }) => {
            (email_address(email), if *email_verified { Assurance::Verified } else { Assurance::Claimed })
        }
        _ => (visitor.email.clone(), Assurance::Claimed),
    };
    let mail = mail.map(|address| Identity {
        scheme: "email".into(),
        value: address,
        scope: Scope::Global,
        scope_id: None,
        raw: None,
        assurance: Some(mail_assurance),
    });
    match &visitor.login {
        None => (session, mail.into_iter().collect()),
        Some(login) => {
            let person = Identity {
                scheme: "login".into(),
                value: login.sub.clone(),
                scope: Scope::Portfolio,
                scope_id: Some(place.login_realm.clone()),
                raw: None,
                assurance: Some(Assurance::Verified),
            };
            (person, std::iter::once(session).chain(mail).collect())
        }
    }
}

/// A short text of one line, or nothing.
fn clean(text: &str, chars_max: usize) -> Option<SmolStr> {
    let text = text.trim();
    let fits = !text.is_empty() && text.chars().count() <= chars_max && !text.chars().any(char::is_control);
    fits.then(|| text.into())
}

fn email_address(text: &str) -> Option<SmolStr> {
    let text = text.trim().to_lowercase();
    let (local, domain) = text.rsplit_once('@')?;
    let plain = !text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | ',' | ';'));
    let fits = text.len() <= EMAIL_BYTES_MAX && !local.is_empty() && !local.contains('@') && domain.contains('.');
    (plain && fits && !domain.starts_with('.') && !domain.ends_with('.')).then(|| text.into())
}

/// `en` of `en-GB`.
fn language_code(text: &str) -> Option<SmolStr> {
    let primary = text.split(['-', '_']).next()?.to_ascii_lowercase();
    ((2..=3).contains(&primary.len()) && primary.bytes().all(|b| b.is_ascii_lowercase())).then(|| primary.into())
}

/// The path of a page's address: never its query, which may hold secrets.
fn page_path(address: &str) -> Option<SmolStr> {
    let path = match address.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => address,
    };
    let path = path.split(['?', '#']).next()?;
    if path.starts_with('/') { clean(path, PAGE_CHARS_MAX) } else { None }
}

#[cfg(test)]
mod tests;
