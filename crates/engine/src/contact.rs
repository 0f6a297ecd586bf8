//! How a customer is reached: by which thread an answer goes, how a conversation goes on by another channel, and what
//! happens to answers that nobody fetched.

use std::sync::Arc;

use contract::command::{Done, Refusal, RefusalKind, SwitchTo, Via};
use contract::envelope::{Account, Identity, Part, ReplyTarget, Scope, Text, Thread, ThreadKind, fingerprint};
use contract::event::ThreadRef;
use contract::journal::Cause;
use contract::{AgentId, ChannelKind, ConversationId, CustomerId, Envelope, Event, MessageId, SmolStr, Timestamp};
use serde::{Deserialize, Serialize};

use crate::about::SERVICE;
use crate::command::refuse;
use crate::conversation::{Phase, ThreadKey, ThreadState};
use crate::state::{State, Step};
use crate::timer::Timer;

/// Longest text of an answer that is kept until it is fetched, in bytes; the rest is where the customer finds it.
const UNREAD_BYTES_MAX: usize = 4096;
/// Most answers of a thread that are kept.
const UNREAD_MAX: usize = 32;
/// Most switches that a tenant has under way.
pub(crate) const SWITCHES_MAX: usize = 10_000;
/// What a switch's token begins with where it stands in a text.
pub(crate) const TOKEN_MARK: &str = "tl-";
/// Letters and digits of a token: 128 bits.
const TOKEN_CHARS: usize = 26;

/// Finds the address by which a customer is reached; the profile knows it.
pub trait Addresses {
    /// The customer's address of a scheme; `proven`: only one that is.
    fn address(&self, customer: CustomerId, scheme: &str, proven: bool) -> Option<Identity>;
}

/// Knows nobody's address.
#[derive(Debug, Clone, Copy)]
pub struct NoAddresses;

impl Addresses for NoAddresses {
    fn address(&self, _: CustomerId, _: &str, _: bool) -> Option<Identity> {
        None
    }
}

/// Answers that lie on a thread unread.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// The answers, oldest first, with their texts.
    pub answers: Vec<(MessageId, SmolStr)>,
    /// In which conversation the newest was given.
    pub conversation: Option<ConversationId>,
    /// When they go by another way.
    pub due_at: Timestamp,
    /// When such went last.
    pub sent_at: Option<Timestamp>,
}

/// A conversation that is to go on by another channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Which.
    pub conversation: ConversationId,
    /// Whose.
    pub customer: CustomerId,
    /// The address that it goes on by. Absent: whoever shows the token, by whatever address of the account.
    pub identity: Option<Identity>,
    /// The thread that it goes on by; without an address only its account counts.
    pub thread: ThreadKey,
    /// Until when the token counts.
    pub expires_at: Timestamp,
    /// The customer asked for it, not an agent.
    #[serde(default)]
    pub wished: bool,
}

/// A switch that an envelope shows the token of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Names the switch.
    pub id: SmolStr,
    /// What it is.
    pub switch: Switch,
}

/// Names a switch by its token, which itself is nowhere kept. A mail thread is called by the name: its channel signs it,
/// so that whoever only knows it gets nowhere.
pub(crate) fn switch_id(token: &str) -> SmolStr {
    spell(fingerprint(["switch", token]))
}

/// The kind of address that a kind of medium has.
#[must_use]
pub fn scheme_of(kind: &ChannelKind) -> SmolStr {
    match kind.as_str() {
        "sms" | "voice" | "phone" | "whatsapp" => SmolStr::new_static("tel"),
        other => SmolStr::from(other),
    }
}

/// 128 bits as 26 letters and digits.
#[must_use]
pub fn spell(bits: u128) -> SmolStr {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut rest = bits;
    let mut text = [b'a'; TOKEN_CHARS];
    for letter in text.iter_mut().rev() {
        *letter = LETTERS.get((rest & 31) as usize).copied().unwrap_or(b'a');
        rest >>= 5;
    }
    text.iter().map(|letter| char::from(*letter)).collect()
}

impl State {
    // === By which thread ===

