//! Seeds. `SEEDS=5000` runs more of them, `SEED=17` one and prints what came of it.

#![expect(clippy::print_stdout, reason = "a single seed is run to be looked at")]

use throughline_simulator::{Options, Report, run};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn nothing_breaks_whatever_the_seed() {
    let seeds = number("SEED").map_or(0..number("SEEDS").unwrap_or(200), |seed| seed..seed + 1);
    let (single, threads) = (number("SEED").is_some(), 4);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let mine = seeds.clone().filter(move |seed| seed % threads == thread);
            scope.spawn(move || mine.for_each(|seed| hold(&run(seed, &Options::default()), single)));
        }
    });
}

fn hold(report: &Report, print: bool) {
    let findings = &report.findings;
    assert!(findings.is_empty(), "SEED={}: {:#?}", report.seed, findings.iter().take(5).collect::<Vec<_>>());
    if print {
        println!("{report:#?}");
    }
}

#[test]
fn a_seed_is_a_world() {
    let options = Options::default();
    assert_eq!(run(7, &options), run(7, &options));
    assert_ne!(run(7, &options).digest, run(8, &options).digest);
}

#[test]
fn it_all_happens() {
    let reports: Vec<Report> = (0..10).map(|seed| run(seed, &Options::default())).collect();
    for fact in [
        "agent.lost",
        "conversation.closed",
        "conversation.parked",
        "conversation.resumed",
        "conversation.round_started",
        "conversation.transferred",
        "customer.identity_linked",
        "message.sent",
        "message.status_changed",
        "offer.declined",
        "offer.expired",
        "offer.rescinded",
    ] {
        assert!(reports.iter().any(|report| report.facts.contains_key(fact)), "{fact} never happened");
    }
    assert!(
        reports.iter().all(|report| report.crashes > 0 && report.repeats > 0 && report.wait_p50 <= report.wait_p90)
    );
}
