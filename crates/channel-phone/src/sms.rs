//! Text messages: SMS and MMS.
//!
//! `normal` writes envelopes, `twilio` and `vonage` read webhooks and answers, `render` says which texts a command is,
//! `parts` joins what came in parts, `segment` counts; all of that is pure. `keep` keeps parts on the bus, and this
//! carries the rest.

mod keep;
mod normal;
mod number;
mod parts;
mod render;
mod segment;
mod settings;
mod twilio;
mod vonage;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use adapter::contract::SmolStr;
use adapter::contract::envelope::{ReceiptStatus, ThreadKind};
use adapter::contract::outbound::{Capabilities, OutCommand};
use adapter::failure::{SendFailure, Sent};
use adapter::health::State;
use adapter::http::{HeaderName, HeaderValue, StatusCode, header};
use adapter::limit::Keyed;
use adapter::split::Unit;
use adapter::webhook::{Reply, Request, Verdict};
use adapter::{Context, Fetched, PartLedger};
use serde_json::Value;

pub(crate) use self::number::Number;
pub(crate) use self::settings::Settings;

use self::keep::Keeper;
use self::normal::Ours;
use self::render::Message;
use self::vonage::Told;
use self::words::Words;
use crate::api::{self, CHATS_MAX, Carrier};
use crate::found::{Found, Place, items};
use crate::phone::Api;
use crate::serve::Shelf;
use crate::voice::Address;

/// The path, behind the account, that texts come to.
const INCOMING: &str = "sms";
/// The path that their fate is told to.
const STATUS: &str = "sms/status";
/// How many texts to one customer may follow each other at once.
const CUSTOMER_BURST: f64 = 5.0;
/// What a plain number may send a second, unless the settings know better.
const TWILIO_PER_SECOND: f64 = 1.0;
/// The same, of an account.
const VONAGE_PER_SECOND: f64 = 30.0;

/// What the listener asks of texts. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Ear {
    place: Place,
    words: Words,
    /// Absent when a request is only tried out.
    keeper: Option<Arc<Keeper>>,
}

impl Ear {
    /// Of a number whose requests are only tried out.
    pub(crate) fn rehearsed(place: Place, settings: &Settings) -> Self {
        Self { place, words: Words::new(settings), keeper: None }
    }

    /// Judges a form of Twilio's that is authentic; `carried`: what we signed in its address.
    pub(crate) fn form(&self, request: &Request, form: &[(String, String)], carried: Option<&str>) -> Verdict {
        let (now, size) = (request.at, request.body.len());
        let found = match request.suffix.as_str() {
            INCOMING => match twilio::incoming(form) {
                Ok(text) => normal::incoming(&self.place, &self.words, text, now, size),
                Err(why) => vec![Found::Dead(why)],
            },
            STATUS => match twilio::became(form, carried) {
                Ok(told) => told.map(|told| normal::became(&self.place, told, now, size)).unwrap_or_default(),
                Err(why) => vec![Found::Dead(why)],
            },
            _ => return Verdict::refuse(StatusCode::NOT_FOUND, "no such address"),
        };
        // An empty document: nothing is answered to the customer.
        let reply = Reply::body("text/xml; charset=utf-8", "<Response/>");
        Verdict::Take { items: items(&self.place, found, &request.body), reply }
    }

    /// Judges what Vonage tells, which is authentic.
    pub(crate) fn event(&self, request: &Request, event: &Value) -> Verdict {
        let told = match request.suffix.as_str() {
            INCOMING => vonage::incoming(event),
            STATUS => vonage::became(event),
            _ => return Verdict::refuse(StatusCode::NOT_FOUND, "no such address"),
        };
        // What came in the address has no body to keep.
        let raw = if request.body.is_empty() { event.to_string().into() } else { request.body.clone() };
        let (now, size) = (request.at, raw.len());
        let found = match (told, &self.keeper) {
            (Ok(Told::Part(piece)), Some(keeper)) => {
                let keeper = Arc::clone(keeper);
                let answer = async move {
                    match keeper.take(&piece, now).await {
                        Ok(()) => Reply::ok(),
                        Err(why) => {
                            tracing::warn!(%why, "a part of a text is not kept; it is to come again");
                            again()
                        }
                    }
                };
                return Verdict::Later { items: Vec::new(), answer: Box::pin(answer) };
            }
            (Ok(Told::Part(piece)), None) => {
                let alone = parts::Group::begin(&piece, now).text();
                alone.map(|text| normal::incoming(&self.place, &self.words, text, now, size)).unwrap_or_default()
            }
            (Ok(Told::Text(text)), _) => normal::incoming(&self.place, &self.words, *text, now, size),
            (Ok(Told::Became(told)), _) => normal::became(&self.place, *told, now, size),
            (Ok(Told::Nothing), _) => Vec::new(),
            (Err(why), _) => vec![Found::Dead(why)],
        };
        Verdict::Take { items: items(&self.place, found, &raw), reply: Reply::ok() }
    }
}