    /// Why a thread cannot be written on, if it cannot. `template`: what is to be written is one.
    fn barred(&self, at: Timestamp, thread: &ThreadState, purpose: &str, template: bool) -> Option<String> {
        let (kind, provider) = (&thread.account.kind, thread.account.medium());
        if !self.may_write(thread.customer, kind, provider, purpose) {
            let by = provider.map_or(kind.as_str(), SmolStr::as_str);
            return Some(format!("the customer does not want {purpose} messages by {by}"));
        }
        match thread.window_until() {
            Some(until) if until <= at && !(template && thread.takes_templates()) => {
                Some(format!("the time to answer freely by {kind} is over"))
            }
            _ => None,
        }
    }

    /// The thread of a conversation that an answer goes by: the one that is asked for, else the one that the customer
    /// used last of those that may be written on; a template goes by one whose provider has such, if any has.
    pub(crate) fn answer_by(
        &self,
        at: Timestamp,
        id: ConversationId,
        via: Option<&Via>,
        purpose: &str,
        content: &[Part],
    ) -> Result<Arc<ThreadKey>, Refusal> {
        let template = !content.is_empty() && content.iter().all(|part| matches!(part, Part::Template { .. }));
        let threads = self.conversations.get(&id).map(|item| &item.threads[..]).unwrap_or_default();
        let wanted = |key: &&Arc<ThreadKey>| {
            via.is_none_or(|via| {
                via.kind == key.kind
                    && via.account.as_ref().is_none_or(|account| *account == key.account)
                    && via.thread.as_ref().is_none_or(|thread| *thread == key.key)
            })
        };
        let mut why = None;
        let mut found = None;
        for key in threads.iter().rev().filter(wanted) {
            let Some(thread) = self.threads.get(key) else { continue };
            match self.barred(at, thread, purpose, template) {
                None if !template || thread.takes_templates() => return Ok(Arc::clone(key)),
                None => found = found.or(Some(key)),
                Some(reason) => why = why.or(Some(reason)),
            }
        }
        if let Some(key) = found {
            return Ok(Arc::clone(key));
        }
        match why {
            Some(why) => refuse(RefusalKind::Conflict, why),
            None if via.is_some() => refuse(RefusalKind::NotFound, "via: the conversation has no such thread"),
            None => refuse(RefusalKind::Conflict, "there is no thread to answer on"),
        }
    }

    // === Mirrors ===

    /// Whether what is said by a kind of medium is to be shown on another thread of the conversation too.
    pub(crate) fn shows_elsewhere(&self, id: ConversationId, said_by: &ChannelKind) -> bool {
        let shown = &self.policy.contact.mirrored_to;
        let item = self.conversations.get(&id);
        item.is_some_and(|item| item.threads.iter().any(|key| key.kind != *said_by && shown.contains(&key.kind)))
    }

    /// Shows what was said on one thread on the others of the conversation that show such.
    pub(crate) fn mirror(
        &mut self,
        step: &mut Step,
        id: ConversationId,
        message: MessageId,
        said_on: &ThreadKey,
        agent: Option<&AgentId>,
        content: &[Part],
    ) {
        let Some(item) = self.conversations.get(&id) else { return };
        let Some(customer) = self.threads.get(said_on).map(|thread| self.kin.root(thread.customer)) else { return };
        let shows = |key: &&Arc<ThreadKey>| {
            key.kind != said_on.kind
                && self.policy.contact.mirrored_to.contains(&key.kind)
                && self.threads.get(key).is_some_and(|thread| self.kin.root(thread.customer) == customer)
        };
        let events: Vec<Event> = item
            .threads
            .iter()
            .filter(shows)
            .filter_map(|key| {
                let thread = self.threads.get(key)?;
                Some(Event::MessageMirrored {
                    conversation: id,
                    message,
                    thread: thread.reference(key),
                    thread_seq: thread.seq + 1,
                    after: thread.last_sent,
                    agent: agent.cloned(),
                    by: said_on.kind.clone(),
                    content: content.to_vec(),
                })
            })
            .collect();
        for event in events {
            self.emit(step, event);
        }
    }

