use contract::policy::{Expr, Requirement, STEPS_MAX, Value};
use contract::time::Millis;
use contract::{QueueId, Timestamp};
use smol_str::SmolStr;

use super::{at, compiled, policy};
use crate::rule::{Language, words};
use crate::{Compiled, Facts, expr};

const NOW: Timestamp = Timestamp(1_770_000_000_000);

fn facts(text: &str) -> Facts {
    Facts {
        channel: "chat".into(),
        account: "web".into(),
        language: Some("en".into()),
        text: text.to_owned(),
        tags: ["vip"].map(SmolStr::new_static).into(),
        customer: [("tier".into(), Value::Text("gold".into())), ("orders".into(), Value::Number(12))].into(),
        ..Facts::default()
    }
}

/// Whether a condition is read and holds.
fn fits(when: &str, facts: &Facts) -> bool {
    let when = toml::Value::from(when);
    let text = format!("[queues.a]\n[queues.b]\n[[routes]]\nqueue = \"b\"\nwhen = {when}");
    let compiled = compiled(&text);
    compiled.route(facts, NOW).unwrap().rule.is_some()
}

fn wrong(when: &str) -> Vec<String> {
    let mut language = Language::new(["office".into()].into_iter());
    language.read(when).err().unwrap_or_default()
}

#[test]
fn the_first_rule_that_fits_decides() {
    let compiled = compiled(
        r#"
        default_queue = "rest"
        [queues.rest]
        [queues.shop]
        priority = 3
        adjust_s = 60
        skills = { product = 2 }
        [[routes]]
        channel = "email"
        queue = "shop"
        [[routes]]
        queue = "gone"
        [[routes]]
        when = "this is no expression"
        queue = "shop"
        [[routes]]
        name = "vip"
        tag = "vip"
        language = "en"
        account = "web"
        queue = "shop"
        skills = { product = 1, "lang:en" = 4 }
        priority = 9
        adjust_s = -90
        class = "heavy"
        labels = ["sale"]
        owner = "anna"
        [[routes]]
        tag = "vip"
        queue = "shop"
        "#,
    );
    let routed = compiled.route(&facts(""), NOW).unwrap();
    assert_eq!((routed.rule, routed.name.as_deref(), routed.queue.as_str()), (Some(3), Some("vip"), "shop"));
    assert_eq!((routed.priority, routed.adjust_ms), (9, -30_000));
    assert_eq!((routed.class.as_deref(), routed.labels.len()), (Some("heavy"), 1));
    assert_eq!(routed.owner.unwrap().as_str(), "anna");
    assert_eq!(words_of(&routed.requirement), ["until the end: lang:en>=4 and product>=2"]);
    let other = compiled.route(&Facts { language: None, ..facts("") }, NOW).unwrap();
    assert_eq!((other.rule, other.name.as_deref(), other.priority), (Some(4), Some("4"), 3));
    let rest = compiled.route(&Facts::default(), NOW).unwrap();
    assert_eq!((rest.rule, rest.name, rest.queue.as_str()), (None, None, "rest"));
    assert_eq!(*rest.requirement, Requirement::default());
    assert_eq!(Compiled::new(policy("").into()).route(&Facts::default(), NOW), None);
    let astray = super::compiled("default_queue = \"gone\"\n[queues.a]");
    assert_eq!(astray.route(&Facts::default(), NOW).unwrap().queue.as_str(), "a");
}

