//! A customer's own wish to go on by another channel: the policy says by which, and how often.
//!
//! Whoever asks may type somebody else's address. So what is written there says nothing of the conversation, an
//! address is written to a few times a day at most, whoever typed it, and somebody who does not want to be written to
//! is not, without the one who asked being told so.

use contract::envelope::{Account, EnvelopeKind, Identity, Scope};
use contract::policy::SwitchWay;
use contract::{AccountId, ChannelKind, ConversationId, CustomerId, Envelope, Event, SmolStr, Timestamp};
use serde::{Deserialize, Serialize};

use crate::about::SERVICE;
use crate::contact::{SWITCHES_MAX, Switch, TOKEN_MARK, scheme_of, spell, switch_id};
use crate::conversation::ThreadKey;
use crate::state::{State, Step};

/// The signal by which a channel passes the wish on.
const SIGNAL: &str = "switch";
/// Most wishes that are counted; more are not met.
const WISHES_MAX: usize = 20_000;
const HOUR: contract::Millis = contract::Millis::from_secs(3600);
const DAY: contract::Millis = contract::Millis::from_secs(24 * 3600);
/// Longest address that is shown to the one who typed it, in bytes.
const ADDRESS_BYTES_MAX: usize = 254;

/// By what a customer wants to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    kind: ChannelKind,
    account: AccountId,
    /// The customer's own address there, as it was typed.
    address: Option<SmolStr>,
}

/// A wish that counts against the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wished {
    at: Timestamp,
    pub(crate) customer: CustomerId,
    /// The fingerprint of the address that was written to. Absent: the customer was told something.
    address: Option<SmolStr>,
}

impl Wish {
    /// The wish that an envelope passes on, if it does.
    #[must_use]
    pub fn of(envelope: &Envelope) -> Option<Self> {
        if !matches!(envelope.kind, EnvelopeKind::ContactEvent | EnvelopeKind::ConversationEvent) {
            return None;
        }
        let signal = envelope.signal.as_ref().filter(|signal| signal.name == SIGNAL)?;
        let text = |name: &str| signal.data.get(name).and_then(|value| value.as_str());
        let address = text("address").map(str::trim).filter(|address| !address.is_empty());
        Some(Self {
            kind: ChannelKind::new(text("kind")?).ok()?,
            account: AccountId::new(text("account")?).ok()?,
            address: address.map(SmolStr::from),
        })
    }

    /// Whose address it is said to be.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        let value = self.address.clone()?;
        Some(Identity {
            scheme: scheme_of(&self.kind),
            value,
            scope: Scope::Global,
            scope_id: None,
            raw: None,
            assurance: None,
        })
    }
}

/// One name for all spellings of an address that are likely to reach the same person.
fn mailbox(address: &str) -> SmolStr {
    let address = address.to_lowercase();
    let name = match address.rsplit_once('@') {
        Some((local, domain)) => {
            let local = local.split('+').next().unwrap_or_default().replace('.', "");
            format!("{local}@{domain}")
        }
        None => address.chars().filter(|c| c.is_ascii_digit()).collect(),
    };
    spell(contract::envelope::fingerprint(["mailbox", name.as_str()]))
}

impl State {
    /// Takes in a wish, and meets it where the policy allows it. `listeners`: who is known by the address; `known`:
    /// whether the policy takes it for an address at all. `token`: 26 letters and digits that nobody can guess. The
    /// step is open and is finished here.
    #[expect(clippy::too_many_arguments, reason = "each says one thing of the same wish")]
    pub fn receive_wish(
        &mut self,
        step: &mut Step,
        customer: CustomerId,
        envelope: Envelope,
        wish: &Wish,
        listeners: &[CustomerId],
        known: bool,
        token: &str,
    ) {
        let key = ThreadKey::new(&envelope.account, &envelope.thread.key);
        let open = self.joins(customer, &envelope, None);
        self.signal(step, Some(customer), envelope);
        // Without a conversation there is nothing to go on with.
        if let Some(id) = open.filter(|_| self.threads.contains_key(&key)) {
            self.meet(step, id, customer, &key, wish, listeners, known, token);
        }
        self.finish(step);
    }

    #[expect(clippy::too_many_arguments, reason = "each says one thing of the same wish")]
    fn meet(
        &mut self,
        step: &mut Step,
        id: ConversationId,
        customer: CustomerId,
        asked_on: &ThreadKey,
        wish: &Wish,
        listeners: &[CustomerId],
        known: bool,
        token: &str,
    ) {
        let contact = &self.policy.contact;
        let root = self.kin.root(customer);
        let told = |wished: &&Wished| wished.address.is_none() && self.kin.root(wished.customer) == root;
        let often = self.wished(step.at, HOUR).filter(told).count();
        let most = contact.switch_customer_hour_max as usize;
        // Who goes on asking is told so a few times, and then nothing.
        if often >= most.saturating_mul(2) || self.wishes.len() >= WISHES_MAX {
            return;
        }
        let way = contact.switch_to.iter().find(|way| way.kind == wish.kind && way.account == wish.account).cloned();
        let possible = way.filter(|_| often < most && self.switches.len() < SWITCHES_MAX);
        let text = possible.and_then(|way| match &way.address {
            Some(address) => Some(self.show_way(step, id, &way, address, token)),
            None => self.write_to(step, id, customer, wish, listeners, known, token),
        });
        let (notice, text) = match text {
            Some(text) => ("switch_told", text),
            None => ("switch_refused", self.policy.contact.switch_refused_text.to_string()),
        };
        if let Some(thread) = self.threads.get(asked_on) {
            let thread = thread.reference(asked_on);
            self.tell_on(step, id, customer, thread, &text, notice);
        }
    }

