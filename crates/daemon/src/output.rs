//! What a person or a program reads on standard output and standard error: the one place that prints.

use std::io::Write;

use contract::answer::{CustomerView, Suggestion};
use contract::envelope::Part;
use contract::event::{Decision, Exclusion};
use contract::feed::ConversationView;
use contract::{Event, EventRecord, Timestamp};
use router::{AdminAnswer, ConversationDetail, CustomerDetail, StatusView};

/// Prints a line to standard output. A reader that went away is no error.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// Prints a problem to standard error.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "throughline: {line}");
}

/// Renders an answer for a person.
pub(crate) fn render(answer: &AdminAnswer, now: Timestamp) -> String {
    match answer {
        AdminAnswer::Status(status) => render_status(status, now),
        AdminAnswer::Conversations(views) if views.is_empty() => "no open conversations".to_owned(),
        AdminAnswer::Conversations(views) => {
            let rows = views.iter().map(|view| conversation_row(view, now));
            table(&["id", "customer", "state", "queue", "agent", "by", "age"], rows)
        }
        AdminAnswer::Agents(agents) => {
            let rows = agents.iter().map(|agent| {
                let held: Vec<String> = agent.conversations.iter().map(ToString::to_string).collect();
                let connected = if agent.connected { "yes" } else { "no" };
                let load = format!("{}/{}", agent.load, agent.capacity);
                vec![agent.agent.to_string(), agent.presence.to_string(), connected.to_owned(), load, held.join(" ")]
            });
            table(&["agent", "presence", "connected", "load", "holds"], rows)
        }
        AdminAnswer::Conversation(detail) => render_conversation(detail, now),
        AdminAnswer::Customer(detail) => render_customer(detail, now),
        AdminAnswer::Customers(views) if views.is_empty() => "nobody has it".to_owned(),
        AdminAnswer::Customers(views) => {
            let view = |view: &CustomerView| {
                let name = view.display.as_deref().unwrap_or("(no name)");
                let head = format!("{} {name}, known for {}", view.customer, span(now, view.created_at));
                std::iter::once(head).chain(about(view, now)).collect::<Vec<_>>().join("\n")
            };
            views.iter().map(view).collect::<Vec<_>>().join("\n")
        }
        AdminAnswer::Suggestions(all) if all.is_empty() => "nothing is suggested".to_owned(),
        AdminAnswer::Suggestions(all) => {
            all.iter().map(|suggestion| render_suggestion(suggestion, now)).collect::<Vec<_>>().join("\n")
        }
        AdminAnswer::Shadow(None) => "no policy runs beside the one in force".to_owned(),
        AdminAnswer::Shadow(Some(report)) => render_shadow(report, now),
    }
}

fn render_shadow(report: &contract::answer::ShadowReport, now: Timestamp) -> String {
    let mut lines = vec![
        format!("beside the policy in force for {}", span(now, report.since)),
        format!(
            "routed  {}: {} into another queue, {} with another priority, {} asking for something else",
            report.routed, report.other_queue, report.other_priority, report.other_requirement
        ),
        format!("offers  {}: {} to another agent, {} to nobody", report.offers, report.other_agent, report.nobody),
    ];
    if !report.examples.is_empty() {
        lines.push(String::new());
        let rows = report.examples.iter().map(|example| {
            let shadow = if example.shadow.is_empty() { "nobody".into() } else { example.shadow.to_string() };
            vec![example.conversation.to_string(), example.what.to_string(), example.live.to_string(), shadow]
        });
        lines.push(table(&["id", "differs in", "in force", "beside"], rows));
    }
    lines.join("\n")
}

fn render_status(status: &StatusView, now: Timestamp) -> String {
    let mut lines = Vec::new();
    let counts = &status.counts;
    let by = |counts: &std::collections::BTreeMap<contract::SmolStr, u64>| {
        let parts: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
        if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
    };
    lines.push(format!("conversations  {}", by(&counts.conversations)));
    lines.push(format!("agents         {}", by(&counts.agents)));
    lines.push(format!("customers      {}", status.customers));
    for (queue, count) in &counts.waiting {
        let oldest = counts.oldest_ready_at.get(queue).map(|at| span(now, *at)).unwrap_or_default();
        lines.push(format!("queue          {queue}: {count} wait, the longest for {oldest}"));
    }
    let shard = &status.shard;
    lines.push(format!("policy         version {}", counts.policy_version));
    lines.push(format!("shard          {} led by {} in epoch {}", shard.shard, shard.owner, shard.epoch));
    lines.push(format!(
        "journal        record {}, outputs through {}, key-value side through {}, input through {}",
        shard.seq, shard.outputs_done, shard.kv_done, shard.cursor
    ));
    if let Some(digest) = &status.digest {
        lines.push(format!("state          sha256 {digest}"));
    }
    lines.join("\n")
}

