//! A TCP line with faults on demand: stands before a server, and slows, stalls or cuts what goes by.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How the line carries bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Manner {
    /// As they come.
    #[default]
    Clear,
    /// So many bytes at a time, each after a pause: in both directions.
    Slow {
        /// At most so many bytes in one piece.
        bytes: usize,
        /// Before each piece.
        pause: Duration,
    },
    /// Not at all, while connections stay open and new ones are taken: a firewall that forgot them.
    Stalled,
    /// Whoever connects is hung up on at once; what is connected goes on.
    Refusing,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    manner: Manner,
    /// Connections of an older cut are dead.
    cuts: u64,
}

#[derive(Debug)]
struct Shared {
    state: watch::Sender<State>,
    /// The next connection that has sent so many bytes to the server hears nothing more of it; 0: none does.
    deaf_after: AtomicU64,
    /// How many connections were made deaf.
    deafened: AtomicU64,
    open: AtomicUsize,
    taken: AtomicU64,
    /// Bytes that came from the server.
    brought: AtomicU64,
}

/// The line. Ends with its connections when it is dropped.
#[derive(Debug)]
pub struct Line {
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Line {
    /// A line to a port of this machine, which need not be open yet.
    ///
    /// # Panics
    /// When the own port cannot be opened.
    pub async fn to(port: u16) -> Self {
        let own = crate::daemon::free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, own)).await.expect("a free port");
        let shared = Arc::new(Shared {
            state: watch::Sender::new(State::default()),
            deaf_after: AtomicU64::new(0),
            deafened: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
            brought: AtomicU64::new(0),
        });
        let task = tokio::spawn(listen(listener, (Ipv4Addr::LOCALHOST, port).into(), Arc::clone(&shared)));
        Self { port: own, shared, task }
    }

    /// Where it begins.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Carries bytes in another manner from now on, also on the connections that are open.
    pub fn set(&self, manner: Manner) {
        self.shared.state.send_modify(|state| state.manner = manner);
    }

    /// Cuts every connection that is open.
    pub fn cut(&self) {
        self.shared.state.send_modify(|state| state.cuts += 1);
    }

    /// The next connection on which the client sends more than so many bytes is answered nothing from
    /// there on, and is cut once the client has been silent for a moment: the server has everything, and
    /// the client does not know it.
    pub fn lose_answer_after(&self, bytes: u64) {
        self.shared.deaf_after.store(bytes.max(1), Ordering::SeqCst);
    }

    /// How many answers were [lost](Self::lose_answer_after).
    pub fn answers_lost(&self) -> u64 {
        self.shared.deafened.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// How many connections were taken so far.
    pub fn taken(&self) -> u64 {
        self.shared.taken.load(Ordering::SeqCst)
    }

    /// How many bytes came from the server so far.
    pub fn brought(&self) -> u64 {
        self.shared.brought.load(Ordering::SeqCst)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.cut();
        self.task.abort();
    }
}

async fn listen(listener: TcpListener, server: SocketAddr, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        shared.taken.fetch_add(1, Ordering::SeqCst);
        if shared.state.borrow().manner == Manner::Refusing {
            continue;
        }
        let shared = Arc::clone(&shared);
        // Counted from here: a cut that comes before the server has answered is one of this connection.
        let cuts = shared.state.borrow().cuts;
        tokio::spawn(async move {
            shared.open.fetch_add(1, Ordering::SeqCst);
            let mut state = shared.state.subscribe();
            tokio::select! {
                () = carry(client, server, &shared) => {}
                _ = state.wait_for(|state| state.cuts != cuts) => {}
            }
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn carry(client: TcpStream, server: SocketAddr, shared: &Shared) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (deaf, mut deafened) = watch::channel(None);
    let there = async {
        let mut sent = 0_u64;
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            sent += read as u64;
            let limit = shared.deaf_after.load(Ordering::SeqCst);
            let first = deaf.borrow().is_none() && limit > 0 && sent > limit;
            if first && shared.deaf_after.compare_exchange(limit, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                shared.deafened.fetch_add(1, Ordering::SeqCst);
                deaf.send_replace(Some(Instant::now()));
            } else if deaf.borrow().is_some() {
                deaf.send_replace(Some(Instant::now()));
            }
            if pass(&buffer[..read], &mut to_server, shared).await.is_err() {
                break;
            }
        }
        let _ = to_server.shutdown().await;
    };
    let silent = deaf.subscribe();
    let back = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            shared.brought.fetch_add(read as u64, Ordering::SeqCst);
            if silent.borrow().is_none() && pass(&buffer[..read], &mut to_client, shared).await.is_err() {
                break;
            }
        }
        // Who is deaf does not hear either that the server hangs up.
        if silent.borrow().is_none() {
            let _ = to_client.shutdown().await;
        }
    };
    let end = async {
        loop {
            let last: Option<Instant> = *deafened.borrow_and_update();
            match last {
                None => {
                    if deafened.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
                Some(last) if last.elapsed() > Duration::from_millis(700) => return,
                Some(last) => tokio::time::sleep_until(last + Duration::from_millis(750)).await,
            }
        }
    };
    tokio::select! {
        _ = async { tokio::join!(there, back) } => {}
        () = end => {}
    }
}

async fn pass(bytes: &[u8], to: &mut (impl AsyncWriteExt + Unpin), shared: &Shared) -> std::io::Result<()> {
    let mut state = shared.state.subscribe();
    let mut left = bytes;
    while !left.is_empty() {
        // The sender lives as long as the line's connections do.
        let manner = match state.wait_for(|state| state.manner != Manner::Stalled).await {
            Ok(state) => state.manner,
            Err(_) => return Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        let now = if let Manner::Slow { bytes, pause } = manner {
            tokio::time::sleep(pause).await;
            left.len().min(bytes.max(1))
        } else {
            left.len()
        };
        let (piece, rest) = left.split_at(now);
        to.write_all(piece).await?;
        left = rest;
    }
    Ok(())
}
