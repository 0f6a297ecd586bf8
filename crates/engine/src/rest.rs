//! What routing knows of customers who have been silent for long: it leaves memory with them, and comes back as it was.
//!
//! Of each of their threads a short fingerprint stays, so that whatever comes on it is not taken for the first on a new
//! one: whose thread it may be is fetched before anything is decided.

use std::collections::BTreeSet;
use std::sync::Arc;

use contract::envelope::fingerprint;
use contract::{CustomerId, Envelope, SmolStr, Timestamp};
use serde::{Deserialize, Serialize};

use crate::about::About;
use crate::contact::{Addresses, spell};
use crate::conversation::{Past, ThreadKey, ThreadState};
use crate::state::State;
use crate::timer::Timer;

/// What routing knows of a person, as an entry of the key-value side holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its threads.
    pub threads: Vec<(ThreadKey, ThreadState)>,
    /// Its newest conversations that have ended, one of each customer that it is.
    pub past: Vec<(CustomerId, Past)>,
    /// What else is known of it.
    pub about: Vec<(CustomerId, About)>,
}

/// What is kept of the name of a thread.
#[expect(clippy::cast_possible_truncation, reason = "half of it is enough to be rarely wrong")]
fn short(key: &ThreadKey) -> u64 {
    fingerprint(["thread", key.kind.as_str(), key.account.as_str(), &key.key]) as u64
}

impl State {
    /// Who rests and may be concerned by what comes on a thread.
    pub fn resting_owners(&self, key: &ThreadKey, found: &mut BTreeSet<CustomerId>) {
        if !self.resting.is_empty() {
            let short = short(key);
            let of_key = self.resting.range((short, CustomerId(0))..=(short, CustomerId(u64::MAX)));
            found.extend(of_key.map(|(_, customer)| *customer));
        }
    }

    /// The same of the thread that an envelope came on.
    pub fn resting_on_thread(&self, envelope: &Envelope, found: &mut BTreeSet<CustomerId>) {
        self.resting_owners(&ThreadKey::new(&envelope.account, &envelope.thread.key), found);
    }

    /// Who rests and may be concerned by what is due now: whose thread an answer that nobody fetched would go by.
    pub fn resting_when_due(&self, now: Timestamp, addresses: &dyn Addresses, found: &mut BTreeSet<CustomerId>) {
        if self.resting.is_empty() {
            return;
        }
        for (_, timer) in self.index.timers.iter().take_while(|(at, _)| *at <= now) {
            if let Timer::Unread(key) = timer
                && let Some(to) = self.unread_goes_to(key, addresses)
            {
                self.resting_owners(&to, found);
            }
        }
    }

    fn unread_goes_to(&self, key: &ThreadKey, addresses: &dyn Addresses) -> Option<ThreadKey> {
        let thread = self.threads.get(key)?;
        let by = self.policy.contact.unread_by.as_ref()?;
        let proven = !self.policy.contact.unread_to_claimed;
        let address = addresses.address(thread.customer, &crate::contact::scheme_of(&by.kind), proven)?;
        let name = fingerprint(["unread", key.kind.as_str(), key.account.as_str(), &key.key, &address.value]);
        let named = if by.kind.as_str() == "email" { spell(name) } else { address.value };
        Some(ThreadKey { kind: by.kind.clone(), account: by.account.clone(), key: named })
    }

    /// Customers that are asked to go on by another channel, as long as the question stands.
    #[must_use]
    pub fn switching(&self, now: Timestamp) -> BTreeSet<CustomerId> {
        let standing = self.switches.values().filter(|switch| now < switch.expires_at);
        standing.map(|switch| self.kin.root(switch.customer)).collect()
    }

    /// Whether nothing of a person is under way: no conversation is open, no answer lies unread, and nobody else has
    /// written on a thread of it. `None`: something is. Else when a conversation of it ended last.
    #[must_use]
    pub fn nothing_open(&self, customer: CustomerId) -> Option<Timestamp> {
        if self.open_conversations(customer).next().is_some() {
            return None;
        }
        let threads = self.kin.members(customer).flat_map(|member| self.index.threads_of(member));
        for key in threads {
            let thread = self.threads.get(key)?;
            let extra = thread.extra.as_ref();
            if extra.is_some_and(|extra| extra.shared || !extra.unread.answers.is_empty()) {
                return None;
            }
        }
        Some(self.past_of(customer).map_or(Timestamp(0), |past| past.closed_at))
    }

