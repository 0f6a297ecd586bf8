//! Which parts of the program run in this process, and the registry of channels.

use adapter::{AccountFile, Kind, Problem};

use crate::cli::Role;
use crate::settings::Loaded;

/// Every kind of channel that this program can run: adding one adds its line here.
pub(crate) fn kinds() -> Vec<Box<dyn Kind>> {
    vec![
        channel_chat::register(),
        channel_email::register(),
        channel_phone::register(),
        channel_social::register(),
        channel_webhook::register(),
    ]
}

/// The roles of this process.
#[derive(Debug, Clone)]
pub(crate) struct Roles(Vec<Role>);

impl Roles {
    /// All roles, or those that were named.
    pub(crate) fn new(only: Vec<Role>) -> Self {
        if only.is_empty() { Self(vec![Role::Bus, Role::Router, Role::Wall, Role::Channels]) } else { Self(only) }
    }

    pub(crate) fn has(&self, role: &Role) -> bool {
        self.0.contains(role)
    }

    /// Whether the accounts of a kind run here.
    pub(crate) fn has_channel(&self, kind: &str) -> bool {
        self.0.iter().any(|role| match role {
            Role::Channels => true,
            Role::Channel(named) => named == kind,
            _ => false,
        })
    }
}

/// Checks the accounts that run here. Pure.
pub(crate) fn prepare(loaded: &Loaded, here: impl Fn(&str) -> bool) -> Result<Vec<adapter::Ready>, Vec<Problem>> {
    let (mut files, mut problems) = (Vec::new(), Vec::new());
    for account in &loaded.accounts {
        match AccountFile::from_table(&account.table, &account.file) {
            // An adapter of somebody else's: the bus knows its user, nothing runs here.
            Ok(file) if file.external => {}
            Ok(file) if here(account.kind.as_str()) => files.push(file),
            Ok(_) => {}
            Err(found) => problems.extend(found),
        }
    }
    match adapter::prepare(&kinds(), files) {
        Ok(ready) if problems.is_empty() => Ok(ready),
        Ok(_) => Err(problems),
        Err(found) => {
            problems.extend(found);
            Err(problems)
        }
    }
}
