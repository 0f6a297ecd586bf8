//! The program `throughline`: reads the settings, starts the roles it was told to run, and stops them in
//! order; or asks a running daemon something. Decides nothing about conversations.

mod ask;
mod audit;
mod backup;
mod channels;
mod cli;
mod customer;
mod dead;
mod hosting;
mod journal;
mod load;
mod nats;
mod output;
mod roles;
mod run;
mod settings;
mod simulate;
mod storage;
mod terminal;
mod top;
mod trial;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use cli::{
    BenchCommand, ChannelCommand, Cli, Command, ConversationCommand, DeadCommand, JournalCommand, NatsCommand,
    PolicyCommand,
};
use contract::command::AdminCommand;
use runtime::settings::Problem;

/// Half of the router's time went into the system's allocator: records are built on one thread and freed
/// on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The settings are wrong (`EX_CONFIG` of sysexits.h).
const EXIT_CONFIG: u8 = 78;
/// What was asked for could not be done.
const EXIT_FAILED: u8 = 1;

/// Why a subcommand failed; for a person.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The settings are wrong.
    Settings(Vec<Problem>),
    /// Anything else.
    Other(String),
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.to_string())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Settings(problems) => {
                let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                f.write_str(&problems.join("; "))
            }
            Self::Other(reason) => f.write_str(reason),
        }
    }
}

fn main() -> ExitCode {
    // First of all: what was given in huge pages before stays that.
    runtime::memory::small_pages();
    let cli = Cli::parse();
    if !matches!(cli.command, Command::Run { .. }) {
        runtime::memory::huge_pages();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::Other(format!("no threads can be started: {error}"))),
    };
    let done = runtime.block_on(dispatch(cli));
    // Reading standard input cannot be interrupted, and must not keep us.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    match failure {
        Failure::Settings(problems) => {
            for problem in problems {
                output::complain(&problem.to_string());
            }
            ExitCode::from(EXIT_CONFIG)
        }
        Failure::Other(message) => {
            output::complain(message);
            ExitCode::from(EXIT_FAILED)
        }
    }
}

