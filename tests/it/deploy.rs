//! What stands in `deploy/` fits the program: the service manager is told, metrics that are watched exist.

use std::collections::BTreeSet;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use throughline_tests::daemon::root;
use throughline_tests::{Daemon, PATIENCE};

/// What the daemon tells its manager next; `None` when it is silent for too long.
fn heard(manager: &UnixDatagram) -> Option<String> {
    let mut buffer = [0; 1024];
    let read = manager.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..read]).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn deploy_the_service_manager_hears_of_start_life_and_end() {
    let name = format!("throughline-manager-{}", std::process::id());
    let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let daemon = Daemon::builder().env("NOTIFY_SOCKET", &format!("@{name}")).env("WATCHDOG_USEC", "400000");
    let mut daemon = daemon.start().await;
    // It is ready by its pages: what it has said by then is waiting.
    let (mut before, mut alive) = (Vec::new(), 0);
    loop {
        let notice = heard(&manager).expect("it says that it is ready");
        if notice.starts_with("READY=1") {
            break;
        }
        before.push(notice);
    }
    let starting = |notice: &String| notice.starts_with("EXTEND_TIMEOUT_USEC=") || notice == "WATCHDOG=1";
    assert!(before.iter().any(|notice| notice.contains("STATUS=starting")), "{before:?}");
    assert!(before.iter().all(starting), "{before:?}");
    while alive < 3 {
        assert_eq!(heard(&manager).as_deref(), Some("WATCHDOG=1"));
        alive += 1;
    }
    assert!(daemon.terminate().await.success());
    let mut stopping = false;
    manager.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    while let Some(notice) = heard(&manager) {
        stopping |= notice.starts_with("STOPPING=1");
    }
    assert!(stopping);
}

/// Every file of ours below a folder that ends so.
fn texts(folder: &Path, end: &str, into: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts(&path, end, into);
        } else if path.to_string_lossy().ends_with(end) {
            into.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

/// Names of metrics as they stand in a text.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    let families = ["router_", "adapter_", "bus_", "process_", "chat_", "email_"];
    let named = words.filter(|word| families.iter().any(|family| word.starts_with(family)));
    let of_histograms = |word: &str| word.trim_end_matches("_bucket").to_owned();
    named.map(of_histograms).filter(|word| word.matches('_').count() > 1 || word.starts_with("router_")).collect()
}

#[test]
fn deploy_what_is_watched_is_measured() {
    let mut code = String::new();
    texts(&root().join("crates"), ".rs", &mut code);
    let mut watched = String::new();
    texts(&root().join("deploy"), ".rules.yml", &mut watched);
    texts(&root().join("deploy"), ".json", &mut watched);
    let watched = metrics(&watched);
    assert!(watched.len() > 15, "{watched:?}");
    let unknown: Vec<_> = watched.iter().filter(|name| !code.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "deploy/ watches what nobody measures: {unknown:?}");
    let dashboard = std::fs::read_to_string(root().join("deploy/grafana/throughline.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&dashboard).unwrap();
}

#[test]
fn deploy_alerts_fire_when_they_should() {
    let Ok(version) = Command::new("promtool").arg("--version").output() else {
        println!("promtool is not installed; the rules' own tests are not run");
        return;
    };
    assert!(version.status.success());
    let tests = root().join("deploy/prometheus/throughline.rules.test.yml");
    let checked = Command::new("promtool").args(["test", "rules"]).arg(tests).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}