#[test]
fn conditions_in_cel() {
    let facts = Facts { verified: true, intent: Some("refund".into()), ..facts("I want my money back, please.") };
    for holds in [
        "channel == 'chat' && account == 'web' && language == 'en'",
        "segment == '' && intent == 'refund' && verified",
        "text.contains('money') && text.startsWith('I want') && size(text) < 100",
        "'vip' in tags && size(tags) == 1 && tags[0] == 'vip'",
        "tags.exists(t, t.startsWith('v')) && tags.all(t, size(t) < 10)",
        "tags.filter(t, t != 'vip').size() == 0 && tags.map(t, t + '!') == ['vip!']",
        "tags.exists_one(t, t == 'vip')",
        "customer.tier == 'gold' && customer['orders'] > 10 && customer.orders + 1 == 13",
        "has(customer.tier) && !has(customer.site)",
        "has(customer.site) ? customer.site == 'b' : channel in ['chat', 'sms']",
        "customer.site == 'b' || verified",
        "keyword('refund', 'MONEY')",
        "keyword('money back') && !keyword('mone') && !keyword('back money')",
        "text.matches('(?i)MON.Y') && matches(channel, '^ch')",
        "{'chat': 1, 'sms': 2}[channel] == 1",
        "int('7') + 1 == 8 && double(3) > 2.5 && string(4) == '4'",
        "true",
    ] {
        assert!(fits(holds, &facts), "{holds}: {:?}", wrong(holds));
    }
    for not in
        ["customer.site == 'b'", "!(customer.site == 'b')", "tags[3] == 'x'", "1 / 0 == 1", "false", "customer.tier"]
    {
        assert!(!fits(not, &facts), "{not}");
        assert_eq!(wrong(not), Vec::<String>::new(), "{not}");
    }
}

#[test]
fn what_is_wrong_with_a_condition() {
    for (when, part) in [
        ("channel ==", "column"),
        ("chanel == 'chat'", "there is no variable \"chanel\""),
        ("channel == 'a' || 1 == chat", "there is no variable \"chat\""),
        ("channel", "is a text, and must be true or false"),
        ("size(tags)", "is a number, and must be true or false"),
        ("channel == 3", "a text is never equal to a number"),
        ("tags == 'vip'", "a list is never equal to a text"),
        ("channel && verified", "a text stands where a yes or no is needed"),
        ("channel > 3", "> cannot be applied to a text and a number"),
        ("channel + 1 == 'a'", "+ cannot be applied to a text and a number"),
        ("3 in tags", "in cannot be applied to a number and a list"),
        ("verified && text.like('a')", "there is no function \"like\""),
        ("text.contains(3)", "contains cannot be applied to a text and a number"),
        ("contains(text, 'a')", "contains cannot be applied to"),
        ("now_open.ofice", "there are no hours \"ofice\""),
        ("now_open['ofice']", "there are no hours \"ofice\""),
        ("channel.name == 'a'", "a text has no field \"name\""),
        ("customer.tier.name == 'a'", "a value has no field \"name\""),
        ("customer.exists(k, k == 'a')", "a map cannot be gone through; only a list can"),
        ("tags.exists(a, tags.exists(b, a == b))", "a macro over a list cannot stand within another"),
        ("keyword(text)", "keyword takes words in quotes"),
        ("keyword()", "keyword takes words in quotes"),
        ("keyword('...')", "there is no word in \"...\""),
        ("text.matches('(')", "\"(\" is not a pattern"),
        ("text.matches('(a{500}){500}{500}')", "is not a pattern"),
        ("text.matches(channel)", "matches takes its pattern in quotes"),
        ("b'a' == b'a'", "bytes are not known here"),
        ("type(channel) == string", "there is no function \"type\""),
        ("verified.?x == 1", "column"),
    ] {
        let found = wrong(when);
        assert!(found.iter().any(|said| said.contains(part)), "{when}: {found:?}");
        assert!(found.iter().all(|said| !said.contains('\n') && said.len() < 300), "{found:?}");
    }
    assert!(wrong(&format!("channel == '{}'", "a".repeat(2000)))[0].contains("longer than 2000"));
    assert_eq!(wrong("now_open.office && channel == 'a'"), Vec::<String>::new());
    let two = wrong("chanel == 'a' && size(tags) == 'b'");
    assert_eq!(two.len(), 2, "every problem at once: {two:?}");
}

