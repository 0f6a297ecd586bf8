//! The channels of this process, kind by kind: opened at the start, and again when their accounts change.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use adapter::webhook::Webhooks;
use adapter::{Channels, Environment, Ready};
use runtime::drain::Shutdown;
use tokio::task::JoinHandle;
use tracing::{error, info};

use crate::Failure;
use crate::roles::{Roles, prepare};
use crate::settings::{Account, Loaded};

/// The largest file that an account names whose change is noticed; no secret is larger.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What the accounts of a kind are, with everything that they name; only to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark(u64);

/// The channels of one kind.
struct Running {
    mark: Mark,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

/// The channels of this process.
pub(crate) struct Hosting {
    roles: Roles,
    shutdown: Shutdown,
    webhooks: Webhooks,
    /// The accounts in force, wherever they run.
    accounts: Vec<Account>,
    running: BTreeMap<String, Running>,
    /// Kinds that could not be opened.
    missing: BTreeSet<String>,
}

/// Gives what the channels of a kind work with, for as long as that `Shutdown` says.
pub(crate) trait Environments {
    async fn of(&self, kind: &str, shutdown: Shutdown) -> Result<Environment, Failure>;
}

impl Hosting {
    /// Opens all accounts.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub(crate) async fn start(
        roles: &Roles,
        loaded: &Loaded,
        ready: Vec<Ready>,
        webhooks: Webhooks,
        shutdown: Shutdown,
        environments: &impl Environments,
    ) -> Result<Self, Failure> {
        let (running, missing) = (BTreeMap::new(), BTreeSet::new());
        let accounts = loaded.accounts.clone();
        let mut hosting = Self { roles: roles.clone(), shutdown, webhooks, accounts, running, missing };
        let marks = hosting.marks();
        for (kind, accounts) in by_kind(ready) {
            let mark = marks.get(&kind).copied().unwrap_or(Mark(0));
            hosting.open(kind, accounts, mark, environments).await?;
        }
        Ok(hosting)
    }

    /// The accounts in force.
    pub(crate) fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// Whether a kind could not be opened.
    pub(crate) fn missing(&self) -> Option<String> {
        let missing: Vec<&str> = self.missing.iter().map(String::as_str).collect();
        (!missing.is_empty()).then(|| format!("not open: {}", missing.join(", ")))
    }

    /// Puts accounts into force that were checked: kinds whose accounts, or files that these name, are not what they were
    /// are drained and opened anew. The others are left alone.
    pub(crate) async fn change(&mut self, loaded: &Loaded, ready: Vec<Ready>, environments: &impl Environments) {
        self.accounts.clone_from(&loaded.accounts);
        let marks = self.marks();
        let mut ready = by_kind(ready);
        // What could not be opened and is wanted no more is not missing either.
        for kind in self.missing.extract_if(.., |kind| !ready.contains_key(kind)) {
            self.webhooks.retire(&kind, self.webhooks.begin());
        }
        let kinds: BTreeSet<String> = self.running.keys().chain(ready.keys()).cloned().collect();
        for kind in kinds {
            let (was, is) = (self.running.get(&kind).map(|running| running.mark), marks.get(&kind).copied());
            let accounts = ready.remove(&kind);
            if was == is && accounts.is_some() {
                continue;
            }
            if self.shutdown.is_draining() {
                return;
            }
            // Webhooks go on being taken by the accounts as they were, until those that are new are open.
            let round = self.webhooks.begin();
            if let Some(running) = self.running.remove(&kind) {
                info!(channel.kind = kind, "accounts changed; draining them");
                running.shutdown.drain();
                ended(running.task).await;
            }
            self.missing.remove(&kind);
            let Some(accounts) = accounts else {
                self.webhooks.retire(&kind, round);
                info!(channel.kind = kind, "no account is left");
                continue;
            };
            let many = accounts.len();
            match self.open(kind.clone(), accounts, is.unwrap_or(Mark(0)), environments).await {
                Ok(()) => {
                    self.webhooks.retire(&kind, round);
                    info!(channel.kind = kind, accounts = many, "accounts are open anew");
                }
                Err(failure) => {
                    let reason = failure.to_string();
                    error!(channel.kind = kind, reason, "accounts cannot be opened; trying again");
                    self.missing.insert(kind);
                }
            }
        }
    }

