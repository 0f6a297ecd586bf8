//! What asking costs; run with `cargo test --release -p throughline-policy -- --ignored --nocapture cost`.

use std::hint::black_box;
use std::time::Instant;

use contract::QueueId;
use contract::time::Millis;

use super::{at, compiled};
use crate::{Facts, detect_language};

fn each(what: &str, times: u32, mut ask: impl FnMut()) {
    ask();
    let begin = Instant::now();
    (0..times).for_each(|_| ask());
    println!("{what}: {:.2} µs", begin.elapsed().as_secs_f64() * 1e6 / f64::from(times));
}

#[test]
#[ignore = "prints times, which say something only in a release build"]
fn cost() {
    // Fifty rules of the kind that people write, none of which fits.
    let rules: String = (0..50)
        .map(|n| {
            let when = match n % 5 {
                0 => format!("keyword('word{n}', 'two words{n}') && channel == 'chat'"),
                1 => format!("channel == 'chat' && 'tag{n}' in tags"),
                2 => format!("has(customer.tier) && customer.tier == 'tier{n}' || segment == 'seg{n}'"),
                3 => format!("text.contains('needle{n}') && language in ['de', 'en']"),
                _ => format!("now_open.office && tags.exists(t, t.startsWith('x{n}'))"),
            };
            format!("[[routes]]\nqueue = \"q\"\nwhen = \"{when}\"\n")
        })
        .collect();
    let plain: String = (0..50).map(|n| format!("[[routes]]\nqueue = \"q\"\ntag = \"t{n}\"\n")).collect();
    let rest = r#"
        [queues.q]
        hours = "office"
        skills = { a = 1 }
        language = { level = 5, relax_after_ms = 60000, prefer = 1 }
        [hours.office]
        time_zone = "Europe/Berlin"
        [hours.office.week]
        mon = ["09:00-12:30", "13:30-18:00"]
        tue = ["09:00-12:30", "13:30-18:00"]
        wed = ["09:00-12:30", "13:30-18:00"]
        thu = ["09:00-12:30", "13:30-18:00"]
        fri = ["22:00-02:00"]
        [hours.office.holidays."12-25"]
    "#;
    let text = format!("{rules}{rest}");
    let begin = Instant::now();
    let policy = compiled(&text);
    println!("Compiled::new with 50 rules in CEL: {:.1} ms", begin.elapsed().as_secs_f64() * 1e3);
    let facts = Facts {
        channel: "chat".into(),
        language: Some("de".into()),
        text: "Guten Tag, ich habe eine Frage zu meiner letzten Bestellung. ".repeat(5),
        tags: ["web".into(), "sales".into(), "vip".into()].into(),
        customer: [("tier".into(), contract::policy::Value::Text("gold".into()))].into(),
        ..Facts::default()
    };
    let now = at("2026-11-23T10:00:00Z");
    assert_eq!(policy.route(&facts, now).unwrap().rule, None);
    each("route over 50 rules in CEL", 2000, || drop(black_box(policy.route(black_box(&facts), now))));
    let plainly = compiled(&format!("{plain}{rest}"));
    each("route over 50 plain rules", 20000, || drop(black_box(plainly.route(black_box(&facts), now))));
    let q = QueueId::new("q").unwrap();
    each("requirement", 20000, || drop(black_box(policy.requirement(&q, None, Some("de")))));
    each("is_open", 20000, || assert!(policy.is_open(black_box(&q), now)));
    each("next_change", 20000, || assert!(policy.next_change(black_box(&q), now).is_some()));
    each("open_deadline of an hour", 20000, || {
        assert!(policy.open_deadline(black_box(&q), now, Millis(3_600_000)).is_some());
    });
    each("open_deadline of a year of work", 200, || {
        assert!(policy.open_deadline(black_box(&q), now, Millis(1600 * 3_600_000)).is_some());
    });
    each("open_between over a day", 20000, || {
        assert!(policy.open_between(black_box(&q), now, now + Millis(86_400_000)).0 > 0);
    });
    each("detect_language of 300 bytes", 2000, || drop(black_box(detect_language(black_box(&facts.text)))));
}
