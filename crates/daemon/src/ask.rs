//! Asking a running daemon, over the bus, as an operator.

use std::time::Duration;

use bus::{Bus, Publish, embedded, permissions};
use contract::codec::OPERATOR;
use contract::command::{AdminCommand, Done, Reply};
use contract::{Encoding, TenantId, Timestamp, subject};
use router::AdminAnswer;

use crate::Failure;
use crate::output::{render, say};
use crate::run::{options, tenant};
use crate::settings::{Loaded, Mode};

/// How long a question is tried: longer than a takeover.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection with an operator's rights.
pub(crate) struct Operator {
    pub(crate) bus: Bus,
    pub(crate) tenant: TenantId,
    pub(crate) json: bool,
}

impl Operator {
    pub(crate) async fn connect(loaded: Loaded, json: bool) -> Result<Self, Failure> {
        let bus = Bus::connect(options(&loaded, permissions::ADMIN, "cli")?).await?;
        Ok(Self { bus, tenant: tenant(&loaded), json })
    }

    /// Asks, and asks again while a shard changes hands.
    pub(crate) async fn ask(&self, question: &AdminCommand) -> Result<AdminAnswer, Failure> {
        self.request(question, "").await
    }

    /// Asks for a change, always under the same id, so that it is done once.
    pub(crate) async fn change(&self, command: &AdminCommand) -> Result<Done, Failure> {
        let id = format!("cli-{}-{}", std::process::id(), runtime::clock::now());
        self.request(command, &id).await
    }

    async fn request<T: serde::de::DeserializeOwned>(&self, question: &AdminCommand, id: &str) -> Result<T, Failure> {
        let request = Publish {
            subject: subject::admin_command(&self.tenant, question.verb()),
            payload: question.encode(id, Encoding::MsgPack)?.into(),
            content_type: Some(Encoding::MsgPack.content_type()),
            headers: vec![(OPERATOR, who())],
            ..Publish::default()
        };
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let failure = match self.bus.request(request.clone(), Duration::from_secs(2)).await {
                Ok(answer) => {
                    let reply: Reply<T> = Encoding::MsgPack.decode(&answer.payload, answer.payload.len())?;
                    match (reply.result, reply.refusal) {
                        (Some(answer), _) => return Ok(answer),
                        (None, Some(refusal)) => return Err(Failure::Other(refusal.to_string())),
                        (None, None) => return Err(Failure::Other("the answer holds nothing".to_owned())),
                    }
                }
                Err(error) => format!("no router answers: {error}; is `throughline run` up?"),
            };
            if tokio::time::Instant::now() >= until {
                return Err(Failure::Other(failure));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Who asks, for the trail of what operators did: `THROUGHLINE_OPERATOR`, else the account on this machine.
fn who() -> String {
    let of = |name: &str| std::env::var(name).ok().filter(|name| !name.trim().is_empty());
    let name = of("THROUGHLINE_OPERATOR").or_else(|| {
        // With sudo it is the person who counts.
        let account = of("SUDO_USER").or_else(|| of("USER")).or_else(|| of("LOGNAME"))?;
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Some(format!("{account}@{}", host.trim()))
    });
    // A header is one line.
    name.unwrap_or_else(|| "unknown".to_owned()).chars().filter(|c| !c.is_control()).collect()
}

/// Asks one question and shows the answer.
pub(crate) async fn show(loaded: Loaded, json: bool, question: AdminCommand) -> Result<(), Failure> {
    let operator = Operator::connect(loaded, json).await?;
    let answer = operator.ask(&question).await?;
    if json {
        say(&serde_json::to_string_pretty(&answer)?);
    } else {
        let mut text = render(&answer, Timestamp(runtime::clock::now()));
        if matches!(question, AdminCommand::StatusShow { .. }) {
            let agents = operator.ask(&AdminCommand::AgentList {}).await?;
            text = format!("{text}\n\n{}", render(&agents, Timestamp(runtime::clock::now())));
        }
        say(&text);
    }
    Ok(())
}

/// Has one thing changed, and says so.
pub(crate) async fn change(loaded: Loaded, json: bool, command: AdminCommand) -> Result<(), Failure> {
    let operator = Operator::connect(loaded, json).await?;
    let done = operator.change(&command).await?;
    if json {
        say(&serde_json::to_string_pretty(&done)?);
    } else {
        let how = match (done.conversation, done.customer) {
            (Some(id), _) => format!(": {id}; `throughline explain {id}` says how it stands"),
            (None, Some(id)) => format!(": {id}"),
            (None, None) => String::new(),
        };
        say(&format!("done{how}"));
    }
    Ok(())
}

/// How users of the embedded bus connect. The password itself is not shown.
pub(crate) fn credentials(loaded: &Loaded, user: Option<&str>, json: bool) -> Result<(), Failure> {
    let bus = &loaded.settings.bus;
    if bus.mode != Mode::Embedded {
        return Err(Failure::Other("the bus is external: its operator gives out the credentials".to_owned()));
    }
    let users = match user {
        Some(user) => vec![user.to_owned()],
        None => loaded.users(&loaded.policy).into_iter().map(|user| user.name).collect(),
    };
    let mut rows = Vec::new();
    for user in users {
        let (url, _) = embedded::reach(&bus.data_dir, &user)?;
        let file = bus.data_dir.join("credentials").join(&user);
        rows.push(vec![user, url, file.display().to_string()]);
    }
    if json {
        let list: Vec<_> = rows
            .iter()
            .filter_map(|row| {
                let [user, url, file] = row.as_slice() else { return None };
                let inbox = format!("_INBOX_{user}");
                Some(serde_json::json!({ "user": user, "url": url, "password_file": file, "inbox_prefix": inbox }))
            })
            .collect();
        say(&serde_json::to_string_pretty(&list)?);
    } else {
        say(&crate::output::table(&["user", "address", "password file"], rows.into_iter()));
    }
    Ok(())
}
