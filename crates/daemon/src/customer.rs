//! `throughline customer …`.

use std::collections::BTreeSet;

use bus::topology;
use contract::codec::CONTENT_TYPE;
use contract::command::AdminCommand;
use contract::envelope::{Identity, Part, Scope};
use contract::event::{Consent, ProfileChange, decode_events};
use contract::{CustomerId, Event, SmolStr, subject};
use router::AdminAnswer;

use crate::Failure;
use crate::ask;
use crate::cli::CustomerCommand;
use crate::output::say;
use crate::settings::Loaded;

/// An address as somebody types it: mail addresses and numbers are the same everywhere, and of the rest that is how
/// they are looked for.
fn identity(scheme: SmolStr, value: SmolStr) -> Identity {
    Identity { scheme, value, scope: Scope::Global, scope_id: None, raw: None, assurance: None }
}

/// Largest attachment that is exported.
const ATTACHMENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Writes one file of an archive.
fn put(archive: &mut tar::Builder<std::fs::File>, path: &str, bytes: &[u8]) -> Result<(), Failure> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    header.set_mtime(runtime::clock::now() / 1000);
    header.set_cksum();
    archive.append_data(&mut header, path, bytes)?;
    Ok(())
}

/// Everything that is stored of a customer: `customer.json` (who it is), `facts.jsonl` (what happened, one fact a
/// line, over everybody who is one person), and each attachment under its key.
async fn export(loaded: Loaded, customer: CustomerId, to: &std::path::Path) -> Result<(), Failure> {
    let operator = ask::Operator::connect(loaded, false).await?;
    let AdminAnswer::Customer(detail) = operator.ask(&AdminCommand::CustomerShow { customer }).await? else {
        return Err(Failure::Other("the answer is of another kind".to_owned()));
    };
    let mut archive = tar::Builder::new(std::fs::OpenOptions::new().write(true).create_new(true).open(to)?);
    put(&mut archive, "customer.json", &serde_json::to_vec_pretty(&detail.customer)?)?;
    let members = std::iter::once(customer).chain(detail.customer.merged.iter().copied());
    let (mut facts, mut attachments) = (Vec::new(), BTreeSet::new());
    for member in members {
        let filter = subject::event_customer(&operator.tenant, member);
        for stored in operator.bus.collect(topology::EVENTS, &filter, None).await? {
            let records = decode_events(&stored.payload, stored.headers.get(CONTENT_TYPE)).unwrap_or_default();
            for record in records.into_iter().flatten() {
                attachments.extend(objects_of(&record.event));
                facts.push(record);
            }
        }
    }
    facts.sort_by_key(|record| record.position);
    let lines: Result<Vec<String>, _> = facts.iter().map(serde_json::to_string).collect();
    put(&mut archive, "facts.jsonl", (lines?.join("\n") + "\n").as_bytes())?;
    let objects = operator.bus.objects(topology::MEDIA).await?;
    let mut missing = 0;
    for key in &attachments {
        match objects.get(key, ATTACHMENT_BYTES_MAX).await {
            Ok(Some(bytes)) => put(&mut archive, &format!("attachments/{key}"), &bytes)?,
            Ok(None) | Err(_) => missing += 1,
        }
    }
    archive.into_inner()?.sync_all()?;
    let left = if missing > 0 { format!(", {missing} are no longer there") } else { String::new() };
    say(&format!("wrote {}: {} facts, {} attachments{left}", to.display(), facts.len(), attachments.len() - missing));
    Ok(())
}

/// The attachments of a fact, by their keys.
fn objects_of(event: &Event) -> Vec<SmolStr> {
    let media = |parts: &[Part]| -> Vec<SmolStr> {
        let keys = parts.iter().filter_map(|part| match part {
            Part::Media(media) => media.store_key.clone(),
            _ => None,
        });
        keys.collect()
    };
    match event {
        Event::MessageReceived { envelope, .. } | Event::MessageAmended { envelope, .. } => {
            let mut keys = media(&envelope.content);
            keys.extend(envelope.raw_ref.as_ref().map(|raw| raw.store_key.clone()));
            keys
        }
        Event::MessageSent { content, .. } => media(content),
        _ => Vec::new(),
    }
}

/// Asks the router, or tells it.
pub(crate) async fn run(loaded: Loaded, json: bool, command: CustomerCommand) -> Result<(), Failure> {
    let command = match command {
        CustomerCommand::Show { customer } => {
            return ask::show(loaded, json, AdminCommand::CustomerShow { customer }).await;
        }
        CustomerCommand::Find { scheme, value } => {
            let identity = identity(scheme, value);
            return ask::show(loaded, json, AdminCommand::CustomerFind { identity }).await;
        }
        CustomerCommand::Suggestions { limit } => {
            return ask::show(loaded, json, AdminCommand::CustomerSuggestions { limit: Some(limit) }).await;
        }
        CustomerCommand::Link { customer, scheme, value } => {
            AdminCommand::CustomerLink { customer, identity: identity(scheme, value) }
        }
        CustomerCommand::Unlink { customer, scheme, value } => {
            AdminCommand::CustomerUnlink { customer, identity: identity(scheme, value) }
        }
        CustomerCommand::Merge { customer, with } => AdminCommand::CustomerMerge { customer, with },
        CustomerCommand::Split { customer } => AdminCommand::CustomerSplit { customer },
        CustomerCommand::Dismiss { customer, with } => AdminCommand::CustomerDismiss { customer, with },
        CustomerCommand::Set { customer, attributes, language, name, segment, no_segment, promised } => {
            let attributes = attributes.iter().map(|text| match text.split_once('=') {
                Some((name, value)) if !value.is_empty() => (SmolStr::from(name), Some(SmolStr::from(value))),
                Some((name, _)) => (SmolStr::from(name), None),
                None => (SmolStr::from(text.as_str()), None),
            });
            let change = ProfileChange {
                display: name,
                language,
                attributes: attributes.collect(),
                segments_added: segment.into_iter().collect(),
                segments_removed: no_segment.into_iter().collect(),
                promised,
            };
            AdminCommand::CustomerUpdate { customer, change }
        }
        CustomerCommand::Export { customer, to } => return export(loaded, customer, &to).await,
        CustomerCommand::Erase { customer, yes } => {
            if !yes {
                let message =
                    format!("{customer} would be forgotten for good; `--yes` does it, `customer export` keeps a copy");
                return Err(Failure::Other(message));
            }
            AdminCommand::CustomerErase { customer }
        }
        CustomerCommand::Consent { customer, granted, channel, provider, purpose } => {
            let consent = Consent { channel, provider, purpose, granted: granted == "yes" };
            AdminCommand::CustomerConsent { customer, consent }
        }
    };
    ask::change(loaded, json, command).await
}
