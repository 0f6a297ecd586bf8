//! `throughline agent`: an agent's desk in a terminal. Lines in, lines out, so that a person and a script
//! can use it alike.

use std::collections::BTreeMap;

use bus::{Bus, permissions};
use contract::command::{AgentCommand, SwitchTo, Via};
use contract::event::{Presence, ProfileChange};
use contract::feed::Snapshot;
use contract::{
    AccountId, AgentId, ChannelKind, ConversationId, Event, EventRecord, Millis, OfferId, QueueId, SmolStr, Timestamp,
};
use desk::tool::{Commander, News, Tool, reason, text};
use tokio::sync::mpsc;

use crate::Failure;
use crate::output::{clock, describe, fact, say};
use crate::run::options;
use crate::settings::Loaded;

const HELP: &str = "\
  accept [oN]            take an offer (the only one when left out)
  decline [oN] [why]     refuse an offer
  list                   what you hold, and the offers that stand
  use cN                 talk in this conversation from now on
  TEXT  or  say TEXT     answer the customer
  history [N]            the customer's last messages, over all channels
  note TEXT              write something down that the customer does not see
  transfer queue NAME [note]   or   transfer agent NAME [note]
  park [N s|m|h]         wait for the customer, or so long
  resume                 go on with a parked conversation
  close [disposition]    end the conversation
  done [disposition]     end the wrap-up
  available | busy | away | offline
  back                   call a handover off
  consult NAME [WHAT]    ask another agent for advice;  thanks NAME ends it
  escalate N             make it more urgent
  via KIND TEXT          answer by that channel instead of the customer's last
  switch KIND ACCOUNT ADDRESS   ask the customer to go on there
  set NAME=VALUE         write down what is known of the customer
  help                   this
  quit                   sign out and leave (Ctrl-D leaves without signing out)";

/// What the agent sees.
#[derive(Default)]
struct Board {
    offers: BTreeMap<OfferId, (ConversationId, Timestamp)>,
    held: BTreeMap<ConversationId, &'static str>,
    current: Option<ConversationId>,
}

/// What a line asks for. Pure.
#[derive(Debug, PartialEq)]
enum Line {
    Nothing,
    Help,
    List,
    Use(ConversationId),
    History(u32),
    Do(Box<AgentCommand>),
    Quit,
    Wrong(String),
}

/// Works as an agent until standard input ends.
pub(crate) async fn work(loaded: Loaded, agent: AgentId, auto_accept: bool) -> Result<(), Failure> {
    let user = permissions::agent_user(loaded.tenant.as_str(), agent.as_str());
    let bus = Bus::connect(options(&loaded, &user, "agent")?).await?;
    let commander = Commander::new(bus.clone(), loaded.tenant.clone(), agent.clone());
    let presence = AgentCommand::PresenceSet { presence: Presence::Available, reason: None };
    commander.command(&presence).await.map_err(refused)?;
    let mut tool = Tool::open(bus, loaded.tenant.clone(), agent.clone()).await.map_err(refused)?;
    say(&format!("{agent} is available. Type help for what you can do."));

    let mut lines = read_lines();
    let mut board = Board::default();
    loop {
        tokio::select! {
            news = tool.next() => {
                match news.map_err(refused)? {
                    News::Snapshot(snapshot) => board.replace(&snapshot),
                    News::Fact(record) => {
                        board.apply(&agent, &record);
                        if matches!(&*record.event, Event::ConversationAssigned { agent: to, .. } if *to == agent) {
                            // What was said before it came here.
                            history(&commander, &board, 10).await;
                        }
                    }
                }
                if auto_accept && let Some(offer) = board.offers.keys().next().copied() {
                    carry_out(&commander, &mut board, AgentCommand::OfferAccept { offer }).await;
                }
            }
            line = lines.recv() => {
                let Some(line) = line else { return Ok(()) };
                match parse(&line, &board) {
                    Line::Nothing => {}
                    Line::Help => say(HELP),
                    Line::List => board.list(),
                    Line::Use(conversation) => board.current = Some(conversation),
                    Line::History(limit) => history(&commander, &board, limit).await,
                    Line::Do(command) => carry_out(&commander, &mut board, *command).await,
                    Line::Wrong(why) => say(&format!("? {why}")),
                    Line::Quit => {
                        let offline = AgentCommand::PresenceSet { presence: Presence::Offline, reason: None };
                        commander.command(&offline).await.map_err(refused)?;
                        say("signed out");
                        return Ok(());
                    }
                }
            }
        }
    }
}

