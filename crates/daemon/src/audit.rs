//! `throughline audit`: what operators did.

use contract::event::decode_events;
use contract::{Event, EventRecord, SmolStr, Timestamp, subject};

use crate::Failure;
use crate::ask::Operator;
use crate::output::{say, table};

/// The newest, oldest first.
pub(crate) async fn list(operator: &Operator, limit: usize) -> Result<(), Failure> {
    let filter = subject::event(&operator.tenant, "operator", None);
    // A message holds one of them or several, so this is enough.
    let stored = operator.bus.collect("EVENTS", &filter, Some(limit)).await?;
    let mut records: Vec<EventRecord> = Vec::new();
    for message in &stored {
        let content_type = message.headers.get(contract::codec::CONTENT_TYPE);
        records.extend(decode_events(&message.payload, content_type)?.into_iter().flatten());
    }
    let newest = records.split_off(records.len().saturating_sub(limit));
    if operator.json {
        say(&serde_json::to_string_pretty(&newest)?);
    } else if newest.is_empty() {
        say("no commands of operators are recorded");
    } else {
        say(&table(&["at (UTC)", "who", "what", "about", "result", "entry"], newest.iter().filter_map(row)));
    }
    Ok(())
}

fn row(record: &EventRecord) -> Option<Vec<String>> {
    let Event::OperatorCommanded { operator, verb, conversation, customer, agent, queue, refused, .. } = &*record.event
    else {
        return None;
    };
    let about = [
        conversation.map(|id| id.to_string()),
        customer.map(|id| id.to_string()),
        agent.as_ref().map(|id| format!("agent {id}")),
        queue.as_ref().map(|id| format!("queue {id}")),
    ];
    let about: Vec<String> = about.into_iter().flatten().collect();
    Some(vec![
        date(record.at),
        operator.as_ref().map_or("-", SmolStr::as_str).to_owned(),
        verb.to_string(),
        about.join(", "),
        refused.as_ref().map_or_else(|| "done".to_owned(), |kind| format!("refused: {kind}")),
        record.position.to_string(),
    ])
}

fn date(at: Timestamp) -> String {
    let seconds = i64::try_from(at.0 / 1000).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
    seconds.map_or_else(|| at.0.to_string(), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string())
}
