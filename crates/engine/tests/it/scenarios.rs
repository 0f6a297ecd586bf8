//! Transcripts in `tests/scenarios/*.txt`: a script, a line of dashes, and what came of it. `UPDATE=1`
//! writes the second part anew; read the difference before you keep it.
//!
//! A line of a script is a comment after `#`, or one of
//!
//! ```text
//! policy                           the indented TOML that follows comes into force
//! at 90s                           time passes; whatever is due on the way happens when it is due
//! jump 90s                         the clock says so, forwards or back; nothing happens by itself
//! tick                             what is due by the clock happens now
//! message ann chat "hello"         also: language=de tag=vip id=x (the provider's id)
//! edit ann chat                    also: reaction, echo, contact_event, …
//! receipt ann chat read m2         also: through 3 (thread_seq), id p7 (the provider's), until 5s (watermark)
//! anna available                   busy, away, offline
//! anna accepts o1                  declines o1; any command may end in: as k1 (the client's id)
//! anna says c1 "good day"          notes c1 "…"
//! anna transfers c1 to queue sales    to agent ben
//! anna parks c1 until 90s          or without until; resumes c1
//! anna closes c1 solved            or without disposition; completes c1 (the wrap-up)
//! anna silent                      heard
//! explain c1
//! snapshot                         from here on, a state read back from a snapshot goes along
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use contract::command::AgentCommand;
use contract::envelope::{Envelope, EnvelopeKind, Receipt, ReceiptStatus};
use contract::event::{Decision, Exclusion, Presence, Requirement};
use contract::{CustomerId, Event, Millis, SmolStr, Timestamp};
use throughline_engine::Step;

use crate::fixture;
use crate::world::{Outcome, World};

#[test]
fn scenarios_come_out_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 20, "scenarios are missing from {}", folder.display());
    let update = std::env::var_os("UPDATE").is_some();
    let mut differing = String::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let (script, expected) = text.split_once("\n---\n").unwrap_or((text.trim_end(), ""));
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let actual = Play::new(&name).run(script);
        if actual == expected {
            continue;
        }
        if update {
            std::fs::write(&file, format!("{script}\n---\n{actual}")).unwrap();
        } else {
            let (mut was, mut is) = (expected.lines(), actual.lines());
            let (was, is) = std::iter::repeat_with(|| (was.next(), is.next())).find(|(was, is)| was != is).unwrap();
            writeln!(differing, "{name}:\n  written: {}\n  now:     {}", was.unwrap_or(""), is.unwrap_or("")).unwrap();
        }
    }
    assert!(differing.is_empty(), "{differing}UPDATE=1 writes them anew");
}

struct Play {
    name: String,
    line: usize,
    world: World,
    start: Timestamp,
    customers: Vec<String>,
    envelopes: u64,
    out: String,
}

impl Play {
    fn new(name: &str) -> Self {
        let world = World::new();
        let start = world.clock;
        Self { name: name.to_owned(), line: 0, world, start, customers: Vec::new(), envelopes: 0, out: String::new() }
    }

    fn run(mut self, script: &str) -> String {
        let mut lines = script.lines().enumerate().peekable();
        while let Some((number, line)) = lines.next() {
            self.line = number + 1;
            let line = line.split(" #").next().unwrap_or_default().trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line == "policy" {
                let mut toml = String::new();
                while let Some((_, line)) = lines.next_if(|(_, line)| line.is_empty() || line.starts_with(' ')) {
                    toml.push_str(line);
                    toml.push('\n');
                }
                self.heading(line);
                let outcome = self.world.policy(fixture::policy(&toml));
                self.outcome(outcome);
            } else {
                self.input(line, &words(line));
            }
        }
        self.out
    }

    fn fail<T>(&self, what: &str) -> T {
        panic!("{}.txt:{}: {what}", self.name, self.line)
    }

