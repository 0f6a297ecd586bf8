//! Every document that anybody on the phone can get, as text: read the difference before you keep it.

use std::fmt::Write as _;

use adapter::contract::outbound::ThreadWait;

use super::*;

/// How it can stand with whoever waits.
fn waits() -> Vec<(&'static str, Option<ThreadWait>)> {
    let wait = |value: Value| Some(serde_json::from_value::<ThreadWait>(value).unwrap());
    vec![
        ("nobody answers", None),
        ("nobody knows of it", wait(json!({}))),
        ("next", wait(json!({ "conversation": "c1", "state": "offered", "before": 0, "expected_ms": 1000 }))),
        ("second", wait(json!({ "conversation": "c1", "state": "waiting", "before": 1 }))),
        ("sixth", wait(json!({ "conversation": "c1", "state": "waiting", "before": 5, "expected_ms": 240_001 }))),
        ("closed", wait(json!({ "conversation": "c1", "state": "waiting", "before": 5, "closed": true }))),
        ("being put through", wait(json!({ "conversation": "c1", "state": "active" }))),
        ("being wrapped up", wait(json!({ "conversation": "c1", "state": "wrapping" }))),
        ("hung up", wait(json!({ "order": { "step": "hang_up" } }))),
    ]
}

fn page(provider: Provider, script: &Script) -> String {
    match provider {
        Provider::Twilio => twilio::twiml(script).replace("><", ">\n<"),
        Provider::Vonage => vonage::ncco(script).map_or_else(|| "(no content)".to_owned(), |ncco| format!("{ncco:#}")),
    }
}

fn order() -> CallOrder {
    serde_json::from_value(json!({
        "step": "connect", "agent": "anna", "to": "+49 30 200300", "customer_name": "Ann <&\"'> Lee\u{7}", "queue": "support",
    }))
    .unwrap()
}

/// Everything that is answered and asked, in a fixed order.
fn all(provider: Provider) -> String {
    let desk = desk(provider, settings());
    let mut text = String::new();
    let mut say = |title: &str, page: String| writeln!(text, "=== {title}\n{page}\n").unwrap();
    let mut names: Vec<String> = std::fs::read_dir(folder(provider))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".expected.json"))
        .collect();
    names.sort();
    for name in names {
        let Ok(Outcome { marks, next, .. }) = fixture(provider, &name) else { continue };
        for mark in marks {
            say(&name, format!("kept: {mark:?}"));
        }
        match next {
            Next::Nothing => say(&name, "nothing".into()),
            Next::Play(script) => say(&name, page(provider, &script)),
            Next::Wait { link, callable } => {
                say(&name, format!("how it stands: {}, callable: {callable}", link.write()));
            }
            Next::Dialed { link, bridged } => {
                say(&name, format!("whether it was taken: {}, bridged: {bridged:?}", link.write()));
            }
            Next::Whisper { link } => say(&name, format!("who calls: {}", link.write())),
            Next::Decline { leg, .. } => say(&name, format!("the leg {leg} ends")),
            Next::Transcript { at, recording, .. } => say(&name, format!("what was said in {recording}: {at}")),
        }
    }
    let waiting = Link { command: None, agent: None, ..link(provider, Step::Wait) };
    for (title, wait) in waits() {
        say(&format!("waiting: {title}"), page(provider, &desk.waiting(&waiting, true, wait.as_ref())));
    }
    let again = Link { round: 1, absent: 2, ..waiting.clone() };
    for (title, wait) in waits().into_iter().skip(1).take(3) {
        say(&format!("waiting, a round later: {title}"), page(provider, &desk.waiting(&again, false, wait.as_ref())));
    }
    let mut other = settings();
    other.music = Some("https://cdn.example/hold.mp3?a=1&b=2".into());
    other.voicemail_key = "".into();
    other.transcribe = true;
    other.record_calls = true;
    let with_music = super::desk(provider, other.clone());
    for at in [2, 5] {
        let (title, wait) = waits().remove(at);
        say(
            &format!("music, no voicemail: {title}"),
            page(provider, &with_music.waiting(&waiting, false, wait.as_ref())),
        );
    }
    other.voicemail_key = "2".into();
    let closed = super::desk(provider, other.clone()).waiting(&waiting, true, waits().remove(5).1.as_ref());
    say("voicemail, written down", page(provider, &closed));
    let dialed = link(provider, Step::Dialed);
    say("the agent's leg has ended: taken", page(provider, &desk.after_dial(&dialed, true)));
    say("the agent's leg has ended: not taken", page(provider, &desk.after_dial(&dialed, false)));
    say("the agent does not take it", page(provider, &desk.declined(&link(provider, Step::Take))));
    let wait = |order: Option<CallOrder>| ThreadWait { order, ..ThreadWait::default() };
    let whisper = link(provider, Step::Whisper);
    say("whisper", page(provider, &desk.whispering(&whisper, Some(&wait(Some(order()))))));
    say("whisper: nobody answers", page(provider, &desk.whispering(&whisper, None)));
    let ben = CallOrder { agent: AgentId::new("ben").ok(), ..order() };
    say("whisper: it is another's meanwhile", page(provider, &desk.whispering(&whisper, Some(&wait(Some(ben))))));
    let dial =
        |desk: &Desk, link: &Link, order: &CallOrder, say: Vec<script::Say>| desk.dial(link, order, say).unwrap();
    let redirect = provider.redirect(ids(provider).call, &dial(&desk, &dialed, &order(), Vec::new()));
    say("connect", asked(&redirect));
    let recorded = dial(&super::desk(provider, other), &dialed, &order(), Vec::new());
    say("connect, recorded", page(provider, &recorded));
    let sip = CallOrder { to: Some("sip:anna@example.com".into()), ..order() };
    say("connect to a SIP address", page(provider, &dial(&desk, &dialed, &sip, Vec::new())));
    let no_key: Settings = serde_json::from_value(json!({ "take_key": "" })).unwrap();
    say("connect, no key", page(provider, &dial(&super::desk(provider, no_key), &dialed, &order(), Vec::new())));
    let unbound = Link { leg: None, ..dialed };
    let greeting = desk.settings.say("de-DE", Line::CallingBack, &[]).into_iter().collect();
    let script = dial(&desk, &unbound, &order(), greeting);
    let status = (desk.address)(&unbound.to(Step::Status).write());
    say("call back", asked(&provider.call(&Callee::Number("+4930111222".into()), &desk.number, 20, &script, &status)));
    say("hang up", asked(&provider.hang_up(ids(provider).call)));
    text
}

