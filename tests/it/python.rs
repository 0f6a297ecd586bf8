//! The two scripts that show how to write an adapter and an agent's tool, with the stock client.

use std::path::PathBuf;
use std::process::Stdio;

use throughline_tests::daemon::{TENANT, root};
use throughline_tests::{Daemon, PATIENCE};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const ACCOUNT: &str = "kind = \"demo\"\naccount = \"shop\"\nexternal = true\n";

fn python() -> PathBuf {
    let set = std::env::var_os("THROUGHLINE_PYTHON").map(PathBuf::from);
    let path = set.unwrap_or_else(|| root().join(".venv/bin/python"));
    assert!(path.is_file(), "no Python client at {}: run `make test`, which installs it", path.display());
    path
}

struct Script {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    said: Vec<String>,
}

impl Script {
    /// Starts one as a user of the bus, as `throughline credentials` says how.
    async fn start(daemon: &Daemon, name: &str, user: &str, arguments: &[&str], agent: &str) -> Self {
        let shown = daemon.cli(&["--json", "credentials", user]).await.json();
        let field = |key: &str| shown[0][key].as_str().unwrap().to_owned();
        let password = std::fs::read_to_string(field("password_file")).unwrap();
        let mut child = Command::new(python())
            .arg(root().join("tests/python").join(name))
            .args(arguments)
            .env("THROUGHLINE_USER", field("user"))
            .env("THROUGHLINE_URL", field("url"))
            .env("THROUGHLINE_PASSWORD", password.trim())
            .env("THROUGHLINE_AGENT", agent)
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: child, lines, said: Vec::new() }
    }

    async fn says(&mut self, text: &str) {
        let (lines, said) = (&mut self.lines, &mut self.said);
        let read = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                said.push(line.clone());
                if line.contains(text) {
                    return true;
                }
            }
            false
        };
        let found = tokio::time::timeout(PATIENCE, read).await.unwrap_or(false);
        assert!(found, "the script did not say {text:?}, but {:#?}", self.said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn python_adapter_and_agent_talk_through_the_router() {
    let policy = "[agents.echo]\nqueues = [\"support\"]\n\n[agents.deniz]";
    let builder = Daemon::builder().amend("[agents.deniz]", policy).account("demo-shop", ACCOUNT);
    let mut daemon = builder.start().await;
    let mut agent = Script::start(&daemon, "agent.py", &format!("agent-{TENANT}-echo"), &[], "echo").await;
    agent.says("presence.set done").await;
    let mut adapter = Script::start(&daemon, "adapter.py", "adapter-demo", &["Hello from the shop"], "").await;
    adapter.says("stored").await;
    agent.says("offer.accept done").await;
    // It says hello.
    agent.says("message.send done").await;

    // A second message finds the conversation with its agent; both scripts live through a crash.
    let again = ["And once more"];
    let mut second = Script::start(&daemon, "adapter.py", "adapter-demo", &again, "").await;
    second.says("stored").await;
    agent.says("message.send done").await;
    daemon.restart().await;
    let third = ["After the crash"];
    let mut third = Script::start(&daemon, "adapter.py", "adapter-demo", &third, "").await;
    third.says("stored").await;
    agent.says("message.send done").await;

    // Whichever of the three was given a reply printed it: together all of them, each once.
    let mut replies = Vec::new();
    let wanted = ["send And once more", "send After the crash"];
    let collect = async {
        while !wanted.iter().all(|wanted| replies.iter().any(|line: &String| line == wanted)) {
            let line = tokio::select! {
                line = adapter.lines.next_line() => line,
                line = second.lines.next_line() => line,
                line = third.lines.next_line() => line,
            };
            replies.extend(line.unwrap().filter(|line| line.starts_with("send ")));
        }
    };
    let done = tokio::time::timeout(PATIENCE, collect).await;
    assert!(done.is_ok(), "{replies:?}");
    for wanted in wanted {
        assert_eq!(replies.iter().filter(|line| *line == wanted).count(), 1, "{replies:?}");
    }
    assert!(daemon.dead_letters(TENANT).await.is_empty());
}
