//! Configs for a cluster of `nats-server` that others run: the same users and permissions as the embedded server's.
//!
//! One folder holds a config for each server, `accounts.conf` that all of them include, and the passwords, a file per
//! user. Written again after the roster or the channels changed, it keeps the passwords it has; the servers take the
//! new users over with a reload.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::embedded::config::{self, Layout, quote};
use crate::embedded::{User, files};
use crate::{Credentials, Error, ErrorKind};

/// Who the servers are to each other.
const ROUTE_USER: &str = "route";
/// The cluster's name.
const NAME: &str = "throughline";

/// A server of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name, which it keeps.
    pub name: String,
    /// Where it listens and the others find it: a name or an address.
    pub host: String,
    /// Port for clients.
    pub client_port: u16,
    /// Port for the other servers.
    pub route_port: u16,
}

/// Certificates of the servers, as each of them finds them on its own machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// The certificate, PEM.
    pub cert_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
    /// Who signed the certificates of the other servers.
    pub ca_file: PathBuf,
}

/// A cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Its servers; three or five keep working when one or two are gone.
    pub nodes: Vec<Node>,
    /// The folder on each server's machine in which it stores; its name is appended.
    pub store_dir: PathBuf,
    /// `always`, or an interval like `100ms`.
    pub sync_interval: String,
    /// Users with their permissions.
    pub users: Vec<User>,
    /// How many shards.
    pub shards: u16,
    /// Certificates, for clients and between the servers.
    pub tls: Option<ServerTls>,
}

impl Node {
    /// Reads `NAME=HOST`, `NAME=HOST:CLIENT_PORT` or `NAME=HOST:CLIENT_PORT:ROUTE_PORT`; the ports are 4222 and 6222
    /// unless given. An IPv6 address stands in brackets.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = || Error::config(format!("{text:?} is not NAME=HOST, NAME=HOST:PORT or NAME=HOST:PORT:ROUTE_PORT"));
        let (name, place) = text.split_once('=').ok_or_else(wrong)?;
        let (host, ports) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
                (host, rest.strip_prefix(':').or(rest.is_empty().then_some("")).ok_or_else(wrong)?)
            }
            None => place.split_once(':').unwrap_or((place, "")),
        };
        let legal = |text: &str, more: &[u8]| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
        };
        if !legal(name, b"-_") || !legal(host, b"-_.:") {
            return Err(wrong());
        }
        let mut ports = ports.split(':').filter(|port| !port.is_empty()).map(str::parse::<u16>);
        let mut port = |usual| ports.next().unwrap_or(Ok(usual)).map_err(|_| wrong());
        let (client_port, route_port) = (port(4222)?, port(6222)?);
        if ports.next().is_some() || client_port == 0 || route_port == 0 {
            return Err(wrong());
        }
        Ok(Self { name: name.to_owned(), host: host.to_owned(), client_port, route_port })
    }

    fn at(&self, port: u16) -> String {
        if self.host.contains(':') { format!("[{}]:{port}", self.host) } else { format!("{}:{port}", self.host) }
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self, tls: bool) -> String {
        format!("{}://{}", if tls { "tls" } else { "nats" }, self.at(self.client_port))
    }
}

