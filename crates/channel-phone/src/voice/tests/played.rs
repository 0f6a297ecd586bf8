//! Calls from beginning to end, played by webhooks in every order and twice: they end in the same state.

use super::*;

/// A call: the webhooks of it in their true order, and the state that it ends in.
struct Played {
    webhooks: &'static [&'static str],
    ends: &'static str,
    answered: bool,
    callback: bool,
}

const TWILIO_CALLS: [Played; 5] = [
    // From ringing to wrap-up.
    Played {
        webhooks: &[
            "incoming.form",
            "wait.form",
            "agent-initiated.form",
            "agent-ringing.form",
            "take.form",
            "agent-completed.form",
            "dialed-gone.form",
            "event-completed.form",
        ],
        ends: "completed",
        answered: true,
        callback: false,
    },
    Played {
        webhooks: &[
            "incoming.form",
            "wait.form",
            "key-voicemail.form",
            "recorded-gone.form",
            "event-completed.form",
            "voicemail.form",
            "transcript.form",
        ],
        ends: "voicemail",
        answered: false,
        callback: false,
    },
    Played {
        webhooks: &[
            "incoming.form",
            "wait.form",
            "key-callback.form",
            "event-completed.form",
            "callback-ringing.form",
            "callback-answered.form",
            "agent-ringing.form",
            "take.form",
            "agent-completed.form",
            "callback-completed.form",
        ],
        ends: "completed",
        answered: true,
        callback: true,
    },
    // Gone while waiting; the agent was not reached before.
    Played {
        webhooks: &[
            "incoming.form",
            "wait.form",
            "agent-ringing.form",
            "agent-no-answer.form",
            "dialed-no-answer.form",
            "event-completed.form",
        ],
        ends: "abandoned",
        answered: false,
        callback: false,
    },
    Played {
        webhooks: &[
            "incoming.form",
            "key-callback.form",
            "event-completed.form",
            "callback-ringing.form",
            "callback-busy.form",
        ],
        ends: "callback",
        answered: false,
        callback: true,
    },
];

const VONAGE_CALLS: [Played; 3] = [
    Played {
        webhooks: &[
            "incoming.json",
            "event-answered.json",
            "wait.json",
            "agent-started.json",
            "agent-ringing.json",
            "take.json",
            "agent-completed.json",
            "dialed.json",
            "event-completed.json",
        ],
        ends: "completed",
        answered: true,
        callback: false,
    },
    Played {
        webhooks: &[
            "incoming.json",
            "wait.json",
            "key-voicemail.json",
            "voicemail.json",
            "transcript.json",
            "event-completed.json",
        ],
        ends: "voicemail",
        answered: false,
        callback: false,
    },
    Played {
        webhooks: &[
            "incoming.json",
            "key-callback.json",
            "event-completed.json",
            "callback-ringing.json",
            "callback-answered.json",
            "agent-ringing.json",
            "take.json",
            "agent-completed.json",
            "callback-completed.json",
        ],
        ends: "completed",
        answered: true,
        callback: true,
    },
];

fn play(envelopes: &[Envelope], order: &[usize]) -> CallState {
    let mut seen = std::collections::BTreeSet::new();
    let mut state = CallState::default();
    for at in order {
        let envelope = &envelopes[*at];
        // As the router does: a repeat is known by its key.
        if seen.insert(envelope.dedup_key.clone()) {
            state.merge(envelope.call.as_ref().unwrap(), envelope.seq.as_ref());
        }
    }
    state
}

/// Orders by chance, the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

#[test]
fn every_order_ends_in_the_same_state() {
    let calls = TWILIO_CALLS.iter().map(|call| (Provider::Twilio, call));
    for (provider, call) in calls.chain(VONAGE_CALLS.iter().map(|call| (Provider::Vonage, call))) {
        let all = call.webhooks.iter().flat_map(|name| envelopes(fixture(provider, name).unwrap()));
        let all: Vec<Envelope> = all.collect();
        assert!(all.iter().all(|envelope| envelope.thread.key == ids(provider).call), "one call, one thread");
        let keys: std::collections::BTreeSet<_> = all.iter().map(|envelope| envelope.dedup_key.clone()).collect();
        assert_eq!(keys.len(), all.len(), "every event has a key of its own");
        let true_order: Vec<usize> = (0..all.len()).collect();
        let end = play(&all, &true_order);
        let found = (end.state(), end.is_live(), end.was_answered(), end.wants_callback());
        assert_eq!(found, (call.ends, false, call.answered, call.callback), "{:?}", call.webhooks);
        let mut chance = Chance(17);
        for _ in 0..2000 {
            // Shuffled, and each up to three times.
            let mut order: Vec<usize> = true_order.iter().flat_map(|at| vec![*at; 1 + chance.below(3)]).collect();
            for at in (1..order.len()).rev() {
                order.swap(at, chance.below(at + 1));
            }
            assert_eq!(play(&all, &order), end, "{:?} in the order {order:?}", call.webhooks);
        }
    }
}
