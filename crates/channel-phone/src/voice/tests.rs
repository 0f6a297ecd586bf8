//! Every webhook and every document of both providers, and calls played in every order.

use std::path::{Path, PathBuf};

use adapter::contract::call::CallState;
use adapter::contract::envelope::Account;
use adapter::contract::{AccountId, AgentId, ChannelKind, Envelope, TenantId};
use adapter::kit;
use serde_json::json;

use super::*;

mod documents;
mod played;

/// When every test takes place.
const NOW: Timestamp = Timestamp(1_764_000_400_000);

/// The ids of the fixtures.
struct Ids {
    call: &'static str,
    agent: &'static str,
}

const TWILIO: Ids = Ids { call: "CA11111111111111111111111111111111", agent: "CAaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" };
const VONAGE: Ids = Ids { call: "aaaaaaaa-bbbb-cccc-dddd-0123456789ab", agent: "aaaaaaaa-0000-cccc-dddd-0123456789ab" };

fn ids(provider: Provider) -> &'static Ids {
    match provider {
        Provider::Twilio => &TWILIO,
        Provider::Vonage => &VONAGE,
    }
}

fn desk(provider: Provider, settings: Settings) -> Desk {
    Desk {
        settings,
        tenant: TenantId::new("main").unwrap(),
        account: Account {
            kind: ChannelKind::new("phone").unwrap(),
            id: AccountId::new("berlin").unwrap(),
            provider: Some(if provider == Provider::Twilio { "twilio" } else { "vonage" }.into()),
            address: Some("+4930900100".into()),
        },
        number: "+4930900100".into(),
        sip_whisper: provider == Provider::Twilio,
        // Signatures would make every document unreadable; the signer has its own tests.
        address: Arc::new(|path| format!("https://hooks.example/hook/phone/berlin/{path}&s=signed")),
    }
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.languages.insert("+49".into(), "de-DE".into());
    settings
}

/// An address as the flow hands it out at a step.
fn link(provider: Provider, step: Step) -> Link {
    Link {
        step,
        thread: ids(provider).call.into(),
        leg: Some(ids(provider).call.into()),
        command: Some("main/m17".into()),
        agent: AgentId::new("anna").ok(),
        language: "de-DE".into(),
        round: 0,
        absent: 0,
    }
}

/// The address that a fixture came by, by the beginning of its name; `None`: one of the console's.
fn address(provider: Provider, name: &str) -> (&str, Option<Link>) {
    let first = name.split(['-', '.']).next().unwrap_or_default();
    let of = |step| Some(link(provider, step));
    let plain = |step| of(step).map(|link| Link { command: None, agent: None, ..link });
    match first {
        "incoming" | "hostile" => (INCOMING, None),
        "event" => (EVENT, None),
        "wait" => ("", plain(Step::Wait)),
        "key" => ("", plain(Step::Key)),
        "recorded" => ("", plain(Step::Recorded)),
        "voicemail" => ("", plain(Step::Voicemail)),
        "transcript" => ("", plain(Step::Transcript)),
        "status" => ("", of(Step::Status)),
        "callback" => ("", of(Step::Status).map(|link| Link { leg: None, ..link })),
        "agent" => ("", of(Step::Agent)),
        "joined" => ("", of(Step::Joined)),
        "whisper" => ("", of(Step::Whisper)),
        "take" => ("", of(Step::Take)),
        "dialed" => ("", of(Step::Dialed)),
        "talk" => ("", of(Step::Talk)),
        other => panic!("{other}"),
    }
}

/// Reads what came, as the thin half does.
fn told(provider: Provider, raw: &[u8]) -> Result<Told, String> {
    let told = match provider {
        Provider::Twilio => {
            let text = std::str::from_utf8(raw).map_err(|_| "not a form".to_owned())?;
            let form: Option<Vec<(String, String)>> = text
                .split('&')
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    Some((crate::query::decode(name)?, crate::query::decode(value)?))
                })
                .collect();
            twilio::told(&form.ok_or("not a form")?)
        }
        Provider::Vonage => vonage::told(&serde_json::from_slice(raw).map_err(|_| "not JSON".to_owned())?),
    };
    told.ok_or_else(|| "it is about no call".to_owned())
}

fn outcome(desk: &Desk, provider: Provider, name: &str, raw: &[u8]) -> Result<Outcome, String> {
    let told = told(provider, raw)?;
    match address(provider, name) {
        (_, Some(link)) => desk.at(&link, &told, NOW).ok_or_else(|| "another leg".to_owned()),
        (INCOMING, None) => Ok(desk.incoming(&told, NOW)),
        (_, None) => Ok(desk.event(&told, NOW)),
    }
}

fn envelopes(outcome: Outcome) -> Vec<Envelope> {
    let envelope = |item: Item| match item {
        Item::Envelope { mut envelope, fetch, .. } => {
            // Else every release would change every expectation.
            envelope.adapter = None;
            assert!(fetch.iter().all(|fetch| envelope.content.get(fetch.part).is_some()));
            *envelope
        }
        Item::Dead { reason, .. } => panic!("{reason}"),
    };
    outcome.items.into_iter().map(envelope).collect()
}