fn again() -> Reply {
    let after: (HeaderName, HeaderValue) = (header::RETRY_AFTER, HeaderValue::from_static("5"));
    Reply { headers: vec![after], ..Reply::status(StatusCode::SERVICE_UNAVAILABLE) }
}

/// The texts of one number.
pub(crate) struct Texts {
    ear: Ear,
    keeper: Arc<Keeper>,
    context: Context,
    api: Api,
    shelf: Shelf,
    address: Address,
    sender: Sender,
    mms: bool,
    segments_max: u32,
    all: Keyed,
    customers: Keyed,
}

/// Who texts go out from.
struct Sender {
    /// A number, a short code or a name; absent: the service chooses.
    from: Option<Number>,
    /// The messaging service of Twilio's.
    service: Option<String>,
}

impl Texts {
    /// Of a number that is served.
    pub(crate) fn new(
        settings: &crate::settings::Settings,
        number: Number,
        place: Place,
        context: Context,
        api: Api,
        shelf: Shelf,
        address: Address,
    ) -> Self {
        let own = settings.sms();
        let service = match settings {
            crate::settings::Settings::Twilio(settings) => settings.messaging_service_sid.clone(),
            crate::settings::Settings::Vonage(_) => None,
        };
        let from = own.sender.as_deref().and_then(Number::ours);
        let from = if service.is_some() { from } else { Some(from.unwrap_or(number)) };
        let (is_twilio, usual) = match settings {
            crate::settings::Settings::Twilio(_) => (true, TWILIO_PER_SECOND),
            crate::settings::Settings::Vonage(_) => (false, VONAGE_PER_SECOND),
        };
        let words = Words::new(own);
        let wait = Duration::from_secs(own.join_seconds);
        let keeper = Arc::new(Keeper::new(context.clone(), place.clone(), words.clone(), wait));
        let rate = own.per_second_max.unwrap_or(usual);
        Self {
            ear: Ear { place, words, keeper: Some(Arc::clone(&keeper)) },
            keeper,
            api,
            shelf,
            address,
            sender: Sender { from, service },
            // Whoever fetches a file needs an address of ours.
            mms: is_twilio && own.mms && context.hooks.is_public(),
            segments_max: own.segments_max,
            all: Keyed::new(rate, rate, 1),
            customers: Keyed::new(own.customer_per_second_max, CUSTOMER_BURST, CHATS_MAX),
            context,
        }
    }

    /// What the listener asks.
    pub(crate) fn ear(&self) -> Ear {
        self.ear.clone()
    }

    /// What can be sent.
    pub(crate) fn capabilities(&self) -> Capabilities {
        let mut media_bytes_max = BTreeMap::new();
        if self.mms {
            let kinds = ["image", "audio", "video", "file"];
            media_bytes_max.extend(kinds.into_iter().map(|kind| (kind.into(), render::FILE_BYTES_MAX)));
        }
        Capabilities {
            text_max: u32::try_from(render::TEXT_MAX).ok(),
            text_unit: Some(Unit::Utf16.as_str().into()),
            media_bytes_max,
            // Receipts are told to an address of ours.
            delivered: self.context.hooks.is_public(),
            ..Capabilities::default()
        }
    }

    /// Sends what a command says.
    ///
    /// # Errors
    /// As the provider says.
    pub(crate) async fn deliver(&self, command: &OutCommand, ledger: &mut PartLedger) -> Result<Sent, SendFailure> {
        let to = render::target(command)?;
        let messages = render::messages(command, self.mms, self.segments_max)?;
        let result = api::carry(&Courier { texts: self, command, to: &to }, &messages, ledger).await;
        match result {
            // It is on its way when a receipt says so.
            Ok(sent) => Ok(Sent { status: ReceiptStatus::Accepted, ..sent }),
            Err(failure) => {
                if failure.code == twilio::STOPPED {
                    self.stopped(&to, command).await;
                }
                Err(failure)
            }
        }
    }

