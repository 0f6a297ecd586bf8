//! `throughline nats`: a bus that the operator runs.

use std::path::{Path, PathBuf};

use bus::cluster::{Cluster, Node, ServerTls};

use crate::Failure;
use crate::output::say;
use crate::settings::Loaded;

/// Writes the servers' configs and the users' passwords, and says what to do with them.
pub(crate) fn config(
    loaded: &Loaded,
    out: &Path,
    nodes: &[String],
    store_dir: PathBuf,
    tls: Option<ServerTls>,
) -> Result<(), Failure> {
    let nodes = nodes.iter().map(|node| Node::parse(node)).collect::<Result<Vec<_>, _>>()?;
    let secure = tls.is_some();
    let cluster = Cluster {
        store_dir,
        sync_interval: loaded.settings.bus.sync_interval.clone(),
        users: loaded.users(&loaded.policy),
        shards: loaded.settings.router.shards,
        tls,
        nodes,
    };
    let files = cluster.write(out)?;
    let urls: Vec<String> = cluster.nodes.iter().map(|node| format!("{:?}", node.url(secure))).collect();
    let replicas = match cluster.nodes.len() {
        0..3 => 1,
        3 | 4 => 3,
        _ => 5,
    };
    let mut lines: Vec<String> = vec!["Each server gets its file, and accounts.conf beside it:".into()];
    lines.extend(files.iter().map(|file| format!("  nats-server --config {}", file.display())));
    lines.push("Each throughline gets the folder credentials, readable for itself alone, and these settings:".into());
    lines.push(format!(
        "  [bus]\n  mode = \"external\"\n  servers = [{}]\n  [bus.credentials]\n  folder = {:?}\n  [router]\n  replicas = {replicas}",
        urls.join(", "),
        out.join("credentials").display().to_string(),
    ));
    if !secure {
        lines.push("Without --tls-cert passwords and messages go over the network unencrypted.".into());
    }
    say(&lines.join("\n"));
    Ok(())
}