fn conversation_row(view: &ConversationView, now: Timestamp) -> Vec<String> {
    let dash = || "-".to_owned();
    vec![
        view.conversation.to_string(),
        view.customer_name
            .as_ref()
            .map_or_else(|| view.customer.to_string(), |name| format!("{} {name}", view.customer)),
        view.state.to_string(),
        view.queue.as_ref().map_or_else(dash, ToString::to_string),
        view.agent.as_ref().map_or_else(dash, ToString::to_string),
        view.threads.last().map_or_else(dash, |thread| thread.account.kind.to_string()),
        span(now, view.opened_at),
    ]
}

fn render_conversation(detail: &ConversationDetail, now: Timestamp) -> String {
    let mut lines = Vec::new();
    if let Some(view) = &detail.conversation {
        let rows = std::iter::once(conversation_row(view, now));
        lines.push(table(&["id", "customer", "state", "queue", "agent", "by", "age"], rows));
    }
    if let Some(explanation) = &detail.explanation {
        lines.push(String::new());
        lines.push(explanation.summary.to_string());
        if let Some(position) = explanation.position {
            lines.push(format!("waiting for {}, {position} before it", milliseconds(explanation.waiting_ms.0)));
            if explanation.steps > 1 {
                let ends =
                    explanation.step_ends_at.map(|at| format!(", for another {}", span(at, now))).unwrap_or_default();
                lines.push(format!("step {} of {} of what it asks for{ends}", explanation.step + 1, explanation.steps));
            }
            lines.push(expected(&explanation.expected_wait));
            lines.extend(decision(&explanation.now));
        }
    }
    if !detail.facts.is_empty() {
        lines.push(String::new());
        for record in &detail.facts {
            lines.push(fact(record));
            if let Event::OfferCreated { decision: made, .. } = &*record.event {
                lines.extend(decision(made));
            }
        }
    }
    lines.join("\n")
}

/// How long it will go on waiting; what is not known is said to be unknown.
fn expected(wait: &contract::answer::ExpectedWait) -> String {
    let known = |wait: Option<contract::Millis>| wait.map_or_else(|| "unknown".to_owned(), |ms| milliseconds(ms.0));
    let observed = match (wait.p50_ms, wait.p90_ms) {
        (Some(p50), Some(p90)) => {
            format!("; lately half waited at most {}, nine of ten {}", milliseconds(p50.0), milliseconds(p90.0))
        }
        _ => String::new(),
    };
    format!("expected wait: {}{observed}", known(wait.reckoned_ms))
}

/// What is known of a customer, without what happened.
fn about(customer: &CustomerView, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(into) = customer.merged_into {
        lines.push(format!("  goes under {into} (`throughline customer split {}` gives it back)", customer.customer));
    }
    for held in &customer.identities {
        let assurance = match held.assurance {
            contract::envelope::Assurance::Verified => "verified",
            contract::envelope::Assurance::Claimed => "claimed",
        };
        let source = held.source.as_ref().map(|source| format!(" by {source}")).unwrap_or_default();
        let of = held.of.map(|of| format!(", of {of}")).unwrap_or_default();
        let seen = held.seen_at.map(|seen| format!(", seen {} ago", span(now, seen))).unwrap_or_default();
        let identity = &held.identity;
        lines.push(format!("  {} {} ({assurance}{source}{of}{seen})", identity.scheme, identity.value));
    }
    if !customer.merged.is_empty() {
        let merged: Vec<String> = customer.merged.iter().map(ToString::to_string).collect();
        lines.push(format!("  merged into it: {}", merged.join(", ")));
    }
    lines.extend(customer.language.as_ref().map(|language| format!("  language: {language}")));
    if !customer.segments.is_empty() {
        let segments: Vec<&str> = customer.segments.iter().map(contract::SmolStr::as_str).collect();
        lines.push(format!("  segments: {}", segments.join(", ")));
    }
    lines.extend(customer.attributes.iter().map(|(name, value)| format!("  {name}: {value}")));
    lines.extend(customer.promised.as_ref().map(|promised| format!("  promised: {promised}")));
    for consent in &customer.consents {
        let word = if consent.granted { "may be written to" } else { "is not to be written to" };
        let by = match (&consent.channel, &consent.provider) {
            (Some(kind), Some(provider)) => format!("by {provider} ({kind})"),
            (Some(kind), None) => format!("by {kind}"),
            (None, _) => "by any channel".to_owned(),
        };
        let purpose = consent.purpose.as_deref().unwrap_or("anything");
        lines.push(format!("  {word} {by} for {purpose}"));
    }
    lines
}

