//! What is known of customers besides who they are, as far as routing and sending depend on it.

use std::collections::{BTreeMap, BTreeSet};

use contract::event::{Consent, ProfileChange};
use contract::policy::Value;
use contract::{ChannelKind, CustomerId, SmolStr};
use serde::{Deserialize, Serialize};

use crate::state::State;

/// The purpose of an answer.
pub(crate) const SERVICE: &str = "service";
/// Most different consents of a customer.
const CONSENTS_MAX: usize = 64;
/// Most attributes of a customer, and most segments.
const ATTRIBUTES_MAX: usize = 64;

/// What is known of a customer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The language that it is to be answered in.
    pub language: Option<SmolStr>,
    /// Attributes, by name.
    pub attributes: BTreeMap<SmolStr, SmolStr>,
    /// The segments that it is in.
    pub segments: BTreeSet<SmolStr>,
    /// What it was promised.
    pub promised: Option<String>,
    /// What it allowed and forbade, the newest word last.
    pub consents: Vec<Consent>,
}

/// What a word of consent is of.
#[derive(Debug, Clone, Copy)]
enum Of {
    /// One provider of a channel.
    Provider,
    /// Whichever provider, since it is not known which one.
    AnyProvider,
    /// A channel as a whole.
    Channel,
    /// Any channel.
    Everything,
}

impl About {
    pub(crate) fn change(&mut self, change: &ProfileChange) {
        if change.language.is_some() {
            self.language.clone_from(&change.language);
        }
        if let Some(promised) = &change.promised {
            self.promised = Some(promised.clone()).filter(|promised| !promised.is_empty());
        }
        for (name, value) in &change.attributes {
            match value {
                Some(value) if self.attributes.len() < ATTRIBUTES_MAX || self.attributes.contains_key(name) => {
                    self.attributes.insert(name.clone(), value.clone());
                }
                Some(_) => {}
                None => {
                    self.attributes.remove(name);
                }
            }
        }
        for segment in &change.segments_added {
            if self.segments.len() < ATTRIBUTES_MAX {
                self.segments.insert(segment.clone());
            }
        }
        for segment in &change.segments_removed {
            self.segments.remove(segment);
        }
    }

    pub(crate) fn consent(&mut self, consent: &Consent) {
        let of = |said: &Consent| (said.channel.clone(), said.provider.clone(), said.purpose.clone());
        self.consents.retain(|said| of(said) != of(consent));
        self.consents.push(consent.clone());
        if self.consents.len() > CONSENTS_MAX {
            self.consents.remove(0);
        }
    }
}

impl State {
    /// What is known of a person, over all that was merged; the one that it goes under has the last word.
    #[must_use]
    pub fn about(&self, customer: CustomerId) -> About {
        let mut all = About::default();
        let members: Vec<CustomerId> = self.kin.members(customer).collect();
        for about in members.iter().rev().filter_map(|member| self.about.get(member)) {
            all.language = about.language.clone().or(all.language);
            all.promised = about.promised.clone().or(all.promised);
            all.attributes.extend(about.attributes.clone());
            all.segments.extend(about.segments.iter().cloned());
            for consent in &about.consents {
                all.consent(consent);
            }
        }
        all
    }

    /// Whether a customer may be written to: by what it said of this provider of the channel and the purpose, else of the
    /// provider; else of the channel and the purpose, else of the channel; else of the purpose, else of everything; where
    /// it said nothing, by what the policy says of the purpose. Of two words by members of one person, a no counts. Where
    /// it is not known whose account it is, a no to any provider of the channel counts.
    #[must_use]
    pub fn may_write(
        &self,
        customer: CustomerId,
        kind: &ChannelKind,
        provider: Option<&SmolStr>,
        purpose: &str,
    ) -> bool {
        let fallback = !self.policy.contact.opt_in.contains(purpose);
        if self.about.is_empty() {
            return fallback;
        }
        let said = |about: &About| {
            let exact = |of: Of, named: bool| {
                let of_channel = |said: &Consent| said.channel.as_ref() == Some(kind);
                let fits = |said: &&Consent| {
                    (match of {
                        Of::Provider => {
                            of_channel(said) && said.provider.is_some() && said.provider.as_ref() == provider
                        }
                        Of::AnyProvider => of_channel(said) && said.provider.is_some() && !said.granted,
                        Of::Channel => of_channel(said) && said.provider.is_none(),
                        Of::Everything => said.channel.is_none(),
                    }) && (if named { said.purpose.as_deref() == Some(purpose) } else { said.purpose.is_none() })
                };
                about.consents.iter().find(fits).map(|said| said.granted)
            };
            let nearest = if provider.is_some() { Of::Provider } else { Of::AnyProvider };
            [nearest, Of::Channel, Of::Everything]
                .into_iter()
                .find_map(|of| exact(of, true).or_else(|| exact(of, false)))
        };
        let words: Vec<bool> = self.kin.members(customer).filter_map(|member| said(self.about.get(&member)?)).collect();
        if words.is_empty() { fallback } else { words.into_iter().all(|granted| granted) }
    }

    /// Adds what is known of a customer to what rules decide by.
    pub(crate) fn tell(&self, customer: CustomerId, facts: &mut policy::Facts) {
        if self.about.is_empty() {
            return;
        }
        let about = self.about(customer);
        facts.segment = about.segments.first().cloned();
        facts.customer = about.attributes.into_iter().map(|(name, value)| (name, Value::Text(value))).collect();
        let segments = about.segments.iter();
        facts.customer.extend(segments.map(|name| (SmolStr::from(format!("segment:{name}")), Value::Bool(true))));
        if facts.language.is_none() {
            facts.language = about.language;
        }
    }
}