    /// What an entry of the key-value side holds of a person.
    #[must_use]
    pub fn kept(&self, customer: CustomerId) -> Kept {
        let members: Vec<CustomerId> = self.kin.members(customer).collect();
        let threads = members.iter().flat_map(|member| self.index.threads_of(*member));
        Kept {
            threads: threads.filter_map(|key| Some(((**key).clone(), self.threads.get(key)?.clone()))).collect(),
            past: members.iter().filter_map(|member| Some((*member, self.past.get(member)?.clone()))).collect(),
            about: members.iter().filter_map(|member| Some((*member, (**self.about.get(member)?).clone()))).collect(),
        }
    }

    pub(crate) fn evolve_rested(&mut self, person: CustomerId, customers: &[CustomerId]) {
        for customer in customers {
            for key in self.index.take_threads(*customer) {
                if let Some(thread) = self.threads.remove(&key) {
                    self.index.accounts.give_back(&thread.account);
                    self.resting.insert((short(&key), person));
                }
            }
            if let Some(past) = self.past.remove(customer) {
                self.index.past.remove(&(past.closed_at, *customer));
            }
            self.about.remove(customer);
        }
    }

    pub(crate) fn evolve_recalled(&mut self, person: CustomerId, kept: Kept) {
        for (key, mut thread) in kept.threads {
            self.resting.remove(&(short(&key), person));
            // Whatever is here is newer.
            if self.threads.contains_key(&key) {
                continue;
            }
            self.index.accounts.join(&mut thread.account);
            let due = thread.unread_due();
            self.index.timers.extend(due.map(|at| (at, Timer::Unread(Box::new(key.clone())))));
            let key = Arc::new(key);
            self.index.note_thread(thread.customer, &key);
            self.threads.insert(key, thread);
        }
        for (customer, past) in kept.past {
            self.index.past.insert((past.closed_at, customer));
            self.past.insert(customer, past);
        }
        for (customer, about) in kept.about {
            self.about.insert(customer, Box::new(about));
        }
    }
}

impl crate::index::Index {
    /// The threads of a customer, as it came.
    pub(crate) fn threads_of(&self, customer: CustomerId) -> impl Iterator<Item = &Arc<ThreadKey>> {
        let all = self.threads.range((customer, None)..).take_while(move |(of, _)| *of == customer);
        all.filter_map(|(_, key)| key.as_ref())
    }

    /// A thread is a customer's.
    pub(crate) fn note_thread(&mut self, customer: CustomerId, key: &Arc<ThreadKey>) {
        self.threads.insert((customer, Some(Arc::clone(key))));
    }

    /// A thread is a customer's no more.
    pub(crate) fn lose_thread(&mut self, customer: CustomerId, key: &Arc<ThreadKey>) {
        self.threads.remove(&(customer, Some(Arc::clone(key))));
    }

    /// No thread is a customer's any more; those that were.
    pub(crate) fn take_threads(&mut self, customer: CustomerId) -> Vec<Arc<ThreadKey>> {
        let taken: Vec<Arc<ThreadKey>> = self.threads_of(customer).cloned().collect();
        for key in &taken {
            self.lose_thread(customer, key);
        }
        taken
    }
}

/// Reads what an entry holds.
pub(crate) fn read(text: &str) -> Option<Kept> {
    contract::Encoding::Json.decode(text.as_bytes(), text.len()).ok()
}

/// Names the thread that a switch to an address goes by, where the medium has no threads of its own.
#[must_use]
pub fn named_by_address(to: &contract::command::SwitchTo) -> Option<ThreadKey> {
    let key: SmolStr = to.address.clone();
    (to.kind.as_str() != "email").then(|| ThreadKey { kind: to.kind.clone(), account: to.account.clone(), key })
}
