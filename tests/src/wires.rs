//! The network between the servers of a cluster, and from the program to them: every connection goes over a
//! [`Line`] that can be cut.

use crate::cluster::NAMES;
use crate::daemon::free_port;
use crate::line::{Line, Manner};

/// The lines of a cluster of three.
#[derive(Debug)]
pub struct Wires {
    /// Of each server: for clients, and for the other servers; where it really listens.
    ports: Vec<(u16, u16)>,
    /// To each server from the program.
    clients: Vec<Line>,
    /// From a server to another.
    routes: Vec<(usize, usize, Line)>,
}

impl Wires {
    /// Lays them; the servers need not listen yet.
    pub async fn lay() -> Self {
        let ports: Vec<(u16, u16)> = NAMES.iter().map(|_| (free_port(), free_port())).collect();
        let (mut clients, mut routes) = (Vec::new(), Vec::new());
        for (to, (client, route)) in ports.iter().enumerate() {
            clients.push(Line::to(*client).await);
            for from in (0..NAMES.len()).filter(|from| *from != to) {
                routes.push((from, to, Line::to(*route).await));
            }
        }
        Self { ports, clients, routes }
    }

    /// Where the servers listen: for clients, and for each other.
    pub fn ports(&self) -> &[(u16, u16)] {
        &self.ports
    }

    /// Where the program reaches them.
    pub fn client_ports(&self) -> Vec<u16> {
        self.clients.iter().map(Line::port).collect()
    }

    /// The config of a server, with the lines instead of the other servers' own ports.
    pub(crate) fn wired(&self, at: usize, config: &str) -> String {
        let mut config = config.replacen("cluster {", "cluster {\n  no_advertise: true", 1);
        // A small disk is to be filled, not counted.
        config = config.replacen("jetstream {", "jetstream {\n  max_file_store: 100GB", 1);
        for (from, to, line) in &self.routes {
            if *from == at {
                let (_, route) = self.ports[*to];
                config = config.replace(&format!("127.0.0.1:{route}"), &format!("127.0.0.1:{}", line.port()));
            }
        }
        config
    }

    fn set(&self, at: usize, manner: Manner) {
        for (from, to, line) in &self.routes {
            if *from == at || *to == at {
                line.set(manner);
            }
        }
    }

    /// Cuts a server off from the others: nothing goes by, and nobody is told. Clients still reach it.
    pub fn cut_off(&self, at: usize) {
        self.set(at, Manner::Stalled);
    }

    /// Cuts the program off from a server, which goes on.
    pub fn cut_clients_off(&self, at: usize) {
        self.clients[at].set(Manner::Stalled);
    }

    /// Mends everything; with `hang_up`, what was connected over a line that was cut is hung up on.
    pub fn mend(&self, at: usize, hang_up: bool) {
        self.set(at, Manner::Clear);
        self.clients[at].set(Manner::Clear);
        if hang_up {
            self.clients[at].cut();
            self.routes.iter().filter(|(from, to, _)| *from == at || *to == at).for_each(|(_, _, line)| line.cut());
        }
    }

    /// Whether the servers are connected over the lines.
    pub fn in_use(&self) -> bool {
        self.routes.iter().all(|(from, to, _)| {
            let pair =
                |line: &&(usize, usize, Line)| (line.0 == *from && line.1 == *to) || (line.0 == *to && line.1 == *from);
            self.routes.iter().filter(pair).any(|(_, _, line)| line.open() > 0)
        })
    }
}
