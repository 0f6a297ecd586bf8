//! One version after the other, and both side by side: on the same data and on one bus, in either order.
//!
//! The earlier program is the one that `THROUGHLINE_PREVIOUS` names (`make upgrade` builds that of an earlier commit);
//! without it, the program under test plays both parts.

use std::path::PathBuf;

use nix::sys::signal::Signal;
use throughline_tests::daemon::binary;
use throughline_tests::{Cluster, Daemon, PATIENCE, until};

use crate::cluster::{audit_all, leads, prepared};
use crate::crash::{Load, keeping_all};

const CUSTOMERS: usize = 10;

fn previous() -> PathBuf {
    std::env::var_os("THROUGHLINE_PREVIOUS").map_or_else(binary, PathBuf::from)
}

/// Waits until agents have answered so much more.
async fn goes_on(load: &Load) {
    let before = load.answers();
    until(PATIENCE, "answers", async || (load.answers() > before + 2 * CUSTOMERS).then_some(())).await;
}

/// What the trail of operators' commands holds; asked by the new program.
async fn trail(daemon: &Daemon) -> usize {
    daemon.cli(&["--json", "audit"]).await.json().as_array().expect("a list").len()
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrade_on_the_same_data_goes_on_where_it_was() {
    let mut daemon = keeping_all().prepare();
    daemon.replace(&previous());
    daemon.start().await;
    let load = Load::start(&daemon, CUSTOMERS).await;
    goes_on(&load).await;
    daemon.terminate().await;
    daemon.replace(&binary());
    daemon.start().await;
    goes_on(&load).await;
    // And once more without a good end.
    daemon.kill9();
    daemon.start().await;
    goes_on(&load).await;
    audit_all(&daemon, load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrade_of_one_process_after_the_other_stops_nothing() {
    let (old, new) = (previous(), binary());
    let mut daemon = prepared();
    let _cluster = Cluster::start(&daemon).await;
    daemon.replace(&old);
    let mut first = daemon.companion(&["router"]);
    first.up().await;
    daemon.start().await;
    let mut second = daemon.companion(&["router"]);
    leads(&second, 4..=4).await;
    let load = Load::start(&daemon, CUSTOMERS).await;
    goes_on(&load).await;
    daemon.cli(&["policy", "apply"]).await.ok();
    let understood = trail(&daemon).await > 0;

    // The first router is replaced. While an older one is there, nothing is written that it does not understand.
    first.terminate().await;
    daemon.replace(&new);
    first = daemon.companion(&["router"]);
    leads(&first, 4..=4).await;
    daemon.cli(&["policy", "apply"]).await.ok();
    goes_on(&load).await;
    if !understood {
        assert_eq!(trail(&daemon).await, 0, "an older router could not read it");
    }
    // So the older one can take everything over.
    first.kill9();
    leads(&second, 8..=8).await;
    goes_on(&load).await;

    first = daemon.companion(&["router"]);
    first.up().await;
    second.terminate().await;
    leads(&first, 8..=8).await;
    second = daemon.companion(&["router"]);
    second.up().await;
    goes_on(&load).await;
    // All are new now.
    let before = trail(&daemon).await;
    until(PATIENCE, "a trail", async || {
        daemon.cli(&["policy", "apply"]).await.ok();
        (trail(&daemon).await > before).then_some(())
    })
    .await;
    // The channels are replaced last; customers come back by themselves. What either version decided keeps the rules.
    daemon.signal(Signal::SIGTERM);
    daemon.ended().await;
    daemon.start().await;
    goes_on(&load).await;
    audit_all(&daemon, load).await;
    drop((first, second));
}
