//! What a request's items become: the first rule that fits says.

use std::borrow::Cow;

use adapter::bytes::Bytes;
use adapter::contract::envelope::Account;
use adapter::contract::envelope::{
    AdapterInfo, AuthLevel, Direction, Envelope, EnvelopeKind, MediaStatus, ReplyWindow, VERSION,
};
use adapter::contract::{Millis, TenantId, Timestamp};
use adapter::toml;
use adapter::webhook::{Fetch, Item};
use serde_json::{Map, Value, json};

use crate::expr::{Eval, Expr};
use crate::input::{Input, SCOPE};
use crate::plan::{Notes, TablePlan};
use crate::shape::{ENVELOPE, KINDS};
use crate::source::{Problems, Source};
use crate::table::Table;

/// Most items of one request. A request with more is set aside whole.
const ITEMS_MAX: usize = 1000;
/// Most rules of an account.
const RULES_MAX: usize = 64;
/// What the expressions about one request may cost, in steps, and about each of its items.
pub(crate) const BUDGET: u64 = 2_000_000;

/// What an account's items become.
#[derive(Debug, Clone)]
pub(crate) struct Mapping {
    /// Where the items are; absent: the whole body is the one item.
    items: Option<Source>,
    rules: Vec<Rule>,
    /// Nobody vouches for anything.
    open: bool,
    /// How long a free answer is allowed.
    pub(crate) window: Option<Millis>,
}

#[derive(Debug, Clone)]
struct Rule {
    when: Option<Expr>,
    action: Action,
}

#[derive(Debug, Clone)]
enum Action {
    Ignore,
    Take(&'static str, Box<TablePlan>),
}

/// Whose items they are.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) tenant: TenantId,
    pub(crate) account: Account,
    pub(crate) at: Timestamp,
    /// How the request was verified, for a person.
    pub(crate) verified_by: &'static str,
}

impl Mapping {
    /// Reads `items` and `event` of the settings.
    pub(crate) fn read(table: &mut Table, open: bool, problems: &mut Problems) -> Option<Self> {
        let items = table.value("items");
        let items = items.and_then(|value| {
            let found = SCOPE.source("settings.items", &value, &[crate::expr::Type::List], problems)?;
            if !found.is_found() {
                return table.refuse("items", "must begin with / or =: where the list of items is", problems);
            }
            Some(found)
        });
        let window = table.whole("reply_window_hours", 1, 24 * 365, problems).map(|hours| Millis(hours * 3_600_000));
        let before = problems.len();
        // What every event says unless it says otherwise.
        let common = table.table("common", problems).map(Table::entries).map(|(_, common)| common).unwrap_or_default();
        let mut rules = Vec::new();
        for event in table.tables("event", RULES_MAX, problems) {
            rules.extend(Rule::read(event, &common, open, problems));
        }
        if rules.is_empty() && problems.len() == before {
            return table.refuse("event", "is missing: nothing says what a request becomes", problems);
        }
        Some(Self { items, rules, open, window })
    }

    /// Whether some event tells what became of an answer.
    pub(crate) fn tells(&self, kind: &str) -> bool {
        self.rules.iter().any(|rule| matches!(&rule.action, Action::Take(known, _) if *known == kind))
    }

    /// What a request holds, in order.
    pub(crate) fn items(&self, place: &Place, input: &Input, raw: &Bytes, budget: &mut u64) -> Vec<Item> {
        let dead = |reason: String, raw: Bytes| Item::Dead { account: Some(place.account.id.clone()), reason, raw };
        let Some(source) = &self.items else {
            return self.item(place, input, &input.body, 0, budget, || raw.clone()).into_iter().collect();
        };
        let variables = input.variables(&input.body, 0);
        let mut eval = Eval { variables: &variables, locals: Vec::new(), budget };
        let list = match source.value(&mut eval) {
            Ok(Cow::Borrowed(Value::Array(list))) => Cow::Borrowed(list),
            Ok(Cow::Owned(Value::Array(list))) => Cow::Owned(list),
            Ok(_) => return vec![dead("settings.items: is no list".to_owned(), raw.clone())],
            Err(trouble) => return vec![dead(format!("settings.items: {trouble}"), raw.clone())],
        };
        if list.len() > ITEMS_MAX {
            return vec![dead(format!("has {} items, and at most {ITEMS_MAX} are taken", list.len()), raw.clone())];
        }
        let own = |item: &Value| Bytes::from(item.to_string());
        let items = list.iter().enumerate();
        items.filter_map(|(index, item)| self.item(place, input, item, index, budget, || own(item))).collect()
    }

