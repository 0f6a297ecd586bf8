//! Who gets what, and what happens when they do not answer.

use throughline_tests::chat::Visit;
use throughline_tests::{AgentTool, ChatClient, Daemon};

#[tokio::test(flavor = "multi_thread")]
async fn routing_smoke() {
    let daemon = Daemon::builder().start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |text| Some(format!("re: {text}"))).await;
    let mut page = ChatClient::open(&daemon, "gus", Visit::in_language("de")).await;
    page.say("guten Tag").await;
    page.hears("agent", "re: guten Tag").await;
    drop(anna);
}
