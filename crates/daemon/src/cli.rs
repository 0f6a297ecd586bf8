//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use contract::{AgentId, ChannelKind, ConversationId, CustomerId, QueueId, SmolStr};

/// Routes conversations of email, chat, social apps and phone to the right agent.
#[derive(Debug, Parser)]
#[command(name = "throughline", version, about, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every subcommand understands.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// The settings file [default: config/throughline.toml, else /etc/throughline/throughline.toml, when there is one]
    #[arg(long, short, global = true, value_name = "FILE", env = "THROUGHLINE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Override one setting, as in --set bus.port=4333; may be given several times
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Answer in JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon until it is told to stop
    ///
    /// SIGTERM or Ctrl-C drains: new work is refused, what was begun is finished. A second one ends it
    /// at once; nothing acknowledged is lost by that. SIGHUP reads policy, accounts and keys again.
    Run {
        /// Run only these roles: bus, router, wall, channels, or channel-KIND; may be given several times
        #[arg(long, value_name = "ROLE")]
        only: Vec<Role>,
    },
    /// Read all settings, the policy and the accounts, and say everything that is wrong with them
    ///
    /// Touches nothing: no file is written, no socket opened, no server asked.
    Check,
    /// Show how the running daemon stands: queues, agents, conversations, lag
    Status {
        /// Also show a digest of the state, to compare with a replay of the journal
        #[arg(long)]
        digest: bool,
    },
    /// Watch queues, agents, rates and lag live, until q is pressed
    Top {
        /// How often to look, in milliseconds
        #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
        every_ms: u64,
        /// Show one frame and end, as when the output is no terminal
        #[arg(long)]
        once: bool,
    },
    /// Work as an agent in this terminal: see offers, accept, talk, transfer, close
    Agent {
        /// Who: an agent of the policy
        name: AgentId,
        /// Accept every offer at once
        #[arg(long)]
        auto_accept: bool,
    },
    /// Look at conversations
    #[command(subcommand)]
    Conversation(ConversationCommand),
    /// Look at customers
    #[command(subcommand)]
    Customer(CustomerCommand),
    /// Put the policy on disk into force, as SIGHUP does
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Say who was considered for a conversation, and why each was left out; also why it still waits
    Explain {
        /// Which, as in c17
        conversation: ConversationId,
    },
    /// Show the channel accounts: how they fare, what they can do, what their provider said last
    Channels,
    /// Try out a channel account's file
    #[command(subcommand)]
    Channel(ChannelCommand),
    /// Look at what could not be processed, and put it back when it is mended
    #[command(subcommand)]
    Dead(DeadCommand),
    /// Look at what operators did: who, when, what about, and what became of it
    Audit {
        /// At most so many of the newest
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Say how a user of the embedded bus connects: address, name, and the file with the password
    Credentials {
        /// Which: router, admin, adapter-KIND, agent-TENANT-NAME or classifier-TENANT; all when left out
        user: Option<String>,
    },
    /// Try out policies and teams: customers and agents by chance, the real engine, no bus
    ///
    /// Everything comes from the seed, so that what was seen can be seen again. The engine's invariants are
    /// checked all the way; when one breaks, the seed is printed with the smallest script that breaks it.
    ///
    /// A working day, as a page:           throughline simulate --scenario day --html day.html
    /// Beside other systems' rules:        throughline simulate --scenario day --compare
    /// Another policy for what happened:   throughline simulate --journal was.jsonl --policy new-policy/
    #[command(verbatim_doc_comment)]
    Simulate(Box<Simulate>),
    /// Take the journal out as a file
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Set up a bus of your own
    #[command(subcommand)]
    Nats(NatsCommand),
    /// Measure how much this machine takes
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Write everything that is stored to a folder, consistently, while the daemon runs
    ///
    /// Routing rests meanwhile; what comes in is taken and waits. Each stream becomes a folder as `nats stream backup`
    /// writes it. A part of it alone could not be restored.
    Backup {
        /// A folder that is not there yet
        #[arg(value_name = "FOLDER")]
        to: PathBuf,
        /// Give up, and let routing go on, when it takes longer, in seconds
        #[arg(long, value_name = "S", default_value_t = 600, value_parser = clap::value_parser!(u64).range(5..=86_400))]
        within: u64,
    },
    /// Put a backup into an empty bus; with an embedded one, before the daemon is started
    Restore {
        /// The folder that `throughline backup` wrote
        #[arg(value_name = "FOLDER")]
        from: PathBuf,
    },
    /// Write completions for a shell to standard output
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// What to simulate.
#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// The world; --list names them
    #[arg(long, value_name = "NAME", default_value = "calm")]
    pub(crate) scenario: String,
    /// List the worlds
    #[arg(long)]
    pub(crate) list: bool,
    /// The first seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// How many seeds, one after the other
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seeds: u64,
    /// How many hours customers come
    #[arg(long, value_name = "H", conflicts_with = "days")]
    pub(crate) hours: Option<f64>,
    /// How many days customers come
    #[arg(long, value_name = "D")]
    pub(crate) days: Option<f64>,
    /// How many agents there are; customers grow with them unless --rate is given
    #[arg(long, value_name = "N", conflicts_with = "policy", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) agents: Option<u32>,
    /// How many customers come in an hour
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<f64>,
    /// Within how many seconds somebody should be there
    #[arg(long, value_name = "S", default_value_t = 30)]
    pub(crate) threshold: u64,
    /// The policy to simulate: a folder as config/policy; a generated team when left out
    #[arg(long, value_name = "DIR")]
    pub(crate) policy: Option<PathBuf>,
    /// Customers and agents of a journal (see `throughline journal export`), under --policy
    #[arg(long, value_name = "FILE")]
    pub(crate) journal: Option<PathBuf>,
    /// Customers of a file, JSON or CSV (at_ms,customer,channel,handle_ms,language,tags,patience_ms)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["journal", "compare"])]
    pub(crate) trace: Option<PathBuf>,
    /// Also give the same customers and agents to the rules of other systems
    #[arg(long, conflicts_with = "journal")]
    pub(crate) compare: bool,
    /// How far from the best that is possible: on so many instances small enough to know it
    #[arg(long, value_name = "N")]
    pub(crate) bound: Option<u64>,
    /// Write the report as JSON to a file (--json writes it to standard output)
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Write the report as a page to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Write the journal of the first seed to a file, or of the one that broke
    #[arg(long, value_name = "FILE")]
    pub(crate) journal_to: Option<PathBuf>,
    /// Stop when customers stop coming, with whatever still waits
    #[arg(long)]
    pub(crate) no_rest: bool,
    /// On so many threads [default: one for each processor]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// The commit to name in a failure
    #[arg(long, value_name = "ID", env = "THROUGHLINE_COMMIT")]
    pub(crate) commit: Option<String>,
    /// Print nothing but what broke
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Customers who write at a steady rate, agents who answer; how long each stage takes
    ///
    /// For a system that nobody works with: the agents of the policy sign in and take what comes, and its customers and
    /// conversations stay. Nothing goes out to anybody; the channels are the bench's own. Needs the router's
    /// credentials. Time counts from when a message was due, so that a system which makes its callers wait is not
    /// flattered.
    Load(Box<crate::load::Load>),
}

