//! Inputs as a script: what reached the router, in order, with what its clock said.
//!
//! A script names conversations, offers and messages by the customer they are of (`the second offer of
//! k7`), not by their ids: so it still means the same when a part of it is left out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use contract::envelope::{Envelope, ReceiptStatus};
use contract::event::Presence;
use contract::{AgentId, ConversationId, Event, MessageId, Millis, OfferId, SmolStr, Timestamp};

use crate::company::Company;

/// The n-th thing of a customer, from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nth {
    pub(crate) customer: SmolStr,
    pub(crate) n: usize,
}

/// Something that reaches the router.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Op {
    /// An operator changes the policy.
    Policy { id: SmolStr, company: Company },
    /// A customer writes.
    Message(Box<Envelope>),
    /// A provider reports on the n-th message that was sent to a customer.
    Receipt { key: SmolStr, sent: Nth, channel: SmolStr, status: ReceiptStatus },
    /// An agent's tool wants something.
    Command { agent: AgentId, id: SmolStr, verb: Verb },
    /// An agent's tool gives a sign of life.
    Heard(AgentId),
    /// An agent's tool has been silent for too long.
    Silent(AgentId),
    /// The clock jumped to the time of the line; what is due happens at once.
    Jump,
    /// A snapshot is written.
    Checkpoint,
    /// The process dies. With an input: after it was decided, before that was stored.
    Crash { before_storing: Option<Box<Op>>, by_snapshot: bool },
}

/// What an agent's tool wants.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verb {
    Presence(Presence),
    Accept(Nth),
    Decline(Nth),
    Say(Nth),
    Note(Nth),
    ToQueue(Nth, SmolStr),
    ToAgent(Nth, AgentId),
    /// A handover is called off.
    Back(Nth),
    Park(Nth, Option<Timestamp>),
    Resume(Nth),
    Close(Nth),
    Complete(Nth),
}

/// An input, and what the router's clock says when it comes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    pub(crate) at: Timestamp,
    pub(crate) op: Op,
}

/// Which conversations, offers and messages each customer had, in order.
#[derive(Debug, Default, Clone)]
pub(crate) struct Book {
    conversations: BTreeMap<SmolStr, Vec<ConversationId>>,
    offers: BTreeMap<SmolStr, Vec<OfferId>>,
    sent: BTreeMap<SmolStr, Vec<MessageId>>,
    names: BTreeMap<ConversationId, SmolStr>,
}

