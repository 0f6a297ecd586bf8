//! What a message is made of.

use super::*;

open_enum! {
    /// How the text of a [`Part::Text`] is marked up.
    TextFormat default Plain {
        /// Not at all.
        Plain = "plain",
        /// HTML, to be sanitised where it is shown.
        Html = "html",
        /// Markdown.
        Markdown = "markdown",
        /// Slack's dialect.
        Mrkdwn = "mrkdwn",
    }
}

open_enum! {
    /// Where the bytes of a medium are.
    MediaStatus {
        /// Being fetched.
        Pending = "pending",
        /// In the object store.
        Stored = "stored",
        /// Not to be had; the part's `reason` says why.
        Unavailable = "unavailable",
    }
}

/// A stretch of a text with a meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Entity {
    /// `mention`, `url`, `email`, `phone`, `bold`, `code`, …
    pub kind: SmolStr,
    /// First byte of the stretch in the body.
    pub offset: u32,
    /// Length of the stretch in bytes.
    pub length: u32,
    /// What it points to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<SmolStr>,
}

/// Text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Text {
    /// The whole text as it came.
    pub body: String,
    /// How it is marked up.
    #[serde(default, skip_serializing_if = "is_plain")]
    pub format: TextFormat,
    /// Stretches with a meaning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entities: Vec<Entity>,
    /// Language, ISO 639-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<SmolStr>,
    /// What is new in it, without what it quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visible: Option<String>,
    /// What it quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quoted: Option<String>,
}

fn is_plain(format: &TextFormat) -> bool {
    *format == TextFormat::Plain
}

/// An image, sound, film or file; its bytes are in the object store, never on the bus.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Media {
    /// `image`, `audio`, `video`, `file`, …
    pub kind: SmolStr,
    /// Key in the object store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_key: Option<SmolStr>,
    /// Where its bytes are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<MediaStatus>,
    /// Why they are not to be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<SmolStr>,
    /// The provider's id, by which the adapter fetches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<SmolStr>,
    /// MIME type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime: Option<SmolStr>,
    /// File name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SmolStr>,
    /// Size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// SHA-256 of the bytes, lower-case hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<SmolStr>,
    /// Playing time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Millis>,
    /// Width in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Height in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// The text under it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    /// Content-ID by which an HTML body shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline_cid: Option<SmolStr>,
    /// A voice note rather than a file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub voice: bool,
}

/// A place. Degrees are text, as providers write them, so that nothing is rounded.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Location {
    /// Degrees north.
    pub latitude: SmolStr,
    /// Degrees east.
    pub longitude: SmolStr,
    /// Name of the place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SmolStr>,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// Somebody's details, shared.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ContactCard {
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SmolStr>,
    /// Telephone numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phones: Vec<SmolStr>,
    /// Mail addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emails: Vec<SmolStr>,
    /// The card as it came, vCard or the provider's form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
}

/// A choice the customer made from what was offered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Choice {
    /// Id of the option.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<SmolStr>,
    /// What it said.
    pub title: String,
    /// What it carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// `button`, `list`, `quick_reply`, `postback`, `keypad`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SmolStr>,
}

/// A piece of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Part {
    /// Text.
    Text(Text),
    /// An image, sound, film or file.
    Media(Media),
    /// A place.
    Location(Location),
    /// Somebody's details.
    ContactCard(ContactCard),
    /// A sticker.
    Sticker {
        /// The provider's id.
        id: SmolStr,
        /// The emoji it stands for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        emoji: Option<SmolStr>,
    },
    /// A choice from what was offered.
    Choice(Choice),
    /// A filled-in form.
    Form {
        /// Its fields.
        fields: Map<String, Value>,
    },
    /// An order or a product.
    Order {
        /// As the provider describes it.
        details: Map<String, Value>,
    },
    /// Something shared by address: a story, a post, a page.
    Link {
        /// `story_mention`, `story_reply`, `share`, `reel`, `url`.
        kind: SmolStr,
        /// Its address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        url: Option<String>,
        /// Its title.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        title: Option<String>,
    },
    /// A pre-approved template, to be sent.
    Template {
        /// Its name.
        name: SmolStr,
        /// Its language.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        language: Option<SmolStr>,
        /// What fills its gaps.
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        parameters: Map<String, Value>,
    },
    /// A notice of the platform.
    System {
        /// What it says.
        body: String,
    },
    /// Something that the adapter could not represent; the raw reference has it.
    Unsupported {
        /// The provider's word for it.
        kind: SmolStr,
    },
    /// A type that this version does not know, kept whole.
    #[serde(untagged)]
    #[cfg_attr(feature = "schema", schemars(schema_with = "unknown_part"))]
    Unknown(Map<String, Value>),
}

/// The `type`s of [`Part`] that this version knows.
pub(super) const KNOWN_PARTS: [&str; 12] = [
    "text",
    "media",
    "location",
    "contact_card",
    "sticker",
    "choice",
    "form",
    "order",
    "link",
    "template",
    "system",
    "unsupported",
];

#[cfg(feature = "schema")]
fn unknown_part(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "properties": {"type": {"type": "string", "not": {"enum": KNOWN_PARTS}}},
        "required": ["type"],
    })
}

impl Part {
    /// A plain text part.
    #[must_use]
    pub fn text(body: impl Into<String>) -> Self {
        Self::Text(Text { body: body.into(), ..Text::default() })
    }
}