/// Two customers that may be one.
fn render_suggestion(suggestion: &Suggestion, now: Timestamp) -> String {
    let name = |view: &CustomerView| format!("{} {}", view.customer, view.display.as_deref().unwrap_or("(no name)"));
    let why = match suggestion.reason.as_str() {
        "claimed" => "one of them only claims it".to_owned(),
        "over_limit" => "together they would have more of a kind than the policy allows".to_owned(),
        "thread" => "wrote on the other's thread from another address".to_owned(),
        other => other.to_owned(),
    };
    let (one, other) = (suggestion.customer.customer, suggestion.with.customer);
    format!(
        "{} and {}: both have {} {}; {why} ({} ago)\n  throughline customer merge {one} {other}\n  throughline customer dismiss {one} {other}",
        name(&suggestion.customer),
        name(&suggestion.with),
        suggestion.identity.scheme,
        suggestion.identity.value,
        span(now, suggestion.since),
    )
}

fn render_customer(detail: &CustomerDetail, now: Timestamp) -> String {
    let customer = &detail.customer;
    let name = customer.display.as_deref().unwrap_or("(no name)");
    let mut lines = vec![format!("{} {name}, known for {}", customer.customer, span(now, customer.created_at))];
    lines.extend(about(customer, now));
    if let Some(open) = &detail.open {
        lines.push(format!("  open: {} ({})", open.conversation, open.state));
    }
    lines.push(String::new());
    lines.extend(detail.facts.iter().map(fact));
    lines.join("\n")
}

/// Why an agent was chosen, and why others were not.
fn decision(decision: &Decision) -> Vec<String> {
    let mut lines = Vec::new();
    for (at, candidate) in decision.eligible.iter().enumerate() {
        let mark = if at == 0 && !decision.tie_break.is_empty() {
            let why = desk::words::tie_break(decision).map(|why| format!(": {why}")).unwrap_or_default();
            format!("chosen by {}{why}", decision.tie_break)
        } else {
            "eligible".to_owned()
        };
        let mut scores = vec![format!("load {} of {}", candidate.load, candidate.capacity)];
        scores.extend((candidate.affinity > 0).then(|| "knows the customer".to_owned()));
        scores.extend((1..u32::from(u8::MAX)).contains(&candidate.tier).then(|| format!("tier {}", candidate.tier)));
        scores.extend((candidate.preferred > 0).then(|| format!("preferred {}", candidate.preferred)));
        scores.extend(
            (candidate.skill_milli > 0)
                .then(|| format!("skill {}.{:03}", candidate.skill_milli / 1000, candidate.skill_milli % 1000)),
        );
        lines.push(format!("    {}: {mark}; {}", candidate.agent, scores.join(", ")));
    }
    for excluded in &decision.excluded {
        lines.push(format!("    {}: {}", excluded.agent, exclusion(&excluded.because)));
    }
    if decision.unlisted > 0 {
        lines.push(format!("    and {} others", decision.unlisted));
    }
    lines
}

fn exclusion(because: &Exclusion) -> String {
    format!("left out, {}", desk::words::exclusion(because))
}

/// One fact in a line. Messages are shown with their text: who asks for a transcript gets it.
pub(crate) fn fact(record: &EventRecord) -> String {
    format!("{}  {}", clock(record.at), describe(record))
}