    // === Unread ===

    /// An answer was given on a thread whose customer may be away.
    pub(crate) fn evolve_unread(
        &mut self,
        at: Timestamp,
        key: &ThreadKey,
        id: ConversationId,
        message: MessageId,
        content: &[Part],
    ) {
        let contact = &self.policy.contact;
        if contact.unread_by.is_none() || !contact.unread_of.contains(&key.kind) {
            return;
        }
        let (after, every, most) = (contact.unread_after_ms, contact.unread_every_ms, contact.unread_most as usize);
        self.change_unread(key, |unread| {
            if unread.answers.is_empty() {
                let due = at + after;
                unread.due_at = unread.sent_at.map_or(due, |sent| due.max(sent + every));
            }
            unread.conversation = Some(id);
            unread.answers.push((message, words(content)));
            let over = unread.answers.len().saturating_sub(most.clamp(1, UNREAD_MAX));
            unread.answers.drain(..over);
        });
    }

    /// The customer has, or saw, answers.
    pub(crate) fn evolve_fetched(&mut self, key: &ThreadKey, messages: &[MessageId]) {
        let lies = |thread: &ThreadState| thread.unread().is_some_and(|unread| !unread.answers.is_empty());
        if self.threads.get(key).is_some_and(lies) {
            self.change_unread(key, |unread| unread.answers.retain(|(message, _)| !messages.contains(message)));
        }
    }

    fn change_unread(&mut self, key: &ThreadKey, change: impl FnOnce(&mut Unread)) {
        let Some(thread) = self.threads.get_mut(key) else { return };
        let before = thread.unread_due();
        change(&mut thread.extra.get_or_insert_default().unread);
        let after = thread.unread_due();
        if before != after && !self.index.replaying {
            let timer = |at| (at, Timer::Unread(Box::new(key.clone())));
            if let Some(before) = before {
                self.index.timers.remove(&timer(before));
            }
            self.index.timers.extend(after.map(timer));
        }
    }

    /// Answers have lain unread for long enough: they go by another way, where there is one.
    pub(crate) fn send_unread(&mut self, step: &mut Step, key: &ThreadKey, addresses: &dyn Addresses) {
        let Some(thread) = self.threads.get(key) else { return };
        let (Some(unread), Some(by)) = (thread.unread(), self.policy.contact.unread_by.clone()) else { return };
        let customer = thread.customer;
        let Some(conversation) = unread.conversation else { return };
        let messages = unread.answers.iter().map(|(message, _)| *message).collect();
        let texts: Vec<&str> = unread.answers.iter().map(|(_, text)| text.as_str()).collect();
        let body = texts.join("\n\n");
        let lying = thread.reference(key);
        let proven = !self.policy.contact.unread_to_claimed;
        let address = addresses.address(customer, &scheme_of(&by.kind), proven);
        let address = address.filter(|_| self.may_write(customer, &by.kind, None, SERVICE));
        let told_by = address.map(|address| {
            // One thread there for each one here, so that a second such message stands under the first.
            let name = fingerprint(["unread", key.kind.as_str(), key.account.as_str(), &key.key, &address.value]);
            let to = SwitchTo { kind: by.kind, account: by.account, address: address.value };
            let thread = self.thread_to(&to, spell(name), self.policy.contact.unread_subject.clone());
            self.tell_on(step, conversation, customer, thread, &body, "unread")
        });
        // Whether or not it arrives, and even where nobody can be told: they are not looked at again.
        self.emit(step, Event::MessageLeftUnread { conversation, thread: lying, messages, told_by });
    }

    pub(crate) fn evolve_left_unread(&mut self, at: Timestamp, thread: &ThreadRef, told: bool) {
        self.change_unread(&ThreadKey::new(&thread.account, &thread.thread.key), |unread| {
            unread.answers.clear();
            unread.sent_at = if told { Some(at) } else { unread.sent_at };
        });
    }

