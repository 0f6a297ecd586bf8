//! What an operator sees: checks, refusals that say what to do, ends, reloads, numbers and logs.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use contract::Event;
use contract::command::RefusalKind;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use throughline_tests::agent::Habits;
use throughline_tests::chat::Visit;
use throughline_tests::daemon::{binary, command, free_port, is_alive, is_fast, run};
use throughline_tests::graph::{ACCESS_TOKEN, APP_SECRET, Graph, VERIFY_TOKEN};
use throughline_tests::mail::{ANN, SUPPORT, password};
use throughline_tests::{AgentTool, ChatClient, Daemon, MailServer, PATIENCE, Vendor, http, until, vendor};

const EX_CONFIG: i32 = 78;

#[tokio::test(flavor = "multi_thread")]
async fn operator_check_says_everything_at_once_and_run_refuses_the_same() {
    let daemon = Daemon::builder()
        .set("bus.prot", 4222)
        .set("router.shards", 0)
        .set("log.filter", "\"a=b=c\"")
        .amend("queues = [\"sales\"]", "queues = [\"sale\"]")
        .amend("default_queue = \"support\"", "default_queue = \"nowhere\"")
        .account("broken", "kind = \"chat\"\naccount = \"second\"\n[settings]\nlisten = \"here\"\ntext_chars_max = 0\n")
        .prepare();
    let check = daemon.cli(&["check"]).await;
    assert_eq!(check.code, EX_CONFIG, "{check:?}");
    assert!(check.stderr.contains("bus.prot") && check.stderr.contains("throughline.toml"), "{}", check.stderr);
    let ran = daemon.cli(&["run"]).await;
    assert_eq!((ran.code, &ran.stderr), (EX_CONFIG, &check.stderr));
    assert!(!daemon.data_dir().exists(), "a check leaves nothing behind");

    // With the file in order the values are judged, all of them at once.
    let daemon = Daemon::builder()
        .set("router.shards", 0)
        .set("router.replicas", 2)
        .set("log.filter", "\"a=b=c\"")
        .amend("queues = [\"sales\"]", "queues = [\"sale\"]")
        .amend("default_queue = \"support\"", "default_queue = \"nowhere\"")
        .account("odd", "kind = \"fax\"\naccount = \"main\"\n")
        .prepare();
    let said = daemon.cli(&["check"]).await;
    assert_eq!(said.code, EX_CONFIG, "{said:?}");
    for path in ["router.shards", "router.replicas", "log.filter", "agents.deniz.queues", "default_queue"] {
        assert!(said.stderr.contains(path), "{path} is not in {}", said.stderr);
    }
    assert_eq!(said.stdout, "");
    let ran = daemon.cli(&["run"]).await;
    assert_eq!((ran.code, &ran.stderr), (EX_CONFIG, &said.stderr));

    // Accounts: a kind that is none, settings that make no sense, keys that do not exist.
    let chat = "kind = \"chat\"\naccount = \"second\"\n[settings]\nlisten = \"here\"\ntext_chars_max = 0\n";
    let typo = "kind = \"chat\"\naccount = \"third\"\n[settings]\nlisten = \"127.0.0.1:1\"\ndmeo = true\n";
    let daemon = Daemon::builder()
        .account("odd", "kind = \"fax\"\naccount = \"main\"\n")
        .account("second", chat)
        .account("third", typo)
        .prepare();
    let said = daemon.cli(&["check"]).await;
    assert_eq!(said.code, EX_CONFIG, "{said:?}");
    for part in ["odd.toml", "no channel of this kind", "second.toml", "listen", "text_chars_max", "third.toml", "dmeo"]
    {
        assert!(said.stderr.contains(part), "{part} is not in {}", said.stderr);
    }

    let sound = Daemon::builder().prepare();
    let said = sound.cli(&["check"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("2 queues, 3 agents"), "{said:?}");
    assert!(!sound.data_dir().exists(), "a check leaves nothing behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_errors_say_what_to_do() {
    let missing = Daemon::builder().set("bus.binary", "\"/nowhere/nats-server\"").prepare();
    let said = missing.cli(&["run"]).await;
    assert_ne!(said.code, 0);
    assert!(said.stderr.contains("/nowhere/nats-server") && said.stderr.contains("make tools"), "{said:?}");

    for key in ["bus.port", "http.listen", "listen"] {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let builder = match key {
            "bus.port" => Daemon::builder().set(key, port),
            "http.listen" => Daemon::builder().set(key, format!("\"127.0.0.1:{port}\"")),
            _ => {
                let text = format!("kind = \"chat\"\naccount = \"a\"\n[settings]\nlisten = \"127.0.0.1:{port}\"\n");
                Daemon::builder().without_chat().account("chat-a", &text)
            }
        };
        let daemon = builder.prepare();
        let said = daemon.cli(&["run"]).await;
        assert_ne!(said.code, 0, "{said:?}");
        assert!(said.stderr.contains(&port.to_string()) && said.stderr.contains(key), "{key}: {said:?}");
        // Nobody was left behind by the attempt.
        if let Some(pid) = daemon.nats_pid() {
            until(PATIENCE, "the bus server to be gone", async || (!is_alive(pid)).then_some(())).await;
        }
    }

    // Two daemons on one folder.
    let mut daemon = Daemon::builder().start().await;
    let second = daemon.cli(&["run"]).await;
    assert_ne!(second.code, 0);
    assert!(second.stderr.contains("another throughline daemon"), "{second:?}");
    daemon.terminate().await;

    // Asking when nothing runs.
    let alone = daemon.cli(&["status"]).await;
    assert_eq!(alone.code, 1, "{alone:?}");
    assert!(alone.stderr.contains("throughline run") || alone.stderr.contains("refused"), "{alone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_one_signal_drains_a_second_ends() {
    let mut daemon = Daemon::builder().start().await;
    let nats = daemon.nats_pid().unwrap();
    let anna = AgentTool::automatic(&daemon, "anna", |text| Some(format!("re: {text}"))).await;
    let mut page = ChatClient::open(&daemon, "gus", Visit::default()).await;
    page.say("hello").await;
    page.hears("agent", "re: hello").await;
    let began = Instant::now();
    let status = daemon.terminate().await;
    println!("drained in {:?}", began.elapsed());
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(!is_alive(nats), "the bus server goes with its daemon");
    let logs = daemon.logs();
    let (_, end) = logs.split_once("draining signal").expect("it says so");
    assert!(end.contains("stopped") && !end.contains(" WARN ") && !end.contains(" ERROR "), "all went well: {end}");
    anna.vanish().await;

    // What was drained is there again.
    daemon.start().await;
    assert!(daemon.cli(&["conversation", "show", "c1"]).await.ok().contains("re: hello"));

    // The bus is frozen, so the drain cannot finish; a second signal does not wait for it.
    daemon.signal_nats(Signal::SIGSTOP);
    daemon.signal(Signal::SIGTERM);
    let twice = async || (daemon.logs().matches("draining signal").count() == 2).then_some(());
    until(PATIENCE, "the second drain to begin", twice).await;
    let began = Instant::now();
    daemon.signal(Signal::SIGTERM);
    let status = daemon.ended().await;
    assert!(began.elapsed() < Duration::from_secs(5), "a second signal ends at once");
    assert_eq!(status.code(), Some(130), "{status:?} signal {:?}", status.signal());
    // The next start finds the bus server that was left, and nothing is missing.
    daemon.start().await;
    assert!(daemon.cli(&["conversation", "show", "c1"]).await.ok().contains("re: hello"));
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_can_look_while_the_policy_on_disk_is_broken() {
    let daemon = Daemon::builder().account("demo-shop", "kind = \"demo\"\naccount = \"shop\"\nexternal = true\n");
    let daemon = daemon.start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |text| Some(format!("re: {text}"))).await;
    let mut page = ChatClient::open(&daemon, "gus", Visit::default()).await;
    page.say("hello").await;
    page.hears("agent", "re: hello").await;
    let bus = daemon.connect("adapter-demo").await;
    crate::deadletters::put(&bus, "tl.v1.in.main.demo.shop", b"{".to_vec(), Some(contract::Encoding::Json), "bad")
        .await;
    until(PATIENCE, "the dead letter", async || (daemon.dead_letters("main").await.len() == 1).then_some(())).await;

    // An operator is in the middle of it: one that is no TOML, then one that makes no sense.
    for broken in ["default_queue = [\n", "default_queue = \"nowhere\"\n"] {
        daemon.write_policy(broken);
        let status = daemon.cli(&["status"]).await.ok();
        assert!(status.contains("1 active"), "{status}");
        let explained = daemon.cli(&["explain", "c1"]).await.ok();
        assert!(explained.contains("anna"), "{explained}");
        let listed = daemon.cli(&["--json", "dead", "list"]).await.json();
        assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
        daemon.cli(&["dead", "show", "1"]).await.ok();
    }
    daemon.cli(&["dead", "delete", "1"]).await.ok();
    assert!(daemon.dead_letters("main").await.is_empty());
    drop(anna);
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_sighup_reads_the_policy_again() {
    let builder = Daemon::builder().amend("agent_silence_ms = 15000", "agent_silence_ms = 1500");
    let daemon = builder.amend("agent_grace_ms = 60000", "agent_grace_ms = 1000").start().await;
    let policy = daemon.policy().to_owned();
    let lively = || Habits { sign_of_life: Some(Duration::from_millis(200)), ..Habits::default() };
    let unknown = daemon.cli(&["agent", "zoe"]).await;
    assert_eq!(unknown.code, 1, "{unknown:?}");

    daemon.write_policy("default_queue = \"nowhere\"\n");
    daemon.signal(Signal::SIGHUP);
    daemon.logged("what was in force stays").await;
    daemon.write_policy(&policy);
    let version = async || daemon.cli(&["--json", "status"]).await.json()["value"]["counts"]["policy_version"].clone();
    assert_eq!(version().await, 1);

    let anna = AgentTool::with(&daemon, "anna", lively()).await;
    anna.available().await;
    let with_zoe = format!("{policy}\n[agents.zoe]\nqueues = [\"support\"]\ncapacity = 25\n");
    daemon.write_policy(&with_zoe.replace("[agents.ben]", "[agents.benjamin]"));
    daemon.signal(Signal::SIGHUP);
    until(PATIENCE, "the new policy", async || (version().await == 2).then_some(())).await;
    let zoe = AgentTool::with(&daemon, "zoe", lively()).await;
    zoe.available().await;
    let mut page = ChatClient::open(&daemon, "gus", Visit::default()).await;
    page.say("hello").await;
    let (offer, _) = anna.offered(None).await;
    anna.accept(offer).await;
    let gone = daemon.cli(&["agent", "ben"]).await;
    assert_eq!(gone.code, 1, "who left the roster does not get in: {gone:?}");

    // An agent that is taken off the roster in the middle of a conversation is cut off, and lost.
    daemon.write_policy(&with_zoe.replace("[agents.anna]", "[agents.hanna]"));
    daemon.signal(Signal::SIGHUP);
    let (offer, conversation) = zoe.offered(None).await;
    zoe.accept(offer).await;
    zoe.say(conversation, "zoe here").await;
    page.hears("agent", "zoe here").await;
    let refusal = zoe.commander().history(contract::ConversationId(99), 1).await.unwrap_err();
    assert_ne!(refusal.kind, RefusalKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_health_and_metrics() {
    let mut daemon = Daemon::builder().start().await;
    let page = |path: &'static str| {
        let address = daemon.http();
        async move { http::get(&address, path).await }
    };
    assert_eq!(page("/healthz").await.unwrap().status, 200);
    assert_eq!(page("/readyz").await.unwrap().status, 200);
    let anna = AgentTool::automatic(&daemon, "anna", |text| Some(format!("re: {text}"))).await;
    let mut customer = ChatClient::open(&daemon, "gus", Visit::default()).await;
    customer.say("hello").await;
    customer.hears("agent", "re: hello").await;
    // Some are counted every few seconds only.
    let metrics = until(PATIENCE, "the counts of conversations", async || {
        page("/metrics").await.ok().filter(|metrics| metrics.body.contains("\nrouter_conversations"))
    })
    .await;
    assert!(metrics.head.contains("text/plain; version=0.0.4"), "{}", metrics.head);
    for name in [
        "router_inputs_total",
        "router_records_total",
        "router_events_total",
        "router_commands_total",
        "router_append_seconds",
        "router_decide_seconds",
        "router_shards_led",
        "router_conversations",
        "router_agents",
        "adapter_accepted_total",
        "adapter_sends_total",
        "chat_sockets",
        "process_resident_memory_bytes",
    ] {
        assert!(metrics.body.lines().any(|line| line.starts_with(name)), "{name} is not in\n{}", metrics.body);
    }
    for line in metrics.body.lines().filter(|line| line.starts_with("router_invariant_violations_total")) {
        assert!(line.ends_with(" 0"), "{line}");
    }

    // The bus is frozen: not ready, but alive; and back when it is.
    daemon.signal_nats(Signal::SIGSTOP);
    let until_status = async |status: u16| {
        let what = format!("/readyz to say {status}");
        until(PATIENCE * 2, &what, async || page("/readyz").await.ok().filter(|a| a.status == status)).await
    };
    let down = until_status(503).await;
    assert!(down.body.contains("bus"), "{}", down.body);
    assert_eq!(page("/healthz").await.unwrap().status, 200);
    daemon.signal_nats(Signal::SIGCONT);
    until_status(200).await;
    customer.say("still there").await;
    customer.hears("agent", "re: still there").await;
    // Killed, it is started again.
    let before = daemon.nats_pid();
    daemon.kill9_nats();
    until(PATIENCE, "another bus server", async || daemon.nats_pid().filter(|pid| Some(*pid) != before)).await;
    until_status(200).await;
    customer.say("and again").await;
    customer.hears("agent", "re: and again").await;
    customer.check();
    drop(anna);
    daemon.terminate().await;
}

/// What people write, and who they say they are.
const TEXT: &str = "sentinel-of-a-private-matter";
const NAME: &str = "sentinel-of-a-name";

/// People write by chat, webhook, WhatsApp and mail, and are answered; a webhook is not understood, and the daemon dies in
/// between. All of it is logged as far as anything is. Returns the daemon, which has ended, and a page's session.
async fn all_is_said(format: &str) -> (Daemon, String) {
    let hook = free_port();
    let (graph, vendor, mail) = (Graph::start().await, Vendor::start(hook).await, MailServer::start().await);
    let builder = Daemon::builder()
        .set("log.filter", "\"trace\"")
        .set("log.format", format!("{format:?}"))
        .account("social-wa", &graph.whatsapp())
        .account("email-support", &mail.account(""))
        .env("META_SECRET", APP_SECRET)
        .env("META_TOKEN", ACCESS_TOKEN)
        .env("META_VERIFY", VERIFY_TOKEN);
    let mut daemon = vendor.join(builder).start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |text| Some(format!("re: {text}"))).await;
    let visit = Visit { name: Some(NAME.into()), ..Visit::default() };
    let mut page = ChatClient::open(&daemon, "gus", visit).await;
    page.say(TEXT).await;
    page.hears("agent", &format!("re: {TEXT}")).await;
    let session = page.session().unwrap();
    page.cut().await;
    let (_, conversation) = anna.offered(None).await;
    anna.close(conversation, "solved").await;
    page.sees("closed").await;

    let taken = vendor.says("e1", "chat-7", NAME, TEXT).await.expect("an answer");
    assert_eq!(taken.status, 200, "{}", taken.body);
    until(PATIENCE, "the vendor's answer", async || (!vendor.api.taken().is_empty()).then_some(())).await;
    let odd = json!({ "type": "odd", "id": "e2", "chat": "chat-7", "from": NAME, "name": NAME, "text": TEXT });
    assert_eq!(vendor.posts(odd).await.expect("an answer").status, 200);
    until(PATIENCE, "the dead letter", async || (daemon.dead_letters("main").await.len() == 1).then_some(())).await;

    let from = "16505551234";
    let message = json!({ "id": "wamid.1", "from": from, "timestamp": (runtime::clock::now() / 1000).to_string(),
        "type": "text", "text": { "body": TEXT } });
    let value = json!({ "messaging_product": "whatsapp", "messages": [message],
        "contacts": [{ "wa_id": from, "profile": { "name": NAME } }] });
    assert_eq!(crate::social::say(hook, "wa", &crate::social::change(value)).await, Some(200));
    until(PATIENCE, "the answer by WhatsApp", async || (!graph.taken().is_empty()).then_some(())).await;

    let (sender, date) = (format!("{NAME} <{ANN}>"), "Thu, 01 Jan 2026 10:00:00 +0000");
    mail.put(SUPPORT, &crate::email::eml(&sender, TEXT, "<first@customer.example>", date, TEXT));
    mail.arrives(ANN, "the answer by mail", |mail| mail.from.as_deref() == Some(SUPPORT)).await;

    daemon.restart().await;
    page.say(TEXT).await;
    daemon.terminate().await;
    (daemon, session)
}

/// Neither what people wrote nor what lets somebody in.
fn hold_no_text_and_no_secrets(logs: &str, daemon: &Daemon, session: &str) {
    assert!(logs.len() > 10_000, "something was logged");
    let found = |what: &str| logs.lines().find(|line| line.contains(what)).map(str::to_owned);
    for what in [TEXT, NAME] {
        assert_eq!(found(what), None, "what people write is in a log");
    }
    assert_eq!(found(session), None, "a session's token is in a log");
    let mail = password(SUPPORT);
    for secret in [vendor::SECRET, vendor::TOKEN, APP_SECRET, ACCESS_TOKEN, VERIFY_TOKEN, mail.as_str()] {
        assert_eq!(found(secret), None, "an account's secret is in a log");
    }
    let mut secrets = 0;
    for entry in std::fs::read_dir(daemon.data_dir().join("credentials")).unwrap().flatten() {
        let secret = std::fs::read_to_string(entry.path()).unwrap();
        assert_eq!(found(secret.trim()), None, "the secret of {:?} is in a log", entry.file_name());
        secrets += 1;
    }
    assert!(secrets > 4, "{secrets} secrets were looked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_logs_hold_no_text_and_no_secrets() {
    let (daemon, session) = all_is_said("text").await;
    let mut logs = daemon.logs();
    for file in ["nats/nats-server.log", "nats/nats-server.out"] {
        logs += &std::fs::read_to_string(daemon.data_dir().join(file)).unwrap_or_default();
    }
    hold_no_text_and_no_secrets(&logs, &daemon, &session);
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_logs_for_machines_are_json_and_hold_no_more() {
    let (daemon, session) = all_is_said("json").await;
    hold_no_text_and_no_secrets(&daemon.logs(), &daemon, &session);
    let lines = std::fs::read_to_string(daemon.folder().join("logs/daemon.err")).unwrap();
    let mut parts = std::collections::BTreeSet::new();
    for line in lines.lines() {
        let said: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for name in ["timestamp", "level", "target"] {
            assert!(said[name].is_string(), "{name} is not in {line}");
        }
        parts.extend(said["target"].as_str().and_then(|target| target.split("::").next()).map(str::to_owned));
    }
    for part in ["throughline", "throughline_adapter", "throughline_bus", "throughline_router"] {
        assert!(parts.contains(part), "{part} says nothing: {parts:?}");
    }
}

/// What the help of a subcommand says among other things.
const HELP: [(&str, &[&str]); 6] = [
    ("run", &["SIGTERM", "SIGHUP", "--only", "--config", "THROUGHLINE_CONFIG"]),
    ("top", &["Watch", "--every-ms", "--once"]),
    ("nats config", &["accounts.conf", "credentials/", "--out", "--node", "--store", "--tls-cert"]),
    ("bench load", &["credentials", "--rate", "--seconds", "--customers", "--turns", "--html"]),
    ("backup", &["Routing", "--within"]),
    ("restore", &["empty", "FOLDER"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn operator_command_line_helps_itself() {
    let daemon = Daemon::builder().prepare();
    let help = daemon.cli(&["--help"]).await.ok();
    for word in
        ["run", "check", "status", "agent", "conversation", "customer", "explain", "dead", "audit", "completions"]
    {
        assert!(help.contains(word), "{word} is not in {help}");
    }
    for (command, words) in HELP {
        let asked: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let help = daemon.cli(&asked).await.ok();
        for word in words {
            assert!(help.contains(word), "{word} is not in {help}");
        }
    }
    assert!(daemon.cli(&["--version"]).await.ok().starts_with("throughline "));
    for shell in ["bash", "zsh", "fish"] {
        assert!(daemon.cli(&["completions", shell]).await.ok().contains("throughline"), "{shell}");
    }
    let nothing = run(std::process::Command::new(binary()), "throughline").await;
    assert_eq!(nothing.code, 2, "{nothing:?}");
    let wrong = daemon.cli(&["run", "--only", "webserver"]).await;
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("channel-KIND"), "{wrong:?}");
    let nowhere = run(command(&binary(), &daemon.folder().join("nowhere.toml"), &[]), "nowhere").await;
    assert_ne!(nowhere.code, 0, "{nowhere:?}");
    // Layers: the environment is over the file, flags are over both.
    let port = free_port();
    let layered = daemon.cli(&["--set", "router.shards=99", "check"]).await;
    assert!(layered.stderr.contains("flag") && layered.stderr.contains("router.shards"), "{layered:?}");
    let env = vec![("THROUGHLINE__BUS__WEBSOCKET_PORT".to_owned(), daemon.bus_port().to_string())];
    let mut by_env = command(&binary(), &daemon.config(), &env);
    by_env.arg("check");
    let by_env = run(by_env, "check").await;
    assert!(by_env.stderr.contains(&format!("port {} is that of", daemon.bus_port())), "{port} {by_env:?}");
}

/// What a daemon that has nothing to do costs.
#[tokio::test(flavor = "multi_thread")]
async fn operator_idle_daemon_is_small_and_quiet() {
    let mut daemon = Daemon::builder().start().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (before, began) = (cpu_ticks(daemon.pid()), Instant::now());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let ticks = cpu_ticks(daemon.pid()) - before;
    let ticks_per_second = 100.0;
    let share = ticks as f64 / ticks_per_second / began.elapsed().as_secs_f64();
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let kib = |key: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap()
    };
    let (resident, file) = (kib("VmRSS:"), kib("RssFile:"));
    println!("idle: {resident} KiB resident (of the program file {file}), {:.2} % of a core", share * 100.0);
    if is_fast() {
        // The quick build repeats in every crate what a release shares, and the pages of a program's file are everybody's
        // who runs it: there it is held to what it takes for itself.
        assert!(resident - file < 24 * 1024, "{} KiB of its own", resident - file);
        assert!(
            resident < 40 * 1024 || !binary().components().any(|part| part.as_os_str() == "release"),
            "{resident} KiB"
        );
        assert!(share < 0.01, "{:.2} % of a core", share * 100.0);
    }
    daemon.terminate().await;
}

/// User and system time so far, in hundredths of a second.
fn cpu_ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_commands_leave_a_trail() {
    let daemon = Daemon::builder().env("THROUGHLINE_OPERATOR", "ann of the night shift").start().await;
    daemon.cli(&["policy", "apply"]).await.ok();
    let refused = daemon.cli(&["conversation", "assign", "c4711", "anna"]).await;
    assert_ne!(refused.code, 0, "{refused:?}");
    daemon.cli(&["--json", "status"]).await.ok();

    // EVENTS is written behind the journal.
    let trail = until(PATIENCE, "the trail", async || {
        let trail = daemon.cli(&["--json", "audit"]).await.json();
        let trail = trail.as_array().expect("a list").clone();
        (trail.len() >= 3).then_some(trail)
    })
    .await;
    let said: Vec<_> = trail
        .iter()
        .map(|record| {
            let data = record.pointer("/event/data").expect("a fact");
            let text = |name: &str| data.get(name).and_then(|value| value.as_str()).unwrap_or("-").to_owned();
            [text("operator"), text("verb"), text("conversation"), text("agent"), text("refused")]
        })
        .collect();
    // The policy files are put into force when the daemon starts. Questions are not there.
    assert!(said[0][0].starts_with("policy files of "), "{said:?}");
    assert_eq!(said[0][1..], ["policy.apply", "-", "-", "-"]);
    assert_eq!(said[1], ["ann of the night shift", "policy.apply", "-", "-", "-"]);
    assert_eq!(said[2], ["ann of the night shift", "conversation.assign", "c4711", "anna", "conflict"]);
    assert_eq!(said.len(), 3, "{said:?}");
    let shown = daemon.cli(&["audit", "--limit", "1"]).await.ok();
    assert!(shown.contains("agent anna") && shown.contains("refused: conflict"), "{shown}");
    assert!(!shown.contains("policy.apply"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_bus_passwords_change_without_a_restart() {
    let daemon = Daemon::builder().start().await;
    let mut page = ChatClient::open(&daemon, "gus", Visit::default()).await;
    page.say("hello").await;
    let pid = daemon.pid();
    let credentials = daemon.data_dir().join("credentials");
    let before: Vec<(std::path::PathBuf, String)> = std::fs::read_dir(&credentials)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|file| (file.clone(), std::fs::read_to_string(file).unwrap()))
        .collect();
    assert!(before.iter().any(|(file, _)| file.ends_with("router")), "{before:?}");
    for (file, _) in &before {
        std::fs::remove_file(file).unwrap();
    }
    daemon.signal(Signal::SIGHUP);
    until(PATIENCE, "new passwords", async || before.iter().all(|(file, _)| file.exists()).then_some(())).await;
    for (file, old) in &before {
        assert_ne!(&std::fs::read_to_string(file).unwrap(), old, "{}", file.display());
    }

    // Everybody comes back under the new ones: the router decides, the channel carries, the tools get in.
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    let conversation = anna.hears("hello").await;
    anna.sees("the conversation", |event| matches!(event, Event::ConversationAssigned { .. }).then_some(())).await;
    anna.say(conversation, "good morning").await;
    page.hears("agent", "good morning").await;
    page.say("still here").await;
    assert_eq!(anna.hears("still here").await, conversation);
    assert_eq!(daemon.pid(), pid);

    // Who has an old one does not get in any more.
    let (url, _) = bus::embedded::reach(&daemon.data_dir(), "admin").unwrap();
    let old = before.iter().find(|(file, _)| file.ends_with("admin")).unwrap().1.trim().to_owned();
    let credentials = bus::Credentials::Password { user: "admin".into(), password: old };
    let options = bus::Options { servers: vec![url], credentials, ..bus::Options::default() };
    assert!(bus::Bus::connect(options).await.is_err());
}