#[derive(Debug, Subcommand)]
pub(crate) enum NatsCommand {
    /// Write the configs of a nats-server cluster: users, permissions and passwords as the policy and accounts need them
    ///
    /// The folder gets NAME.conf for each server, accounts.conf beside them, and the users' passwords in
    /// credentials/, which is what bus.credentials.folder wants. Passwords that are there are kept. After the roster or
    /// the channels changed: write it again, copy it to the servers, and `nats-server --signal reload`.
    Config {
        /// The folder
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
        /// A server: NAME=HOST, NAME=HOST:PORT or NAME=HOST:PORT:ROUTE_PORT; once for each, three as a rule
        #[arg(long = "node", value_name = "NAME=HOST", required = true)]
        nodes: Vec<String>,
        /// The folder in which each server stores, under its name
        #[arg(long, value_name = "FOLDER", default_value = "/var/lib/nats")]
        store: PathBuf,
        /// The servers' certificate, PEM, where each of them has it; with --tls-key and --tls-ca
        #[arg(long, value_name = "FILE", requires_all = ["tls_key", "tls_ca"])]
        tls_cert: Option<PathBuf>,
        /// Its key
        #[arg(long, value_name = "FILE", requires = "tls_cert")]
        tls_key: Option<PathBuf>,
        /// Who signed the servers' certificates
        #[arg(long, value_name = "FILE", requires = "tls_cert")]
        tls_ca: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum JournalCommand {
    /// Write the records of a shard that are still there to a file, one as JSON a line
    Export {
        /// The file
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// The shard [default: the one of the tenant]
        #[arg(long, value_name = "N")]
        shard: Option<u16>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConversationCommand {
    /// The open conversations
    List {
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// One conversation, open or closed, with everything that happened in it
    Show {
        /// Which, as in c17
        conversation: ConversationId,
    },
    /// Give an open conversation to an agent, whatever the rules say
    Assign {
        /// Which, as in c17
        conversation: ConversationId,
        /// To whom; the agent's tool must be there
        agent: AgentId,
        /// Even when the agent has no room for it
        #[arg(long)]
        ignore_capacity: bool,
    },
    /// Put an open conversation into a queue, or where the rules would put it now
    Enqueue {
        /// Which, as in c17
        conversation: ConversationId,
        /// Where to; left out: where the rules say
        #[arg(long)]
        queue: Option<QueueId>,
        /// The new priority; left out: as it was
        #[arg(long, allow_negative_numbers = true)]
        priority: Option<i32>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Read the policy and put it into force
    ///
    /// What waits keeps what it came with, unless --waiting is given. A daemon that reads another folder is
    /// told all the same: the policy is sent to it.
    Apply {
        /// Route what waits anew by it
        #[arg(long)]
        waiting: bool,
    },
    /// Run another policy beside the one in force: without effect, to see where it would decide otherwise
    Shadow {
        /// The folder of the other policy; left out: how it compares so far
        #[arg(long, value_name = "FOLDER")]
        dir: Option<PathBuf>,
        /// End it
        #[arg(long, conflicts_with = "dir")]
        stop: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CustomerCommand {
    /// One customer with identities and everything that happened, over all channels
    Show {
        /// Which, as in u17
        customer: CustomerId,
    },
    /// The customers that have an address: who has proven it first
    Find {
        /// What it is: email, tel, login, visitor, …
        scheme: SmolStr,
        /// The address, written in any way
        value: SmolStr,
    },
    /// Pairs of customers that may be one person, and why that is not certain
    Suggestions {
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Say that an address is a customer's
    Link {
        /// Whose, as in u17
        customer: CustomerId,
        /// What it is: email, tel, login, …
        scheme: SmolStr,
        /// The address
        value: SmolStr,
    },
    /// Take an address from a customer
    Unlink {
        /// Whose, as in u17
        customer: CustomerId,
        /// What it is: email, tel, login, …
        scheme: SmolStr,
        /// The address
        value: SmolStr,
    },
    /// Say that two customers are one person
    ///
    /// Nothing is moved: `customer split` gives both back as they were.
    Merge {
        /// The one, as in u17
        customer: CustomerId,
        /// The other
        with: CustomerId,
    },
    /// Undo a merge: a customer that was merged is a person of its own again
    Split {
        /// Which of those that were merged, as in u17
        customer: CustomerId,
    },
    /// Say that two customers are not one person, whatever a suggestion says
    Dismiss {
        /// The one, as in u17
        customer: CustomerId,
        /// The other
        with: CustomerId,
    },
    /// Write down what is known of a customer
    Set {
        /// Who, as in u17
        customer: CustomerId,
        /// An attribute, NAME=VALUE; without a value it is removed
        #[arg(value_name = "NAME=VALUE")]
        attributes: Vec<String>,
        /// The language to answer in (ISO 639-1)
        #[arg(long)]
        language: Option<SmolStr>,
        /// The name to show
        #[arg(long)]
        name: Option<SmolStr>,
        /// A segment that it is in from now on; may be given several times
        #[arg(long, value_name = "NAME")]
        segment: Vec<SmolStr>,
        /// A segment that it is no longer in; may be given several times
        #[arg(long, value_name = "NAME")]
        no_segment: Vec<SmolStr>,
        /// What it was promised; empty: nothing any more
        #[arg(long)]
        promised: Option<String>,
    },
    /// Write everything that is stored of a customer to one archive: JSON and the attachments
    Export {
        /// Who, as in u17
        customer: CustomerId,
        /// The archive (tar)
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Forget a customer: open conversations end, and what is stored is overwritten; this cannot be undone
    Erase {
        /// Who, as in u17
        customer: CustomerId,
        /// Do it
        #[arg(long)]
        yes: bool,
    },
    /// Write down whether a customer may be written to
    Consent {
        /// Who, as in u17
        customer: CustomerId,
        /// Allowed, or forbidden
        #[arg(value_parser = ["yes", "no"])]
        granted: String,
        /// By which kind of medium [default: any]
        #[arg(long, value_name = "KIND")]
        channel: Option<ChannelKind>,
        /// By which provider of that kind, as telegram of social [default: any]
        #[arg(long, value_name = "NAME", requires = "channel")]
        provider: Option<SmolStr>,
        /// What for: service, notification, marketing, … [default: anything]
        #[arg(long)]
        purpose: Option<SmolStr>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ChannelCommand {
    /// Show what a request would become: its envelopes, or why it is refused; no bus is needed
    ///
    /// Standard input is the text of an HTTP request with its headers, as it was captured:
    ///
    ///     throughline channel try --config config/channels/webhook-form.toml < request.http
    ///
    /// Secrets are read as the file says. Exit code 1: it would be refused, or go to the dead letters.
    #[command(verbatim_doc_comment)]
    Try(Box<ChannelTry>),
}

/// What is tried.
#[derive(Debug, Args)]
pub(crate) struct ChannelTry {
    /// The account's file
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Standard input is the body alone
    #[arg(long)]
    pub(crate) body_only: bool,
    /// A header, NAME: VALUE; may be given several times
    #[arg(long, value_name = "HEADER")]
    pub(crate) header: Vec<String>,
    /// The method [default: the request's, or POST]
    #[arg(long, value_name = "METHOD")]
    pub(crate) method: Option<String>,
    /// Path and query [default: the request's, or the account's own path]
    #[arg(long, value_name = "PATH")]
    pub(crate) target: Option<String>,
    /// The public address, where a signature covers it
    #[arg(long, value_name = "URL", default_value = "https://localhost")]
    pub(crate) base_url: String,
    /// When it came, in milliseconds since 1970, where a signature is good for a while only [default: now]
    #[arg(long, value_name = "MS")]
    pub(crate) at: Option<u64>,
    /// Who sent it
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) peer: Option<std::net::IpAddr>,
    /// The subject of the client's certificate
    #[arg(long, value_name = "SUBJECT")]
    pub(crate) client_subject: Option<String>,
    /// Read no secret and believe the request
    #[arg(long)]
    pub(crate) unverified: bool,
    /// Print the envelopes alone, for `throughline dead replay N --with FILE`
    #[arg(long)]
    pub(crate) envelopes: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// What is there: number, when, where it failed and why
    List {
        /// At most so many of the newest
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// One of them with its content
    Show {
        /// Its number
        seq: u64,
    },
    /// Put one back where it came from, as it is or mended, and take it from the list
    Replay {
        /// Its number
        seq: u64,
        /// The mended content (JSON); the original when left out
        #[arg(long, value_name = "FILE")]
        with: Option<PathBuf>,
    },
    /// Take one from the list for good
    Delete {
        /// Its number
        seq: u64,
    },
}

/// A part of the daemon that can run by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// The embedded bus server.
    Bus,
    /// The router.
    Router,
    /// The supervisors' wall.
    Wall,
    /// All channels.
    Channels,
    /// The channels of one kind.
    Channel(String),
}

impl std::str::FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "bus" => Ok(Self::Bus),
            "router" => Ok(Self::Router),
            "wall" => Ok(Self::Wall),
            "channels" => Ok(Self::Channels),
            _ => match text.strip_prefix("channel-") {
                Some(kind) if !kind.is_empty() => Ok(Self::Channel(kind.to_owned())),
                _ => Err("not a role: bus, router, wall, channels or channel-KIND".to_owned()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn roles_are_named() {
        assert_eq!("channel-email".parse(), Ok(Role::Channel("email".into())));
        assert!("channel-".parse::<Role>().is_err());
        assert!("webserver".parse::<Role>().is_err());
    }
}
