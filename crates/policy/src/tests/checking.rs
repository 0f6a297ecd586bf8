use super::policy;
use crate::check;

/// Two people, two queues, and nothing wrong.
const BASE: &str = r#"
[queues.support]
skills = { product = 1 }
[queues.sales]
[agents.anna]
queues = ["support"]
skills = { product = 5, "lang:de" = 7 }
attributes = { site = "north" }
groups = ["seniors"]
[agents.ben]
queues = { support = { tier = 2 }, sales = {} }
skills = { product = 2, sales = 3 }
capacity = 50
"#;

/// What is said about the base with something more: problems with `!`, warnings with `?`.
fn said(more: &str) -> Vec<String> {
    let report = check(&policy(&format!("{BASE}{more}")));
    let problems = report.problems.iter().map(|problem| format!("!{problem}"));
    problems.chain(report.warnings.iter().map(|warning| format!("?{warning}"))).collect()
}

/// Each of `more` brings about exactly what begins like this.
fn each(cases: &[(&str, &str)]) {
    for (more, expected) in cases {
        let found = said(more);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{more}\nexpected {expected}\nfound {found:#?}");
    }
}

#[test]
fn the_base_is_right() {
    assert_eq!(said(""), Vec::<String>::new());
}

#[test]
fn as_many_agents_as_fit_into_one_fact() {
    let agents = |count: usize| -> String {
        let line =
            |n| format!("[agents.a{n:05}]\nqueues = [\"support\"]\ncapacity = 100\nskills = {{ product = 3 }}\n");
        (0..count).map(line).collect()
    };
    assert_eq!(said(&agents(8_000)), Vec::<String>::new());
    let many = said(&agents(20_000));
    assert!(
        many.len() == 1 && many[0].starts_with("!agents: the policy takes ") && many[0].contains("20002 agents"),
        "{many:?}"
    );
}

#[test]
fn customers_who_are_forgotten_too_soon() {
    assert_eq!(said("[identity]\nforget_after_ms = 31536000000"), Vec::<String>::new());
    let hours = said("[identity]\nforget_after_ms = 3600000\n[channels.chat]\nreopen = { within_ms = 7200000 }");
    let about: Vec<&str> = hours.iter().filter_map(|said| said.split(": ").next()).collect();
    let expected = [
        "?identity.forget_after_ms",
        "?queues.sales.affinity.window_ms",
        "?queues.support.affinity.window_ms",
        "?channels.chat.reopen",
    ];
    assert_eq!(about, expected, "{hours:#?}");
}

#[test]
fn references() {
    each(&[
        (
            "[hours.h]\ntime_zone = \"UTC\"\nweek = { mon = [\"09:00-17:00\"] }\n[queues.late]\nhours = \"h\"\nclosed = { action = \"overflow\", queue = \"x\" }\n[agents.x]\nqueues = [\"late\"]",
            "!queues.late.closed.queue: there is no queue \"x\"",
        ),
        (
            "[[queues.sales.overflow]]\nqueue = \"x\"\nafter_ms = 1",
            "!queues.sales.overflow[0].queue: there is no queue \"x\"",
        ),
        (
            "[[queues.sales.steps]]\npool = { queues = [\"x\"] }",
            "!queues.sales.steps[0].pool.queues: there is no queue \"x\"",
        ),
        (
            "[[queues.sales.steps]]\npool = { agents = [\"x\"] }",
            "!queues.sales.steps[0].pool.agents: there is no agent \"x\"",
        ),
        (
            "[[queues.sales.steps]]\npool = { groups = [\"x\"] }",
            "?queues.sales.steps[0].pool.groups: nobody is of the group \"x\"",
        ),
        ("[queues.sales.transfer]\nfrom = [\"x\"]", "!queues.sales.transfer.from: there is no queue \"x\""),
        (
            "[queues.late]\nhours = \"x\"\n[agents.x]\nqueues = [\"late\"]",
            "!queues.late.hours: there are no hours \"x\"",
        ),
        ("[agents.x]\nqueues = [\"x\"]", "!agents.x.queues: there is no queue \"x\""),
        ("[[routes]]\nqueue = \"sales\"\nowner = \"x\"", "!routes[0].owner: there is no agent \"x\""),
        (
            "[[routes]]\nqueue = \"sales\"\nclass = \"x\"",
            "?routes[0].class: no channel has a weight for the class \"x\"",
        ),
        (
            "[agents.x]\nqueues = [\"sales\"]\ncaps = { labels = { x = 1 } }",
            "?agents.x.caps.labels.x: no rule gives the label",
        ),
    ]);
}

#[test]
fn ranges() {
    each(&[
        ("[channels.chat]\nidle_percent = 101", "!channels.chat.idle_percent: 101 is above 100"),
        ("[channels.chat]\noffer_lease_ms = 999", "!channels.chat.offer_lease_ms: less than 1000"),
        ("[channels.chat]\npark_after_ms = 9\nclose_after_ms = 9", "!channels.chat.park_after_ms: is not before"),
        ("[agents.x]\nqueues = { sales = { rank = 100 } }", "!agents.x.queues.sales.rank: must be 1 to 99"),
        ("[agents.x]\nqueues = { sales = { tier = 0 } }", "!agents.x.queues.sales.tier: must be at least 1"),
        (
            "[agents.x]\nqueues = { sales = { delay_s = 10000 } }",
            "!agents.x.queues.sales.delay_s: must be at most 9999",
        ),
        ("[classifier]\nbudget_ms = 49", "!classifier.budget_ms: must be 50 to 5000"),
        ("[[routes]]\nqueue = \"sales\"\nlanguage = \"German\"", "!routes[0].language: must be two small letters"),
        ("[timing]\nagent_silence_ms = 10", "!timing.agent_silence_ms: less than 1000"),
        ("[offers]\nramp_ms = 1\nramp_max = 0", "!offers.ramp_ms: needs ramp_max"),
        ("[presences.lunch]\nreasons = [\"\"]", "!presences.lunch.reasons: a reason needs a name"),
        (
            "[queues.sales.service_level]\nanswer_within_ms = 1\ntarget_percent = 0",
            "!queues.sales.service_level.target_percent: must be 1 to 100",
        ),
    ]);
}

/// Fields of a queue that ben works alone.
fn queue(cases: &[(&str, &str)]) {
    for (fields, expected) in cases {
        each(&[(
            &format!("[agents.cleo]\nqueues = [\"q\"]\nskills = {{ product = 2 }}\n[queues.q]\n{fields}"),
            expected,
        )]);
    }
}

#[test]
fn queues() {
    queue(&[
        ("due_first = true", "!queues.q.due_first: needs a service_level"),
        ("due_ms = 1", "!queues.q.due_ms: needs a service_level"),
        ("stale_after_ms = 1", "!queues.q.stale_after_ms: needs stale_queue"),
        ("stale_queue = \"sales\"", "!queues.q.stale_queue: needs stale_after_ms"),
        ("stale_after_ms = 1\nstale_queue = \"q\"", "!queues.q.stale_queue: is this queue itself"),
        ("overflow = [{ queue = \"q\", after_ms = 1 }]", "!queues.q.overflow[0].queue: is this queue itself"),
        ("overflow = [{ queue = \"sales\" }]", "?queues.q.overflow[0]: has no condition"),
        (
            "overflow = [{ queue = \"sales\", when_full = true }]",
            "!queues.q.overflow[0].when_full: needs limits.waiting_max",
        ),
        (
            "overflow = [{ queue = \"sales\", service_level_below = 50 }]",
            "!queues.q.overflow[0].service_level_below: needs a service_level",
        ),
        ("fallback = { action = \"overflow\" }\nlimits = { wait_max_ms = 1 }", "!queues.q.fallback.queue: is needed"),
        ("fallback = { action = \"message\" }\nlimits = { wait_max_ms = 1 }", "!queues.q.fallback.text: is needed"),
        ("fallback = { queue = \"sales\" }", "!queues.q.fallback.queue: is not used"),
        ("fallback = { action = \"callback\" }", "?queues.q.fallback: is never taken"),
        ("closed = { text = \"x\" }", "?queues.q.closed: never happens: the queue has no hours"),
        ("language = { level = 3 }", "?queues.q.language: nobody who works the queue has a skill like"),
        ("wants = { product = { relax_after_ms = 0 } }", "!queues.q.wants.product: is relaxed at once"),
        ("wants = { product = { prefer = 0 } }", "!queues.q.wants.product: a weight of 0"),
        ("affinity = { mode = \"wait\", wait_ms = 0 }", "!queues.q.affinity.wait_ms: the mode is `wait`"),
        ("order = \"strict\"\npriority_ms = 3", "?queues.q.priority_ms: counts only where the order is `aged`"),
        ("order = \"strict\"\n[[routes]]\nqueue = \"q\"\npriority = 3", "?queues.q.order: with the priorities 0, 3,"),
        (
            "due_first = true\nservice_level = { answer_within_ms = 1 }\nsteps = [{ until_ms = 5 }, { boost = 4 }]",
            "?queues.q.due_first: with the priorities 0, 4,",
        ),
    ]);
    each(&[
        ("[queues.empty]", "?queues.empty: nobody works it"),
        ("[agents.idle]", "?agents.idle.queues: works no queue"),
        ("[agents.x]\nqueues = [\"sales\"]\ncapacity = 0", "?agents.x.capacity: 0 holds nothing"),
        ("[channels.chat]\nauto_accept = true", "?channels.chat.auto_accept: nobody on the roster"),
        (
            "[channels.voice]\ncapacity_weight = 120",
            "?channels.voice.capacity_weight: 120 is more than anybody can hold; the most is 100",
        ),
        ("[channels.voice]\nclass_weights = { long = 120 }", "?channels.voice.class_weights.long: 120 is more"),
    ]);
}

#[test]
fn calls_that_nobody_can_take() {
    let voice = "[[routes]]\nchannel = \"voice\"\nqueue = ";
    let heavy = "?routes[0]: voice weighs 100, more than anybody who works the queue sales can hold; the most is 50";
    let deaf = "nobody who works the queue";
    let sales = said(&format!("{voice}\"sales\""));
    assert_eq!(sales.len(), 2, "{sales:#?}");
    assert!(sales[0].starts_with(&format!("?routes[0]: {deaf} sales has a phone")) && sales[1] == heavy, "{sales:#?}");
    let phone = "[agents.cleo]\nqueues = [\"support\"]\nphone = \"+4930100\"\n";
    assert_eq!(said(&format!("{phone}{voice}\"support\"")), Vec::<String>::new());
    // Where nobody works the queue at all, that is said, and no more.
    each(&[(&format!("[queues.empty]\n{voice}\"empty\""), "?queues.empty: nobody works it")]);
}

#[test]
fn steps() {
    queue(&[
        (
            "steps = [{ until_ms = 5 }, { until_ms = 5 }]\nfallback = { action = \"callback\" }",
            "!queues.q.steps[1].until_ms: ends at 5, not after 5",
        ),
        (
            "steps = [{ boost = 1 }, { until_ms = 5 }]\nfallback = { action = \"callback\" }",
            "!queues.q.steps[0]: never ends",
        ),
        ("steps = [{ until_ms = 5 }]", "?queues.q.steps[0].until_ms: nothing follows"),
        (
            "steps = [{ prefer = [{ when = { skill = \"product\", min = 5, max = 3 } }] }]",
            "!queues.q.steps[0].prefer[0].when: no level is at least 5 and at most 3",
        ),
        (
            "steps = [{ prefer = [{ when = { skill = \"x\" } }] }]",
            "!queues.q.steps[0].prefer[0].when: nobody on the roster has the skill \"x\"",
        ),
        ("steps = [{ pool = { only = true } }]", "!queues.q.steps[0].pool.only: names nobody"),
        (
            "steps = [{ until_ms = 5 }, { must = { skill = \"product\", min = 3 }, pool = { agents = [\"anna\"] } }]",
            "!queues.q.steps[1]: no longer asks cleo; when that is meant",
        ),
        (
            "steps = [{ until_ms = 5, must = { skill = \"product\", min = 5 } }, {}]",
            "?queues.q.steps[0]: step 0 of queue q: nobody on the roster who is asked has product>=5",
        ),
        (
            "skills = { product = 2 }\nsteps = [{ until_ms = 5 }, { must = { attribute = \"site\", is = [\"x\"] }, narrows = true }]",
            "?queues.q.steps[1]: step 1 of queue q, from 5 ms on: nobody on the roster who is asked has product>=2 and site is x",
        ),
        ("skills = { sales = 1 }", "?queues.q: step 0 of queue q: nobody on the roster who is asked has sales>=1"),
    ]);
    // Narrowing that is meant, and a pool of others.
    for right in [
        "steps = [{ until_ms = 5 }, { must = { skill = \"product\", min = 2 } }]",
        "steps = [{ until_ms = 5 }, { pool = { tier_max = 1 } }, ]",
        "steps = [{ until_ms = 5, pool = { only = true, groups = [\"seniors\"] }, must = { attribute = \"site\", is = [\"north\"] } }, { pool = { agents = [\"anna\"] } }]",
    ] {
        assert_eq!(
            said(&format!("[agents.cleo]\nqueues = [\"q\"]\nskills = {{ product = 2 }}\n[queues.q]\n{right}")),
            Vec::<String>::new()
        );
    }
    let wants: String = (1..9).map(|n| format!("w{n} = {{ relax_after_ms = {n} }}\n")).collect();
    let skills: String = (1..9).map(|n| format!("w{n} = 1\n")).collect();
    each(&[(
        &format!("[agents.x]\nqueues = [\"q\"]\n[agents.x.skills]\n{skills}[queues.q.wants]\n{wants}"),
        "!queues.q: steps and relaxed wants together make more than 8 steps",
    )]);
}

#[test]
fn circles() {
    let rest = "[agents.x]\nqueues = [\"a\", \"b\", \"c\"]\n[queues.c]\n";
    let fallback = |to: &str| {
        format!("limits = {{ wait_max_ms = 5 }}\nfallback = {{ action = \"overflow\", queue = \"{to}\" }}\n")
    };
    let overflow = |to: &str| format!("overflow = [{{ queue = \"{to}\", after_ms = 5 }}]\n");
    each(&[
        (
            &format!("{rest}{}[queues.b]\n{}[queues.a]\n{}", fallback("a"), fallback("c"), fallback("b")),
            "!queues.a.fallback.queue: goes round in a circle: a > b > c > a",
        ),
        (
            &format!("{rest}{}[queues.b]\n{}[queues.a]\n", overflow("b"), overflow("c")),
            "?queues.b.overflow: goes round in a circle when all are busy: b > c > b",
        ),
        (
            "[hours.h]\ntime_zone = \"UTC\"\nweek = { mon = [\"00:00-24:00\"] }\n[agents.x]\nqueues = [\"a\", \"b\"]\n[queues.a]\nhours = \"h\"\nclosed = { action = \"overflow\", queue = \"b\" }\n[queues.b]\nhours = \"h\"\nclosed = { action = \"overflow\", queue = \"a\" }",
            "!queues.a.closed.queue: goes round in a circle when all are closed: a > b > a",
        ),
        (
            &format!("{rest}{}[queues.b]\n[queues.a]\n{}", fallback("c"), fallback("b")),
            "!queues.c.fallback.queue: is this queue itself",
        ),
    ]);
}

#[test]
fn rules_and_hours() {
    each(&[
        ("[[routes]]\nqueue = \"sales\"\nwhen = \"tag == 'x'\"", "!routes[0].when: there is no variable \"tag\""),
        (
            "[[routes]]\nname = \"all\"\nqueue = \"sales\"\n[[routes]]\nqueue = \"sales\"\ntag = \"x\"",
            "?routes[1]: is never reached: routes[0] (all) fits whatever fits it",
        ),
        (
            "[[routes]]\nqueue = \"sales\"\nwhen = \"true\"\n[[routes]]\nqueue = \"sales\"\ntag = \"x\"",
            "?routes[1]: is never reached",
        ),
        (
            "[[routes]]\ntag = \"x\"\nqueue = \"sales\"\n[[routes]]\nqueue = \"sales\"\ntag = \"x\"\nwhen = \"verified\"",
            "?routes[1]: is never reached",
        ),
        (
            "[[routes]]\nqueue = \"sales\"\nwhen = \"verified\"\n[[routes]]\nqueue = \"sales\"\ntag = \"x\"\nwhen = \"verified\"",
            "?routes[1]: is never reached",
        ),
        (
            "[[routes]]\nqueue = \"sales\"\nskills = { product = 4 }",
            "?routes[0]: step 0 of queue sales: nobody on the roster who is asked has product>=4",
        ),
        (
            "[[routes]]\nqueue = \"german\"\nlanguage = \"it\"\n[queues.german]\nlanguage = {}\n[agents.d]\nqueues = [\"german\"]\nskills = { \"lang:de\" = 1 }",
            "?routes[0]: step 0 of queue german: nobody on the roster who is asked has lang:it>=1",
        ),
        ("[hours.h]\ntime_zone = \"UTC\"", "?hours.h: is never open"),
        ("[hours.h]\ntime_zone = \"Nowhere\"", "!hours.h.time_zone: there is no time zone"),
        (
            "[hours.h]\ntime_zone = \"UTC\"\nweek = { mon = [\"09:00-17:00\", \"16:00-18:00\"] }",
            "!hours.h.week.mon: 16:00-18:00 overlaps 09:00-17:00",
        ),
    ]);
    let fine = "[[routes]]\ntag = \"x\"\nqueue = \"sales\"\n[[routes]]\nqueue = \"sales\"\nchannel = \"chat\"\n[[routes]]\nqueue = \"sales\"";
    assert_eq!(said(fine), Vec::<String>::new());
}

#[test]
fn nothing_at_all() {
    assert_eq!(check(&policy("")).problems[0].to_string(), "queues: at least one is needed");
}