    fn input(&mut self, line: &str, words: &[String]) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["at", time] => self.pass(self.start + self.span(time)),
            ["jump", time] => self.world.clock = self.start + self.span(time),
            ["snapshot"] => {
                self.heading(line);
                self.world.snapshot();
            }
            ["tick"] => {
                self.heading(line);
                match self.world.tick() {
                    Some(step) => self.facts(&step),
                    None => self.say("nothing is due"),
                }
            }
            ["explain", conversation] => {
                self.heading(line);
                self.explain(conversation);
            }
            ["message", customer, channel, text, more @ ..] => {
                self.heading(line);
                let envelope = fixture::message(customer, channel, &self.key(), text, self.world.clock);
                self.envelope(customer, self.with(envelope, more));
            }
            ["receipt", customer, channel, status, named @ ..] => {
                self.heading(line);
                let receipt = self.receipt(status, named);
                let envelope = fixture::receipt(receipt, customer, channel, &self.key(), self.world.clock);
                self.envelope(customer, envelope);
            }
            [kind @ ("edit" | "delete" | "reaction" | "echo" | "contact_event"), customer, channel, more @ ..] => {
                self.heading(line);
                let kind = EnvelopeKind::from(SmolStr::new(kind));
                let envelope = fixture::other(kind, customer, channel, &self.key(), self.world.clock);
                self.envelope(customer, self.with(envelope, more));
            }
            [agent, "silent"] => {
                self.heading(line);
                let step = self.world.silent(&fixture::agent(agent));
                self.facts(&step);
            }
            [agent, "heard"] => {
                self.heading(line);
                let step = self.world.heard(&fixture::agent(agent));
                self.facts(&step);
            }
            [agent, command @ .., "as", id] => {
                self.heading(line);
                let command = self.command(command);
                let outcome = self.world.command_as(&fixture::agent(agent), SmolStr::new(id), command);
                self.outcome(outcome);
            }
            [agent, command @ ..] => {
                self.heading(line);
                let command = self.command(command);
                let outcome = self.world.command(&fixture::agent(agent), command);
                self.outcome(outcome);
            }
            [] => {}
        }
    }

    fn command(&self, words: &[&str]) -> AgentCommand {
        let reason = None;
        match words {
            [presence @ ("available" | "busy" | "away" | "offline")] => {
                AgentCommand::PresenceSet { presence: Presence::from(SmolStr::new(presence)), reason }
            }
            ["accepts", offer] => AgentCommand::OfferAccept { offer: self.id(offer) },
            ["declines", offer] => AgentCommand::OfferDecline { offer: self.id(offer), reason },
            ["says", conversation, text] => AgentCommand::MessageSend {
                conversation: self.id(conversation),
                content: vec![fixture::said(text)],
                reply_to: None,
            },
            ["notes", conversation, text] => {
                AgentCommand::NoteAdd { conversation: self.id(conversation), text: (*text).to_owned() }
            }
            ["transfers", conversation, "to", to @ ("queue" | "agent"), whom] => AgentCommand::ConversationTransfer {
                conversation: self.id(conversation),
                to_queue: (*to == "queue").then(|| fixture::queue(whom)),
                to_agent: (*to == "agent").then(|| fixture::agent(whom)),
                note: None,
            },
            ["parks", conversation] => {
                AgentCommand::ConversationPark { conversation: self.id(conversation), until: None, reason }
            }
            ["parks", conversation, "until", time] => {
                let until = Some(self.start + self.span(time));
                AgentCommand::ConversationPark { conversation: self.id(conversation), until, reason }
            }
            ["resumes", conversation] => AgentCommand::ConversationResume { conversation: self.id(conversation) },
            ["closes", conversation, with @ ..] => AgentCommand::ConversationClose {
                conversation: self.id(conversation),
                disposition: with.first().map(SmolStr::new),
            },
            ["completes", conversation, with @ ..] => AgentCommand::WrapUpComplete {
                conversation: self.id(conversation),
                disposition: with.first().map(SmolStr::new),
            },
            _ => self.fail("is no command"),
        }
    }

    fn with(&self, mut envelope: Envelope, more: &[&str]) -> Envelope {
        for word in more {
            match word.split_once('=') {
                Some(("language", language)) => envelope.language = Some(SmolStr::new(language)),
                Some(("tag", tag)) => envelope.tags.push(SmolStr::new(tag)),
                Some(("id", id)) => envelope.dedup_key = SmolStr::new(id),
                _ => self.fail("language=, tag= or id="),
            }
        }
        envelope
    }

    fn receipt(&self, status: &str, named: &[&str]) -> Receipt {
        let mut receipt: Receipt = serde_json::from_value(serde_json::json!({ "status": status })).unwrap();
        assert!(!matches!(receipt.status, ReceiptStatus::Other(_)), "{status}");
        match named {
            ["through", seq] => receipt.through_seq = Some(seq.parse().unwrap()),
            ["until", time] => receipt.watermark = Some(self.start + self.span(time)),
            ["id", id] => receipt.targets = vec![SmolStr::new(id)],
            [message] => receipt.command_id = Some(format!("main/{message}").into()),
            [message, id] => {
                receipt.command_id = Some(format!("main/{message}").into());
                receipt.targets = vec![SmolStr::new(id)];
            }
            _ => self.fail("which messages?"),
        }
        receipt
    }

    fn key(&mut self) -> String {
        self.envelopes += 1;
        format!("key-{}", self.envelopes)
    }

    fn id<T: std::str::FromStr>(&self, word: &str) -> T {
        word.parse().unwrap_or_else(|_| self.fail("is no id"))
    }

    fn span(&self, word: &str) -> Millis {
        let (digits, unit) = word.split_at(word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len()));
        let unit = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 24 * 3_600_000,
            _ => self.fail("ms, s, m, h or d"),
        };
        Millis(digits.parse::<u64>().unwrap() * unit)
    }

    /// Time passes, as for a router that wakes whenever something is due.
    fn pass(&mut self, to: Timestamp) {
        while let Some(due) = self.world.state.next_deadline().filter(|due| *due <= to) {
            self.world.clock = due.max(self.world.clock);
            self.heading("(time)");
            if let Some(step) = self.world.tick() {
                self.facts(&step);
            }
        }
        self.world.clock = to;
    }

    fn envelope(&mut self, customer: &str, envelope: Envelope) {
        let known = self.customers.iter().position(|known| known == customer);
        let number = known.unwrap_or_else(|| {
            self.customers.push(customer.to_owned());
            self.customers.len() - 1
        });
        match self.world.envelope(CustomerId(number as u64 + 1), &envelope) {
            Some(step) => self.facts(&step),
            None => self.say("was taken in before"),
        }
    }

    fn outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Done(step) => self.facts(&step),
            Outcome::Repeated => self.say("was done before, and is answered again"),
            Outcome::Refused(refusal) => self.say(&format!("refused: {refusal}")),
        }
    }

    fn time(&self, at: Timestamp) -> String {
        let ms = at.since(self.start).0;
        if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
    }

    fn heading(&mut self, line: &str) {
        let time = self.time(self.world.clock);
        writeln!(self.out, "{time:>8}  {line}").unwrap();
    }

    fn say(&mut self, what: &str) {
        writeln!(self.out, "{:>8}    {what}", "").unwrap();
    }

    fn facts(&mut self, step: &Step) {
        if step.is_empty() {
            self.say("nothing changes");
        }
        for emitted in &step.emitted {
            let feeds: Vec<&str> = emitted.reach.feeds.iter().map(|(agent, _)| agent.as_str()).collect();
            let shown = if feeds.is_empty() { String::new() } else { format!("  -> {}", feeds.join(", ")) };
            let fact = format!("{} {}{shown}", emitted.event.name(), self.fact(&emitted.event));
            self.say(&fact);
        }
    }

    fn customer(&self, id: CustomerId) -> &str {
        &self.customers[usize::try_from(id.0).unwrap() - 1]
    }

    /// A fact in a line, without its name.
    fn fact(&self, event: &Event) -> String {
        match event {
            Event::PolicyApplied { version, .. } => format!("{version}"),
            Event::AgentPresenceChanged { agent, presence, .. } => format!("{agent} {presence}"),
            Event::AgentConnected { agent } | Event::AgentLost { agent } => format!("{agent}"),
            Event::AgentDisconnected { agent, grace_until } => {
                format!("{agent}, keeps its conversations until {}", self.time(*grace_until))
            }
            Event::ConversationOpened { conversation, customer, thread } => {
                format!("{conversation} of {} on {}", self.customer(*customer), thread.account.kind)
            }
            Event::ConversationEnqueued { .. } => self.enqueued(event),
            Event::ConversationRoundExhausted { conversation, next_round_at } => {
                format!("{conversation}, next round at {}", self.time(*next_round_at))
            }
            Event::ConversationRoundStarted { conversation, round } => format!("{conversation} round {round}"),
            Event::ConversationAssigned { conversation, agent, offer } => {
                let offer = offer.map(|offer| format!(" by {offer}")).unwrap_or_default();
                format!("{conversation} to {agent}{offer}")
            }
            Event::ConversationTransferred { conversation, by, to_queue, to_agent, .. } => {
                let to = to_agent.as_ref().map(|agent| format!(", to agent {agent}")).unwrap_or_default();
                format!("{conversation} by {by} to queue {to_queue}{to}")
            }
            Event::ConversationParked { conversation, agent, until, .. } => {
                let until = until.map(|until| format!(" until {}", self.time(until))).unwrap_or_default();
                format!("{conversation} by {agent}{until}")
            }
            Event::ConversationResumed { conversation, agent, cause } => {
                format!("{conversation} with {agent} ({cause})")
            }
            Event::ConversationWrapUpStarted { conversation, agent, until, disposition } => {
                format!("{conversation} by {agent} until {}{}", self.time(*until), chosen(disposition.as_ref()))
            }
            Event::ConversationClosed { conversation, by, disposition } => {
                let by = by.as_ref().map_or("time".to_owned(), ToString::to_string);
                format!("{conversation} by {by}{}", chosen(disposition.as_ref()))
            }
            Event::OfferCreated { offer, conversation, agent, expires_at, decision } => {
                let until = self.time(*expires_at);
                format!("{offer} {conversation} to {agent} until {until}; {}", decided(decision))
            }
            Event::OfferAccepted { offer, conversation, agent }
            | Event::OfferExpired { offer, conversation, agent }
            | Event::OfferDeclined { offer, conversation, agent, .. } => format!("{offer} {conversation} {agent}"),
            Event::OfferRescinded { offer, conversation, agent, reason } => {
                format!("{offer} {conversation} {agent} ({reason})")
            }
            Event::MessageReceived { conversation, message, thread_seq, envelope } => {
                let (kind, text) = (&envelope.account.kind, fixture::text(&envelope.content));
                format!("{conversation} {message} as #{thread_seq} by {kind}: {text:?}")
            }
            Event::MessageSent { conversation, message, agent, thread, thread_seq, after, content, .. } => {
                let (kind, text) = (&thread.account.kind, fixture::text(content));
                let after = after.map(|after| format!(" after {after}")).unwrap_or_default();
                format!("{conversation} {message} as #{thread_seq} by {agent} on {kind}{after}: {text:?}")
            }
            Event::MessageAmended { conversation, envelope } => format!("{conversation} ({})", envelope.kind),
            Event::MessageStatusChanged { conversation, messages, status, .. } => {
                let messages: Vec<String> = messages.iter().map(ToString::to_string).collect();
                format!("{conversation} {} {status}", messages.join(", "))
            }
            Event::NoteAdded { conversation, agent, text } => format!("{conversation} by {agent}: {text:?}"),
            Event::CustomerSignalled { customer, conversation, envelope } => {
                let customer = customer.map_or("nobody", |customer| self.customer(customer));
                let conversation = conversation.map(|id| format!(" {id}")).unwrap_or_default();
                format!("{customer}{conversation} ({})", envelope.kind)
            }
            other => format!("{other:?}"),
        }
    }

    fn enqueued(&self, event: &Event) -> String {
        let Event::ConversationEnqueued { conversation, queue, priority, requirement, ready_at, reason, from, direct } =
            event
        else {
            return String::new();
        };
        let mut line = format!("{conversation} in {queue} ({reason}), waits since {}", self.time(*ready_at));
        if *priority != 0 {
            write!(line, ", priority {priority}").unwrap();
        }
        if *requirement != Requirement::default() {
            let skills = requirement.skills.iter().map(|(skill, level)| format!("{skill} {level}"));
            write!(line, ", needs {}", skills.collect::<Vec<_>>().join(", ")).unwrap();
        }
        if let Some(from) = from {
            write!(line, ", from {from}").unwrap();
        }
        if let Some(direct) = direct {
            write!(line, ", meant for {direct}").unwrap();
        }
        line
    }

    fn explain(&mut self, conversation: &str) {
        let explained = self.world.state.explain(self.id(conversation));
        let explained = explained.unwrap_or_else(|| self.fail("is not open"));
        let position = explained.position.map(|before| format!(", {before} before it")).unwrap_or_default();
        self.say(&format!("{}; waiting {} ms{position}", explained.summary, explained.waiting_ms.0));
        self.say(&format!("round {}; {}", explained.round, decided(&explained.now)));
    }
}

