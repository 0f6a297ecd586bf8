//! Transcripts in `tests/scenarios/*.txt`: a script, a line of dashes, and what came of it. `UPDATE=1`
//! writes the second part anew; read the difference before you keep it.
//!
//! A line of a script is a comment after `#`, or one of
//!
//! ```text
//! start 2026-03-29T00:30Z          first of all: the clock says so (UTC); else it begins on a Tuesday evening
//! policy                           the indented TOML that follows comes into force
//! policy waiting                   the same, and what waits is routed anew by it
//! at 90s                           time passes; whatever is due on the way happens when it is due
//! jump 90s                         the clock says so, forwards or back; nothing happens by itself
//! tick                             what is due by the clock happens now
//! restart                          the state is replaced by what replays the journal
//! snapshot                         from here on, a state read back from a snapshot goes along
//!
//! message ann chat "hello"         also: language=de tag=vip intent=refund (the classifier's) id=x (the provider's)
//!                                  thread=two (another one than usual) window=60s (answers are free so long)
//!                                  templates=yes (go all the same) provider=telegram
//! edit ann chat                    also: reaction, echo, contact_event, …
//! leaves ann chat                  the channel says that the customer has gone; with `closed`: that it was closed
//! call ann phone ringing           also: leg=2 by=anna for=m2 (a leg of an agent's, begun by a command) seq=3 id=x
//! receipt ann chat read m2         also: through 3 (thread_seq), id p7 (the provider's), until 5s (watermark)
//!
//! anna available                   busy, away, offline
//! anna presence lunch              any state; with a reason code: anna presence lunch canteen
//! anna accepts o1                  any command may end in: as k1 (the client's id)
//! anna declines o1                 with a reason: anna declines o1 busy
//! merge ben into ann               they are one person; split ben from ann: two again
//! consent ann no by sms for service   or yes; without by: any channel, without for: anything; by social/telegram
//! segment ann vip                  she is in that segment
//! learns ann language=fr           also: promised="…" plan=gold (an attribute) plan= (no more) segment-=vip
//! wishes ann chat email web x@y.example with TOKEN    she wants to go on there; `-`: she gave no address
//!                                  also: known=no (it is none) heard=ben (he is known by it)
//! waits ann phone                  what whoever waits on that thread is told
//! erase ann                        she is forgotten
//! rest ann                         she leaves memory, if nothing of hers is under way
//! anna switches c1 to sms berlin +49301 with TOKEN   26 letters and digits
//! anna says c1 "good day"          also: by email for marketing; notes c1 "…"
//! anna fills c1 reminder           says it by the template of that name; also: by, for
//! anna transfers c1 to queue sales    to agent ben
//! anna takes back c1
//! anna parks c1 until 90s          or without until; resumes c1
//! anna closes c1 solved            or without disposition; completes c1 (the wrap-up)
//! anna consults ben on c1          anna ends advice of ben on c1; ben ends advice on c1
//! anna escalates c1 to 5           with a queue: anna escalates c1 to 5 queue sales
//! anna forces c1 to ben            past what there is room for: anna forces c1 to ben anyway
//! anna monitors c1                 stops monitoring c1
//! anna silent                      heard
//! operator assigns c1 to ben       past what there is room for: operator assigns c1 to ben anyway
//! operator enqueues c1             where the rules say; in sales; also: at 5 (the priority)
//!
//! explain c1                       where it stands, and why
//! show anna                        presence, load and what it holds
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use contract::command::{AdminCommand, AgentCommand};
use contract::envelope::{Envelope, EnvelopeKind, Receipt, ReceiptStatus, Signal};
use contract::event::{Classification, Consent, Decision, Exclusion, Presence, ProfileChange, Requirement};
use contract::{AgentId, ChannelKind, CustomerId, Event, Millis, SmolStr, Timestamp};
use throughline_engine::Step;

use crate::fixture;
use crate::world::{Outcome, World};

