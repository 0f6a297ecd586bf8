//! `throughline top`: how it stands, live, in a terminal. Asks what `status` asks, again and again; where the output is
//! no terminal, one frame.

use std::collections::BTreeMap;
use std::time::Duration;

use bus::topology;
use console::{Key, Term};
use contract::answer::{AgentView, StatusView};
use contract::command::AdminCommand;
use contract::{QueueId, SmolStr, Timestamp};
use router::AdminAnswer;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::Failure;
use crate::ask::Operator;
use crate::output::{clock, milliseconds, say, table};

/// How it stands at one moment.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sample {
    /// When it was asked.
    at: Timestamp,
    /// The tenant and its shard.
    status: StatusView,
    /// The roster.
    agents: Vec<AgentView>,
    /// The newest record of the shard's `IN`.
    input: u64,
    /// How many dead letters there are, of all tenants.
    dead: u64,
}

/// Shows frames until `q`, Esc or Ctrl-C.
pub(crate) async fn top(operator: Operator, every: Duration, once: bool) -> Result<(), Failure> {
    let term = Term::stdout();
    let mut before = take(&operator).await?;
    if operator.json {
        say(&serde_json::to_string_pretty(&before)?);
        return Ok(());
    }
    if once || !term.is_term() {
        say(&frame(&before, None, operator.tenant.as_str(), usize::MAX, usize::MAX));
        return Ok(());
    }
    let mut keys = read_keys(term.clone());
    let screen = Screen::open(term);
    let mut shown: Result<Option<Sample>, String> = Ok(None);
    loop {
        let (rows, columns) = screen.term.size();
        let (rows, columns) = (usize::from(rows), usize::from(columns));
        let text = match &shown {
            Ok(older) => frame(&before, older.as_ref(), operator.tenant.as_str(), rows, columns),
            // What was known stays on the screen, with its time.
            Err(why) => {
                format!("{why}\n\n{}", frame(&before, None, operator.tenant.as_str(), rows.saturating_sub(2), columns))
            }
        };
        screen.show(&text)?;
        tokio::select! {
            key = keys.recv() => match key {
                Some(Key::Char('q' | 'Q') | Key::Escape | Key::CtrlC) | None => return Ok(()),
                Some(_) => {}
            },
            () = tokio::time::sleep(every) => {
                shown = match take(&operator).await {
                    Ok(sample) => Ok(Some(std::mem::replace(&mut before, sample))),
                    Err(Failure::Other(why)) => Err(why),
                    Err(failure) => return Err(failure),
                };
            }
        }
    }
}

async fn take(operator: &Operator) -> Result<Sample, Failure> {
    let status = match operator.ask(&AdminCommand::StatusShow { digest: false }).await? {
        AdminAnswer::Status(status) => *status,
        _ => return Err(Failure::Other("the router answered something else".to_owned())),
    };
    let agents = match operator.ask(&AdminCommand::AgentList {}).await? {
        AdminAnswer::Agents(agents) => agents,
        _ => return Err(Failure::Other("the router answered something else".to_owned())),
    };
    let input = operator.bus.stream_state(&topology::in_stream(status.shard.shard)).await?.last;
    let dead = operator.bus.stream_state(topology::DEAD).await?.messages;
    Ok(Sample { at: Timestamp(runtime::clock::now()), status, agents, input, dead })
}

