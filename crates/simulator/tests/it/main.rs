//! Seeds. `THROUGHLINE_SEEDS=5000` runs more of them, `THROUGHLINE_SEED=17` one and prints what came of it.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use throughline_simulator::{Run, Sabotage, Scenario, Seeds};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn chaos() -> Seeds {
    Seeds::new(Scenario::named("chaos").unwrap()).unwrap()
}

#[test]
fn nothing_breaks_whatever_the_seed() {
    let single = number("THROUGHLINE_SEED");
    let range = single.map_or(0..number("THROUGHLINE_SEEDS").unwrap_or(2_000), |seed| seed..seed + 1);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let started = std::time::Instant::now();
    let count = range.end - range.start;
    let mut steps = 0;
    chaos().run_all(range, threads, |run| {
        if let Some(failure) = run.failure("chaos", option_env!("THROUGHLINE_COMMIT")) {
            panic!("{failure}");
        }
        steps += run.steps;
        if single.is_some() {
            println!("{:#?}", Run { journal: Vec::new(), log: Default::default(), ..run });
        }
        true
    });
    println!("{count} seeds, {steps} steps, {:.1} seeds/s", count as f64 / started.elapsed().as_secs_f64());
}

#[test]
fn a_seed_is_a_world() {
    let chaos = chaos();
    assert_eq!(chaos.run(7), chaos.run(7));
    assert_ne!(chaos.run(7).digest, chaos.run(8).digest);
}

#[test]
fn it_all_happens() {
    let chaos = chaos();
    let runs: Vec<Run> = (0..10).map(|seed| chaos.run(seed)).collect();
    for fact in [
        "agent.lost",
        "conversation.closed",
        "conversation.parked",
        "conversation.resumed",
        "conversation.round_started",
        "conversation.transferred",
        "customer.identity_linked",
        "customer.recalled",
        "customer.rested",
        "message.sent",
        "message.status_changed",
        "offer.declined",
        "offer.expired",
        "offer.rescinded",
    ] {
        assert!(runs.iter().any(|run| run.facts.contains_key(fact)), "{fact} never happened");
    }
    assert!(runs.iter().all(|run| run.crashes > 0 && run.repeats > 0));
    let abandoned = |run: &Run| run.log.cases.iter().any(|case| case.abandoned.is_some());
    assert!(runs.iter().any(abandoned), "nobody ever left");
}

/// The first seed that finds a built-in mistake, and what it was shrunk to.
fn caught(sabotage: Sabotage) -> Run {
    let broken = Seeds { sabotage, ..chaos() };
    (0..5).map(|seed| broken.run(seed)).find(|run| !run.findings.is_empty()).expect("the mistake is found")
}

#[test]
fn a_lapse_that_misses_the_journal_is_found_and_shrunk() {
    let run = caught(Sabotage::SwallowExpiry);
    let failure = run.failure("chaos", Some("abc123")).unwrap();
    println!("{failure}");
    let shrunk = run.shrunk.expect("it is shrunk");
    assert!(shrunk.inputs <= 6, "{}", shrunk.script);
    assert!(failure.contains("at commit abc123") && shrunk.script.contains("message "), "{failure}");
}

#[test]
fn a_message_taken_in_twice_is_found_and_shrunk() {
    let run = caught(Sabotage::DoubleMessage);
    println!("{}", run.failure("chaos", None).unwrap());
    let shrunk = run.shrunk.expect("it is shrunk");
    assert_eq!(shrunk.inputs, 1, "{}", shrunk.script);
    assert!(shrunk.script.contains("tag=buy"), "{}", shrunk.script);
}

#[test]
fn an_answer_that_a_replay_forgets_is_found_and_shrunk() {
    let run = caught(Sabotage::ForgetReply);
    println!("{}", run.failure("chaos", None).unwrap());
    assert!(run.shrunk.expect("it is shrunk").script.contains("says c1"));
}