impl Book {
    pub(crate) fn note(&mut self, event: &Event) {
        match event {
            Event::ConversationOpened { conversation, thread, .. } => {
                let customer = thread.thread.key.clone();
                self.names.insert(*conversation, customer.clone());
                self.conversations.entry(customer).or_default().push(*conversation);
            }
            Event::OfferCreated { offer, conversation, .. } => {
                if let Some(customer) = self.names.get(conversation) {
                    self.offers.entry(customer.clone()).or_default().push(*offer);
                }
            }
            Event::MessageSent { message, conversation, .. } => {
                if let Some(customer) = self.names.get(conversation) {
                    self.sent.entry(customer.clone()).or_default().push(*message);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn conversation(&self, nth: &Nth) -> Option<ConversationId> {
        self.conversations.get(&nth.customer)?.get(nth.n).copied()
    }

    pub(crate) fn offer(&self, nth: &Nth) -> Option<OfferId> {
        self.offers.get(&nth.customer)?.get(nth.n).copied()
    }

    pub(crate) fn message(&self, nth: &Nth) -> Option<MessageId> {
        self.sent.get(&nth.customer)?.get(nth.n).copied()
    }

    /// How a script calls a conversation.
    pub(crate) fn name_of(&self, conversation: ConversationId) -> Option<Nth> {
        let customer = self.names.get(&conversation)?;
        let n = self.conversations.get(customer)?.iter().rposition(|known| *known == conversation)?;
        Some(Nth { customer: customer.clone(), n })
    }

    /// How a script calls the newest offer of a conversation.
    pub(crate) fn name_of_offer(&self, conversation: ConversationId, offer: OfferId) -> Option<Nth> {
        let customer = self.names.get(&conversation)?;
        let n = self.offers.get(customer)?.iter().rposition(|known| *known == offer)?;
        Some(Nth { customer: customer.clone(), n })
    }

    /// How a script calls the newest message that was sent in a conversation.
    pub(crate) fn name_of_sent(&self, conversation: ConversationId) -> Option<Nth> {
        let customer = self.names.get(&conversation)?;
        let n = self.sent.get(customer)?.len().checked_sub(1)?;
        Some(Nth { customer: customer.clone(), n })
    }
}

/// Writes a script down in the language of the engine's scenarios. What that has no words for (a crash,
/// a receipt that reached nothing) is a comment.
pub(crate) struct Writer {
    start: Timestamp,
    clock: Timestamp,
    out: String,
}

impl Writer {
    pub(crate) fn new(start: Timestamp) -> Self {
        Self { start, clock: start, out: String::new() }
    }

    pub(crate) fn finish(self) -> String {
        self.out
    }

    /// Writes an input, before it is done; `book` knows the ids that it is about.
    pub(crate) fn line(&mut self, line: &Line, book: &Book) {
        if matches!(line.op, Op::Jump) {
            let time = self.time(line.at);
            let _ = writeln!(self.out, "jump {time}\ntick");
        } else if line.at != self.clock {
            let word = if line.at < self.clock { "jump" } else { "at" };
            let _ = writeln!(self.out, "{word} {}", self.time(line.at));
        }
        self.clock = line.at;
        self.op(&line.op, book);
    }

    /// Time passes, after the last input.
    pub(crate) fn pass(&mut self, to: Timestamp) {
        if to > self.clock {
            let _ = writeln!(self.out, "at {}", self.time(to));
            self.clock = to;
        }
    }

    fn time(&self, at: Timestamp) -> String {
        let Millis(ms) = at.since(self.start);
        if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
    }

    fn op(&mut self, op: &Op, book: &Book) {
        let text = match op {
            Op::Policy { company, .. } => {
                let lines = company.text().lines().filter(|line| !line.is_empty());
                let indented = lines.map(|line| format!("  {line}\n"));
                format!("policy\n{}", indented.collect::<String>().trim_end())
            }
            Op::Message(envelope) => {
                let language = envelope.language.iter().map(|language| format!(" language={language}"));
                let tags = envelope.tags.iter().map(|tag| format!(" tag={tag}"));
                let more: String = language.chain(tags).collect();
                let (customer, channel) = (&envelope.thread.key, &envelope.account.kind);
                format!("message {customer} {channel} \"hello\"{more} id={}", envelope.dedup_key)
            }
            Op::Receipt { sent, channel, status, .. } => match book.message(sent) {
                Some(message) => format!("receipt {} {channel} {status} {message}", sent.customer),
                None => format!("# a receipt for a message to {} that was not sent", sent.customer),
            },
            Op::Command { agent, id, verb } => match verb_words(verb, book, |at| self.time(at)) {
                Some(words) => format!("{agent} {words} as {id}"),
                None => format!("# {agent} wants something of what is not there"),
            },
            Op::Heard(agent) => format!("{agent} heard"),
            Op::Silent(agent) => format!("{agent} silent"),
            Op::Jump => return,
            Op::Checkpoint => "# a snapshot is written".to_owned(),
            Op::Crash { before_storing, by_snapshot } => {
                let from = if *by_snapshot { "snapshot and journal" } else { "journal" };
                match before_storing {
                    Some(op) => {
                        self.out.push_str("# decided, and lost with the process: ");
                        self.op(op, book);
                    }
                    None => self.out.push_str("# the process dies\n"),
                }
                format!("snapshot  # a new one begins from the {from}")
            }
        };
        let _ = writeln!(self.out, "{text}");
    }
}

fn verb_words(verb: &Verb, book: &Book, time: impl Fn(Timestamp) -> String) -> Option<String> {
    let c = |nth: &Nth| book.conversation(nth);
    Some(match verb {
        Verb::Presence(presence) => presence.to_string(),
        Verb::Accept(offer) => format!("accepts {}", book.offer(offer)?),
        Verb::Decline(offer) => format!("declines {}", book.offer(offer)?),
        Verb::Say(nth) => format!("says {} \"hello\"", c(nth)?),
        Verb::Note(nth) => format!("notes {} \"remember\"", c(nth)?),
        Verb::ToQueue(nth, queue) => format!("transfers {} to queue {queue}", c(nth)?),
        Verb::ToAgent(nth, agent) => format!("transfers {} to agent {agent}", c(nth)?),
        Verb::Back(nth) => format!("takes {} back", c(nth)?),
        Verb::Park(nth, None) => format!("parks {}", c(nth)?),
        Verb::Park(nth, Some(until)) => format!("parks {} until {}", c(nth)?, time(*until)),
        Verb::Resume(nth) => format!("resumes {}", c(nth)?),
        Verb::Close(nth) => format!("closes {}", c(nth)?),
        Verb::Complete(nth) => format!("completes {}", c(nth)?),
    })
}
