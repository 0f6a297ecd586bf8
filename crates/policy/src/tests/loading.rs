use crate::{Loaded, load};

fn read(files: &[(&str, &str)]) -> Loaded {
    load(&files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect::<Vec<_>>())
}

fn said(files: &[(&str, &str)]) -> Vec<String> {
    let loaded = read(files);
    assert_eq!(loaded.policy.is_some(), loaded.problems.is_empty());
    loaded.problems.iter().chain(&loaded.warnings).map(ToString::to_string).collect()
}

const ANNA: &str = "[agents.anna]\nqueues = [\"support\"]\nskills = { product = 3 }\n";

#[test]
fn every_mistake_at_once_with_its_line() {
    let queues = r#"
[queues.support]
titel = "Support"
skills = { product = "much" }
order = "strickt"
wrap_up_ms = -5

[[queues.support.steps]]
until_ms = 1000
mst = { skill = "product" }
[[queues.support.steps]]
must = { skill = "product", attribute = "x" }
[queues.support.closed]
action = "refuse"
sorry = 1
"#;
    let routes = r#"
[[routes]]
tag = "a"
[[routes]]
queue = "suport"
[offers]
no_answer_max = 1.5
"#;
    let found = said(&[("queues.toml", queues), ("routes.toml", routes), ("agents.toml", ANNA)]);
    let expected = [
        "queues.toml:3: queues.support.titel: there is no field \"titel\" here; is \"title\" meant?",
        "queues.toml:4: queues.support.skills.product: invalid type: string \"much\", expected u8",
        "queues.toml:5: queues.support.order: there is no word \"strickt\" here; is \"strict\" meant?",
        "queues.toml:6: queues.support.wrap_up_ms: invalid value: integer `-5`, expected u64",
        "queues.toml:10: queues.support.steps[0].mst: there is no field \"mst\" here; is \"must\" meant?",
        "queues.toml:12: queues.support.steps[1].must: a condition has exactly one of",
        "queues.toml:15: queues.support.closed.sorry: there is no field \"sorry\" here; there are action, queue, text",
        "routes.toml:2: routes[0]: \"queue\" is needed",
        "routes.toml:5: routes[1].queue: there is no queue \"suport\"",
        "routes.toml:7: offers.no_answer_max: invalid type: floating point `1.5`",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{expected}\n{found:#?}");
    }
}

#[test]
fn syntax_errors_of_every_file() {
    let found = said(&[("a.toml", "[queues.support\nx = 1\n"), ("b.toml", "a = \n"), ("c.toml", "[queus.a]\n")]);
    for part in ["a.toml:1: ", "b.toml:1: ", "c.toml:1: queus: there is no field \"queus\" here; is \"queues\" meant?"]
    {
        assert!(found.iter().any(|said| said.starts_with(part)), "{part}\n{found:#?}");
    }
    let loaded = read(&[("a.toml", "ab = \"c\nd\"")]);
    assert_eq!((loaded.problems[0].line, loaded.problems[0].column > 1), (1, true), "{:?}", loaded.problems);
}

#[test]
fn a_key_stands_in_one_file() {
    let found = said(&[
        ("a.toml", "default_queue = \"support\"\n[queues.support]\npriority = 1\n"),
        ("b.toml", "\ndefault_queue = \"support\"\n[queues.support]\ntitle = \"S\"\npriority = 2\n"),
        ("c.toml", ANNA),
    ]);
    let expected =
        ["b.toml:2: default_queue: stands in a.toml too", "b.toml:5: queues.support.priority: stands in a.toml too"];
    assert_eq!(found, expected);
    assert_eq!(said(&[("a.toml", "a = 1\na = 2")]).len(), 1, "twice in one file");
}

#[test]
fn what_is_checked_has_its_line_too() {
    let queues = r#"
default_queue = "suport"
[queues.support]
skills = { product = 12, none = 1 }
hours = "office"
steps = [
  { until_ms = 5 },
  { until_ms = 3, must = { any = [{ skill = "product" }, { skill = "nobody" }] } },
]
[queues.support.fallback]
action = "overflow"
[queues."a.b"]
hours = "ofice"
[hours.office]
time_zone = "Mars"
[hours.office.week]
mon = ["9-5"]
[[routes]]
queue = "support"
[[routes]]
queue = "support"
when = "chanel == 'a'"
"#;
    let loaded = read(&[("p.toml", queues), ("agents.toml", ANNA)]);
    let found: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
    let expected = [
        "p.toml:2: default_queue: there is no queue \"suport\"",
        "p.toml:4: queues.support.skills.none: nobody on the roster has this skill",
        "p.toml:4: queues.support.skills.product: level 12 is above 10",
        "p.toml:8: queues.support.steps[1].until_ms: ends at 3, not after 5",
        "p.toml:8: queues.support.steps[1].must.any[1]: nobody on the roster has the skill \"nobody\"",
        "p.toml:10: queues.support.fallback.queue: is needed",
        "p.toml:13: queues.a.b.hours: there are no hours \"ofice\"",
        "p.toml:15: hours.office.time_zone: there is no time zone \"Mars\"",
        "p.toml:17: hours.office.week.mon[0]: \"9-5\" is not a span",
        "p.toml:22: routes[1].when: there is no variable \"chanel\"",
    ];
    for expected in expected {
        assert!(found.iter().any(|said| said.starts_with(expected)), "{expected}\n{found:#?}");
    }
    assert!(loaded.problems.iter().any(|said| (said.line, said.column) == (8, 5)), "{:#?}", loaded.problems);
    assert!(loaded.warnings.iter().any(|said| said.to_string().starts_with("p.toml:20: routes[1]: is never reached")));
}

#[test]
fn nothing_is_not_enough() {
    assert_eq!(said(&[]), ["queues: at least one is needed"]);
    assert_eq!(said(&[("a.toml", "queues = 3")]), ["a.toml:1: queues: invalid type: integer `3`, expected a map"]);
}

#[test]
fn more_mistakes_than_can_be_told_apart_end() {
    let many: String = (0..80).map(|n| format!("field{n} = 1\n")).collect();
    assert_eq!(said(&[("a.toml", &many)]).len(), 50);
}

#[test]
fn what_is_right_is_read() {
    let loaded = read(&[("queues.toml", "[queues.support]\nskills = { product = 1 }\n"), ("agents.toml", ANNA)]);
    assert_eq!((loaded.problems, loaded.warnings), (vec![], vec![]));
    assert_eq!(loaded.policy.unwrap().agents.len(), 1);
}