/// What the terminal shows, no higher and no wider than it is. Pure.
fn frame(now: &Sample, before: Option<&Sample>, tenant: &str, rows: usize, columns: usize) -> String {
    let (counts, shard) = (&now.status.counts, &now.status.shard);
    let mut lines = vec![
        format!(
            "throughline  {tenant}, policy {}   shard {} led by {} in epoch {}   {}",
            counts.policy_version,
            shard.shard,
            shard.owner,
            shard.epoch,
            clock(now.at)
        ),
        String::new(),
    ];
    let rate = |of: fn(&Sample) -> u64| {
        before.map_or_else(|| "?".to_owned(), |before| per_second(of(before), of(now), now.at.since(before.at).0))
    };
    lines.push(format!(
        "input    {}/s  not decided {}      journal  {}/s  not published {}  not in buckets {}      dead letters {}",
        rate(|sample| sample.input),
        now.input.saturating_sub(shard.cursor),
        rate(|sample| sample.status.shard.seq),
        shard.seq.saturating_sub(shard.outputs_done),
        shard.seq.saturating_sub(shard.kv_done),
        now.dead,
    ));
    lines.push(format!("open     {}      customers {}", words(&counts.conversations), now.status.customers));
    lines.push(format!("agents   {}", words(&counts.agents)));
    lines.push(String::new());
    lines.extend(queues(now).lines().map(str::to_owned));
    lines.push(String::new());
    lines.extend(roster(&now.agents).lines().map(str::to_owned));
    let room = rows.saturating_sub(1).max(1);
    if lines.len() > room {
        let left_out = lines.len() - room + 1;
        lines.truncate(room - 1);
        lines.push(format!("… {left_out} more lines"));
    }
    let cut = |line: &String| line.chars().take(columns.max(1)).collect::<String>();
    lines.iter().map(cut).collect::<Vec<_>>().join("\n")
}