    /// The customer is to write to us; returns what it is told.
    fn show_way(&mut self, step: &mut Step, id: ConversationId, way: &SwitchWay, address: &str, token: &str) -> String {
        let shown = format!("{TOKEN_MARK}{token}");
        let address = address.replace("{token}", &shown);
        let text = self.policy.contact.switch_shown_text.replace("{address}", &address).replace("{token}", &shown);
        let account = Account { kind: way.kind.clone(), id: way.account.clone(), provider: None, address: None };
        let expires_at = step.at + self.policy.contact.switch_ms;
        let switch = switch_id(token);
        self.emit(step, Event::ConversationSwitchShown { conversation: id, switch, account, expires_at });
        text
    }

    /// The customer is written to at the address that it typed; returns what it is told. `None`: that is not possible
    /// now.
    #[expect(clippy::too_many_arguments, reason = "each says one thing of the same wish")]
    fn write_to(
        &mut self,
        step: &mut Step,
        id: ConversationId,
        customer: CustomerId,
        wish: &Wish,
        listeners: &[CustomerId],
        known: bool,
        token: &str,
    ) -> Option<String> {
        let identity = wish.identity().filter(|identity| known && identity.value.len() <= ADDRESS_BYTES_MAX)?;
        let address = identity.value.clone();
        let contact = &self.policy.contact;
        let text = contact.switch_told_text.replace("{address}", &address);
        let name = mailbox(&address);
        let there = |wished: &&Wished| wished.address.as_ref() == Some(&name);
        let written = |wished: &&Wished| wished.address.is_some();
        if self.wished(step.at, DAY).filter(there).count() >= contact.switch_address_day_max as usize
            || self.wished(step.at, HOUR).filter(written).count() >= contact.switch_hour_max as usize
        {
            return None;
        }
        // Whoever types an address does not learn whether somebody is known by it, and what of.
        let wants = |who: &CustomerId| self.may_write(*who, &wish.kind, None, SERVICE);
        let wanted = std::iter::once(&customer).chain(listeners).all(wants);
        if !wanted {
            return Some(text);
        }
        let to = contract::command::SwitchTo { kind: wish.kind.clone(), account: wish.account.clone(), address };
        let thread = self.thread_to(&to, switch_id(token), contact.switch_asked_subject.clone());
        let asked = contact.switch_asked_text.clone();
        let body =
            if wish.kind.as_str() == "email" { asked.to_string() } else { format!("{asked} {TOKEN_MARK}{token}") };
        let event = Event::ConversationSwitchOffered {
            conversation: id,
            switch: switch_id(token),
            thread: thread.clone(),
            identity,
            expires_at: step.at + contact.switch_ms,
            by: None,
        };
        self.emit(step, event);
        self.tell_on(step, id, customer, thread, &body, "switch_asked");
        Some(text)
    }

    /// The wishes of the last while.
    fn wished(&self, now: Timestamp, span: contract::Millis) -> impl Iterator<Item = &Wished> {
        self.wishes.iter().rev().take_while(move |wished| wished.at + span > now)
    }

    pub(crate) fn evolve_wished(&mut self, at: Timestamp, customer: CustomerId, address: Option<&str>) {
        while self.wishes.front().is_some_and(|wished| wished.at + DAY <= at) || self.wishes.len() >= WISHES_MAX {
            self.wishes.pop_front();
        }
        self.wishes.push_back(Wished { at, customer, address: address.map(mailbox) });
    }

    pub(crate) fn evolve_switch_shown(
        &mut self,
        id: ConversationId,
        switch: &SmolStr,
        account: &Account,
        expires_at: Timestamp,
    ) {
        let Some(customer) = self.conversations.get(&id).map(|item| item.customer) else { return };
        let thread = ThreadKey::new(account, &SmolStr::default());
        let shown = Switch { conversation: id, customer, identity: None, thread, expires_at, wished: true };
        self.keep_switch(switch, shown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_mailbox_count_together() {
        for same in ["ann.bee+x@shop.example", "AnnBee@Shop.Example", "a.n.n.bee@shop.example"] {
            assert_eq!(mailbox(same), mailbox("annbee@shop.example"), "{same}");
        }
        assert_ne!(mailbox("annbee@shop.example"), mailbox("annbee@other.example"));
        assert_eq!(mailbox("+49 (30) 1"), mailbox("+49301"));
    }
}
