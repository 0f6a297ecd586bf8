//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use contract::{AgentId, ConversationId, CustomerId};

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
    /// The settings file [default: config/throughline.toml when there is one]
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
    /// at once; nothing acknowledged is lost by that. SIGHUP reads the policy again.
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
    /// Say who was considered for a conversation, and why each was left out; also why it still waits
    Explain {
        /// Which, as in c17
        conversation: ConversationId,
    },
    /// Look at what could not be processed, and put it back when it is mended
    #[command(subcommand)]
    Dead(DeadCommand),
    /// Say how a user of the embedded bus connects: address, name, and the file with the password
    Credentials {
        /// Which: router, admin, adapter-KIND or agent-TENANT-NAME; all when left out
        user: Option<String>,
    },
    /// Write completions for a shell to standard output
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
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
}

#[derive(Debug, Subcommand)]
pub(crate) enum CustomerCommand {
    /// One customer with identities and everything that happened, over all channels
    Show {
        /// Which, as in u17
        customer: CustomerId,
    },
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
