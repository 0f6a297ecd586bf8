//! What an event of an account's file may say: the fields of the envelope, as data.

use crate::expr::Type;

/// What a field takes.
#[derive(Debug)]
pub(crate) enum Shape {
    /// One value.
    Value(Kind),
    /// A table of fields.
    Table(&'static Fields),
    /// A list of tables or values.
    Many(&'static Shape),
    /// The parts of a message: tables whose `type` says what they take.
    Parts,
    /// Any map.
    Free,
}

/// What one value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A text; numbers are written down, exactly.
    Text,
    /// A whole number from 0.
    Whole,
    /// True or false.
    Flag,
    /// A time.
    Time,
    /// A text that is one of these where it stands in the file.
    Word(&'static [&'static str]),
}

impl Kind {
    /// What an expression for it may give.
    pub(crate) const fn types(self) -> &'static [Type] {
        match self {
            Self::Text | Self::Word(_) => &[Type::Text, Type::Number, Type::Bool, Type::Null],
            Self::Whole | Self::Time => &[Type::Number, Type::Text, Type::Null],
            Self::Flag => &[Type::Bool, Type::Null],
        }
    }
}

/// The fields of a table.
#[derive(Debug)]
pub(crate) struct Fields {
    /// The fields.
    pub(crate) rows: &'static [Row],
    /// The field that a value in place of the table stands for.
    pub(crate) short: Option<&'static str>,
}

/// One field.
#[derive(Debug)]
pub(crate) struct Row {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it takes.
    pub(crate) shape: Shape,
    /// Without it the table says nothing.
    pub(crate) need: bool,
    /// When it cannot be read the event is taken without it, and says so.
    pub(crate) soft: bool,
}

const fn may(name: &'static str, shape: Shape) -> Row {
    Row { name, shape, need: false, soft: false }
}

const fn soft(name: &'static str, shape: Shape) -> Row {
    Row { name, shape, need: false, soft: true }
}

const fn need(name: &'static str, shape: Shape) -> Row {
    Row { name, shape, need: true, soft: false }
}

const fn fields(rows: &'static [Row]) -> Fields {
    Fields { rows, short: None }
}

const TEXT: Shape = Shape::Value(Kind::Text);
const WHOLE: Shape = Shape::Value(Kind::Whole);
const FLAG: Shape = Shape::Value(Kind::Flag);
const TIME: Shape = Shape::Value(Kind::Time);
const TEXTS: Shape = Shape::Many(&TEXT);

const fn word(words: &'static [&'static str]) -> Shape {
    Shape::Value(Kind::Word(words))
}

/// The kinds of event that a file can map to.
pub(crate) const KINDS: [&str; 10] = [
    "message",
    "edit",
    "delete",
    "reaction",
    "receipt",
    "echo",
    "contact_event",
    "conversation_event",
    "call",
    "account_event",
];

/// The envelope, without what is the account's and the channel's own to say.
pub(crate) const ENVELOPE: Fields = fields(&[
    need("dedup_key", TEXT),
    may("external_id", TEXT),
    soft("external_ids", TEXTS),
    need("thread", Shape::Table(&THREAD)),
    need("sender", Shape::Table(&PARTY)),
    soft("recipients", Shape::Many(&Shape::Table(&PARTY))),
    soft("sent_at", TIME),
    soft("seq", Shape::Table(&SEQUENCE)),
    may("text", TEXT),
    may("content", Shape::Parts),
    soft("language", TEXT),
    soft("tags", TEXTS),
    soft("group", Shape::Table(&GROUP)),
    may("reply_to", Shape::Table(&MESSAGE)),
    soft("forward", Shape::Table(&FORWARD)),
    may("target", Shape::Table(&MESSAGE)),
    may("reaction", Shape::Table(&REACTION)),
    may("receipt", Shape::Table(&RECEIPT)),
    may("signal", Shape::Table(&SIGNAL)),
    soft("referral", Shape::Table(&REFERRAL)),
    may("call", Shape::Table(&CALL)),
    soft("window", Shape::Table(&WINDOW)),
]);

const THREAD: Fields = Fields {
    short: Some("key"),
    rows: &[
        need("key", TEXT),
        may("kind", word(&["direct", "group", "channel", "thread", "call"])),
        may("external_id", TEXT),
        may("sub_id", TEXT),
        soft("subject", TEXT),
        may("reply_target", Shape::Table(&REPLY_TARGET)),
    ],
};

const REPLY_TARGET: Fields =
    Fields { short: Some("address"), rows: &[need("address", TEXT), may("token", TEXT), may("token_until", TIME)] };