#[test]
fn deep_conditions_are_refused_before_they_use_up_the_stack() {
    let fill = |part: &str, times: usize| part.repeat(times);
    for when in [
        format!("{}true{}", fill("(", 900), fill(")", 900)),
        format!("{}true", fill("!", 1900)),
        format!("1 == {}1", fill("-", 1900)),
        format!("{}1", fill("[", 1900)),
        format!("1 == {}1", fill("1+", 900)),
        format!("{}true", fill("true?", 390)),
        format!("{}true", fill("true?true:", 190)),
        format!("customer{}", fill(".a", 900)),
        format!("customer{} == 1", fill("[0]", 600)),
        format!("{}true", fill("verified||", 190)),
        format!("{}true", fill("verified&&", 190)),
        format!("{}true", fill("1<1==", 390)),
        format!("1{} == 1", fill(" in tags", 200)),
        format!("keyword({}'a')", fill("'a',", 480)),
        format!("channel in [{}'a']", fill("'a',", 480)),
        fill("'", 1999),
        fill("\\", 1999),
    ] {
        // The smallest stack that a thread of the daemon has.
        let small = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
        let what: String = when.chars().take(30).collect();
        let done = small.spawn(move || fits(&when, &facts("a b"))).unwrap().join();
        assert!(done.is_ok(), "{what}");
    }
    // What people write is not deep.
    let many =
        (0..40).map(|n| format!("text.contains('word {n}') && channel != 'x{n}'")).collect::<Vec<_>>().join(" || ");
    assert!(fits(many[..many.len().min(1990)].rsplit_once(" || ").unwrap().0, &facts("word 3")), "{:?}", wrong(&many));
}

#[test]
fn opening_hours_in_conditions() {
    let compiled = compiled(
        r#"
        [queues.day]
        [queues.night]
        [[routes]]
        when = "!now_open.office && 'office' in now_open"
        queue = "night"
        [[routes]]
        when = "now_open['office']"
        queue = "day"
        [hours.office]
        time_zone = "UTC"
        week = { mon = ["09:00-17:00"] }
        "#,
    );
    let queue = |text| compiled.route(&Facts::default(), at(text)).unwrap().queue;
    assert_eq!(queue("2026-11-23T10:00:00Z").as_str(), "day");
    assert_eq!(queue("2026-11-23T18:00:00Z").as_str(), "night");
}

#[test]
fn words_of_a_text() {
    assert_eq!(words("Don't  PANIC, Ärger!"), " don t panic ärger ");
    assert_eq!(words("我要退款ok"), " 我 要 退 款 ok ");
    assert_eq!(words("  "), " ");
    let thai = facts("อยากขอคืนเงิน");
    assert!(fits("keyword('คืนเงิน')", &thai));
    assert!(fits("keyword('退款')", &facts("我要退款")));
    assert!(fits("keyword('STRASSE 5')", &facts("in der strasse 5.")));
    assert!(fits("keyword(\"don't\")", &facts("I don't")));
}

#[test]
fn the_text_that_rules_read_is_bounded() {
    let long = format!("{} needle", "ü".repeat(5000));
    assert!(!fits("text.contains('needle')", &facts(&long)));
    assert!(!fits("keyword('needle')", &facts(&long)));
}

/// The steps in words.
fn words_of(requirement: &Requirement) -> Vec<String> {
    let steps = requirement.steps.iter().map(|step| {
        let until = step.until_ms.map_or("the end".to_owned(), |until| until.0.to_string());
        let prefer: String =
            step.prefer.iter().map(|p| format!(", better {}x{}", expr::describe(&p.when), p.weight)).collect();
        format!("until {until}: {}{prefer}", expr::describe(&step.must))
    });
    steps.collect()
}

fn steps_of(queue: &str, language: Option<&str>) -> Vec<String> {
    let compiled = compiled(&format!("[queues.q]\n{queue}"));
    words_of(&compiled.requirement(&QueueId::new("q").unwrap(), None, language))
}

#[test]
fn wants_become_steps() {
    let queue = r#"
        skills = { product = 1 }
        wants = { senior = { level = 3 }, tech = { level = 2, relax_after_ms = 60000 }, vip = { prefer = 4 } }
        language = { level = 5, relax_after_ms = 120000, prefer = 2 }
    "#;
    assert_eq!(
        steps_of(queue, Some("de-AT")),
        [
            "until 60000: lang:de>=5 and product>=1 and senior>=3 and tech>=2, better vip>=1x4",
            "until 120000: lang:de>=5 and product>=1 and senior>=3, better vip>=1x4",
            "until the end: product>=1 and senior>=3, better vip>=1x4, better lang:de>=5x2",
        ]
    );
    assert_eq!(steps_of(queue, None).len(), 2, "the language is not known");
    assert_eq!(steps_of("wants = { a = { relax_after_ms = 0 } }", None), ["until the end: anybody"]);
    assert_eq!(
        steps_of("skills = { a = 2 }\nwants = { a = { level = 1, relax_after_ms = 9 } }", None),
        ["until the end: a>=2"],
        "what changes nothing is no step"
    );
    assert_eq!(steps_of("", None), ["until the end: anybody"]);
}