fn chosen(disposition: Option<&SmolStr>) -> String {
    disposition.map(|disposition| format!(", {disposition}")).unwrap_or_default()
}

/// Who was considered.
fn decided(decision: &Decision) -> String {
    let mut parts = Vec::new();
    if !decision.tie_break.is_empty() {
        parts.push(format!("by {}", decision.tie_break));
    }
    let able = decision.eligible.iter().map(|able| format!("{} {}/{}", able.agent, able.load, able.capacity));
    parts.extend((!decision.eligible.is_empty()).then(|| format!("of {}", able.collect::<Vec<_>>().join(", "))));
    let mut excluded: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for left_out in &decision.excluded {
        let because = match &left_out.because {
            Exclusion::Presence { presence } => presence.to_string(),
            Exclusion::Disconnected => "disconnected".to_owned(),
            Exclusion::AlreadyAsked => "asked before".to_owned(),
            Exclusion::MissingSkill { skill, needed, has } => format!("has {skill} {has} of {needed}"),
            Exclusion::Full { load, capacity } => format!("full {load}/{capacity}"),
        };
        excluded.entry(because).or_default().push(left_out.agent.as_str());
    }
    for (because, agents) in excluded {
        parts.push(format!("not {} ({because})", agents.join(", ")));
    }
    parts.extend((decision.unlisted > 0).then(|| format!("{} more", decision.unlisted)));
    parts.join("; ")
}

/// The words of a line; what stands in quotes is one.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (n, part) in line.split('"').enumerate() {
        if n % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}