fn words(counts: &BTreeMap<SmolStr, u64>) -> String {
    let all: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

/// How often a second a number grew. A number that fell began anew: its owner changed.
fn per_second(before: u64, now: u64, ms: u64) -> String {
    let tenths = now.saturating_sub(before).saturating_mul(10_000) / ms.max(1);
    if tenths < 100 { format!("{}.{}", tenths / 10, tenths % 10) } else { (tenths / 10).to_string() }
}

/// Queues by how long somebody waits, the longest first; those in which nobody waits after them.
fn queues(now: &Sample) -> String {
    let counts = &now.status.counts;
    let mut names: Vec<&QueueId> = counts.waiting.keys().collect();
    names.extend(now.agents.iter().flat_map(|agent| &agent.queues));
    names.sort_unstable();
    names.dedup();
    names.sort_by_key(|queue| counts.oldest_ready_at.get(*queue).map_or(u64::MAX, |at| at.0));
    let row = |queue: &&QueueId| {
        let here = now.agents.iter().filter(|agent| takes_offers(agent) && agent.queues.contains(*queue));
        let (mut staff, mut room) = (0_u32, 0_u32);
        for agent in here {
            staff += 1;
            room = room.saturating_add(agent.capacity.saturating_sub(agent.load));
        }
        let longest = counts.oldest_ready_at.get(*queue).map(|at| milliseconds(now.at.since(*at).0));
        let waiting = counts.waiting.get(*queue).copied().unwrap_or_default();
        vec![
            queue.to_string(),
            waiting.to_string(),
            longest.unwrap_or_else(|| "-".to_owned()),
            staff.to_string(),
            room.to_string(),
        ]
    };
    table(&["queue", "waiting", "longest", "agents", "room"], names.iter().map(row))
}

fn takes_offers(agent: &AgentView) -> bool {
    agent.connected && agent.presence.to_string() == "available"
}

/// Those who are there first, the busiest of them first.
fn roster(agents: &[AgentView]) -> String {
    let mut agents: Vec<&AgentView> = agents.iter().collect();
    agents.sort_by_key(|agent| (!takes_offers(agent), !agent.connected, std::cmp::Reverse(agent.load)));
    let row = |agent: &&AgentView| {
        let presence = if agent.connected { agent.presence.to_string() } else { "not connected".to_owned() };
        let used = if agent.capacity == 0 { 0 } else { u64::from(agent.load) * 10 / u64::from(agent.capacity) };
        let used = usize::try_from(used.min(10)).unwrap_or(10);
        let bar = format!("{}{} {}/{}", "#".repeat(used), ".".repeat(10 - used), agent.load, agent.capacity);
        vec![agent.agent.to_string(), presence, bar, agent.conversations.len().to_string()]
    };
    table(&["agent", "presence", "load", "holds"], agents.iter().map(row))
}

/// The other screen of the terminal; what stood on it comes back in the end.
struct Screen {
    term: Term,
}

impl Screen {
    fn open(term: Term) -> Self {
        // A terminal that cannot do it shows frames one below the other.
        let _ = term.write_str("\x1b[?1049h\x1b[?25l");
        Self { term }
    }

    fn show(&self, text: &str) -> std::io::Result<()> {
        // Each line is cleared to its end, so that nothing flickers.
        let lines = text.replace('\n', "\x1b[K\r\n");
        self.term.write_str(&format!("\x1b[H{lines}\x1b[K\x1b[J"))?;
        self.term.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.term.write_str("\x1b[?25h\x1b[?1049l");
        let _ = self.term.flush();
    }
}

/// Keys, read on a thread of its own: reading a terminal blocks.
fn read_keys(term: Term) -> mpsc::Receiver<Key> {
    let (keys, read) = mpsc::channel(8);
    std::thread::spawn(move || {
        while let Ok(key) = term.read_key_raw() {
            if keys.blocking_send(key).is_err() {
                return;
            }
        }
    });
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: u64, input: u64, seq: u64) -> Sample {
        let status = serde_json::json!({
            "counts": {
                "conversations": {"active": 3, "waiting": 12},
                "agents": {"available": 2, "offline": 1},
                "waiting": {"billing": 2, "support": 10},
                "oldest_ready_at": {"billing": 60_000, "support": 90_000},
                "policy_version": 4,
            },
            "customers": 99,
            "shard": {
                "shard": 0, "epoch": 7, "owner": "host-1",
                "seq": seq, "cursor": input - 5, "outputs_done": seq - 1, "kv_done": seq - 2,
            },
        });
        let agent = |name: &str, presence: &str, connected: bool, load: u32| {
            serde_json::json!({
                "agent": name, "name": name, "presence": presence, "connected": connected, "load": load,
                "capacity": 100, "queues": ["support"], "conversations": ["c1"],
            })
        };
        let agents = serde_json::json!([
            agent("anna", "available", true, 40),
            agent("ben", "available", true, 90),
            agent("chiara", "available", false, 100),
        ]);
        Sample {
            at: Timestamp(at),
            status: serde_json::from_value(status).unwrap(),
            agents: serde_json::from_value(agents).unwrap(),
            input,
            dead: 2,
        }
    }

    #[test]
    fn a_frame_says_what_waits_who_is_there_and_how_far_it_is() {
        let (before, now) = (sample(99_000, 1000, 500), sample(100_000, 1120, 580));
        let text = frame(&now, Some(&before), "main", 40, 200);
        assert!(text.contains("led by host-1 in epoch 7"), "{text}");
        assert!(text.contains("input    120/s  not decided 5"), "{text}");
        assert!(text.contains("journal  80/s  not published 1  not in buckets 2"), "{text}");
        assert!(text.contains("dead letters 2"), "{text}");
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let at = |word: &str| lines.iter().position(|line| line.first() == Some(&word)).unwrap();
        // Who has waited longest comes first; chiara's tool is gone, so she has no room for anybody.
        assert_eq!(lines[at("billing")], ["billing", "2", "40", "s", "0", "0"]);
        assert_eq!(lines[at("support")], ["support", "10", "10", "s", "2", "70"]);
        assert!(at("billing") < at("support"));
        assert_eq!(lines[at("ben")], ["ben", "available", "#########.", "90/100", "1"]);
        assert!(at("ben") < at("anna") && at("anna") < at("chiara"));
        assert_eq!(lines[at("chiara")][1..3], ["not", "connected"]);
    }

    #[test]
    fn a_frame_fits_the_terminal() {
        let now = sample(100_000, 1120, 580);
        let text = frame(&now, None, "main", 10, 30);
        assert_eq!(text.lines().count(), 9);
        assert!(text.lines().all(|line| line.chars().count() <= 30), "{text}");
        assert!(text.ends_with("more lines"), "{text}");
        assert!(frame(&now, None, "main", 0, 0).chars().count() <= 1);
    }

    #[test]
    fn rates_are_by_the_second_and_never_negative() {
        assert_eq!(per_second(0, 3, 2000), "1.5");
        assert_eq!(per_second(0, 3000, 2000), "1500");
        assert_eq!(per_second(50, 3, 1000), "0.0");
        assert_eq!(per_second(0, 1, 0), "1000");
    }
}