impl Cluster {
    /// Writes the configs and the passwords. Returns the configs, one per server.
    ///
    /// # Errors
    /// When two servers share a name or an address, or a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<Vec<PathBuf>, Error> {
        let mut taken = BTreeSet::new();
        for node in &self.nodes {
            let places = [node.name.clone(), node.at(node.client_port), node.at(node.route_port)];
            if let Some(twice) = places.into_iter().find(|place| !taken.insert(place.clone())) {
                return Err(Error::config(format!("{twice} stands there twice")));
            }
        }
        let layout = Layout::for_others(folder)?;
        let route = User { name: ROUTE_USER.into(), publish: vec![], subscribe: vec![], answers: false };
        let known: Vec<User> = self.users.iter().cloned().chain([route]).collect();
        let passwords = files::passwords(&layout, &known)?;
        files::write_secret(&layout.accounts_file(), &config::accounts(&self.users, &passwords, self.shards)?)?;
        let route = passwords.get(ROUTE_USER).map(String::as_str).unwrap_or_default();
        let write = |node: &Node| {
            let file = folder.join(format!("{}.conf", node.name));
            files::write_secret(&file, &self.config(node, route)).map(|()| file)
        };
        self.nodes.iter().map(write).collect()
    }

    fn config(&self, node: &Node, route_password: &str) -> String {
        let mut text = String::from("# Written by `throughline nats config`; the next time overwrites it.\n");
        let path = |path: &Path| quote(&path.to_string_lossy());
        let others = self.nodes.iter().filter(|other| other.name != node.name);
        let routes: Vec<String> = others
            .map(|other| quote(&format!("nats://{ROUTE_USER}:{route_password}@{}", other.at(other.route_port))))
            .collect();
        let tls = self.tls.as_ref().map_or_else(String::new, |tls| {
            format!(
                "tls {{\n  cert_file: {}\n  key_file: {}\n  ca_file: {}\n}}\n",
                path(&tls.cert_file),
                path(&tls.key_file),
                path(&tls.ca_file)
            )
        });
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "server_name: {name}\n\
             listen: {listen}\n\
             max_payload: 1MB\n\
             write_deadline: \"10s\"\n\
             ping_interval: \"20s\"\n\
             lame_duck_duration: \"30s\"\n\
             lame_duck_grace_period: \"5s\"\n\
             jetstream {{\n  store_dir: {store}\n  sync_interval: {sync}\n}}\n\
             {tls}\
             cluster {{\n  name: {NAME}\n  listen: {route_listen}\n  \
             authorization {{ user: {ROUTE_USER}, password: {password}, timeout: 5 }}\n  routes: [{routes}]\n{route_tls}}}\n\
             include \"accounts.conf\"\n",
            name = quote(&node.name),
            listen = quote(&node.at(node.client_port)),
            store = path(&self.store_dir.join(&node.name)),
            sync = self.sync_interval,
            route_listen = quote(&node.at(node.route_port)),
            password = quote(route_password),
            routes = routes.join(", "),
            route_tls = tls.replace("tls {", "  tls {"),
        );
        text
    }
}

/// A user's password from a folder that [`Cluster::write`] wrote.
///
/// # Errors
/// When there is none.
pub fn credentials(folder: &Path, user: &str) -> Result<Credentials, Error> {
    let path = folder.join(user);
    files::read(&path).ok_or_else(|| {
        let text = format!(
            "no password of user {user:?} in {}; `throughline nats config` writes them, copy them here",
            folder.display()
        );
        Error::new(ErrorKind::NotFound, text)
    })?;
    Ok(Credentials::PasswordFile { user: user.to_owned(), file: path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_in_one_word() {
        let node = |text: &str| Node::parse(text).map(|node| (node.at(node.client_port), node.at(node.route_port)));
        assert_eq!(node("a=h").unwrap(), ("h:4222".into(), "h:6222".into()));
        assert_eq!(node("a=h.x:1").unwrap(), ("h.x:1".into(), "h.x:6222".into()));
        assert_eq!(node("a=127.0.0.1:1:2").unwrap(), ("127.0.0.1:1".into(), "127.0.0.1:2".into()));
        assert_eq!(node("a=[::1]:1:2").unwrap(), ("[::1]:1".into(), "[::1]:2".into()));
        assert_eq!(node("a=[::1]").unwrap(), ("[::1]:4222".into(), "[::1]:6222".into()));
        for wrong in ["", "a", "a=", "=h", "a=h:0", "a=h:x", "a=h:1:2:3", "a b=h", "a=h\"", "a=[::1", "a=[::1]x"] {
            assert!(Node::parse(wrong).is_err(), "{wrong}");
        }
    }
}
