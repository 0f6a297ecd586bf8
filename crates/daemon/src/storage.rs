//! Whether the bus stores what it is given. A full disk is told to the operator, and once there is room again an
//! embedded server is started anew: it stores nothing before that.

use std::time::Duration;

use bus::embedded::Renewal;
use bus::{Bus, StoreFailures};
use runtime::health::Component;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, warn};

/// How often the disk of a server of our own is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// With less than this a write may have failed already.
const FULL_BYTES: u64 = 1 << 20;

/// So long after the last failure all is well again. Routers write a sign of life more often than this, so a disk that
/// stays full is heard of.
const QUIET: Duration = Duration::from_secs(6);

/// How long a server that was started anew has to prove itself; doubles up to the other.
const PATIENCE: Duration = Duration::from_secs(15);
const PATIENCE_MAX: Duration = Duration::from_secs(600);

/// Gathers what the connections of this process hear about the disk.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    failures: watch::Sender<StoreFailures>,
}

impl Storage {
    /// Listens to one more connection, until it ends.
    pub(crate) fn listen(&self, bus: &Bus) {
        let mut failures = bus.store_failures();
        let all = self.failures.clone();
        tokio::spawn(async move {
            while failures.changed().await.is_ok() {
                let last = failures.borrow_and_update().last.clone();
                all.send_modify(|all| {
                    all.count += 1;
                    all.last = last;
                });
            }
        });
    }

    /// Tells about it for as long as the process lives; `renewal` is that of a server of our own.
    pub(crate) async fn watch(&self, component: Component, renewal: Option<Renewal>) {
        let mut failures = self.failures.subscribe();
        let mut standing = Standing::new(Instant::now());
        component.up();
        let mut look = tokio::time::interval(LOOK);
        loop {
            let failed = tokio::select! {
                changed = failures.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    Some(failures.borrow_and_update().last.clone())
                }
                _ = look.tick() => None,
            };
            let room = renewal.as_ref().and_then(|renewal| renewal.room().ok());
            if let Some(room) = room {
                metrics::gauge!("bus_disk_free_bytes").set(room as f64);
            }
            let due = standing.see(failed, room, Instant::now());
            match &standing.why {
                Some(why) => component.down(format!("the bus cannot store: {why}")),
                None => component.up(),
            }
            if let Some(renewal) = renewal.as_ref().filter(|_| due) {
                match renewal.renew().await {
                    Ok(true) => {
                        warn!(folder = %renewal.folder().display(), "the disk was full and has room; the bus server was started anew");
                        standing.renewed(Instant::now());
                    }
                    Ok(false) => {}
                    Err(error) => error!(%error, "the bus server cannot be started anew"),
                }
            }
        }
    }
}

/// What is known of the disk.
#[derive(Debug)]
struct Standing {
    /// What is wrong with it.
    why: Option<String>,
    /// Writes failed, or may have, since the server was started.
    spoilt: bool,
    /// When that was last seen.
    seen: Instant,
    /// When the server was started anew, and how long it has from then on.
    renewed: Option<Instant>,
    patience: Duration,
}

impl Standing {
    const fn new(now: Instant) -> Self {
        Self { why: None, spoilt: false, seen: now, renewed: None, patience: PATIENCE }
    }

    /// Takes note of a write that failed, and of the room on the disk where that is known. Returns whether the server
    /// should be started anew if it can be.
    fn see(&mut self, failed: Option<String>, room: Option<u64>, now: Instant) -> bool {
        let full = room.is_some_and(|room| room < FULL_BYTES);
        if let Some(why) = failed {
            (self.why, self.spoilt, self.seen) = (Some(why), true, now);
        }
        if full {
            (self.spoilt, self.seen) = (true, now);
            if self.why.is_none() {
                self.why = Some("no space left on device".to_owned());
            }
        }
        if now - self.seen >= QUIET && !(self.spoilt && room.is_some()) {
            (self.why, self.spoilt) = (None, false);
            if self.renewed.is_some_and(|renewed| now - renewed >= PATIENCE_MAX) {
                (self.renewed, self.patience) = (None, PATIENCE);
            }
        }
        self.spoilt && !full && self.renewed.is_none_or(|renewed| now - renewed >= self.patience)
    }

    /// The server was started anew: it stores, until something else is seen.
    fn renewed(&mut self, now: Instant) {
        if self.renewed.is_some_and(|renewed| now - renewed < PATIENCE_MAX) {
            self.patience = (self.patience * 2).min(PATIENCE_MAX);
        }
        (self.why, self.spoilt, self.renewed) = (None, false, Some(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Option<u64> = Some(1 << 30);

    #[test]
    fn a_server_of_our_own_is_started_anew_once_there_is_room() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut standing = Standing::new(began);
        assert!(!standing.see(None, ROOM, at(0)));
        assert!(!standing.see(None, Some(0), at(1_000)), "there is no room for it either");
        assert!(standing.why.is_some());
        assert!(!standing.see(None, Some(0), at(60_000)));
        assert!(standing.see(None, ROOM, at(61_000)), "nobody has to hear of a failed write");
        standing.renewed(at(61_000));
        assert!(!standing.see(None, ROOM, at(62_000)));
        assert_eq!(standing.why, None);
    }

    #[test]
    fn a_disk_that_fails_with_room_on_it_is_tried_more_and_more_seldom() {
        let began = Instant::now();
        let mut standing = Standing::new(began);
        let mut renewals = 0;
        for second in 0..3_600 {
            let now = began + Duration::from_secs(second);
            if standing.see(Some("input/output error".into()), ROOM, now) {
                standing.renewed(now);
                renewals += 1;
            }
        }
        assert!((5..15).contains(&renewals), "{renewals}");
    }

    #[test]
    fn servers_of_others_are_well_when_nothing_fails_any_more() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut standing = Standing::new(began);
        standing.see(Some("no space left on device".into()), None, at(0));
        standing.see(None, None, at(5_000));
        assert!(standing.why.is_some());
        standing.see(None, None, at(6_000));
        assert_eq!(standing.why, None);
    }
}
