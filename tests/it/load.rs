//! The load generator against a running daemon: what it sends is counted, what it measures makes sense, and nothing is
//! lost; and the view that one would watch meanwhile.

use serde_json::Value;
use throughline_tests::Daemon;

use crate::crash::policy;

const RATE: u64 = 40;
const SECONDS: u64 = 3;
const CUSTOMERS: u64 = 20;
/// Of a hundred messages so many begin a conversation.
const NEW: u64 = 5;

/// The stage of a report with a name, by how it begins.
fn stage<'a>(report: &'a Value, name: &str) -> &'a Value {
    let stages = report["stages"].as_array().expect("stages");
    let found = stages.iter().find(|stage| stage["name"].as_str().is_some_and(|found| found.starts_with(name)));
    found.unwrap_or_else(|| panic!("no stage {name}: {report}"))
}

fn count(stage: &Value) -> u64 {
    stage["count"].as_u64().expect("a count")
}

/// Shares grow, and so do the times.
fn is_a_distribution(stage: &Value) {
    let points = stage["ms"].as_array().expect("shares and times").iter();
    let points: Vec<(f64, f64)> =
        points.map(|point| (point[0].as_f64().expect("a share"), point[1].as_f64().expect("a time"))).collect();
    assert!(points.len() > 3, "{stage}");
    assert!(points.iter().all(|(share, ms)| (0.0..=100.0).contains(share) && *ms > 0.0), "{stage}");
    let grow = |pair: &[(f64, f64)]| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1;
    assert!(points.windows(2).all(grow), "{stage}");
    let (share, longest) = points[points.len() - 1];
    // Nothing takes longer than the run with what it waits for in the end.
    assert!(share == 100.0 && longest < 40_000.0, "{stage}");
}

#[tokio::test(flavor = "multi_thread")]
async fn load_is_made_measured_and_watched() {
    let daemon = Daemon::builder().policy(&policy()).start().await;
    let page = daemon.folder().join("load.html");
    let (rate, seconds, customers, new) =
        (RATE.to_string(), SECONDS.to_string(), CUSTOMERS.to_string(), NEW.to_string());
    let said = daemon
        .cli(&[
            "--json",
            "bench",
            "load",
            "--rate",
            &rate,
            "--seconds",
            &seconds,
            "--customers",
            &customers,
            "--new",
            &new,
            "--html",
            &page.display().to_string(),
        ])
        .await;
    println!("{}{}", said.stderr, said.stdout);
    assert!(said.stderr.contains("6 agents sign in"), "{}", said.stderr);
    let report = said.json();
    let messages = RATE * SECONDS;
    let begun = messages / 100 * NEW + (messages % 100).min(NEW);
    assert_eq!(report["messages"], messages, "{report}");
    assert_eq!((&report["refused"], &report["not_seen"]), (&Value::from(0), &Value::from(0)), "{report}");
    let per_second = |name: &str| report[name].as_f64().expect("a rate");
    assert_eq!(per_second("wanted_per_second"), RATE as f64);
    assert!((1.0..=RATE as f64 * 1.5).contains(&per_second("sent_per_second")), "{report}");
    assert!((1.0..=RATE as f64 * 1.5).contains(&per_second("seen_per_second")), "{report}");
    let [stored, assigned, in_feed, answered] =
        ["stored", "assigned", "in the agent's feed", "answer"].map(|name| stage(&report, name));
    assert_eq!((count(stored), count(assigned), count(in_feed)), (messages, begun, messages - begun), "{report}");
    // The last answers may be on their way still.
    assert!((messages / 2..=messages).contains(&count(answered)), "{report}");
    [stored, assigned, in_feed, answered].into_iter().for_each(is_a_distribution);
    let page = std::fs::read_to_string(page).expect("the page");
    assert!(page.matches("<polyline").count() == 4 && page.ends_with("</html>\n"), "{page}");

    // What is watched: where the output is no terminal it is one frame.
    let frame = daemon.cli(&["top"]).await.ok();
    assert_eq!(daemon.cli(&["top", "--once"]).await.ok().lines().count(), frame.lines().count());
    for words in ["led by", "dead letters 0", "support", "a0", "holds"] {
        assert!(frame.contains(words), "{words} is not in\n{frame}");
    }
    let sample = daemon.cli(&["--json", "top"]).await.json();
    assert_eq!(sample["agents"].as_array().map(Vec::len), Some(6), "{sample}");
    assert_eq!(sample["status"]["counts"]["conversations"]["active"], CUSTOMERS + begun, "{sample}");
    assert!(sample["input"].as_u64() > Some(0), "{sample}");
}
