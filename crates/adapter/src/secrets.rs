//! Secrets that an account makes itself and keeps in the data folder.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use runtime::secret::SecretString;

use crate::verify;

/// The folder of one account, readable by the daemon's user alone.
#[derive(Debug, Clone)]
pub struct SecretStore {
    dir: PathBuf,
    /// What keys come from, instead of being made and kept.
    shared: Option<SecretString>,
}

impl SecretStore {
    /// The folder need not exist.
    #[must_use]
    pub const fn new(dir: PathBuf) -> Self {
        Self { dir, shared: None }
    }

    /// Keys come from this one, so that every process that has it has the same.
    #[must_use]
    pub fn sharing(mut self, key: Option<SecretString>) -> Self {
        self.shared = key;
        self
    }

    /// The secret called `name`: read, or, the first time, 256 random bits in hexadecimal. With a key that is shared, what
    /// comes from that.
    ///
    /// # Errors
    /// When the file cannot be read, written or is open to others.
    pub fn get_or_create(&self, name: &str) -> std::io::Result<String> {
        if let Some(shared) = &self.shared {
            let parts: [&[u8]; 2] = [b"throughline key ", name.as_bytes()];
            return Ok(verify::sign(verify::Algorithm::Sha256, shared, &parts, verify::Encoding::Hex));
        }
        if let Some(text) = self.get(name)? {
            return Ok(text);
        }
        let path = self.dir.join(name);
        let mut random = [0_u8; 32];
        getrandom::fill(&mut random).map_err(std::io::Error::other)?;
        let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        // Written whole, then named: a crash leaves no half of a key, and of two that start at once
        // the second finds the name taken and reads the first one's.
        let draft = self.draft(name, &text)?;
        let linked = std::fs::hard_link(&draft, &path);
        std::fs::remove_file(&draft)?;
        match linked {
            Ok(()) => Ok(text),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Ok(std::fs::read_to_string(&path)?.trim().to_owned())
            }
            Err(error) => Err(error),
        }
    }

    /// The secret called `name`, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read or is open to others.
    pub fn get(&self, name: &str) -> std::io::Result<Option<String>> {
        let path = self.dir.join(name);
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => Err(std::io::Error::other(format!(
                "{} is open to other users of this machine; run: chmod 600 {}",
                path.display(),
                path.display()
            ))),
            Ok(_) => Ok(Some(std::fs::read_to_string(&path)?.trim().to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps a secret of one line that somebody else made, in the place of the one before: on the disk when this
    /// returns, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written; the one before is still there then.
    pub fn put(&self, name: &str, text: &str) -> std::io::Result<()> {
        let draft = self.draft(name, text)?;
        std::fs::rename(&draft, self.dir.join(name))?;
        // The name too.
        std::fs::File::open(&self.dir)?.sync_all()
    }

    /// A file beside the secret's, with its text.
    fn draft(&self, name: &str, text: &str) -> std::io::Result<PathBuf> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let draft = self.dir.join(format!(".{name}.{}", std::process::id()));
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        Ok(draft)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_kept_private() {
        let dir = std::env::temp_dir().join(format!("throughline-secrets-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let store = SecretStore::new(dir.join("deep"));
        let first = store.get_or_create("session.key").unwrap();
        assert_eq!(first.len(), 64);
        assert_eq!(store.get_or_create("session.key").unwrap(), first);
        let path = dir.join("deep/session.key");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(store.get_or_create("session.key").is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn who_shares_a_key_has_the_same_keys() {
        let store = |key: &str| SecretStore::new("/nowhere".into()).sharing(Some(SecretString::new(key)));
        let made = store("one").get_or_create("media.key").unwrap();
        assert_eq!(made.len(), 64);
        assert_eq!(store("one").get_or_create("media.key").unwrap(), made);
        assert_ne!(store("two").get_or_create("media.key").unwrap(), made);
        assert_ne!(store("one").get_or_create("address.key").unwrap(), made);
    }

    #[test]
    fn what_somebody_else_made_is_replaced_whole_and_kept_private() {
        let dir = std::env::temp_dir().join(format!("throughline-secrets-put-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let store = SecretStore::new(dir.join("deep"));
        assert_eq!(store.get("token").unwrap(), None);
        store.put("token", "one").unwrap();
        store.put("token", "two").unwrap();
        assert_eq!(store.get("token").unwrap().as_deref(), Some("two"));
        let path = dir.join("deep/token");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.join("deep")).unwrap().count(), 1, "no draft is left");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(store.get("token").is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