#[test]
fn wants_and_steps_are_united() {
    let queue = r#"
        skills = { product = 1 }
        wants = { tech = { level = 2, relax_after_ms = 30000 }, late = { relax_after_ms = 95000 } }
        [[queues.q.steps]]
        until_ms = 20000
        must = { skill = "a", min = 7 }
        pool = { tier_max = 1 }
        boost = 2
        [[queues.q.steps]]
        until_ms = 90000
        must = { any = [{ skill = "a", min = 3 }, { attribute = "site", is = ["b"] }] }
        prefer = [{ when = { skill = "a", min = 5 } }]
        no_skip = true
    "#;
    assert_eq!(
        steps_of(queue, None),
        [
            "until 20000: late>=1 and product>=1 and tech>=2 and a>=7",
            "until 30000: late>=1 and product>=1 and tech>=2 and (a>=3 or site is b), better a>=5x1",
            "until 90000: late>=1 and product>=1 and (a>=3 or site is b), better a>=5x1",
        ]
    );
    let compiled = compiled(&format!("[queues.q]\n{queue}"));
    let steps = &compiled.requirement(&QueueId::new("q").unwrap(), None, None).steps;
    assert_eq!((steps[0].boost, steps[0].pool.tier_max, steps[0].no_skip), (2, Some(1), false));
    assert!(steps[1].no_skip && steps[2].no_skip && steps[1].boost == 0);
}

#[test]
fn too_many_steps_keep_the_earliest() {
    let wants: String = (1..12).map(|n| format!("s{n:02} = {{ relax_after_ms = {} }}, ", n * 1000)).collect();
    let steps = steps_of(&format!("wants = {{ {} }}", wants.trim_end_matches(", ")), None);
    assert_eq!(steps.len(), STEPS_MAX);
    assert!(steps[6].starts_with("until 7000: "), "{steps:#?}");
    assert!(steps[7].starts_with("until the end: s08>=1 and s09>=1"), "{steps:#?}");
    // A broken order of an old policy.
    let odd = "steps = [{ until_ms = 9 }, { until_ms = 5, boost = 1 }, { boost = 2 }, { until_ms = 20 }]";
    assert_eq!(steps_of(odd, None), ["until 9: anybody", "until the end: anybody"]);
    let unknown = compiled("").requirement(&QueueId::new("gone").unwrap(), Some(3), Some("de"));
    assert_eq!(*unknown, Requirement::default());
}

mod conditions {
    use contract::SkillId;
    use contract::event::Exclusion;
    use contract::policy::{Agent, AttributeTest, LEVEL_MAX, SkillTest};
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Expr {
        #[derive(serde::Deserialize)]
        struct Holder {
            x: Expr,
        }
        toml::from_str::<Holder>(&format!("x = {text}")).unwrap().x
    }