fn refused(refusal: contract::command::Refusal) -> Failure {
    Failure::Other(refusal.to_string())
}

/// Standard input, line by line, on a thread of its own: reading a terminal blocks.
fn read_lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

async fn carry_out(commander: &Commander, board: &mut Board, command: AgentCommand) {
    if let AgentCommand::OfferAccept { offer } | AgentCommand::OfferDecline { offer, .. } = &command {
        board.offers.remove(offer);
    }
    match commander.command(&command).await {
        Ok(_) => {}
        Err(refusal) => say(&format!("? {}: {}", command.verb(), refusal)),
    }
}

async fn history(commander: &Commander, board: &Board, limit: u32) {
    let Some(conversation) = board.current.or_else(|| board.offers.values().next().map(|(id, _)| *id)) else {
        return say("? no conversation is in use");
    };
    match commander.history(conversation, limit).await {
        Ok(records) => {
            say(&format!("--- history of {conversation}'s customer"));
            for record in &records {
                say(&format!("    {}", fact(record)));
            }
            say("---");
        }
        Err(refusal) => say(&format!("? history: {refusal}")),
    }
}

impl Board {
    /// Everything the agent holds, from a snapshot.
    fn replace(&mut self, snapshot: &Snapshot) {
        let offers = snapshot.offers.iter();
        self.offers = offers.map(|offer| (offer.offer, (offer.conversation.conversation, offer.expires_at))).collect();
        let held = snapshot.conversations.iter();
        self.held = held.map(|view| (view.conversation, state_word(&view.state))).collect();
        self.current =
            self.current.filter(|id| self.held.contains_key(id)).or_else(|| self.held.keys().next().copied());
        say(&format!(
            "you are {}, load {} of {}: {} conversations, {} offers",
            snapshot.presence,
            snapshot.load,
            snapshot.capacity,
            self.held.len(),
            self.offers.len()
        ));
        self.list();
    }

    fn apply(&mut self, agent: &AgentId, record: &EventRecord) {
        let Some(id) = record.conversation else {
            return say(&format!("{}  {}", clock(record.at), describe(record)));
        };
        match &*record.event {
            Event::OfferCreated { offer, agent: to, expires_at, .. } if to == agent => {
                self.offers.insert(*offer, (id, *expires_at));
                let seconds = expires_at.since(record.at).0 / 1000;
                return say(&format!("{}  OFFER {offer} of {id}, {seconds} s to answer", clock(record.at)));
            }
            Event::OfferExpired { offer, .. }
            | Event::OfferRescinded { offer, .. }
            | Event::OfferDeclined { offer, .. } => {
                self.offers.remove(offer);
            }
            Event::ConversationAssigned { agent: to, offer, .. } if to == agent => {
                if let Some(offer) = offer {
                    self.offers.remove(offer);
                }
                self.held.insert(id, "active");
                self.current = Some(id);
            }
            Event::ConversationResumed { agent: to, .. } if to == agent => {
                self.held.insert(id, "active");
            }
            Event::ConversationParked { .. } => {
                self.held.insert(id, "parked");
            }
            Event::ConversationWrapUpStarted { .. } => {
                self.held.insert(id, "wrapping");
            }
            Event::ConversationClosed { .. } => self.let_go(id),
            Event::ConversationEnqueued { from: Some(from), kept: false, .. } if from == agent => self.let_go(id),
            // Handed over: somebody else has accepted.
            Event::ConversationAssigned { agent: to, .. } if to != agent => self.let_go(id),
            Event::ConversationConsultEnded { agent: asked, .. }
            | Event::ConversationMonitorEnded { agent: asked, .. }
                if asked == agent =>
            {
                self.let_go(id);
            }
            _ => {}
        }
        say(&format!("{}  {id} {}", clock(record.at), describe(record)));
    }

