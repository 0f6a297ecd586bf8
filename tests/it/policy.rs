//! The policy at work in the running program: who is asked what a conversation is about, how a policy is
//! applied to what waits, and one that runs beside.

use bus::Publish;
use contract::command::AgentCommand;
use contract::event::Presence;
use contract::{ConversationId, Event};
use throughline_tests::agent::text_of;
use throughline_tests::chat::Visit;
use throughline_tests::{AgentTool, ChatClient, Daemon, PATIENCE, until};

const POLICY: &str = r#"
default_queue = "support"

[[routes]]
name = "refunds"
when = "intent == 'refund' || keyword('refund')"
queue = "money"
priority = 5

[skills]
gold = "Gold customers"

[queues.support]
[queues.support.wants]
gold = { level = 5, relax_after_ms = 600000 }

[queues.money]

[agents.anna]
queues = ["support"]
skills = { gold = 1 }

[agents.ben]
queues = ["money"]

[agents.cara]
queues = ["support"]
skills = { gold = 9 }
"#;

/// The queue that a conversation stands in, or came through.
async fn queue_of(daemon: &Daemon, id: ConversationId) -> Option<String> {
    let shown = daemon.cli(&["--json", "conversation", "show", &id.to_string()]).await;
    (shown.code == 0).then(|| shown.json()["value"]["conversation"]["queue"].as_str().map(str::to_owned)).flatten()
}