    fn agent(text: &str) -> Agent {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn hold_or_say_why_not() {
        let anna = agent("skills = { a = 5, b = 2 }\nattributes = { site = \"x\", years = 4, lead = true }");
        for holds in [
            "{ all = [] }",
            "{ skill = \"a\", min = 5 }",
            "{ skill = \"none\", min = 0, max = 0 }",
            "{ not = { skill = \"none\" } }",
            "{ any = [{ skill = \"none\" }, { attribute = \"site\", is = [\"x\", \"y\"] }] }",
            "{ attribute = \"years\", min = 3, max = 4 }",
            "{ attribute = \"years\", is = [9], min = 3 }",
            "{ attribute = \"lead\", is = [true] }",
        ] {
            assert!(expr::holds(&read(holds), &anna), "{holds}");
            assert_eq!(expr::unmet(&read(holds), &anna), None);
        }
        let unfit = |text: &str| Some(Exclusion::Unfit { condition: text.into() });
        for (condition, why) in [
            (
                "{ all = [{ skill = \"a\", min = 2 }, { skill = \"a\", min = 6 }, { skill = \"c\" }] }",
                Some(Exclusion::MissingSkill { skill: SkillId::new("a").unwrap(), needed: 6, has: 5 }),
            ),
            ("{ skill = \"b\", max = 1 }", unfit("b=1")),
            ("{ skill = \"b\", min = 3, max = 4 }", unfit("b from 3 to 4")),
            ("{ any = [] }", unfit("nobody")),
            (
                "{ any = [{ skill = \"c\" }, { all = [{ skill = \"d\" }, { skill = \"e\" }] }] }",
                unfit("c>=1 or (d>=1 and e>=1)"),
            ),
            (
                "{ any = [{ all = [{ skill = \"d\", min = 2 }] }] }",
                Some(Exclusion::MissingSkill { skill: SkillId::new("d").unwrap(), needed: 2, has: 0 }),
            ),
            ("{ not = { any = [{ skill = \"a\" }, { skill = \"c\" }] } }", unfit("not (a>=1 or c>=1)")),
            ("{ attribute = \"site\", is = [\"y\"] }", unfit("site is y")),
            ("{ attribute = \"site\", min = 1 }", unfit("site>=1")),
            ("{ attribute = \"gone\", is = [1, false], max = 3 }", unfit("gone is 1 or gone is false or gone<=3")),
        ] {
            assert_eq!(expr::unmet(&read(condition), &anna), why, "{condition}");
        }
    }

    #[test]
    fn covers_are_small() {
        let cover = |text: &str| {
            let cost = |skill: &SkillId, level: u8| skill.as_str().len() * 10 + usize::from(LEVEL_MAX - level);
            let found = expr::cover(&read(text), &cost)?;
            Some(found.iter().map(|(skill, level)| format!("{skill}{level}")).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(cover("{ all = [{ skill = \"long\" }, { skill = \"s\", min = 2 }] }").as_deref(), Some("s2"));
        assert_eq!(
            cover("{ any = [{ skill = \"b\", min = 4 }, { skill = \"a\" }, { skill = \"b\", min = 2 }] }").as_deref(),
            Some("a1 b2")
        );
        assert_eq!(cover("{ any = [{ skill = \"b\" }, { not = { skill = \"a\" } }] }"), None);
        assert_eq!(cover("{ skill = \"a\", min = 0, max = 3 }"), None);
        assert_eq!(cover("{ all = [] }"), None);
        assert_eq!(cover("{ any = [] }").as_deref(), Some(""), "nobody");
        assert_eq!(expr::required_skills(&read("{ all = [{ skill = \"b\" }, { any = [{ skill = \"a\", min = 3 }] }, { skill = \"b\", min = 4 }, { any = [{ skill = \"c\" }, { skill = \"d\" }] }] }"))
            .iter().map(|(skill, level)| format!("{skill}{level}")).collect::<Vec<_>>(), ["a3", "b4"]);
    }

    fn any_expr() -> impl Strategy<Value = Expr> {
        let skill = |n: u8| SkillId::new(format!("s{n}")).unwrap();
        let leaf = prop_oneof![
            4 => (0..4_u8, 0..5_u8, 0..2_u8).prop_map(move |(s, min, top)| Expr::Skill(SkillTest {
                skill: skill(s), min, max: if top == 0 { LEVEL_MAX } else { min + 2 } })),
            1 => (0..3_i64).prop_map(|n| Expr::Attribute(AttributeTest { attribute: "x".into(), is: vec![Value::Number(n)], min: None, max: None })),
        ];
        leaf.prop_recursive(3, 16, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Expr::All),
                prop::collection::vec(inner.clone(), 0..3).prop_map(Expr::Any),
                inner.prop_map(|part| Expr::Not(Box::new(part))),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn who_satisfies_a_condition_is_covered(condition in any_expr(), levels in prop::collection::vec(0..7_u8, 4), x in 0..4_i64) {
            let skills = levels.iter().enumerate().map(|(n, level)| (SkillId::new(format!("s{n}")).unwrap(), *level));
            let agent = Agent { skills: skills.collect(), attributes: [("x".into(), Value::Number(x))].into(), ..Agent::default() };
            let fits = expr::holds(&condition, &agent);
            prop_assert_eq!(expr::unmet(&condition, &agent).is_none(), fits);
            if fits {
                if let Some(cover) = expr::cover(&condition, &|skill, _| skill.as_str().len()) {
                    prop_assert!(cover.iter().any(|(skill, least)| *least >= 1 && expr::level(&agent, skill) >= *least));
                }
                for (skill, least) in expr::required_skills(&condition) {
                    prop_assert!(expr::level(&agent, &skill) >= least);
                }
            }
        }
    }
}

mod languages {
    use contract::Envelope;
    use contract::event::Classification;

    use super::*;
    use crate::detect_language;

    #[test]
    fn are_detected_when_there_is_enough_to_be_sure() {
        for (text, language) in [
            ("Guten Tag, ich habe gestern eine Bestellung aufgegeben und noch keine Bestätigung erhalten.", Some("de")),
            ("Hello, I ordered a pair of shoes last week and they have not arrived yet. What should I do?", Some("en")),
            (
                "Bonjour, je voudrais savoir quand ma commande sera livrée, car elle a déjà beaucoup de retard et nous en avons besoin pour samedi prochain.",
                Some("fr"),
            ),
            ("Здравствуйте, подскажите пожалуйста, когда придёт мой заказ?", Some("ru")),
            ("Добрий день, скажіть, будь ласка, коли приїде моє замовлення?", Some("uk")),
            ("Сәлеметсіз бе, менің тапсырысым қашан келеді?", None),
            ("こんにちは、注文した商品がまだ届いていません。", Some("ja")),
            ("Merhaba, geçen hafta verdiğim sipariş hâlâ elime ulaşmadı, ne yapmalıyım?", Some("tr")),
            ("ok", None),
            ("order 4711 4712 4713 4714 4715 4716", None),
            ("https://example.org/a/very/long/address/that/says/nothing/about/its/writer", None),
            ("", None),
        ] {
            assert_eq!(detect_language(text).as_deref(), language, "{text}");
        }
    }

    fn envelope(text: &str) -> Envelope {
        let json = serde_json::json!({
            "v": 1, "kind": "message", "tenant": "main", "account": {"kind": "email", "id": "info"},
            "dedup_key": "1", "thread": {"key": "t", "subject": "About my order"},
            "sender": {"identity": {"scheme": "email", "value": "a@b.example", "scope": "global"}},
            "sender_auth": {"level": "dmarc_pass"}, "received_at": 1,
            "content": [{"type": "text", "body": text, "format": "html"}, {"type": "media", "kind": "image", "caption": "broken"}],
            "tags": ["web"],
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn facts_of_an_envelope() {
        let mut envelope =
            envelope("<p class=\"a\">Guten Tag, die <b>Bestellung</b> ist noch immer nicht angekommen.</p>");
        let facts = Facts::of(&envelope, None);
        assert_eq!((facts.channel.as_str(), facts.account.as_str(), facts.verified), ("email", "info", true));
        assert_eq!(
            facts.text.split_whitespace().collect::<Vec<_>>().join(" "),
            "About my order Guten Tag, die Bestellung ist noch immer nicht angekommen. broken"
        );
        let found = Classification {
            intent: Some("delivery".into()),
            language: Some("FR".into()),
            tags: ["late".into()].into(),
            ..Classification::default()
        };
        let facts = Facts::of(&envelope, Some(&found));
        assert_eq!((facts.intent.as_deref(), facts.language.as_deref()), (Some("delivery"), Some("fr")));
        assert_eq!(facts.tags.iter().map(SmolStr::as_str).collect::<Vec<_>>(), ["late", "web"]);
        envelope.language = Some("de-AT".into());
        assert_eq!(Facts::of(&envelope, Some(&found)).language.as_deref(), Some("de"));
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let facts = Facts::of(&envelope(&"é".repeat(9000)), None);
        assert!(facts.text.len() <= 4096 && facts.text.len() > 4000);
    }
}

#[test]
fn a_requirement_is_never_without_a_step() {
    assert_eq!(steps_of("steps = [{ until_ms = 0 }]", None).len(), 1);
    assert_eq!(Millis(0), Millis::default());
}

#[test]
fn the_example_of_the_readme() {
    let readme = include_str!("../../README.md");
    let text = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let compiled = compiled(text);
    let now = at("2026-11-23T09:00:00Z");
    let text = "Guten Tag, ich hätte gern ein Refund für meine Bestellung";
    let facts = Facts { text: text.into(), language: crate::detect_language(text), ..Facts::default() };
    assert_eq!(facts.language.as_deref(), Some("de"));
    let routed = compiled.route(&facts, now).unwrap();
    assert_eq!((routed.name.as_deref(), routed.priority), (Some("refunds"), 5));
    assert_eq!(
        words_of(&routed.requirement),
        [
            "until 30000: lang:de>=5 and product>=1 and product>=4",
            "until 60000: lang:de>=5 and product>=1",
            "until the end: product>=1, better lang:de>=5x3",
        ]
    );
    assert_eq!(routed.requirement.steps.iter().map(|step| step.boost).collect::<Vec<_>>(), [0, 1, 1]);
    let deadline = compiled.open_deadline(&routed.queue, at("2026-11-23T11:29:00Z"), Millis::from_secs(120));
    assert_eq!(deadline, Some(at("2026-11-23T12:31:00Z")));
}

mod any_text {
    use proptest::prelude::*;

    use super::*;

    /// What conditions are made of.
    const TOKENS: &[&str] = &[
        "channel",
        "text",
        "tags",
        "customer",
        "now_open",
        "verified",
        ".",
        ".tier",
        ".office",
        "keyword",
        "matches",
        "size",
        "has",
        ".exists",
        ".all",
        ".map",
        ".filter",
        ".exists_one",
        "(",
        ")",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        "t",
        "t,",
        "==",
        "!=",
        "<",
        "&&",
        "||",
        "!",
        "-",
        "+",
        "*",
        "/",
        "%",
        "?",
        ":",
        "in",
        "'a'",
        "'ü\\n'",
        "\"b\"",
        "r'\\d'",
        "b'x'",
        "'''",
        "1",
        "2u",
        "0",
        "1.5e3",
        "9223372036854775807",
        "99999999999999999999",
        "0x1F",
        "null",
        "true",
        "false",
        "int",
        "string",
        "// no",
        "\n",
        "@k",
        "`x`",
        "\\u",
        "é",
        "\u{0}",
        "'\\xff'",
        "'\\U00110000'",
        "..",
        "?.",
        "[?",
        "r",
        "b",
        "\"\"\"",
        "'\\",
        "'\\777'",
        "{'a': 1}",
        "Foo{",
        "a.b(",
        "-9223372036854775808",
    ];

    const WRITTEN: &[&str] = &[
        "keyword('refund', 'money back') && !('sales' in tags) || now_open.office",
        "has(customer.site) ? customer.site == 'b' : channel in ['chat', 'sms']",
        "tags.filter(t, t != 'vip').map(t, t + '!').exists(t, size(t) < 3 * 2 - 1)",
        "text.matches('(?i)mon[a-z]{1,3}') && double(3) / 2.5 > 1.0 && {'a': 1}[channel] % 2 == 1",
        "int('7') + 1 == 8 && string(4) == '4' && !verified && -customer.orders < 0",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]

        #[test]
        fn is_read_or_refused(
            tokens in prop::collection::vec(prop::sample::select(TOKENS), 0..14),
            by in prop::sample::select(vec!["", " "]),
        ) {
            let mut language = Language::new(["office".into()].into_iter());
            let _ = language.read(&tokens.join(by));
        }

        /// Nearly what people write: a condition with some of it left out, doubled or replaced.
        #[test]
        fn is_read_or_refused_with_a_slip(
            which in 0..WRITTEN.len(),
            slips in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(TOKENS), 0..3_u8), 0..4),
        ) {
            let mut text: Vec<String> = WRITTEN[which].chars().map(String::from).collect();
            for (at, token, how) in slips {
                let at = at.index(text.len());
                match how {
                    0 => text[at].clear(),
                    1 => text[at] = token.to_owned(),
                    _ => text[at].push_str(token),
                }
            }
            let mut language = Language::new(["office".into()].into_iter());
            let _ = language.read(&text.concat());
        }

        #[test]
        fn is_detected_and_split(text in any::<String>()) {
            let _ = crate::detect_language(&text);
            let found = words(&text);
            prop_assert!(found.starts_with(' ') && found.ends_with(' ') && !found.contains("  "));
        }
    }
}

#[test]
fn a_compiled_policy_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + Clone + std::fmt::Debug>() {}
    shared::<Compiled>();
}