    /// Says that the customer wants no more texts: the provider refused one because of that. Stored under the command's
    /// id, so that a retry says it once.
    async fn stopped(&self, to: &Number, command: &OutCommand) {
        let event = normal::wished(&self.ear.place, to, "opt_out", &command.command_id, adapter::now());
        let Found::Event(event) = event.found(0) else { return };
        if let Err(error) = self.context.inbound.accept(&event.envelope).await {
            tracing::warn!(channel.account = %self.context.account.id, %error, "it was not stored that a customer wants no texts");
        }
    }

    /// Gets a medium of a text.
    ///
    /// # Errors
    /// Permanent when it is gone.
    pub(crate) async fn fetch(&self, source: &Value) -> Result<Fetched, SendFailure> {
        match (&self.api, twilio::source(source)) {
            (Api::Twilio(api), Some(path)) => api.file(path).await,
            _ => Err(SendFailure::permanent("fetch_source", "no medium is named")),
        }
    }

    /// Makes messages of parts that have waited long enough, for ever.
    pub(crate) async fn sweep(&self) {
        loop {
            if let Err(why) = self.keeper.sweep(adapter::now()).await {
                tracing::warn!(channel.account = %self.context.account.id, %why, "texts in parts are not looked at; it is tried again");
            }
            tokio::time::sleep(self.keeper.pace()).await;
        }
    }

    fn fields(&self, courier: &Courier<'_>, message: &Message) -> Result<Vec<(&'static str, String)>, SendFailure> {
        let call = (courier.command.thread.kind == ThreadKind::Call).then(|| courier.command.thread.key.clone());
        let ours = Ours { command: courier.command.command_id.clone(), part: message.part, call };
        let public = self.context.hooks.is_public();
        let mut fields = Vec::new();
        match &self.api {
            Api::Twilio(_) => {
                fields.push(("To", courier.to.as_str().to_owned()));
                fields.extend(self.sender.service.clone().map(|service| ("MessagingServiceSid", service)));
                fields.extend(self.sender.from.as_ref().map(|from| ("From", from.as_str().to_owned())));
                if !message.text.is_empty() {
                    fields.push(("Body", message.text.clone()));
                }
                if let Some(media) = &message.file {
                    fields.push(("MediaUrl", self.shelf.address(media, adapter::now())?));
                }
                if public {
                    fields.push(("StatusCallback", (self.address)(&twilio::status(&ours))));
                }
            }
            Api::Vonage(_) => {
                let from = self.sender.from.as_ref().map(Number::bare).unwrap_or_default();
                fields.push(("from", from.to_owned()));
                fields.push(("to", courier.to.bare().to_owned()));
                fields.push(("type", vonage::kind(&message.text).to_owned()));
                fields.push(("text", message.text.clone()));
                fields.extend(vonage::reference(&ours).map(|reference| ("client-ref", reference)));
                if public {
                    fields.push(("status-report-req", "1".to_owned()));
                    let callback = self.context.hooks.url(STATUS);
                    // A longer one is refused; then it goes to the address that the console was told.
                    if callback.len() <= vonage::CALLBACK_MAX {
                        fields.push(("callback", callback));
                    }
                }
            }
        }
        Ok(fields)
    }

    async fn ask(&self, fields: &[(&'static str, String)]) -> Result<Vec<SmolStr>, SendFailure> {
        match &self.api {
            Api::Twilio(api) => {
                let (status, headers, body) = api.form("POST", "/Messages.json", fields).await?;
                twilio::answer(status, &headers, &body).map(|id| vec![id])
            }
            Api::Vonage(api) => {
                let (status, headers, body) = api.text(fields).await?;
                vonage::answer(status, &headers, &body)
            }
        }
    }
}

/// Carries the texts of one command.
struct Courier<'a> {
    texts: &'a Texts,
    command: &'a OutCommand,
    to: &'a Number,
}

impl Carrier for Courier<'_> {
    type Call = Message;
    type Ready = Vec<(&'static str, String)>;

    async fn ready(&self, message: &Message) -> Result<Self::Ready, SendFailure> {
        let fields = self.texts.fields(self, message)?;
        api::take(&self.texts.customers, self.to.as_str()).await?;
        api::take(&self.texts.all, "").await?;
        Ok(fields)
    }

    async fn carry(&self, _: u32, _: &Message, fields: Self::Ready) -> Result<Vec<SmolStr>, SendFailure> {
        let result = self.texts.ask(&fields).await;
        if let Err(failure) = &result {
            api::pause(&self.texts.all, "", failure);
            if failure.code.starts_with("account_") {
                self.texts.context.health.set(State::Down, Some(failure.message.clone()));
            }
        }
        result
    }
}

#[cfg(test)]
mod tests;