    fn let_go(&mut self, id: ConversationId) {
        self.held.remove(&id);
        if self.current == Some(id) {
            self.current = self.held.keys().next().copied();
        }
    }

    fn list(&self) {
        for (offer, (conversation, expires_at)) in &self.offers {
            say(&format!("  {offer} of {conversation}, until {}", clock(*expires_at)));
        }
        for (conversation, state) in &self.held {
            let mark = if self.current == Some(*conversation) { "*" } else { " " };
            say(&format!("{mark} {conversation} {state}"));
        }
    }
}

fn state_word(state: &str) -> &'static str {
    match state {
        "parked" => "parked",
        "wrapping" => "wrapping",
        _ => "active",
    }
}

/// Reads a line.
fn parse(line: &str, board: &Board) -> Line {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    match word {
        "" => Line::Nothing,
        "help" => Line::Help,
        "list" => Line::List,
        "quit" => Line::Quit,
        "use" => rest.parse().map_or_else(|_| Line::Wrong("use cN".to_owned()), Line::Use),
        "history" if rest.is_empty() => Line::History(20),
        "history" => rest.parse().map_or_else(|_| Line::Wrong("history N".to_owned()), Line::History),
        "available" | "busy" | "away" | "offline" => {
            let presence = Presence::from(SmolStr::from(word));
            Line::Do(Box::new(AgentCommand::PresenceSet { presence, reason: reason(rest) }))
        }
        "accept" | "decline" => match the_offer(rest, board) {
            Ok((offer, _)) if word == "accept" => Line::Do(Box::new(AgentCommand::OfferAccept { offer })),
            Ok((offer, why)) => Line::Do(Box::new(AgentCommand::OfferDecline { offer, reason: reason(why) })),
            Err(why) => Line::Wrong(why),
        },
        _ => match board.current {
            Some(conversation) => in_conversation(conversation, word, rest, line),
            None => Line::Wrong("no conversation is in use; accept an offer, or type help".to_owned()),
        },
    }
}