    /// Waits until all have drained.
    pub(crate) async fn end(self) {
        for (_, running) in self.running {
            ended(running.task).await;
        }
    }

    async fn open(
        &mut self,
        kind: String,
        accounts: Vec<Ready>,
        mark: Mark,
        environments: &impl Environments,
    ) -> Result<(), Failure> {
        let shutdown = self.shutdown.part();
        let environment = environments.of(&kind, shutdown.clone()).await?;
        let channels = Channels::open(accounts, environment).await?;
        let task = tokio::spawn(channels.run());
        self.running.insert(kind, Running { mark, shutdown, task });
        Ok(())
    }

    fn marks(&self) -> BTreeMap<String, Mark> {
        let mut hashers: BTreeMap<String, DefaultHasher> = BTreeMap::new();
        for account in self.accounts.iter().filter(|account| self.roles.has_channel(account.kind.as_str())) {
            let hasher = hashers.entry(account.kind.to_string()).or_default();
            account.file.hash(hasher);
            let folder = account.file.parent().unwrap_or(Path::new(""));
            digest(&toml::Value::Table(account.table.clone()), folder, hasher);
        }
        hashers.into_iter().map(|(kind, hasher)| (kind, Mark(hasher.finish()))).collect()
    }
}

/// Checks accounts that run here. Pure.
///
/// # Errors
/// With every problem.
pub(crate) fn check(loaded: &Loaded, roles: &Roles) -> Result<Vec<Ready>, Failure> {
    prepare(loaded, |kind| roles.has_channel(kind)).map_err(Failure::Settings)
}

async fn ended(task: JoinHandle<()>) {
    if let Err(error) = task.await {
        error!(%error, "a channel ended badly");
    }
}

fn by_kind(ready: Vec<Ready>) -> BTreeMap<String, Vec<Ready>> {
    let mut kinds: BTreeMap<String, Vec<Ready>> = BTreeMap::new();
    for account in ready {
        kinds.entry(account.file.kind.to_string()).or_default().push(account);
    }
    kinds
}

/// Hashes settings, with the content of the files that stand in them as `{ file = "…" }`.
fn digest(value: &toml::Value, folder: &Path, hasher: &mut DefaultHasher) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                key.hash(hasher);
                if let ("file", Some(name)) = (key.as_str(), value.as_str()) {
                    content(&folder.join(name)).hash(hasher);
                }
                digest(value, folder, hasher);
            }
        }
        toml::Value::Array(values) => {
            values.len().hash(hasher);
            values.iter().for_each(|value| digest(value, folder, hasher));
        }
        other => other.to_string().hash(hasher),
    }
}

fn content(file: &Path) -> Option<Vec<u8>> {
    let metadata = std::fs::metadata(file).ok()?;
    (metadata.is_file() && metadata.len() <= FILE_BYTES_MAX).then(|| std::fs::read(file).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_is_another_is_noticed() {
        let folder = std::env::temp_dir().join(format!("throughline-hosting-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mark = |text: &str| {
            let mut hasher = DefaultHasher::new();
            digest(&toml::Value::Table(toml::from_str(text).unwrap()), &folder, &mut hasher);
            hasher.finish()
        };
        let account = "secret = [{ file = \"key\" }]\nrate = 1\n";
        std::fs::write(folder.join("key"), "one").unwrap();
        let before = mark(account);
        assert_eq!(mark(account), before);
        std::fs::write(folder.join("key"), "two").unwrap();
        assert_ne!(mark(account), before);
        std::fs::remove_file(folder.join("key")).unwrap();
        assert_ne!(mark(account), before);
        assert_ne!(mark("secret = [{ file = \"key\" }]\nrate = 2\n"), mark(account));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