fn asked(ask: &Ask) -> String {
    let body = match &ask.body {
        Body::Json(value) => format!("{value:#}"),
        Body::Form(fields) => {
            let line = |(name, value): &(&'static str, String)| format!("{name} = {}", value.replace("><", ">\n<"));
            fields.iter().map(line).collect::<Vec<_>>().join("\n")
        }
    };
    format!("{} {}\n{body}", ask.method, ask.path)
}

#[test]
fn every_document_is_as_it_was() {
    for provider in [Provider::Twilio, Provider::Vonage] {
        let path = folder(provider).with_extension("answers.txt");
        let actual = all(provider);
        if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
            std::fs::write(&path, &actual).unwrap();
            continue;
        }
        let expected = std::fs::read_to_string(&path).unwrap();
        for (line, (is, was)) in actual.lines().zip(expected.lines()).enumerate() {
            assert_eq!(is, was, "{}:{}", path.display(), line + 1);
        }
        assert_eq!(actual.len(), expected.len(), "{}", path.display());
    }
}

#[test]
fn documents_keep_the_providers_bounds() {
    // Twilio takes 4,000 characters as an argument.
    let desk = desk(Provider::Twilio, serde_json::from_value(json!({ "record_calls": true })).unwrap());
    let script = desk.dial(&link(Provider::Twilio, Step::Dialed), &order(), Vec::new()).unwrap();
    assert!(twilio::twiml(&script).len() < 4000 - 4 * 100);
    let long = script::Say { text: "ü<".repeat(5000), language: "de-DE".into() };
    let script = Script::End { say: vec![long] };
    let talk = vonage::ncco(&script).unwrap();
    let text = talk[0]["text"].as_str().unwrap();
    assert!(text.chars().count() == 1500 && !text.contains('<'));
    assert_eq!(twilio::twiml(&script).matches('ü').count(), 1500);
}