fn folder(provider: Provider) -> PathBuf {
    let name = if provider == Provider::Twilio { "twilio" } else { "vonage" };
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/voice").join(name)
}

#[test]
fn every_webhook_is_read() {
    for provider in [Provider::Twilio, Provider::Vonage] {
        let desk = desk(provider, settings());
        let normalise = |name: &str, raw: &[u8]| outcome(&desk, provider, name, raw).map(envelopes);
        kit::golden(&folder(provider), &normalise).unwrap_or_else(|differences| panic!("{differences}"));
        kit::conformance(&folder(provider), &normalise).unwrap_or_else(|breaches| panic!("{breaches}"));
    }
}

/// What a fixture leads to.
fn fixture(provider: Provider, name: &str) -> Result<Outcome, String> {
    let raw = std::fs::read(folder(provider).join(name)).unwrap();
    outcome(&desk(provider, settings()), provider, name, &raw)
}

#[test]
fn an_address_of_one_leg_is_none_of_another() {
    for provider in [Provider::Twilio, Provider::Vonage] {
        let desk = desk(provider, settings());
        let leg = |leg: &str, parent: Option<&str>| Told {
            leg: leg.into(),
            parent: parent.map(SmolStr::from),
            digits: "1".into(),
            state: Some("answered"),
            ..Told::default()
        };
        let (call, agent) = (ids(provider).call, ids(provider).agent);
        let belongs = |link: &Link, told: &Told| desk.at(link, told, NOW).is_some();
        for step in [Step::Wait, Step::Key, Step::Recorded, Step::Status, Step::Dialed, Step::Voicemail, Step::Talk] {
            let link = link(provider, step);
            assert!(belongs(&link, &leg(call, None)), "{step:?}");
            assert!(!belongs(&link, &leg("other", None)), "{step:?} of another call");
            assert!(!belongs(&link, &leg(agent, Some(call))), "{step:?} of the agent's leg");
        }
        for step in [Step::Wait, Step::Key, Step::Recorded, Step::Status] {
            assert!(!belongs(&link(provider, step), &leg("", None)), "{step:?} of no leg");
            let unbound = Link { leg: None, command: None, ..link(provider, step) };
            assert!(!belongs(&unbound, &leg("x", None)), "{step:?} of no leg and no order");
        }
        for step in [Step::Agent, Step::Joined, Step::Whisper, Step::Take] {
            let link = link(provider, step);
            assert!(belongs(&link, &leg(agent, Some(call))), "{step:?}");
            assert!(belongs(&link, &leg(agent, None)), "{step:?}");
            assert!(!belongs(&link, &leg(agent, Some("other"))), "{step:?} begun from another call");
            assert!(!belongs(&link, &leg(call, None)), "{step:?} of the customer");
            let nobody = Link { agent: None, ..link };
            assert!(!belongs(&nobody, &leg(agent, Some(call))), "{step:?} of nobody");
        }
    }
}

#[test]
fn only_a_key_that_is_offered_does_anything() {
    let closed: Settings = serde_json::from_value(json!({ "callback_key": "", "voicemail_key": "" })).unwrap();
    let desk = desk(Provider::Twilio, closed);
    for digits in ["1", "2", ""] {
        let told = Told {
            leg: TWILIO.call.into(),
            from: Some("+4930111222".into()),
            digits: digits.into(),
            ..Told::default()
        };
        let outcome = desk.at(&Link { command: None, ..link(Provider::Twilio, Step::Key) }, &told, NOW).unwrap();
        assert!(matches!(outcome.next, Next::Wait { .. }), "{digits}");
        assert!(outcome.items.is_empty());
    }
}

#[test]
fn a_redelivery_and_another_source_of_the_same_word_are_told_apart() {
    let keys = |name: &str| -> Vec<String> {
        envelopes(fixture(Provider::Twilio, name).unwrap()).iter().map(|one| one.dedup_key.to_string()).collect()
    };
    let call = TWILIO.call;
    assert_eq!(keys("event-completed.form"), [format!("call/{call}/completed/2")]);
    assert_eq!(keys("wait-gone.form"), [format!("call/{call}/completed/seen")]);
    assert_eq!(keys("take.form"), [format!("call/{}/taken", TWILIO.agent)]);
}

#[test]
fn calls_add_up_whatever_the_order() {
    let state = |names: &[&str]| {
        let mut state = CallState::default();
        for name in names {
            for envelope in envelopes(fixture(Provider::Twilio, name).unwrap()) {
                state.merge(envelope.call.as_ref().unwrap(), envelope.seq.as_ref());
            }
        }
        state
    };
    let first = state(&["incoming.form", "event-completed.form"]);
    assert_eq!(first, state(&["event-completed.form", "incoming.form"]));
    assert_eq!(first.state(), "abandoned");
}
