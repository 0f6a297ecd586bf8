//! What the server is told: two files, so that users can change while the rest proves to be the same.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Options, User, files};
use crate::{Error, ErrorKind};

/// Where everything lies.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    folder: PathBuf,
    credentials: PathBuf,
}

impl Layout {
    /// Makes the folders, for nobody else to read.
    pub(super) fn create(data_dir: &Path) -> Result<Self, Error> {
        files::make_folder(data_dir)?;
        let data_dir = std::path::absolute(data_dir)
            .and_then(std::fs::canonicalize)
            .map_err(|error| Error::config(format!("folder {}: {error}", data_dir.display())))?;
        let layout = Self { folder: data_dir.join("nats"), credentials: data_dir.join("credentials") };
        files::make_folder(&layout.folder)?;
        files::make_folder(&layout.credentials)?;
        Ok(layout)
    }

    /// A folder of configs for servers that others run: the files beside each other, for nobody else to read.
    pub(crate) fn for_others(folder: &Path) -> Result<Self, Error> {
        let layout = Self { folder: folder.to_path_buf(), credentials: folder.join("credentials") };
        files::make_folder(&layout.folder)?;
        files::make_folder(&layout.credentials)?;
        Ok(layout)
    }

    /// A layout that somebody else made.
    pub(super) fn at(data_dir: &Path) -> Self {
        Self { folder: data_dir.join("nats"), credentials: data_dir.join("credentials") }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn config_file(&self) -> PathBuf {
        self.folder.join("nats.conf")
    }

    pub(crate) fn accounts_file(&self) -> PathBuf {
        self.folder.join("accounts.conf")
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        self.folder.join("nats-server.pid")
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.folder.join("nats-server.log")
    }

    /// What the server says before it has read its config.
    pub(super) fn output_file(&self) -> PathBuf {
        self.folder.join("nats-server.out")
    }

    pub(super) fn lock_file(&self) -> PathBuf {
        self.folder.join("lock")
    }

    pub(super) fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    fn ports_file(&self) -> PathBuf {
        self.folder.join("ports.json")
    }

    /// Written by the server when it listens.
    pub(super) fn ready_file(&self, pid: u32) -> PathBuf {
        self.folder.join(format!("nats-server_{pid}.ports"))
    }

    pub(crate) fn password_file(&self, user: &str) -> PathBuf {
        self.credentials.join(user)
    }
}

/// The ports of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ports {
    pub(super) client: u16,
    pub(super) websocket: Option<u16>,
    pub(super) monitor: Option<u16>,
}

impl Ports {
    pub(super) fn read(layout: &Layout) -> Option<Self> {
        serde_json::from_str(&files::read(&layout.ports_file())?).ok()
    }

    pub(super) fn write(&self, layout: &Layout) -> Result<(), Error> {
        let text = serde_json::to_string(self).map_err(|error| Error::other(error.to_string()))?;
        files::write_secret(&layout.ports_file(), &text)
    }

    /// The ports of the settings; those left open as they were before, or any free ones.
    pub(super) fn choose(options: &Options, before: Option<&Self>) -> Result<Self, Error> {
        // Held until all are chosen, or two might be the same.
        let mut held = Vec::new();
        let mut pick = |wanted: u16, before: Option<u16>| -> Result<u16, Error> {
            if wanted != 0 {
                return Ok(wanted);
            }
            if let Some(before) = before {
                return Ok(before);
            }
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .map_err(|error| Error::unavailable(format!("no free port: {error}")))?;
            let port = listener.local_addr().map_err(|error| Error::other(error.to_string()))?.port();
            held.push(listener);
            Ok(port)
        };
        Ok(Self {
            client: pick(options.port, before.map(|ports| ports.client))?,
            websocket: match options.websocket_port {
                Some(port) => Some(pick(port, before.and_then(|ports| ports.websocket))?),
                None => None,
            },
            monitor: match options.monitor_port {
                Some(port) => Some(pick(port, before.and_then(|ports| ports.monitor))?),
                None => None,
            },
        })
    }
}

