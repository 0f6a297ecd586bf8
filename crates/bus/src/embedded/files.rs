//! Files that only we may read, the lock, and whether there is room.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use super::User;
use super::config::Layout;
use crate::{Error, ErrorKind};

/// Who may look into the server itself.
pub(super) const SYSTEM_USER: &str = "sys";

/// With less room than this the server would soon stop storing.
const ROOM_BYTES_MIN: u64 = 64 << 20;

fn failed(path: &Path, error: &std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::Full,
        _ => ErrorKind::Config,
    };
    Error::new(kind, format!("{}: {error}", path.display()))
}

pub(super) fn make_folder(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| failed(path, &error))
}

/// The text of a file, if there is one that can be read.
pub(crate) fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Writes a file that only we may read; it is there whole or as before.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<(), Error> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    let write = || {
        let _ = std::fs::remove_file(new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(new, path)
    };
    write().map_err(|error| failed(path, &error))
}

/// The passwords of the users and of the system's; new ones for whoever has none.
pub(crate) fn passwords(layout: &Layout, users: &[User]) -> Result<BTreeMap<String, String>, Error> {
    let mut passwords = BTreeMap::new();
    for user in users.iter().map(|user| user.name.as_str()).chain([SYSTEM_USER]) {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte);
        if user.is_empty() || user.len() > 200 || !user.bytes().all(legal) {
            return Err(Error::config(format!("user {user:?} is not legal as a name of a user")));
        }
        let path = layout.password_file(user);
        let kept = read(&path).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let password = match kept {
            Some(password) => password,
            None => {
                let mut bytes = [0_u8; 24];
                getrandom::fill(&mut bytes).map_err(|error| Error::other(format!("no source of chance: {error}")))?;
                let password = crate::hex(&bytes);
                write_secret(&path, &password)?;
                password
            }
        };
        if passwords.insert(user.to_owned(), password).is_some() {
            return Err(Error::config(format!("user {user:?} is named twice")));
        }
    }
    Ok(passwords)
}

/// Held as long as a daemon owns the data folder; the system gives it back when the daemon dies.
pub(super) struct Lock {
    _file: Flock<File>,
}

impl Lock {
    pub(super) fn take(path: &Path) -> Result<Self, Error> {
        let mut open = OpenOptions::new();
        let file = open.create(true).truncate(false).write(true).mode(0o600).open(path);
        let file = file.map_err(|error| failed(path, &error))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self { _file: file }),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(Error::config(format!(
                "another throughline daemon uses the data folder (it holds {}); stop it or set another data_dir",
                path.display()
            ))),
            Err((_, error)) => Err(Error::config(format!("locking {}: {error}", path.display()))),
        }
    }
}

/// How many bytes can be written on the disk of a folder.
pub(super) fn room(path: &Path) -> Result<u64, Error> {
    let found =
        nix::sys::statvfs::statvfs(path).map_err(|error| Error::config(format!("{}: {error}", path.display())))?;
    #[expect(clippy::useless_conversion, reason = "the numbers are narrower on some systems")]
    Ok(u64::from(found.blocks_available()).saturating_mul(u64::from(found.fragment_size())))
}

/// Refuses to start on a full disk.
pub(super) fn check_room(path: &Path) -> Result<(), Error> {
    is_enough(room(path)?, path)
}

fn is_enough(room: u64, path: &Path) -> Result<(), Error> {
    if room >= ROOM_BYTES_MIN {
        return Ok(());
    }
    let text = format!(
        "the disk of {} has only {} MiB left, and {} are needed to start; make room, or set bus.data_dir to a folder on another disk",
        path.display(),
        room >> 20,
        ROOM_BYTES_MIN >> 20
    );
    Err(Error::new(ErrorKind::Full, text))
}

/// The last lines of a file, for an error.
pub(super) fn tail(path: &Path, lines_max: usize) -> String {
    let text = std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(lines_max)).copied().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_refused_with_what_to_do() {
        let folder = Path::new("/var/lib/throughline");
        assert!(is_enough(ROOM_BYTES_MIN, folder).is_ok());
        let error = is_enough(ROOM_BYTES_MIN - 1, folder).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Full);
        let text = error.to_string();
        for part in ["/var/lib/throughline", "only 63 MiB left", "64 are needed", "make room", "bus.data_dir"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn the_room_of_a_folder_is_read() {
        // How much there is, is the machine's; what counts is that it can be asked for.
        match check_room(&std::env::temp_dir()) {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind, ErrorKind::Full),
        }
        assert_eq!(check_room(Path::new("/nowhere/at/all")).unwrap_err().kind, ErrorKind::Config);
    }
}
