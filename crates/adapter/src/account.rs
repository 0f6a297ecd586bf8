//! One channel account as its file under `config/channels/` describes it.

use std::path::{Path, PathBuf};

use contract::envelope::Account;
use contract::{AccountId, ChannelKind, SmolStr, TenantId};
use runtime::secret::Secret;
use runtime::settings::{self, Problem};
use serde::Deserialize;

/// What every account's file says, whatever its channel.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountFile {
    /// The kind of medium; names the channel that runs it.
    pub kind: ChannelKind,
    /// The account's name, unique within its kind.
    pub account: AccountId,
    /// Whose customers come by it.
    #[serde(default = "main_tenant")]
    pub tenant: TenantId,
    /// The vendor behind it, where there is a choice.
    #[serde(default)]
    pub provider: Option<SmolStr>,
    /// The account's own address.
    #[serde(default)]
    pub address: Option<SmolStr>,
    /// How fast it sends.
    #[serde(default)]
    pub outbound: OutboundSettings,
    /// The adapter is somebody else's program on the bus: nothing of it runs here, but its user and its
    /// consumer exist.
    #[serde(default)]
    pub external: bool,
    /// What the keys come from that the account otherwise makes itself and keeps on this machine's disk. Set where
    /// several processes or machines run the account: what one signs, the others know.
    #[serde(default)]
    pub shared_key: Option<Secret>,
    /// What only this channel has.
    #[serde(default)]
    pub settings: toml::Table,
    /// The file, for messages.
    #[serde(skip)]
    pub source: PathBuf,
}

/// How fast an account sends.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutboundSettings {
    /// Most commands per second; absent: no limit of ours.
    pub per_second_max: Option<f64>,
    /// How many may go at once after a pause; absent: one second's worth.
    pub burst_max: Option<f64>,
}

fn main_tenant() -> TenantId {
    #[expect(clippy::expect_used, reason = "a constant that is a legal name")]
    TenantId::new("main").expect("a legal name")
}

impl AccountFile {
    /// Reads one file. Nothing else is touched.
    ///
    /// # Errors
    /// With every problem, by path.
    pub fn read(path: &Path) -> Result<Self, Vec<Problem>> {
        let table = settings::read_table(path).map_err(|problem| vec![problem])?;
        Self::from_table(&table, path)
    }

    /// Reads every `*.toml` of a folder.
    ///
    /// # Errors
    /// With every problem of every file; two files for one account are a problem too.
    pub fn read_dir(dir: &Path) -> Result<Vec<Self>, Vec<Problem>> {
        let files = settings::files_in(dir).map_err(|problem| vec![problem])?;
        let (mut accounts, mut problems) = (Vec::<Self>::new(), Vec::new());
        for path in files {
            match Self::read(&path) {
                Ok(file) => accounts.push(file),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() { Ok(accounts) } else { Err(problems) }
    }

    /// Takes a table that was parsed already.
    ///
    /// # Errors
    /// With every problem, by path.
    pub fn from_table(table: &toml::Table, source: &Path) -> Result<Self, Vec<Problem>> {
        let mut file: Self = settings::load_value(table, &source.display().to_string())?;
        file.source = source.to_owned();
        if let Some(folder) = source.parent() {
            file.shared_key = file.shared_key.map(|secret| secret.relative_to(folder));
        }
        let problems: Vec<Problem> = [
            ("outbound.per_second_max", file.outbound.per_second_max),
            ("outbound.burst_max", file.outbound.burst_max),
        ]
        .into_iter()
        .filter(|(_, value)| value.is_some_and(|value| !(value > 0.0 && value <= 1_000_000.0)))
        .map(|(path, _)| file.problem(path, "must be more than 0 and at most 1000000"))
        .collect();
        if problems.is_empty() { Ok(file) } else { Err(problems) }
    }

    /// Reads the channel's own settings.
    ///
    /// # Errors
    /// With every problem, by path.
    pub fn settings<T: serde::de::DeserializeOwned>(&self) -> Result<T, Vec<Problem>> {
        settings::load_value(&self.settings, &self.source.display().to_string()).map_err(|problems| {
            let under = |problem: Problem| match problem.path.as_str() {
                "" => Problem { path: "settings".into(), ..problem },
                path => Problem { path: format!("settings.{path}"), ..problem },
            };
            problems.into_iter().map(under).collect()
        })
    }

    /// A problem of this file.
    #[must_use]
    pub fn problem(&self, path: &str, message: impl Into<String>) -> Problem {
        Problem::new(path, self.source.display().to_string(), message)
    }

    /// The account as envelopes name it.
    #[must_use]
    pub fn envelope_account(&self) -> Account {
        Account {
            kind: self.kind.clone(),
            id: self.account.clone(),
            provider: self.provider.clone(),
            address: self.address.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<AccountFile, Vec<Problem>> {
        AccountFile::from_table(&toml::from_str(text).unwrap(), Path::new("x.toml"))
    }

    #[test]
    fn common_keys_have_defaults_and_unknown_ones_are_refused() {
        let file = parse("kind = \"chat\"\naccount = \"web\"\n[settings]\nlisten = \"127.0.0.1:1\"").unwrap();
        assert_eq!((file.tenant.as_str(), file.settings.len()), ("main", 1));
        assert!(parse("kind = \"chat\"\naccount = \"web\"\nacount = 1").is_err());
        assert!(parse("kind = \"chat\"").is_err());
        let problems = parse("kind = \"chat\"\naccount = \"web\"\n[outbound]\nper_second_max = 0.0").unwrap_err();
        assert_eq!(problems[0].path, "outbound.per_second_max");
    }

    #[test]
    fn problems_of_the_channel_have_their_path() {
        #[derive(Debug, Deserialize)]
        struct Own {
            #[expect(dead_code, reason = "only its type matters")]
            size: u8,
        }
        let file = parse("kind = \"x\"\naccount = \"y\"\n[settings]\nsize = \"big\"").unwrap();
        assert_eq!(file.settings::<Own>().unwrap_err()[0].path, "settings.size");
    }
}