const PARTY: Fields = fields(&[
    need("identity", Shape::Table(&IDENTITY)),
    soft("aliases", Shape::Many(&Shape::Table(&IDENTITY))),
    soft("display", TEXT),
    soft("username", TEXT),
    may("role", word(&["customer", "agent", "bot", "system"])),
    may("named_as", word(&["to", "cc", "bcc", "mention"])),
]);

const IDENTITY: Fields = fields(&[
    need("scheme", TEXT),
    need("value", TEXT),
    may("scope", word(&["account", "portfolio", "global"])),
    may("scope_id", TEXT),
    soft("raw", TEXT),
    may("assurance", word(&["claimed", "verified"])),
]);

const SEQUENCE: Fields = fields(&[need("scope", TEXT), need("n", WHOLE)]);
const GROUP: Fields =
    Fields { short: Some("id"), rows: &[need("id", TEXT), soft("index", WHOLE), soft("total", WHOLE)] };
const FORWARD: Fields = fields(&[may("count", WHOLE), may("from", TEXT)]);
const MESSAGE: Fields = Fields {
    short: Some("external_id"),
    rows: &[may("external_id", TEXT), may("quote_token", TEXT), may("story", TEXT), may("revision", WHOLE)],
};
const REACTION: Fields =
    Fields { short: Some("emoji"), rows: &[may("emoji", TEXT), may("name", TEXT), may("removed", FLAG)] };
const RECEIPT: Fields = fields(&[
    need("status", word(&["accepted", "sent", "delayed", "delivered", "read", "failed", "unknown", "complained"])),
    may("command_id", TEXT),
    may("part", WHOLE),
    may("targets", TEXTS),
    may("watermark", TIME),
    may("through_seq", WHOLE),
    soft("code", TEXT),
    soft("reason", TEXT),
    soft("retryable", FLAG),
    soft("recipient", TEXT),
    soft("price", TEXT),
]);
const SIGNAL: Fields =
    Fields { short: Some("name"), rows: &[need("name", TEXT), soft("detail", TEXT), soft("data", Shape::Free)] };
const REFERRAL: Fields = fields(&[
    need("source", TEXT),
    may("kind", TEXT),
    may("reference", TEXT),
    may("ad_id", TEXT),
    may("click_id", TEXT),
]);
const CALL: Fields = fields(&[
    need("leg", TEXT),
    may("parent", TEXT),
    need("state", TEXT),
    soft("from", TEXT),
    soft("to", TEXT),
    soft("started_at", TIME),
    soft("answered_at", TIME),
    soft("ended_at", TIME),
    soft("transcript", TEXT),
    soft("queue", TEXT),
]);
const WINDOW: Fields =
    fields(&[may("open_until", TIME), may("policy", TEXT), may("template_required", FLAG), may("templates", FLAG)]);

/// The parts of a message by their type. A medium has an address, from which it is fetched.
pub(crate) const PARTS: &[(&str, Fields)] = &[
    (
        "text",
        fields(&[
            need("body", TEXT),
            may("format", word(&["plain", "html", "markdown", "mrkdwn"])),
            may("language", TEXT),
            may("visible", TEXT),
            may("quoted", TEXT),
        ]),
    ),
    (
        "media",
        fields(&[
            need("url", TEXT),
            soft("kind", TEXT),
            soft("mime", TEXT),
            soft("name", TEXT),
            soft("external_id", TEXT),
            soft("bytes", WHOLE),
            soft("sha256", TEXT),
            soft("duration", WHOLE),
            soft("width", WHOLE),
            soft("height", WHOLE),
            may("caption", TEXT),
            soft("voice", FLAG),
        ]),
    ),
    ("location", fields(&[need("latitude", TEXT), need("longitude", TEXT), soft("name", TEXT), soft("address", TEXT)])),
    ("contact_card", fields(&[may("name", TEXT), may("phones", TEXTS), may("emails", TEXTS), may("raw", TEXT)])),
    ("sticker", fields(&[need("id", TEXT), soft("emoji", TEXT)])),
    ("choice", fields(&[need("title", TEXT), may("id", TEXT), may("payload", TEXT), may("source", TEXT)])),
    ("form", fields(&[need("fields", Shape::Free)])),
    ("order", fields(&[need("details", Shape::Free)])),
    ("link", fields(&[need("kind", TEXT), may("url", TEXT), may("title", TEXT)])),
    ("system", fields(&[need("body", TEXT)])),
    ("unsupported", fields(&[need("kind", TEXT)])),
];