    /// One item; `None`: it is of no interest.
    fn item(
        &self,
        place: &Place,
        input: &Input,
        item: &Value,
        index: usize,
        budget: &mut u64,
        raw: impl Fn() -> Bytes,
    ) -> Option<Item> {
        let variables = input.variables(item, index);
        let mut eval = Eval { variables: &variables, locals: Vec::new(), budget };
        let dead = |reason: String| Some(Item::Dead { account: Some(place.account.id.clone()), reason, raw: raw() });
        for (number, rule) in self.rules.iter().enumerate() {
            let fits = match &rule.when {
                Some(when) => eval.holds(when),
                None => Ok(true),
            };
            match (fits, &rule.action) {
                (Ok(false), _) => {}
                (Ok(true), Action::Ignore) => return None,
                (Ok(true), Action::Take(kind, plan)) => {
                    return match self.envelope(place, kind, plan, &mut eval) {
                        Ok((envelope, fetch)) => {
                            Some(Item::Envelope { envelope: Box::new(envelope), raw: Some(raw()), fetch })
                        }
                        Err(reason) => dead(format!("settings.event[{number}]: {reason}")),
                    };
                }
                (Err(trouble), _) => return dead(format!("settings.event[{number}].when: {trouble}")),
            }
        }
        dead("no event of the settings fits".to_owned())
    }

    fn envelope<'a>(
        &self,
        place: &Place,
        kind: &str,
        plan: &'a TablePlan,
        eval: &mut Eval<'a, '_>,
    ) -> Result<(Envelope, Vec<Fetch>), String> {
        let mut notes = Notes::default();
        let filled = plan.fill("", eval, &mut notes).map_err(|trouble| trouble.to_string())?;
        let Some(mut map) = filled else {
            return Err(format!("{} is not there", notes.missing.as_deref().unwrap_or("everything that it looks for")));
        };
        let fetch = content(&mut map);
        let mut parties: Vec<&mut Value> = Vec::new();
        for (name, value) in &mut map {
            match (name.as_str(), value) {
                ("sender", value) => parties.push(value),
                ("recipients", Value::Array(list)) => parties.extend(list),
                _ => {}
            }
        }
        for party in parties {
            self.identities(place, party);
        }
        let level = if self.open { AuthLevel::Unverified } else { AuthLevel::SignedWebhook };
        map.insert("v".to_owned(), VERSION.into());
        map.insert("kind".to_owned(), kind.into());
        map.insert("tenant".to_owned(), place.tenant.as_str().into());
        map.insert("account".to_owned(), json!(place.account));
        map.insert("received_at".to_owned(), place.at.0.into());
        map.insert("sender_auth".to_owned(), json!({ "level": level, "detail": place.verified_by }));
        let text = serde_json::to_vec(&Value::Object(map)).map_err(|error| error.to_string())?;
        let mut read = serde_json::Deserializer::from_slice(&text);
        // Only the path: what stands there may be content.
        let envelope: Result<Envelope, _> = serde_path_to_error::deserialize(&mut read);
        let mut envelope = envelope.map_err(|error| format!("{}: is not what the contract asks for", error.path()))?;
        if envelope.kind == EnvelopeKind::Echo {
            envelope.direction = Direction::OutEcho;
        }
        if let (EnvelopeKind::Message, Some(window), None) = (&envelope.kind, self.window, &envelope.window) {
            let from = envelope.sent_at.unwrap_or(place.at).min(place.at);
            envelope.window = Some(ReplyWindow { open_until: Some(from + window), ..ReplyWindow::default() });
        }
        if !notes.warnings.is_empty() {
            notes.warnings.truncate(16);
            let name = "webhook".into();
            envelope.adapter = Some(AdapterInfo { name, version: None, warnings: notes.warnings });
        }
        envelope.validate().map_err(|invalid| invalid.to_string())?;
        Ok((envelope, fetch))
    }

    /// Completes the identities of somebody: within which bounds they hold, and how far they are proven.
    fn identities(&self, place: &Place, party: &mut Value) {
        let Some(party) = party.as_object_mut() else { return };
        for (name, value) in party {
            let identities = match (name.as_str(), value) {
                ("identity", Value::Object(identity)) => vec![identity],
                ("aliases", Value::Array(list)) => list.iter_mut().filter_map(Value::as_object_mut).collect(),
                _ => continue,
            };
            for identity in identities {
                let scope = identity.entry("scope").or_insert_with(|| "account".into()).clone();
                if scope == "account" {
                    identity.entry("scope_id").or_insert_with(|| place.account.id.as_str().into());
                }
                // Who sends the request knows its own ids; an address that is good everywhere it may only have been
                // told.
                let own = if self.open || scope == "global" { "claimed" } else { "verified" };
                let assurance = identity.entry("assurance").or_insert_with(|| own.into());
                if self.open {
                    *assurance = "claimed".into();
                }
            }
        }
    }
}

