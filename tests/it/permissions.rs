//! Least privilege: what a credential must not do is refused by the bus itself.

use std::path::PathBuf;
use std::time::Duration;

use bus::{Bus, ErrorKind, Publish, permissions};
use contract::command::{AdminCommand, AgentCommand, AgentQuery};
use contract::event::Presence;
use contract::{AgentId, Encoding, subject};
use throughline_tests::chat::Visit;
use throughline_tests::daemon::TENANT;
use throughline_tests::streams::tenant;
use throughline_tests::{AgentTool, ChatClient, Cluster, Daemon, PATIENCE, until, within};

const ACCOUNT: &str = "kind = \"demo\"\naccount = \"shop\"\nexternal = true\n";

fn to(subject: impl Into<String>) -> Publish {
    Publish {
        subject: subject.into(),
        payload: b"{}".as_slice().into(),
        content_type: Some(Encoding::Json.content_type()),
        ..Publish::default()
    }
}

/// Each must be refused as forbidden, not left unanswered.
async fn refused(bus: &Bus, who: &str, subjects: &[String]) {
    for subject in subjects {
        let answer = bus.request(to(subject), Duration::from_secs(5)).await;
        match answer {
            Err(error) => assert_eq!(error.kind, ErrorKind::Forbidden, "{who} on {subject}: {error}"),
            Ok(_) => panic!("{who} was answered on {subject}"),
        }
    }
}

/// Hears nothing on a subject on which there is something to hear.
async fn deaf(bus: &Bus, who: &str, subjects: &[String], noise: impl AsyncFn()) {
    let mut feeds = Vec::new();
    for subject in subjects {
        if let Ok(feed) = bus.subscribe(subject).await {
            feeds.push((subject, feed));
        }
    }
    let _ = bus.flush().await;
    noise().await;
    for (subject, feed) in &mut feeds {
        let heard = tokio::time::timeout(Duration::from_millis(300), feed.next()).await;
        assert!(!matches!(heard, Ok(Some(_))), "{who} hears {subject}");
    }
}