/// What a fact says, without its time.
pub(crate) fn describe(record: &EventRecord) -> String {
    let name = record.event.name();
    match &*record.event {
        Event::MessageReceived { message, envelope, .. } => {
            let who = envelope.sender.display.as_deref().unwrap_or("customer");
            format!("{name} {message} {who} by {}: {}", envelope.account.kind, text(&envelope.content))
        }
        Event::MessageSent { message, agent, thread, content, .. } => {
            format!("{name} {message} {agent} by {}: {}", thread.account.kind, text(content))
        }
        Event::MessageStatusChanged { messages, status, .. } => {
            let messages: Vec<String> = messages.iter().map(ToString::to_string).collect();
            format!("{name} {} {status}", messages.join(" "))
        }
        Event::ConversationEnqueued { queue, reason, priority, requirement, .. } => {
            let steps: Vec<String> = requirement.steps.iter().map(policy::words::step).collect();
            format!("{name} in {queue} ({reason}), priority {priority}, asks for {}", steps.join("; then "))
        }
        Event::OfferCreated { offer, agent, .. } => format!("{name} {offer} to {agent}"),
        Event::OfferAccepted { offer, agent, .. } | Event::OfferExpired { offer, agent, .. } => {
            format!("{name} {offer} {agent}")
        }
        Event::OfferDeclined { offer, agent, reason, .. } => {
            format!("{name} {offer} {agent} {}", reason.as_deref().unwrap_or(""))
        }
        Event::OfferRescinded { offer, agent, reason, .. } => format!("{name} {offer} {agent} ({reason})"),
        Event::ConversationAssigned { agent, forced_by, .. } => {
            let forced = forced_by.as_deref().map(|by| format!(", forced by {by}")).unwrap_or_default();
            format!("{name} to {agent}{forced}")
        }
        Event::ConversationTransferred { by, to_queue, to_agent, note, .. } => {
            let to = to_agent.as_ref().map_or_else(|| to_queue.to_string(), ToString::to_string);
            format!("{name} by {by} to {to}{}", note.as_deref().map(|note| format!(": {note}")).unwrap_or_default())
        }
        Event::ConversationClosed { by, reason, disposition, .. } => {
            let by = by.as_ref().map_or_else(|| reason.as_deref().unwrap_or("time").to_owned(), ToString::to_string);
            format!("{name} by {by}{}", disposition.as_deref().map(|code| format!(", {code}")).unwrap_or_default())
        }
        Event::NoteAdded { agent, text, .. } => format!("{name} {agent}: {text}"),
        Event::CustomerIdentityLinked { identity, .. }
        | Event::CustomerIdentityUnlinked { identity, .. }
        | Event::CustomerIdentityVerified { identity, .. } => {
            format!("{name} {} {}", identity.scheme, identity.value)
        }
        Event::CustomerMerged { customer, from, by, .. } => format!("{name} {from} into {customer} by {by}"),
        Event::CustomerSplit { customer, from, by } => format!("{name} {customer} from {from} by {by}"),
        Event::CustomerMatchSuggested { customer, with, identity, reason } => {
            format!("{name} {customer} and {with}: {} {} ({reason})", identity.scheme, identity.value)
        }
        Event::MessageMirrored { message, thread, by, .. } => {
            format!("{name} {message} of {by} on {} too", thread.account.kind)
        }
        Event::ConversationSwitchOffered { identity, thread, .. } => {
            format!("{name} to {} {}", thread.account.kind, identity.value)
        }
        Event::MessageNotified { message, thread, content, .. } => {
            format!("{name} {message} by {}: {}", thread.account.kind, text(content))
        }
        Event::AgentPresenceChanged { agent, presence, .. } => format!("{name} {agent} {presence}"),
        event if event.conversation().is_some() => format!("{name}: {}", desk::words::fact(event)),
        event => match event.agent() {
            Some(agent) => format!("{name} {agent}"),
            None => name.to_owned(),
        },
    }
}

/// The text of a message, and a word for everything else in it.
pub(crate) fn text(content: &[Part]) -> String {
    let parts: Vec<String> = content
        .iter()
        .map(|part| match part {
            Part::Text(text) => text.visible.clone().unwrap_or_else(|| text.body.clone()),
            Part::Media(media) => format!("[{}]", media.kind),
            Part::System { body } => format!("[{body}]"),
            Part::Choice(choice) => choice.title.clone(),
            _ => "[…]".to_owned(),
        })
        .collect();
    // A terminal is told nothing by a customer but text.
    parts.join(" ").chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// The time of day, UTC.
pub(crate) fn clock(at: Timestamp) -> String {
    let seconds = at.0 / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}.{:03}", seconds / 3600, seconds / 60 % 60, seconds % 60, at.0 % 1000)
}

/// How long ago.
pub(crate) fn span(now: Timestamp, since: Timestamp) -> String {
    milliseconds(now.since(since).0)
}

pub(crate) fn milliseconds(ms: u64) -> String {
    match ms / 1000 {
        0 => format!("{ms} ms"),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// Columns as wide as what is in them.
pub(crate) fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let head: Vec<String> = head.iter().map(|word| (*word).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_get_no_control_characters() {
        assert_eq!(text(&[Part::text("hi\u{1b}[2Jthere\nyou")]), "hi\u{fffd}[2Jthere\nyou");
    }

    #[test]
    fn tables_line_up() {
        let rows = [vec!["c1".to_owned(), "waiting".to_owned()], vec!["c100".to_owned(), "x".to_owned()]];
        assert_eq!(table(&["id", "state"], rows.into_iter()), "id    state\nc1    waiting\nc100  x");
    }
}