impl Rule {
    fn read(table: Table, common: &toml::Table, open: bool, problems: &mut Problems) -> Option<Self> {
        let (path, mut table) = table.entries();
        if !table.contains_key("ignore") {
            for (name, value) in common {
                table.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        let at = |name: &str| format!("{path}.{name}");
        let when = match table.get("when") {
            None => None,
            Some(toml::Value::String(text)) => Some(SCOPE.condition(&at("when"), text, problems)?),
            Some(_) => {
                problems.push((at("when"), "must be a condition".to_owned()));
                return None;
            }
        };
        if table.get("ignore").is_some() {
            if table.get("ignore") != Some(&toml::Value::Boolean(true)) || table.len() > 2 || when.is_none() {
                let why = "is true, and stands with nothing but when: what fits is of no interest";
                problems.push((at("ignore"), why.to_owned()));
                return None;
            }
            return Some(Self { when, action: Action::Ignore });
        }
        let kind = match table.get("kind") {
            None => Some(&"message"),
            Some(kind) => KINDS.iter().find(|known| kind.as_str() == Some(**known)),
        };
        let Some(kind) = kind else {
            problems.push((at("kind"), format!("must be one of: {}", KINDS.join(", "))));
            return None;
        };
        if open && claims_proof(&table) {
            let why = "nobody is verified where everybody may write: take assurance = \"verified\" out";
            problems.push((path.clone(), why.to_owned()));
        }
        let needed: &[&str] = match *kind {
            "message" | "echo" => &[],
            "edit" | "delete" => &["target"],
            "reaction" => &["reaction", "target"],
            "receipt" => &["receipt"],
            "call" => &["call"],
            _ => &["signal"],
        };
        for name in needed.iter().filter(|name| !table.contains_key(**name)) {
            problems.push((at(name), format!("is missing: an event of kind {kind} needs it")));
        }
        if *kind == "message" && !table.contains_key("text") && !table.contains_key("content") {
            problems.push((at("text"), "is missing: a message needs text or content".to_owned()));
        }
        let plan = TablePlan::read(&path, &table, &ENVELOPE, SCOPE, &["when", "kind"], problems)?;
        Some(Self { when, action: Action::Take(kind, Box::new(plan)) })
    }
}

fn claims_proof(table: &toml::Table) -> bool {
    table.iter().any(|(name, value)| match value {
        toml::Value::String(text) => name == "assurance" && text != "claimed",
        toml::Value::Table(table) => claims_proof(table),
        toml::Value::Array(list) => list.iter().filter_map(toml::Value::as_table).any(claims_proof),
        _ => false,
    })
}

/// Puts the text first among the parts, and takes the addresses of media out of them: they are fetched.
fn content(map: &mut Map<String, Value>) -> Vec<Fetch> {
    let mut parts = Vec::new();
    if let Some(text) = map.remove("text") {
        parts.push(json!({ "type": "text", "body": text }));
    }
    if let Some(Value::Array(list)) = map.remove("content") {
        parts.extend(list);
    }
    let mut fetch = Vec::new();
    for (at, part) in parts.iter_mut().enumerate() {
        let Some(part) = part.as_object_mut().filter(|part| part.get("type") == Some(&"media".into())) else {
            continue;
        };
        let url = part.remove("url");
        let url = url.as_ref().and_then(Value::as_str).unwrap_or_default();
        let mime = part.get("mime").and_then(Value::as_str);
        let of_mime =
            mime.and_then(|mime| mime.split('/').next()).filter(|kind| ["image", "audio", "video"].contains(kind));
        let kind = of_mime.unwrap_or("file").to_owned();
        part.entry("kind").or_insert_with(|| kind.into());
        if url.starts_with("https://") || url.starts_with("http://") {
            part.insert("status".to_owned(), json!(MediaStatus::Pending));
            fetch.push(Fetch { part: at, source: json!({ "url": url }) });
        } else {
            part.insert("status".to_owned(), json!(MediaStatus::Unavailable));
            part.insert("reason".to_owned(), "its address is none that can be fetched".into());
        }
    }
    if !parts.is_empty() {
        map.insert("content".to_owned(), Value::Array(parts));
    }
    fetch
}