async fn dispatch(cli: Cli) -> Result<(), Failure> {
    let common = &cli.common;
    let load =
        || settings::load(common.config.as_deref(), std::env::vars(), &common.overrides).map_err(Failure::Settings);
    let load_to_ask = || {
        settings::load_to_ask(common.config.as_deref(), std::env::vars(), &common.overrides).map_err(Failure::Settings)
    };
    match cli.command {
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "throughline", &mut std::io::stdout());
            Ok(())
        }
        Command::Check => check(load),
        Command::Simulate(options) => simulate::simulate(&options, common.json),
        Command::Journal(JournalCommand::Export { to, shard }) => {
            let loaded = load_to_ask()?;
            let own = contract::shard::of(&loaded.tenant, loaded.settings.router.shards);
            journal::export(loaded, &to, shard.unwrap_or(own)).await
        }
        Command::Nats(NatsCommand::Config { out, nodes, store, tls_cert, tls_key, tls_ca }) => {
            let tls = tls_cert.zip(tls_key).zip(tls_ca);
            let tls =
                tls.map(|((cert_file, key_file), ca_file)| bus::cluster::ServerTls { cert_file, key_file, ca_file });
            nats::config(&load()?, &out, &nodes, store, tls)
        }
        Command::Bench(BenchCommand::Load(plan)) => load::load(load_to_ask()?, &plan, common.json).await,
        Command::Backup { to, within } => {
            backup::backup(load_to_ask()?, &to, std::time::Duration::from_secs(within)).await
        }
        Command::Restore { from } => backup::restore(load()?, &from).await,
        Command::Run { only } => run::run(load()?, common.config.clone(), only).await,
        Command::Agent { name, auto_accept } => terminal::work(load_to_ask()?, name, auto_accept).await,
        Command::Credentials { user } => ask::credentials(&load_to_ask()?, user.as_deref(), common.json),
        Command::Channels => channels::list(&ask::Operator::connect(load_to_ask()?, common.json).await?).await,
        Command::Channel(ChannelCommand::Try(options)) => trial::run(&options, common.json),
        Command::Audit { limit } => {
            audit::list(&ask::Operator::connect(load_to_ask()?, common.json).await?, limit).await
        }
        Command::Dead(command) => {
            let operator = ask::Operator::connect(load_to_ask()?, common.json).await?;
            match command {
                DeadCommand::List { limit } => dead::list(&operator, limit).await,
                DeadCommand::Show { seq } => dead::show(&operator, seq).await,
                DeadCommand::Replay { seq, with } => dead::replay(&operator, seq, with.as_deref()).await,
                DeadCommand::Delete { seq } => dead::delete(&operator, seq).await,
            }
        }
        Command::Status { digest } => ask::show(load_to_ask()?, common.json, AdminCommand::StatusShow { digest }).await,
        Command::Top { every_ms, once } => {
            let operator = ask::Operator::connect(load_to_ask()?, common.json).await?;
            top::top(operator, std::time::Duration::from_millis(every_ms), once).await
        }
        Command::Conversation(ConversationCommand::List { limit }) => {
            ask::show(load_to_ask()?, common.json, AdminCommand::ConversationList { limit: Some(limit) }).await
        }
        Command::Conversation(ConversationCommand::Show { conversation }) => {
            ask::show(load_to_ask()?, common.json, AdminCommand::ConversationShow { conversation }).await
        }
        Command::Conversation(ConversationCommand::Assign { conversation, agent, ignore_capacity }) => {
            let command = AdminCommand::ConversationAssign { conversation, agent, ignore_capacity };
            ask::change(load_to_ask()?, common.json, command).await
        }
        Command::Conversation(ConversationCommand::Enqueue { conversation, queue, priority }) => {
            let command = AdminCommand::ConversationEnqueue { conversation, queue, priority };
            ask::change(load_to_ask()?, common.json, command).await
        }
        Command::Policy(PolicyCommand::Apply { waiting }) => {
            let loaded = load()?;
            let command = AdminCommand::PolicyApply { policy: Box::new(loaded.policy.clone()), waiting };
            ask::change(loaded, common.json, command).await
        }
        Command::Policy(PolicyCommand::Shadow { dir, stop }) => {
            let question = match dir {
                Some(dir) => {
                    let policy = Box::new(settings::load_policy(&dir).map_err(Failure::Settings)?);
                    AdminCommand::ShadowStart { policy }
                }
                None => AdminCommand::ShadowShow { stop },
            };
            ask::show(load_to_ask()?, common.json, question).await
        }
        Command::Explain { conversation } => {
            ask::show(load_to_ask()?, common.json, AdminCommand::ConversationExplain { conversation }).await
        }
        Command::Customer(command) => customer::run(load_to_ask()?, common.json, command).await,
    }
}

/// Everything that is wrong, and nothing else done.
fn check(load: impl FnOnce() -> Result<settings::Loaded, Failure>) -> Result<(), Failure> {
    let loaded = load()?;
    let accounts = loaded.accounts.len();
    let ready = roles::prepare(&loaded, |_| true).map_err(Failure::Settings)?;
    let webhook = &loaded.settings.webhook;
    if webhook.public_base_url.is_none() {
        for account in ready.iter().filter(|account| account.has_hook()) {
            let (kind, name) = (&account.file.kind, &account.file.account);
            output::complain(&format!(
                "warning: {}: its provider calls {kind}/{name}, and webhook.public_base_url does not say where; it is told http://{}",
                account.file.source.display(),
                webhook.listen,
            ));
        }
    }
    for warning in loaded.settings.risks() {
        output::complain(&format!("warning: {warning}"));
    }
    let (_, warnings) = settings::read_policy(&loaded.settings.policy.dir).map_err(Failure::Settings)?;
    for warning in &warnings {
        output::complain(&format!("warning: {warning}"));
    }
    output::say(&format!(
        "ok: {} queues, {} agents, {} routes, {accounts} channel accounts",
        loaded.policy.queues.len(),
        loaded.policy.agents.len(),
        loaded.policy.routes.len(),
    ));
    Ok(())
}