    /// A thread on an account with an address, as it is known, or a new one.
    pub(crate) fn thread_to(&self, to: &SwitchTo, key: SmolStr, subject: SmolStr) -> ThreadRef {
        // Where a medium has no threads of its own, the address names it.
        let threaded = to.kind.as_str() == "email";
        let key = if threaded { key } else { to.address.clone() };
        let account = Account { kind: to.kind.clone(), id: to.account.clone(), provider: None, address: None };
        let named = ThreadKey::new(&account, &key);
        if let Some(known) = self.threads.get(&named) {
            return known.reference(&named);
        }
        let reply_target = Some(ReplyTarget { address: to.address.clone(), token: None, token_until: None });
        let kind = if threaded { ThreadKind::Thread } else { ThreadKind::Direct };
        let subject = Some(subject).filter(|_| threaded);
        ThreadRef { account, thread: Thread { key, kind, external_id: None, sub_id: None, subject, reply_target } }
    }

    /// Tells a customer something on a thread that may be new.
    pub(crate) fn tell_on(
        &mut self,
        step: &mut Step,
        conversation: ConversationId,
        customer: CustomerId,
        thread: ThreadRef,
        body: &str,
        notice: &'static str,
    ) -> MessageId {
        let known = self.threads.get(&ThreadKey::new(&thread.account, &thread.thread.key));
        let message = MessageId(self.last_message + 1);
        let event = Event::MessageNotified {
            conversation,
            message,
            thread_seq: known.map_or(0, |known| known.seq) + 1,
            after: known.and_then(|known| known.last_sent),
            thread,
            content: vec![Part::Text(Text { body: body.to_owned(), ..Text::default() })],
            notice: SmolStr::new_static(notice),
            customer: Some(customer),
        };
        self.emit(step, event);
        message
    }

    // === Switches ===

    /// Asks the customer of a conversation to go on by another channel. `token`: 26 letters and digits that nobody can
    /// guess; it goes to the address, and only its fingerprint is kept.
    ///
    /// # Errors
    /// With a refusal; nothing was decided then.
    pub fn offer_switch(
        &mut self,
        step: &mut Step,
        agent: &AgentId,
        id: ConversationId,
        to: &SwitchTo,
        token: &str,
    ) -> Result<Done, Refusal> {
        match self.held(agent, id)? {
            Phase::Active { .. } | Phase::Parked { .. } => {}
            phase => return refuse(RefusalKind::Conflict, format!("it is {}", phase.name())),
        }
        if to.address.trim().is_empty() || to.address.len() > contract::limits::KEY_BYTES_MAX {
            return refuse(RefusalKind::Invalid, "to.address: is empty or too long");
        }
        if self.switches.len() >= SWITCHES_MAX {
            return refuse(RefusalKind::Unavailable, "too many conversations are being moved at once");
        }
        let Some(customer) = self.conversations.get(&id).map(|item| item.customer) else {
            return refuse(RefusalKind::NotFound, format!("conversation {id} is not open"));
        };
        if !self.may_write(customer, &to.kind, None, SERVICE) {
            return refuse(RefusalKind::Conflict, format!("the customer does not want messages by {}", to.kind));
        }
        let mail = to.kind.as_str() == "email";
        let thread = self.thread_to(to, switch_id(token), self.policy.contact.unread_subject.clone());
        let identity = Identity {
            scheme: scheme_of(&to.kind),
            value: to.address.clone(),
            scope: Scope::Global,
            scope_id: None,
            raw: None,
            assurance: None,
        };
        let expires_at = step.at + self.policy.contact.switch_ms;
        let text = self.policy.contact.switch_text.clone();
        // A mail carries the token in the address that it is answered to; elsewhere it stands in the text.
        let body = if mail { text.to_string() } else { format!("{text} {TOKEN_MARK}{token}") };
        let event = Event::ConversationSwitchOffered {
            conversation: id,
            switch: switch_id(token),
            thread: thread.clone(),
            identity,
            expires_at,
            by: Some(agent.clone()),
        };
        self.emit(step, event);
        let message = self.tell_on(step, id, customer, thread, &body, "switch");
        Ok(Done { conversation: Some(id), message: Some(message), ..Done::default() })
    }