#[test]
fn scenarios_come_out_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(files.len() >= 20, "scenarios are missing from {}", folder.display());
    let update = std::env::var_os("UPDATE").is_some();
    let mut differing = String::new();
    let mut broken = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let (script, expected) = text.split_once("\n---\n").unwrap_or((text.trim_end(), ""));
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        // One that breaks an invariant says where, and does not hide the others.
        let Ok(actual) = std::panic::catch_unwind(|| Play::new(&name).run(script)) else {
            broken.push(name);
            continue;
        };
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
    assert!(broken.is_empty(), "what must hold does not, after the last line of: {broken:?}");
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

impl Drop for Play {
    #[expect(clippy::print_stdout, reason = "what was played until then is the report")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}.txt:{}\n{}", self.name, self.line, self.out);
        }
    }
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
            if line == "policy" || line == "policy waiting" {
                let mut toml = String::new();
                while let Some((_, line)) = lines.next_if(|(_, line)| line.is_empty() || line.starts_with(' ')) {
                    toml.push_str(line);
                    toml.push('\n');
                }
                self.heading(line);
                let (policy, waiting) = (Box::new(fixture::policy(&toml)), line == "policy waiting");
                let outcome = self.world.admin(AdminCommand::PolicyApply { policy, waiting });
                self.outcome(outcome);
            } else {
                self.input(line, &words(line));
            }
        }
        std::mem::take(&mut self.out)
    }

    fn fail<T>(&self, what: &str) -> T {
        panic!("{}.txt:{}: {what}", self.name, self.line)
    }

    fn input(&mut self, line: &str, words: &[String]) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["start", time] => {
                assert!(self.out.is_empty() && self.world.clock == self.start, "start comes first");
                self.start = clock(time).unwrap_or_else(|| self.fail("is no time like 2026-03-29T00:30Z"));
                self.world.clock = self.start;
            }
            ["at", time] => self.pass(self.start + self.span(time)),
            ["jump", time] => self.world.clock = self.start + self.span(time),
            ["snapshot"] => {
                self.heading(line);
                self.world.snapshot();
            }
            ["restart"] => {
                self.heading(line);
                self.world.restart();
            }
            ["show", agent] => {
                self.heading(line);
                self.show(agent);
            }
            ["operator", command @ ..] => {
                self.heading(line);
                let command = self.admin(command);
                let outcome = self.world.admin(command);
                self.outcome(outcome);
            }
            ["leaves", customer, channel, how @ ..] => {
                self.heading(line);
                let mut envelope =
                    fixture::other(EnvelopeKind::ContactEvent, customer, channel, &self.key(), self.world.clock);
                let mut name = SmolStr::new_static("leave");
                if !how.is_empty() {
                    (envelope.kind, name) = (EnvelopeKind::ConversationEvent, SmolStr::new(how[0]));
                }
                envelope.signal = Some(Signal { name, detail: None, data: serde_json::Map::new() });
                self.envelope(customer, &envelope, None);
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
                let (envelope, classification) = self.with(envelope, more);
                self.envelope(customer, &envelope, classification.as_ref());
            }
            ["call", customer, channel, state, more @ ..] => {
                self.heading(line);
                let envelope = self.call(customer, channel, state, more);
                self.envelope(customer, &envelope, None);
            }
            ["receipt", customer, channel, status, named @ ..] => {
                self.heading(line);
                let receipt = self.receipt(status, named);
                let envelope = fixture::receipt(receipt, customer, channel, &self.key(), self.world.clock);
                self.envelope(customer, &envelope, None);
            }
            [
                kind @ ("edit" | "delete" | "reaction" | "media" | "echo" | "contact_event"),
                customer,
                channel,
                more @ ..,
            ] => {
                self.heading(line);
                let kind = EnvelopeKind::from(SmolStr::new(kind));
                let envelope = fixture::other(kind, customer, channel, &self.key(), self.world.clock);
                let (envelope, classification) = self.with(envelope, more);
                self.envelope(customer, &envelope, classification.as_ref());
            }
            ["merge", from, "into", customer] => {
                self.heading(line);
                let (customer, from) = (self.numbered(customer), self.numbered(from));
                let by = SmolStr::new_static("operator");
                let step = self.world.facts(&[Event::CustomerMerged { customer, from, by, identity: None }]);
                self.facts(&step);
            }
            ["split", customer, "from", from] => {
                self.heading(line);
                let (customer, from) = (self.numbered(customer), self.numbered(from));
                let by = SmolStr::new_static("operator");
                let step = self.world.facts(&[Event::CustomerSplit { customer, from, by }]);
                self.facts(&step);
            }
            ["rest", customer] => {
                self.heading(line);
                let customer = self.numbered(customer);
                if let Some(step) = self.world.rest(customer) {
                    self.facts(&step);
                }
            }
            ["erase", customer] => {
                self.heading(line);
                let customer = self.numbered(customer);
                let step = self.world.erase(customer);
                self.facts(&step);
            }
            ["consent", customer, word @ ("yes" | "no"), of @ ..] => {
                self.heading(line);
                let after = |word: &str| of.iter().position(|known| *known == word).and_then(|n| of.get(n + 1));
                let consent = Consent {
                    channel: after("by").map(|by| ChannelKind::new(by.split('/').next().unwrap()).unwrap()),
                    provider: after("by").and_then(|by| by.split('/').nth(1)).map(SmolStr::new),
                    purpose: after("for").map(SmolStr::new),
                    granted: *word == "yes",
                };
                let (customer, by) = (self.numbered(customer), SmolStr::new_static("customer"));
                let step = self.world.facts(&[Event::CustomerConsentChanged { customer, consent, by }]);
                self.facts(&step);
            }
            ["learns", customer, what @ ..] => {
                self.heading(line);
                let mut change = ProfileChange::default();
                for word in what {
                    match word.split_once('=') {
                        Some(("language", language)) => change.language = Some(SmolStr::new(language)),
                        Some(("promised", text)) => change.promised = Some(text.to_owned()),
                        Some(("segment-", name)) => {
                            change.segments_removed.insert(SmolStr::new(name));
                        }
                        Some((name, value)) => {
                            let value = (!value.is_empty()).then(|| value.into());
                            change.attributes.insert(SmolStr::new(name), value);
                        }
                        None => self.fail("language=, promised=, segment-= or an attribute"),
                    }
                }
                let (customer, by) = (self.numbered(customer), SmolStr::new_static("operator"));
                let step = self.world.facts(&[Event::CustomerUpdated { customer, change, by }]);
                self.facts(&step);
            }
            ["wishes", customer, channel, kind, account, address, "with", token, more @ ..] => {
                self.heading(line);
                let mut data = serde_json::Map::new();
                data.insert("kind".to_owned(), (*kind).into());
                data.insert("account".to_owned(), (*account).into());
                if *address != "-" {
                    data.insert("address".to_owned(), (*address).into());
                }
                let mut envelope =
                    fixture::other(EnvelopeKind::ContactEvent, customer, channel, &self.key(), self.world.clock);
                envelope.signal = Some(Signal { name: SmolStr::new_static("switch"), detail: None, data });
                let known = *address != "-" && !more.contains(&"known=no");
                let heard = more.iter().filter_map(|word| word.strip_prefix("heard="));
                let listeners: Vec<CustomerId> = heard.map(|name| self.numbered(name)).collect();
                let customer = self.numbered(customer);
                let step = self.world.wish(customer, &envelope, &listeners, known, token);
                self.facts(&step);
            }
            ["waits", customer, channel] => {
                self.heading(line);
                let envelope = fixture::message(customer, channel, "unused", "", self.world.clock);
                // Of a call, or of whatever else they write on.
                let keys = [format!("call-{customer}"), (*customer).to_owned()];
                let keys = keys.map(|key| throughline_engine::ThreadKey::new(&envelope.account, &key.into()));
                let mut waits = keys.iter().map(|key| self.world.state.thread_wait(self.world.clock, key));
                let wait = waits.find(|wait| wait.conversation.is_some()).unwrap_or_default();
                let told = serde_json::to_value(&wait).unwrap();
                let fields = told.as_object().unwrap().iter().map(|(name, value)| format!("{name} {value}"));
                self.say(&fields.collect::<Vec<_>>().join(", "));
            }
            ["segment", customer, name] => {
                self.heading(line);
                let segments_added = std::iter::once(SmolStr::new(name)).collect();
                let change = ProfileChange { segments_added, ..ProfileChange::default() };
                let (customer, by) = (self.numbered(customer), SmolStr::new_static("operator"));
                let step = self.world.facts(&[Event::CustomerUpdated { customer, change, by }]);
                self.facts(&step);
            }
            [agent, "switches", conversation, "to", kind, account, address, "with", token] => {
                self.heading(line);
                let to = contract::command::SwitchTo {
                    kind: ChannelKind::new(*kind).unwrap(),
                    account: contract::AccountId::new(*account).unwrap(),
                    address: SmolStr::new(address),
                };
                let outcome = self.world.switch(&fixture::agent(agent), self.id(conversation), &to, token);
                self.outcome(outcome);
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
            ["presence", presence, with @ ..] => AgentCommand::PresenceSet {
                presence: Presence::from(SmolStr::new(presence)),
                reason: with.first().map(SmolStr::new),
            },
            ["takes", "back", conversation] => {
                AgentCommand::ConversationTakeBack { conversation: self.id(conversation) }
            }
            ["consults", agent, "on", conversation] => AgentCommand::ConversationConsult {
                conversation: self.id(conversation),
                agent: fixture::agent(agent),
                note: None,
            },
            ["ends", "advice", of @ .., "on", conversation] => AgentCommand::ConversationConsultEnd {
                conversation: self.id(conversation),
                agent: of.last().map(|agent| fixture::agent(agent)),
            },
            ["escalates", conversation, "to", priority, to @ ..] => AgentCommand::ConversationEscalate {
                conversation: self.id(conversation),
                priority: self.id(priority),
                to_queue: to.last().map(|queue| fixture::queue(queue)),
                note: None,
            },
            ["forces", conversation, "to", agent, anyway @ ..] => AgentCommand::ConversationForce {
                conversation: self.id(conversation),
                agent: fixture::agent(agent),
                ignore_capacity: *anyway == ["anyway"],
            },
            ["monitors", conversation] => AgentCommand::ConversationMonitor { conversation: self.id(conversation) },
            ["stops", "monitoring", conversation] => {
                AgentCommand::ConversationMonitorEnd { conversation: self.id(conversation) }
            }
            ["accepts", offer] => AgentCommand::OfferAccept { offer: self.id(offer) },
            ["declines", offer, with @ ..] => {
                AgentCommand::OfferDecline { offer: self.id(offer), reason: with.first().map(SmolStr::new) }
            }
            [verb @ ("says" | "fills"), conversation, text, how @ ..] => {
                let after = |word: &str| how.iter().position(|known| *known == word).and_then(|n| how.get(n + 1));
                let kind = after("by").map(|kind| ChannelKind::new(*kind).unwrap());
                AgentCommand::MessageSend {
                    conversation: self.id(conversation),
                    content: vec![if *verb == "says" { fixture::said(text) } else { fixture::template(text) }],
                    reply_to: None,
                    via: kind.map(|kind| contract::command::Via { kind, account: None, thread: None }),
                    purpose: after("for").map(SmolStr::new),
                }
            }
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

    fn admin(&self, words: &[&str]) -> AdminCommand {
        match words {
            ["assigns", conversation, "to", agent, anyway @ ..] => AdminCommand::ConversationAssign {
                conversation: self.id(conversation),
                agent: fixture::agent(agent),
                ignore_capacity: *anyway == ["anyway"],
            },
            ["enqueues", conversation, how @ ..] => {
                let after = |word: &str| how.iter().position(|known| *known == word).and_then(|n| how.get(n + 1));
                AdminCommand::ConversationEnqueue {
                    conversation: self.id(conversation),
                    queue: after("in").map(|queue| fixture::queue(queue)),
                    priority: after("at").map(|priority| self.id(priority)),
                }
            }
            _ => self.fail("is nothing that an operator does"),
        }
    }

    fn with(&self, mut envelope: Envelope, more: &[&str]) -> (Envelope, Option<Classification>) {
        let mut classification = None;
        for word in more {
            match word.split_once('=') {
                Some(("language", language)) => envelope.language = Some(SmolStr::new(language)),
                Some(("tag", tag)) => envelope.tags.push(SmolStr::new(tag)),
                Some(("id", id)) => envelope.dedup_key = SmolStr::new(id),
                Some(("thread", key)) => envelope.thread.key = SmolStr::new(key),
                Some(("window", span)) => {
                    let open_until = Some(self.world.clock + self.span(span));
                    envelope.window.get_or_insert_default().open_until = open_until;
                }
                Some(("provider", name)) => envelope.account.provider = Some(SmolStr::new(name)),
                Some(("templates", "yes")) => envelope.window.get_or_insert_default().templates = true,
                Some(("intent", intent)) => {
                    let outcome = SmolStr::new_static("answered");
                    let intent = Some(SmolStr::new(intent));
                    classification = Some(Classification { intent, outcome, ..Classification::default() });
                }
                _ => self.fail("language=, tag=, intent=, id=, thread=, window=, provider= or templates="),
            }
        }
        (envelope, classification)
    }

    fn call(&mut self, customer: &str, channel: &str, state: &str, more: &[&str]) -> Envelope {
        let mut envelope = fixture::other(EnvelopeKind::Call, customer, channel, &self.key(), self.world.clock);
        let mut call: contract::envelope::Call =
            serde_json::from_value(serde_json::json!({ "leg": format!("call-{customer}"), "state": state })).unwrap();
        envelope.thread.key = call.leg.clone();
        envelope.thread.kind = contract::envelope::ThreadKind::Call;
        for word in more {
            match word.split_once('=') {
                Some(("leg", leg)) => call.leg = leg.into(),
                Some(("by", name)) => call.agent = Some(fixture::agent(name)),
                Some(("for", message)) => call.command_id = Some(format!("main/{message}").into()),
                Some(("id", id)) => envelope.dedup_key = SmolStr::new(id),
                Some(("seq", n)) => {
                    let n = n.parse().unwrap();
                    envelope.seq = Some(contract::envelope::Sequence { scope: call.leg.clone(), n });
                }
                _ => self.fail("leg=, by=, for=, seq= or id="),
            }
        }
        envelope.call = Some(call);
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

    fn numbered(&mut self, customer: &str) -> CustomerId {
        let known = self.customers.iter().position(|known| known == customer);
        let number = known.unwrap_or_else(|| {
            self.customers.push(customer.to_owned());
            self.customers.len() - 1
        });
        CustomerId(number as u64 + 1)
    }

    fn envelope(&mut self, customer: &str, envelope: &Envelope, classification: Option<&Classification>) {
        let customer = self.numbered(customer);
        match self.world.classified(customer, envelope, classification) {
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
            Event::AgentPresenceChanged { agent, presence, reason } => {
                format!("{agent} {presence}{}", chosen(reason.as_ref()))
            }
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
            Event::ConversationAssigned { conversation, agent, offer, forced_by, over_capacity } => {
                let offer = offer.map(|offer| format!(" by {offer}")).unwrap_or_default();
                let forced = forced_by.as_ref().map(|by| format!(", forced by {by}")).unwrap_or_default();
                let over = if *over_capacity { ", over capacity" } else { "" };
                format!("{conversation} to {agent}{offer}{forced}{over}")
            }
            Event::ConversationStepReached { conversation, step, because, ends_at } => {
                let until = ends_at.map(|at| format!(", until {}", self.time(at))).unwrap_or_default();
                format!("{conversation} step {step} ({because}){until}")
            }
            Event::ConversationFellBack { conversation, action, because } => {
                let action = serde_json::to_value(action).unwrap();
                format!("{conversation} {} ({because})", action.as_str().unwrap())
            }
            Event::ConversationAlarmRaised { conversation, alarm } => format!("{conversation} ({alarm})"),
            Event::ConversationAlarmEnded { conversation } => format!("{conversation}"),
            Event::ConversationWaited { conversation, waited_ms } => format!("{conversation} {} ms", waited_ms.0),
            Event::ConversationAbandoned { conversation, waited_ms } => {
                format!("{conversation} after {} ms", waited_ms.0)
            }
            Event::ConversationPrioritized { conversation, priority, by } => {
                let by = by.as_ref().map_or("an operator".to_owned(), ToString::to_string);
                format!("{conversation} to {priority} by {by}")
            }
            Event::ConversationIdled { conversation, agent }
            | Event::ConversationReactivated { conversation, agent }
            | Event::ConversationConsultEnded { conversation, agent }
            | Event::ConversationMonitorStarted { conversation, agent }
            | Event::ConversationMonitorEnded { conversation, agent }
            | Event::ConversationTakenBack { conversation, agent } => format!("{conversation} {agent}"),
            Event::ConversationConsultStarted { conversation, agent, by, .. } => {
                format!("{conversation} {agent} by {by}")
            }
            Event::ConversationReopened { conversation, customer, thread } => {
                format!("{conversation} of {} on {}", self.customer(*customer), thread.account.kind)
            }
            Event::ConversationClassified { conversation, classification } => {
                format!("{conversation} {}", serde_json::to_string(classification).unwrap())
            }
            Event::AgentNotResponding { agent, until } => format!("{agent} until {}", self.time(*until)),
            Event::AgentResponding { agent } | Event::AgentRested { agent } => format!("{agent}"),
            Event::AgentOverCapacity { agent, load, capacity } => format!("{agent} {load}/{capacity}"),
            Event::QueueOpened { queue, closes_at } => {
                format!("{queue}{}", closes_at.map(|at| format!(" until {}", self.time(at))).unwrap_or_default())
            }
            Event::QueueClosed { queue, opens_at } => {
                format!("{queue}{}", opens_at.map(|at| format!(" until {}", self.time(at))).unwrap_or_default())
            }
            Event::ConversationCallDirected { conversation, message, order, .. } => {
                let agent = order.agent.as_ref().map(|agent| format!(" to {agent}")).unwrap_or_default();
                let at = order.to.as_ref().map(|at| format!(" at {at}")).unwrap_or_default();
                format!("{conversation} {message} {}{agent}{at}", order.step)
            }
            Event::MessageNotified { conversation, message, thread, thread_seq, content, notice, .. } => {
                let (kind, text) = (&thread.account.kind, fixture::text(content));
                format!("{conversation} {message} as #{thread_seq} on {kind} ({notice}): {text:?}")
            }
            Event::CustomerMerged { customer, from, by, .. } => {
                format!("{} into {} by {by}", self.customer(*from), self.customer(*customer))
            }
            Event::CustomerSplit { customer, from, by } => {
                format!("{} from {} by {by}", self.customer(*customer), self.customer(*from))
            }
            Event::CustomerErased { customers, .. } | Event::CustomerRested { customers, .. } => {
                customers.iter().map(|customer| self.customer(*customer)).collect::<Vec<_>>().join(", ")
            }
            Event::CustomerUpdated { customer, change, .. } => format!("{} {change:?}", self.customer(*customer)),
            Event::CustomerConsentChanged { customer, consent, .. } => {
                let word = if consent.granted { "yes" } else { "no" };
                let by = consent.channel.as_ref().map_or("any channel", |kind| kind.as_str());
                let by = consent.provider.as_ref().map_or(by.to_owned(), |provider| format!("{by}/{provider}"));
                format!(
                    "{} {word} by {by} for {}",
                    self.customer(*customer),
                    consent.purpose.as_deref().unwrap_or("anything")
                )
            }
            Event::ConversationSwitchOffered { conversation, identity, thread, .. } => {
                format!("{conversation} to {} {}", thread.account.kind, identity.value)
            }
            Event::ConversationSwitchShown { conversation, account, .. } => {
                format!("{conversation} by {}", account.kind)
            }
            Event::ConversationSwitched { conversation, .. } => format!("{conversation}"),
            Event::MessageLeftUnread { conversation, messages, told_by, thread } => {
                let which: Vec<String> = messages.iter().map(ToString::to_string).collect();
                let told = told_by.map_or_else(|| "nobody can be told".to_owned(), |by| format!("told by {by}"));
                format!("{conversation} {} on {}, {told}", which.join(", "), thread.account.kind)
            }
            Event::MessageMirrored { conversation, message, thread, thread_seq, by, .. } => {
                format!("{conversation} {message} of {by} as #{thread_seq} on {} too", thread.account.kind)
            }
            Event::ConversationTransferred { conversation, by, to_queue, to_agent, .. } => {
                let to = to_agent.as_ref().map(|agent| format!(", to agent {agent}")).unwrap_or_default();
                format!("{conversation} by {by} to queue {to_queue}{to}")
            }
            Event::ConversationParked { conversation, agent, until, reason } => {
                let until = until.map(|until| format!(" until {}", self.time(until))).unwrap_or_default();
                format!("{conversation} by {agent}{until}{}", chosen(reason.as_ref()))
            }
            Event::ConversationResumed { conversation, agent, cause } => {
                format!("{conversation} with {agent} ({cause})")
            }
            Event::ConversationWrapUpStarted { conversation, agent, until, disposition } => {
                format!("{conversation} by {agent} until {}{}", self.time(*until), chosen(disposition.as_ref()))
            }
            Event::ConversationClosed { conversation, by, reason, disposition } => {
                let by = by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
                let reason = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
                format!("{conversation}{by}{reason}{}", chosen(disposition.as_ref()))
            }
            Event::OfferCreated { offer, conversation, agent, expires_at, decision } => {
                let until = self.time(*expires_at);
                format!("{offer} {conversation} to {agent} until {until}; {}", decided(decision))
            }
            Event::OfferAccepted { offer, conversation, agent } => format!("{offer} {conversation} {agent}"),
            Event::OfferExpired { offer, conversation, agent, rest_until } => {
                let rest = rest_until.map(|at| format!(", rests until {}", self.time(at))).unwrap_or_default();
                format!("{offer} {conversation} {agent}{rest}")
            }
            Event::OfferDeclined { offer, conversation, agent, reason, rest_until } => {
                let rest = rest_until.map(|at| format!(", rests until {}", self.time(at))).unwrap_or_default();
                format!("{offer} {conversation} {agent}{}{rest}", chosen(reason.as_ref()))
            }
            Event::OfferRescinded { offer, conversation, agent, reason } => {
                format!("{offer} {conversation} {agent} ({reason})")
            }
            Event::MessageReceived { conversation, message, thread_seq, envelope, .. } => {
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
        let Event::ConversationEnqueued {
            conversation,
            queue,
            priority,
            requirement,
            ready_at,
            reason,
            from,
            direct,
            kept,
            terms,
        } = event
        else {
            return String::new();
        };
        let mut line = format!("{conversation} in {queue} ({reason}), waits since {}", self.time(*ready_at));
        if *priority != 0 {
            write!(line, ", priority {priority}").unwrap();
        }
        if **requirement != Requirement::default() {
            let steps: Vec<String> = requirement.steps.iter().map(step).collect();
            write!(line, ", needs {}", steps.join("; then ")).unwrap();
        }
        if let Some(from) = from {
            write!(line, ", {} {from}", if *kept { "kept by" } else { "from" }).unwrap();
        }
        if let Some(direct) = direct {
            write!(line, ", meant for {direct}").unwrap();
        }
        if !terms.affinity.is_empty() {
            let known: Vec<&str> = terms.affinity.iter().map(AgentId::as_str).collect();
            write!(line, ", known to {}", known.join(", ")).unwrap();
        }
        if let Some(due) = terms.due_at {
            write!(line, ", due {}", self.time(due)).unwrap();
        }
        line
    }

    fn explain(&mut self, conversation: &str) {
        let explained = self.world.state.explain(self.id(conversation));
        let explained = explained.unwrap_or_else(|| self.fail("is not open"));
        let position = explained.position.map(|before| format!(", {before} before it")).unwrap_or_default();
        self.say(&format!("{}; waiting {} ms{position}", explained.summary, explained.waiting_ms.0));
        self.say(&format!("round {}; {}", explained.round, decided(&explained.now)));
        let wait = &explained.expected_wait;
        if let Some(p50) = wait.p50_ms {
            let reckoned = wait.reckoned_ms.map_or("unknown".to_owned(), |wait| format!("{} ms", wait.0));
            self.say(&format!("expected wait {reckoned}; lately half of all waited {} ms", p50.0));
        }
    }

    fn show(&mut self, agent: &str) {
        let view = self.world.state.agent_view(&fixture::agent(agent)).unwrap_or_else(|| self.fail("is no agent"));
        let held: Vec<String> = view.conversations.iter().map(ToString::to_string).collect();
        let there = if view.connected { "" } else { ", not connected" };
        let held = if held.is_empty() { "nothing".to_owned() } else { held.join(", ") };
        self.say(&format!("{}{there}, {}/{}, holds {held}", view.presence, view.load, view.capacity));
    }
}

/// A time like `2026-03-29T00:30Z`.
fn clock(text: &str) -> Option<Timestamp> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let minutes = number(11, 13)? * 60 + number(14, 16)?;
    // Days since 1970 of a date in the calendar that everybody uses, its year beginning in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    u64::try_from((days * 24 * 60 + minutes) * 60_000).ok().map(Timestamp)
}

#[test]
fn the_clock_of_scenarios_is_right() {
    assert_eq!(clock("1970-01-01T00:00Z"), Some(Timestamp(0)));
    assert_eq!(clock("2023-11-14T22:13Z"), Some(Timestamp(1_699_999_980_000)));
    assert_eq!(clock("2026-03-29T00:30Z"), Some(Timestamp(1_774_744_200_000)));
}

/// A step of a requirement.
fn step(step: &contract::policy::Step) -> String {
    let mut parts = Vec::new();
    if !step.must.is_always() {
        parts.push(condition(&step.must));
    }
    for preferred in &step.prefer {
        parts.push(format!("rather {} ({})", condition(&preferred.when), preferred.weight));
    }
    let pool = &step.pool;
    let also = pool.queues.iter().map(|queue| format!("queue {queue}"));
    let also = also.chain(pool.groups.iter().map(|group| format!("group {group}")));
    let also: Vec<String> = also.chain(pool.agents.iter().map(ToString::to_string)).collect();
    if !also.is_empty() {
        parts.push(format!("{} {}", if pool.only { "only" } else { "also" }, also.join(", ")));
    }
    parts.extend(pool.tier_max.map(|tier| format!("up to tier {tier}")));
    if step.boost != 0 {
        parts.push(format!("boost {}", step.boost));
    }
    let what = if parts.is_empty() { "anybody".to_owned() } else { parts.join(", ") };
    step.until_ms.map(|until| format!("{what} until {}s", until.0 / 1000)).unwrap_or(what)
}

fn condition(expr: &contract::policy::Expr) -> String {
    use contract::policy::Expr;
    let all = |parts: &[Expr], with: &str| parts.iter().map(condition).collect::<Vec<_>>().join(with);
    match expr {
        Expr::All(parts) => all(parts, ", "),
        Expr::Any(parts) => format!("({})", all(parts, " or ")),
        Expr::Not(part) => format!("not ({})", condition(part)),
        Expr::Skill(test) if test.max < 10 => format!("{} {} to {}", test.skill, test.min, test.max),
        Expr::Skill(test) => format!("{} {}", test.skill, test.min),
        Expr::Attribute(test) => serde_json::to_string(&Expr::Attribute(test.clone())).unwrap(),
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
            Exclusion::PrimaryFull { load, capacity } => format!("busy with other work {load}/{capacity}"),
            Exclusion::NotInPool => "not asked in this step".to_owned(),
            Exclusion::Delayed { .. } => "asked later".to_owned(),
            Exclusion::NotResponding { .. } => "not responding".to_owned(),
            Exclusion::Resting { .. } => "resting".to_owned(),
            Exclusion::OfferRate { .. } => "had enough offers".to_owned(),
            Exclusion::Unfit { condition } => format!("not {condition}"),
            Exclusion::ChannelCap { cap } => format!("has {cap} of the channel"),
            Exclusion::LabelCap { label, cap } => format!("has {cap} of {label}"),
            Exclusion::Blocked { by } => format!("holds {by}"),
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