/// The newest fact of a kind about a conversation.
async fn classification(daemon: &Daemon, id: ConversationId) -> contract::event::Classification {
    until(PATIENCE, "the conversation to be classified", async || {
        daemon.events("main").await.into_iter().find_map(|record| match &*record.event {
            Event::ConversationClassified { conversation, classification } if *conversation == id => {
                Some(classification.clone())
            }
            _ => None,
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_a_classifier_says_what_it_is_about_and_nobody_waits_for_a_dead_one() {
    let daemon = Daemon::builder().policy(&format!("{POLICY}\n[classifier]\nbudget_ms = 2000\n")).start().await;
    let ben = AgentTool::open(&daemon, "ben").await;
    ben.available().await;

    // Nobody classifies: the rules decide at once, alone.
    let mut first = ChatClient::open(&daemon, "gus", Visit::default()).await;
    first.say("I want a refund").await;
    let (offer, conversation) = ben.offered(None).await;
    ben.accept(offer).await;
    assert_eq!(classification(&daemon, conversation).await.outcome, "absent");

    // Somebody does, in JSON, as any program could.
    let classifier = daemon.connect(&bus::permissions::classifier_user("main")).await;
    let mut questions = classifier.subscribe("tl.v1.classify.main").await.expect("a classifier may listen");
    let mut second = ChatClient::open(&daemon, "hal", Visit::default()).await;
    second.say("give me my money back").await;
    let question = questions.next().await.expect("a question");
    let asked: serde_json::Value = serde_json::from_slice(&question.payload).expect("JSON");
    assert_eq!(asked["envelope"]["content"][0]["body"], "give me my money back", "{asked}");
    let answer = Publish {
        subject: question.reply.clone().expect("somewhere to answer"),
        payload: br#"{"intent":"refund","tags":["angry"]}"#.to_vec().into(),
        ..Publish::default()
    };
    classifier.send(answer).await.expect("a classifier may answer");
    let (offer, conversation) = ben.offered(Some(ConversationId(2))).await;
    ben.accept(offer).await;
    let found = classification(&daemon, conversation).await;
    assert_eq!((found.outcome.as_str(), found.intent.as_deref()), ("answered", Some("refund")), "{found:?}");
    assert!(found.tags.contains("angry"), "{found:?}");

    // One that says nothing: the time is up, and the rules decide alone.
    let mut third = ChatClient::open(&daemon, "ida", Visit::default()).await;
    third.say("a refund, please").await;
    questions.next().await.expect("a question");
    let (offer, conversation) = ben.offered(Some(ConversationId(3))).await;
    ben.accept(offer).await;
    assert_eq!(classification(&daemon, conversation).await.outcome, "late");
    for page in [&first, &second, &third] {
        page.check();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_is_applied_to_what_waits_only_when_an_operator_says_so() {
    let daemon = Daemon::builder().policy(POLICY).start().await;
    let (anna, cara) = (AgentTool::open(&daemon, "anna").await, AgentTool::open(&daemon, "cara").await);
    // While somebody is signed in who could take it, it is not asked of those who could not.
    cara.presence(Presence::Away).await;
    anna.available().await;
    let mut page = ChatClient::open(&daemon, "gus", Visit::default()).await;
    page.say("hello").await;
    let id = ConversationId(1);
    until(PATIENCE, "the conversation to wait", async || queue_of(&daemon, id).await).await;

    // Why it waits, for whom, and for how long: nothing is guessed.
    let explained = daemon.cli(&["explain", "c1"]).await.ok();
    for line in ["anna: left out, has gold at level 1", "step 1 of 2", "expected wait: unknown"] {
        assert!(explained.contains(line), "{line:?} in {explained}");
    }

    // A policy that asks less, first beside the one in force, then in force.
    let easier = POLICY.replace("gold = { level = 5, relax_after_ms = 600000 }", "gold = { level = 1 }");
    daemon.write_policy(&easier);
    let folder = daemon.folder().join("policy").display().to_string();
    daemon.cli(&["policy", "shadow", "--dir", &folder]).await.ok();
    let mut other = ChatClient::open(&daemon, "hal", Visit::default()).await;
    other.say("hello").await;
    let shown = until(PATIENCE, "the policy beside to have seen it", async || {
        let shown = daemon.cli(&["--json", "policy", "shadow"]).await.json();
        (shown["value"]["routed"] == 1).then_some(shown)
    })
    .await;
    assert_eq!(shown["value"]["other_requirement"], 1, "{shown}");
    assert_eq!(shown["value"]["other_queue"], 0, "{shown}");
    assert!(daemon.cli(&["policy", "shadow", "--stop"]).await.ok().contains("routed  1"));
    assert!(daemon.cli(&["policy", "shadow"]).await.ok().contains("no policy runs beside"));

    daemon.cli(&["policy", "apply"]).await.ok();
    let status = daemon.cli(&["--json", "status"]).await.json();
    assert_eq!(status["value"]["counts"]["policy_version"], 2, "{status}");
    assert_eq!(
        status["value"]["counts"]["conversations"]["waiting"], 2,
        "what waits keeps what it came with: {status}"
    );
    daemon.cli(&["policy", "apply", "--waiting"]).await.ok();
    let (offer, conversation) = anna.offered(None).await;
    assert_eq!(conversation, id, "first come, first served");
    anna.accept(offer).await;
    page.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_who_hands_over_answers_until_somebody_accepts() {
    let daemon = Daemon::builder().policy(POLICY).start().await;
    let (anna, ben) = (AgentTool::open(&daemon, "anna").await, AgentTool::open(&daemon, "ben").await);
    ben.available().await;
    let mut page = ChatClient::open(&daemon, "gus", Visit::default()).await;
    page.say("I want a refund").await;
    let (offer, conversation) = ben.offered(None).await;
    ben.accept(offer).await;
    anna.presence(Presence::Away).await;
    ben.does(AgentCommand::ConversationTransfer {
        conversation,
        to_queue: Some(contract::QueueId::new("support").unwrap()),
        to_agent: None,
        note: None,
    })
    .await;
    page.say("are you still there?").await;
    let asked = |event: &Event| match event {
        Event::MessageReceived { envelope, .. } if text_of(&envelope.content) == "are you still there?" => Some(()),
        _ => None,
    };
    ben.sees("what the customer asks meanwhile", asked).await;
    ben.say(conversation, "until somebody else is").await;
    page.hears("agent", "until somebody else is").await;

    // An operator has the last word.
    let refused = daemon.cli(&["conversation", "assign", "c1", "anna", "--ignore-capacity"]).await.ok();
    assert!(refused.contains("done: c1"), "{refused}");
    anna.say(conversation, "anna here").await;
    page.hears("agent", "anna here").await;
    let gone = ben.command(AgentCommand::ConversationClose { conversation, disposition: None }).await;
    assert!(gone.is_err(), "it is with anna now");
    let explained = daemon.cli(&["explain", "c1"]).await.ok();
    assert!(explained.contains("to anna, forced by operator"), "{explained}");
    page.check();
}