/// The offer that a line names, or the only one there is, and what follows it.
fn the_offer<'a>(rest: &'a str, board: &Board) -> Result<(OfferId, &'a str), String> {
    let (first, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if let Ok(offer) = first.parse() {
        return Ok((offer, after.trim()));
    }
    let mut offers = board.offers.keys();
    match (offers.next(), offers.next()) {
        (Some(only), None) => Ok((*only, rest)),
        (None, _) => Err("no offer stands".to_owned()),
        _ => Err("which offer? type list".to_owned()),
    }
}

fn in_conversation(conversation: ConversationId, word: &str, rest: &str, line: &str) -> Line {
    let command = match word {
        "say" => {
            AgentCommand::MessageSend { conversation, content: text(rest), reply_to: None, via: None, purpose: None }
        }
        "note" => AgentCommand::NoteAdd { conversation, text: rest.to_owned() },
        "resume" => AgentCommand::ConversationResume { conversation },
        "close" => AgentCommand::ConversationClose { conversation, disposition: reason(rest) },
        "done" => AgentCommand::WrapUpComplete { conversation, disposition: reason(rest) },
        "park" if rest.is_empty() => AgentCommand::ConversationPark { conversation, until: None, reason: None },
        "park" => match span(rest) {
            Some(span) => {
                let until = Some(Timestamp(runtime::clock::now()) + span);
                AgentCommand::ConversationPark { conversation, until, reason: None }
            }
            None => return Line::Wrong("park 10m".to_owned()),
        },
        "back" => AgentCommand::ConversationTakeBack { conversation },
        "consult" => {
            let (name, note) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            let Ok(agent) = AgentId::new(name) else {
                return Line::Wrong("consult NAME [what about]".to_owned());
            };
            let note = Some(note.trim()).filter(|note| !note.is_empty()).map(str::to_owned);
            AgentCommand::ConversationConsult { conversation, agent, note }
        }
        "thanks" => AgentCommand::ConversationConsultEnd { conversation, agent: AgentId::new(rest).ok() },
        "escalate" => match rest.parse() {
            Ok(priority) => AgentCommand::ConversationEscalate { conversation, priority, to_queue: None, note: None },
            Err(_) => return Line::Wrong("escalate PRIORITY".to_owned()),
        },
        "switch" => match switch(rest) {
            Some(to) => AgentCommand::ConversationSwitch { conversation, to },
            None => {
                return Line::Wrong(
                    "switch KIND ACCOUNT ADDRESS, as in switch email support ann@example.com".to_owned(),
                );
            }
        },
        "via" => {
            let (kind, said) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            let Some(kind) = ChannelKind::new(kind).ok().filter(|_| !said.trim().is_empty()) else {
                return Line::Wrong("via KIND text".to_owned());
            };
            let via = Some(Via { kind, account: None, thread: None });
            AgentCommand::MessageSend { conversation, content: text(said.trim()), reply_to: None, via, purpose: None }
        }
        "set" => match rest.split_once('=') {
            Some((name, value)) => {
                let value = Some(SmolStr::from(value)).filter(|value| !value.is_empty());
                let attributes = std::iter::once((SmolStr::from(name.trim()), value)).collect();
                AgentCommand::CustomerUpdate {
                    conversation,
                    change: ProfileChange { attributes, ..ProfileChange::default() },
                }
            }
            None => return Line::Wrong("set NAME=VALUE".to_owned()),
        },
        "transfer" => match transfer(conversation, rest) {
            Some(command) => command,
            None => return Line::Wrong("transfer queue NAME or transfer agent NAME".to_owned()),
        },
        _ => AgentCommand::MessageSend { conversation, content: text(line), reply_to: None, via: None, purpose: None },
    };
    Line::Do(Box::new(command))
}

fn switch(rest: &str) -> Option<SwitchTo> {
    let mut words = rest.split_whitespace();
    let (kind, account, address) = (words.next()?, words.next()?, words.next()?);
    Some(SwitchTo {
        kind: ChannelKind::new(kind).ok()?,
        account: AccountId::new(account).ok()?,
        address: address.into(),
    })
}

fn transfer(conversation: ConversationId, rest: &str) -> Option<AgentCommand> {
    let mut words = rest.splitn(3, char::is_whitespace);
    let (what, name) = (words.next()?, words.next()?);
    let note = words.next().map(str::trim).filter(|note| !note.is_empty()).map(str::to_owned);
    let (to_queue, to_agent) = match what {
        "queue" => (Some(QueueId::new(name).ok()?), None),
        "agent" => (None, Some(AgentId::new(name).ok()?)),
        _ => return None,
    };
    Some(AgentCommand::ConversationTransfer { conversation, to_queue, to_agent, note })
}

/// A span like `90s`, `10 m` or `2h`.
fn span(text: &str) -> Option<Millis> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let factor = match unit.trim() {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        _ => return None,
    };
    Some(Millis::from_secs(number.parse::<u64>().ok()?.checked_mul(factor)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Board {
        let mut board = Board { current: Some(ConversationId(3)), ..Board::default() };
        board.offers.insert(OfferId(7), (ConversationId(9), Timestamp(0)));
        board
    }

    #[test]
    fn lines_are_commands_or_talk() {
        let board = board();
        assert_eq!(parse("accept", &board), Line::Do(Box::new(AgentCommand::OfferAccept { offer: OfferId(7) })));
        assert_eq!(
            parse("decline at lunch", &board),
            Line::Do(Box::new(AgentCommand::OfferDecline { offer: OfferId(7), reason: Some("at lunch".into()) }))
        );
        let talk = AgentCommand::MessageSend {
            conversation: ConversationId(3),
            content: text("hello you"),
            reply_to: None,
            via: None,
            purpose: None,
        };
        assert_eq!(parse("hello you", &board), Line::Do(Box::new(talk.clone())));
        assert_eq!(parse("say hello you", &board), Line::Do(Box::new(talk)));
        assert!(matches!(parse("transfer nowhere", &board), Line::Wrong(_)));
        assert!(matches!(parse("hello", &Board::default()), Line::Wrong(_)));
    }

    #[test]
    fn spans() {
        assert_eq!(span("10m"), Some(Millis(600_000)));
        assert_eq!(span("90 s"), Some(Millis(90_000)));
        assert_eq!(span("10"), None);
        assert_eq!(span("x"), None);
    }
}