async fn an_agent(daemon: &Daemon) {
    let anna = AgentTool::open(daemon, "anna").await;
    anna.available().await;
    let ben = AgentId::new("ben").unwrap();
    let bus = daemon.connect(&permissions::agent_user(TENANT, "ben")).await;
    let main = tenant(TENANT);

    let presence = AgentCommand::PresenceSet { presence: Presence::Available, reason: None };
    let own = subject::agent_command(&main, &ben, presence.verb());
    let own = Publish { payload: presence.encode("1", Encoding::Json).unwrap().into(), ..to(own) };
    bus.request(own, Duration::from_secs(5)).await.expect("ben may speak for ben");

    let other = AgentId::new("anna").unwrap();
    let question = AgentQuery::FeedSync { since: None };
    refused(
        &bus,
        "an agent",
        &[
            subject::agent_command(&main, &other, presence.verb()),
            subject::agent_command(&main, &other, question.verb()),
            subject::admin_command(&main, AdminCommand::AgentList {}.verb()),
            subject::admin_command(&main, "policy.apply"),
            "tl.v1.in.0.main.chat.web".into(),
            "tl.v1.in.main.chat.web".into(),
            "tl.v1.out.main.chat.web".into(),
            "tl.v1.journal.0.log".into(),
            "tl.v1.journal.0.epoch".into(),
            "tl.v1.event.main.message.u1".into(),
            "tl.v1.agent.main.ben.offer.created".into(),
            "tl.v1.agent.main.anna.offer.created".into(),
            "tl.v1.dead.main.in".into(),
            "tl.v1.owner.0".into(),
            "tl.v1.cmd.other.agent.ben.presence.set".into(),
            "$KV.tl-agents.main.ben".into(),
            "$JS.API.STREAM.INFO.EVENTS".into(),
            "$JS.API.STREAM.DELETE.JOURNAL-0".into(),
            "$JS.API.CONSUMER.CREATE.EVENTS.x.>".into(),
            "$SYS.REQ.SERVER.PING".into(),
        ],
    )
    .await;
    let mut page = ChatClient::open(daemon, "gus", Visit::in_language("de")).await;
    let heard = ["tl.v1.agent.main.anna.>", "tl.v1.agent.>", "tl.v1.event.>", "tl.v1.cmd.>", ">", "_INBOX_router.>"];
    let page = tokio::sync::Mutex::new(&mut page);
    deaf(&bus, "an agent", &heard.map(str::to_owned), async || {
        page.lock().await.say("for anna only").await;
        anna.offered(None).await;
    })
    .await;
    // And what is anna's stays anna's through ben's own door.
    let (offer, conversation) = anna.offered(None).await;
    let tool = AgentTool::open(daemon, "ben").await;
    assert!(tool.command(AgentCommand::OfferAccept { offer }).await.is_err());
    assert!(tool.commander().history(conversation, 10).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions_of_an_agent_end_at_its_own_feed() {
    let daemon = Daemon::builder().start().await;
    an_agent(&daemon).await;
}

async fn an_adapter(daemon: &Daemon) {
    let bus = daemon.connect("adapter-demo").await;
    refused(
        &bus,
        "an adapter",
        &[
            "tl.v1.in.0.main.chat.web".into(),
            "tl.v1.in.main.chat.web".into(),
            "tl.v1.out.main.demo.shop".into(),
            "tl.v1.out.main.chat.web".into(),
            "tl.v1.journal.0.log".into(),
            "tl.v1.event.main.message.u1".into(),
            "tl.v1.dead.main.in".into(),
            "tl.v1.owner.0".into(),
            "tl.v1.cmd.main.admin.status.show".into(),
            "tl.v1.cmd.main.agent.anna.presence.set".into(),
            "tl.v1.cmd.main.channel.chat.web.thread.history".into(),
            "tl.v1.agent.main.anna.offer.created".into(),
            "$KV.tl-channels.main.chat.web".into(),
            "$KV.tl-ledger.chat.x".into(),
            "$KV.tl-cursors.chat.x".into(),
            "$KV.tl-memory.chat.x".into(),
            "$KV.tl-conversations.main.c1".into(),
            "$JS.API.STREAM.INFO.JOURNAL-0".into(),
            "$JS.API.STREAM.PURGE.IN-0".into(),
            "$JS.API.CONSUMER.MSG.NEXT.OUT.out-chat".into(),
            "$JS.API.CONSUMER.CREATE.OUT.thief.>".into(),
            "$JS.API.CONSUMER.CREATE.IN-0.thief.>".into(),
        ],
    )
    .await;
    let anna = AgentTool::automatic(daemon, "anna", |text| Some(format!("re: {text}"))).await;
    let page = tokio::sync::Mutex::new(ChatClient::open(daemon, "gus", Visit::default()).await);
    let heard = ["tl.v1.in.>", "tl.v1.out.>", "tl.v1.event.>", "tl.v1.agent.>", "tl.v1.cmd.>", "tl.v1.journal.>", ">"];
    deaf(&bus, "an adapter", &heard.map(str::to_owned), async || {
        let mut page = page.lock().await;
        page.say("not for the demo").await;
        page.hears("agent", "re: not for the demo").await;
    })
    .await;
    drop(anna);
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions_of_an_adapter_end_at_its_own_kind() {
    let daemon = Daemon::builder().account("demo-shop", ACCOUNT).start().await;
    an_adapter(&daemon).await;
}

/// A program that is asked on one subject, and answers what it was asked, once.
async fn a_program(daemon: &Daemon, user: &str, own: &str, other: &str) {
    let bus = daemon.connect(user).await;
    refused(
        &bus,
        user,
        &[
            // The questions are the router's.
            own.into(),
            other.into(),
            "tl.v1.in.0.main.chat.web".into(),
            "tl.v1.in.main.chat.web".into(),
            "tl.v1.out.main.chat.web".into(),
            "tl.v1.journal.0.log".into(),
            "tl.v1.journal.0.epoch".into(),
            "tl.v1.event.main.message.u1".into(),
            "tl.v1.dead.main.in".into(),
            "tl.v1.owner.0".into(),
            "tl.v1.live.main.c1.typing".into(),
            "tl.v1.cmd.main.admin.status.show".into(),
            "tl.v1.cmd.main.agent.anna.presence.set".into(),
            "tl.v1.cmd.main.channel.chat.web.thread.history".into(),
            "tl.v1.agent.main.anna.offer.created".into(),
            "$KV.tl-customers.main.u1".into(),
            "$KV.tl-policy.main".into(),
            "$JS.API.STREAM.INFO.EVENTS".into(),
            "$JS.API.STREAM.MSG.GET.EVENTS".into(),
            "$JS.API.CONSUMER.CREATE.EVENTS.x.>".into(),
            "$JS.API.STREAM.DELETE.JOURNAL-0".into(),
            "$SYS.REQ.SERVER.PING".into(),
        ],
    )
    .await;

    let router = daemon.connect(permissions::ROUTER).await;
    let page = tokio::sync::Mutex::new(ChatClient::open(daemon, "ida", Visit::default()).await);
    let heard = [
        other,
        "tl.v1.in.>",
        "tl.v1.out.>",
        "tl.v1.event.>",
        "tl.v1.agent.>",
        "tl.v1.cmd.>",
        "tl.v1.live.>",
        "tl.v1.journal.>",
        "tl.v1.*.main",
        "_INBOX_router.>",
        ">",
    ];
    deaf(&bus, user, &heard.map(str::to_owned), async || {
        page.lock().await.say("not for programs").await;
        router.send(to(other)).await.expect("the router asks whom it likes");
        router.flush().await.expect("the bus");
    })
    .await;

    // Its own question it hears, and may answer it: else all of the above would say nothing.
    let mut questions = bus.subscribe(own).await.expect("its own subject");
    let answering = async {
        let question = questions.next().await.expect("a question");
        let reply = question.reply.expect("somewhere to answer");
        bus.send(to(&reply)).await.expect("its answer");
        reply
    };
    // The other servers of a cluster hear a moment later that somebody listens.
    let asking = until(PATIENCE, "an answer", async || router.request(to(own), Duration::from_secs(5)).await.ok());
    let (reply, _) = within(PATIENCE, "question and answer", async { tokio::join!(answering, asking) }).await;
    refused(&bus, user, &[reply]).await;
}

async fn programs(daemon: &Daemon) {
    let (classify, lookup) = ("tl.v1.classify.main", "tl.v1.lookup.main");
    a_program(daemon, &permissions::classifier_user(TENANT), classify, lookup).await;
    a_program(daemon, &permissions::lookup_user(TENANT), lookup, classify).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions_of_a_classifier_and_a_lookup_end_at_their_questions() {
    let daemon = Daemon::builder().start().await;
    programs(&daemon).await;
}

/// Strangers, and operators, who read and ask; `folders` hold the passwords.
async fn strangers(daemon: &Daemon, folders: [PathBuf; 2]) {
    let known = daemon.reach(permissions::ADMIN);
    let wrong =
        |user: &str, password: &str| bus::Credentials::Password { user: user.into(), password: password.into() };
    for credentials in
        [bus::Credentials::None, wrong("router", "guess"), wrong("nobody", ""), wrong("agent-main-zed", "x")]
    {
        let shown = format!("{credentials:?}");
        let connected = Bus::connect(bus::Options { credentials, ..known.clone() }).await;
        assert!(connected.is_err(), "{shown} got in");
    }
    // Passwords are the owner's alone.
    use std::os::unix::fs::PermissionsExt;
    let mut files = 0;
    for folder in folders {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            if entry.path().is_file()
                && (name.ends_with(".conf") || entry.path().parent().unwrap().ends_with("credentials"))
            {
                assert_eq!(mode & 0o077, 0, "{name} is readable by others: {mode:o}");
                files += 1;
            }
        }
    }
    assert!(files > 4, "{files} files were looked at");

    // An operator reads and asks, and writes nothing of the router's.
    let admin = daemon.connect(permissions::ADMIN).await;
    refused(
        &admin,
        "an operator",
        &[
            "tl.v1.journal.0.log".into(),
            "tl.v1.event.main.message.u1".into(),
            "tl.v1.cmd.main.agent.anna.presence.set".into(),
            "tl.v1.owner.0".into(),
            "$KV.tl-policy.main".into(),
            "$JS.API.STREAM.DELETE.EVENTS".into(),
            "$JS.API.STREAM.MSG.DELETE.JOURNAL-0".into(),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions_strangers_do_not_get_in() {
    let daemon = Daemon::builder().start().await;
    strangers(&daemon, ["credentials", "nats"].map(|name| daemon.data_dir().join(name))).await;
}

/// The users that `throughline nats config` writes for servers of others can do as little.
#[tokio::test(flavor = "multi_thread")]
async fn permissions_are_the_same_on_a_cluster() {
    let mut daemon = Daemon::builder().account("demo-shop", ACCOUNT).on_a_cluster().prepare();
    let _cluster = Cluster::start(&daemon).await;
    daemon.start().await;
    let folder = daemon.cluster_dir();
    strangers(&daemon, [folder.join("credentials"), folder]).await;
    an_adapter(&daemon).await;
    an_agent(&daemon).await;
    programs(&daemon).await;
}