    /// The switch that an envelope shows the token of, as long as it counts.
    #[must_use]
    pub fn shown_switch(&self, now: Timestamp, envelope: &Envelope) -> Option<Shown> {
        if self.switches.is_empty() {
            return None;
        }
        let by_thread = envelope.mail.as_ref().filter(|mail| mail.thread_proven).map(|_| envelope.thread.key.clone());
        let texts = envelope.content.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.visible.as_deref().unwrap_or(&text.body)),
            Part::Choice(choice) => Some(choice.title.as_str()),
            _ => None,
        });
        let in_texts = texts.flat_map(|text| text.split_whitespace()).filter_map(|word| {
            let token = word.trim_matches(|c: char| !c.is_ascii_alphanumeric()).strip_prefix(TOKEN_MARK)?;
            (token.len() == TOKEN_CHARS).then(|| switch_id(token))
        });
        by_thread.into_iter().chain(in_texts.take(4)).find_map(|id| {
            let switch = self.switches.get(&id).filter(|switch| now < switch.expires_at)?;
            // It counts on the account that it was sent by, and nowhere else.
            let account = &envelope.account;
            (switch.thread.kind == account.kind && switch.thread.account == account.id)
                .then(|| Shown { id, switch: switch.clone() })
        })
    }

    /// Whose thread a message proves to belong to. A phone call is its caller's, whichever leg an event is of: those of
    /// an agent's leg, and of what was recorded, do not name the caller.
    #[must_use]
    pub fn proven_thread(&self, envelope: &Envelope) -> Option<CustomerId> {
        let proven = envelope.mail.as_ref().is_some_and(|mail| mail.thread_proven)
            || envelope.call.is_some() && envelope.thread.kind == ThreadKind::Call;
        if !proven {
            return None;
        }
        self.threads.get(&ThreadKey::new(&envelope.account, &envelope.thread.key)).map(|thread| thread.customer)
    }

    /// The customer went on by a switch: it is over, and the conversation runs on its thread too.
    pub fn switched(&mut self, step: &mut Step, shown: &Shown, by: &Envelope) {
        let event = Event::ConversationSwitched {
            conversation: shown.switch.conversation,
            switch: shown.id.clone(),
            thread: Some(ThreadRef { account: by.account.clone(), thread: by.thread.clone() }),
        };
        self.emit(step, event);
    }

    pub(crate) fn evolve_switched(&mut self, id: ConversationId, switch: &SmolStr, thread: Option<&ThreadRef>) {
        self.switches.remove(switch);
        let key = thread.map(|thread| ThreadKey::new(&thread.account, &thread.thread.key));
        if let (Some(key), Some(item)) = (key, self.conversations.get_mut(&id))
            && !item.runs_on(&key)
        {
            item.threads.push(self.threads.named(&key).map_or_else(|| Arc::new(key), |known| Arc::clone(&known.key)));
        }
    }

    pub(crate) fn evolve_switch_offered(
        &mut self,
        id: ConversationId,
        switch: &SmolStr,
        thread: &ThreadRef,
        identity: &Identity,
        expires_at: Timestamp,
        wished: bool,
    ) {
        let Some(customer) = self.conversations.get(&id).map(|item| item.customer) else { return };
        if wished {
            self.evolve_wished(self.now, customer, Some(&identity.value));
        }
        let switched = Switch {
            conversation: id,
            customer,
            identity: Some(identity.clone()),
            thread: ThreadKey::new(&thread.account, &thread.thread.key),
            expires_at,
            wished,
        };
        self.keep_switch(switch, switched);
    }

    pub(crate) fn keep_switch(&mut self, id: &SmolStr, switch: Switch) {
        // Those that have lapsed are forgotten when another begins.
        let now = self.now;
        self.switches.retain(|_, switch| switch.expires_at > now);
        self.switches.insert(id.clone(), switch);
    }

    // === Erasure ===

    /// Ends what a customer has open, so that it can be forgotten, and forgets it. `keys`: the fingerprints of its
    /// identities; those of its threads are added.
    pub fn erase(&mut self, step: &mut Step, customers: Vec<CustomerId>, mut keys: Vec<SmolStr>, by: &SmolStr) {
        let open: Vec<ConversationId> =
            customers.iter().flat_map(|customer| self.index.open_of(self.kin.root(*customer))).collect();
        for id in open {
            if !self.conversations.get(&id).is_some_and(|item| customers.contains(&item.customer)) {
                continue;
            }
            self.withdraw_offers(step, id, "closed");
            let reason = Some(SmolStr::new_static("erased"));
            self.emit(step, Event::ConversationClosed { conversation: id, by: None, reason, disposition: None });
        }
        keys.extend(customers.iter().flat_map(|customer| self.index.threads_of(*customer)).map(|key| {
            let texts = ["thread", key.kind.as_str(), key.account.as_str(), &key.key];
            SmolStr::from(format!("{:032x}", fingerprint(texts)))
        }));
        self.emit(step, Event::CustomerErased { customers, keys, by: by.clone() });
    }

    pub(crate) fn evolve_erased(&mut self, customers: &[CustomerId]) {
        let gone: Vec<Arc<ThreadKey>> =
            customers.iter().flat_map(|customer| self.index.take_threads(*customer)).collect();
        for key in gone {
            self.change_unread(&key, |unread| unread.answers.clear());
            if let Some(thread) = self.threads.remove(&key) {
                self.index.accounts.give_back(&thread.account);
            }
        }
        for customer in customers {
            if let Some(past) = self.past.remove(customer) {
                self.index.past.remove(&(past.closed_at, *customer));
            }
            self.about.remove(customer);
            self.switches.retain(|_, switch| switch.customer != *customer);
            self.wishes.retain(|wished| wished.customer != *customer);
            self.kin.forget(*customer);
        }
    }

    // === Commands that others decide ===

    /// Begins a command that is decided elsewhere, or gives the answer that it had before.
    ///
    /// # Errors
    /// With that answer, when it was done already.
    pub fn open_command(&self, now: Timestamp, by: &SmolStr, id: &SmolStr) -> Result<Step, Done> {
        let agent = by.strip_prefix("agent.").and_then(|name| self.agents.get(name));
        let answered = match agent {
            Some(agent) => agent.commands.answer(id),
            None => self.admin_commands.answer(id),
        };
        match answered {
            Some(done) => Err(done.clone()),
            None => {
                let cause = Cause::Command { by: by.clone(), id: id.clone(), done: Done::default() };
                Ok(self.begin(now, cause))
            }
        }
    }

    /// Ends a command that was decided elsewhere.
    pub fn close_command(&mut self, step: &mut Step, done: &Done) {
        if let Cause::Command { done: kept, .. } = &mut step.cause {
            kept.clone_from(done);
        }
        self.finish(step);
    }

    /// The customer of a conversation that an agent answers for.
    ///
    /// # Errors
    /// With a refusal, when it does not.
    pub fn customer_of(&self, agent: &AgentId, id: ConversationId) -> Result<CustomerId, Refusal> {
        self.held(agent, id)?;
        let customer = self.conversations.get(&id).map(|item| item.customer);
        customer.ok_or_else(|| Refusal::new(RefusalKind::NotFound, format!("conversation {id} is not open")))
    }
}

/// What was said, as far as it is text.
fn words(content: &[Part]) -> SmolStr {
    let mut all = String::new();
    for part in content {
        let text = match part {
            Part::Text(text) => text.body.as_str(),
            Part::System { body } => body.as_str(),
            Part::Media(media) => media.caption.as_deref().or(media.name.as_deref()).unwrap_or_default(),
            _ => "",
        };
        if !text.is_empty() {
            if !all.is_empty() {
                all.push('\n');
            }
            all.push_str(text);
        }
    }
    let end = (0..=all.len().min(UNREAD_BYTES_MAX)).rev().find(|end| all.is_char_boundary(*end)).unwrap_or(0);
    SmolStr::from(all.get(..end).unwrap_or_default())
}