/// A text in double quotes.
pub(crate) fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Everything but the users. Two runs with the same text may share a server.
pub(super) fn main(options: &Options, layout: &Layout, ports: &Ports) -> String {
    let mut text = String::from("# Written by throughline at every start; changes are lost.\n");
    let path = |path: PathBuf| quote(&path.to_string_lossy());
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "server_name: throughline\n\
         listen: \"127.0.0.1:{client}\"\n\
         pid_file: {pid}\n\
         ports_file_dir: {folder}\n\
         log_file: {log}\n\
         logfile_size_limit: 16MB\n\
         logfile_max_num: 3\n\
         max_payload: 1MB\n\
         write_deadline: \"10s\"\n\
         ping_interval: \"20s\"\n\
         lame_duck_duration: \"30s\"\n\
         lame_duck_grace_period: \"5s\"\n\
         jetstream {{\n  store_dir: {store}\n  sync_interval: {sync}\n  max_file_store: 1TB\n}}\n",
        client = ports.client,
        pid = path(layout.pid_file()),
        folder = path(layout.folder().to_path_buf()),
        log = path(layout.log_file()),
        store = path(layout.store()),
        sync = options.sync_interval,
    );
    if let Some(port) = ports.websocket {
        let _ = write!(text, "websocket {{\n  listen: \"127.0.0.1:{port}\"\n  no_tls: true\n}}\n");
    }
    if let Some(port) = ports.monitor {
        let _ = writeln!(text, "http: \"127.0.0.1:{port}\"");
    }
    text.push_str("include \"accounts.conf\"\n");
    text
}

fn list(subjects: &[String]) -> String {
    subjects.iter().map(|subject| quote(subject)).collect::<Vec<_>>().join(", ")
}

/// The users with their passwords and permissions, and the mapping that puts the shard in.
pub(crate) fn accounts(users: &[User], passwords: &BTreeMap<String, String>, shards: u16) -> Result<String, Error> {
    let password = |user: &str| {
        passwords.get(user).ok_or_else(|| Error::new(ErrorKind::NotFound, format!("user {user} has no password")))
    };
    let mut text = String::from("# Written by throughline at every start; changes are lost.\n");
    text.push_str("accounts {\n  TL {\n    jetstream: enabled\n    users: [\n");
    for user in users {
        let _ = writeln!(
            text,
            "      {{ user: {}, password: {}, permissions: {{ publish: {{ allow: [{}] }}, subscribe: {{ allow: [{}] }}{} }} }}",
            quote(&user.name),
            quote(password(&user.name)?),
            list(&user.publish),
            list(&user.subscribe),
            if user.answers { ", allow_responses: { max: 1, expires: \"1m\" }" } else { "" },
        );
    }
    let _ = write!(
        text,
        "    ]\n    mappings: {{\n      \"tl.v1.in.*.*.*\": \"tl.v1.in.{{{{partition({},1)}}}}.{{{{wildcard(1)}}}}.{{{{wildcard(2)}}}}.{{{{wildcard(3)}}}}\"\n    }}\n  }}\n",
        shards.max(1)
    );
    let _ = write!(
        text,
        "  SYS {{\n    users: [ {{ user: {}, password: {} }} ]\n  }}\n}}\nsystem_account: SYS\n",
        quote(files::SYSTEM_USER),
        quote(password(files::SYSTEM_USER)?),
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mapping_is_written_as_the_server_reads_it() {
        let passwords = BTreeMap::from([("a".to_owned(), "x".to_owned()), ("sys".to_owned(), "y".to_owned())]);
        let users = [User {
            name: "a".into(),
            publish: vec!["p.>".into(), "q".into()],
            subscribe: vec!["s".into()],
            answers: false,
        }];
        let text = accounts(&users, &passwords, 8).unwrap();
        let mapping =
            r#""tl.v1.in.*.*.*": "tl.v1.in.{{partition(8,1)}}.{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}""#;
        assert!(text.contains(mapping), "{text}");
        assert!(text.contains(r#"publish: { allow: ["p.>", "q"] }, subscribe: { allow: ["s"] }"#), "{text}");
    }
}
