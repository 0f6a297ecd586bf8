//! Which routers there are and which shards each leads, in the bucket `tl-members`; and which shard goes to whom, so that
//! each leads about as many. Decides who tries; the epoch in the journal decides who leads. Also what all of them
//! understand of a journal, while an older version runs beside a newer one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bus::{Bus, Kv, topology};
use contract::journal::LEVEL;
use contract::token;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// How often a router says that it is there.
pub(crate) const BEAT: Duration = Duration::from_secs(1);
/// How long it counts as there after it last said so; whole seconds, since the server keeps them.
const LIFE: Duration = Duration::from_secs(4);
/// How long the routers must have been the same before a shard moves: whoever restarts gets its own back first.
const SETTLED: Duration = Duration::from_secs(3);
/// What the keys of routers begin with.
const KEY: &str = "router";

/// The shards of each router, by its name.
pub(crate) type Members = BTreeMap<String, Vec<u16>>;

#[derive(Debug, Serialize, Deserialize)]
struct Said {
    instance: String,
    led: Vec<u16>,
    /// What it understands of a journal ([`LEVEL`]); of those that do not say, nothing that is new.
    #[serde(default)]
    level: u32,
}

/// What all routers that are there understand of a journal ([`LEVEL`]); 0 until that is known. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Common(Arc<AtomicU32>);

impl Common {
    /// Whether all understand what is new at a level.
    pub(crate) fn understand(&self, level: u32) -> bool {
        self.0.load(Ordering::Relaxed) >= level
    }

    fn set(&self, level: u32) {
        let before = self.0.swap(level, Ordering::Relaxed);
        if before != level {
            // Not named "level": a line of JSON has one of its own.
            tracing::info!(common = level, ours = LEVEL, "what all routers understand of the journal");
        }
    }
}

/// The routers as one of them sees them.
pub(crate) struct Membership {
    bus: Bus,
    instance: String,
    bucket: Option<Kv>,
    members: Members,
    /// Those among them that understand all that we may write.
    equals: Members,
    common: Common,
    since: Instant,
}

impl Membership {
    pub(crate) fn new(bus: Bus, instance: String) -> Self {
        let (members, equals, common) = (Members::new(), Members::new(), Common::default());
        Self { bus, instance, bucket: None, members, equals, common, since: Instant::now() }
    }

    /// What all routers understand, as this one sees it.
    pub(crate) fn common(&self) -> Common {
        self.common.clone()
    }

    fn key(&self) -> String {
        format!("{KEY}.{}", token::encode(&self.instance))
    }

    /// Says which shards are led here, and looks who else is there.
    ///
    /// # Errors
    /// When the bus does not answer; then nothing is known.
    pub(crate) async fn beat(&mut self, led: Vec<u16>) -> Result<(), bus::Error> {
        let bucket = self.bucket().await?;
        let said = Said { instance: self.instance.clone(), led, level: LEVEL };
        let value = serde_json::to_vec(&said).unwrap_or_default();
        bucket.put_for(&self.key(), value.into(), LIFE).await?;
        let entries = bucket.entries_below(KEY).await?;
        let read = entries.iter().filter_map(|entry| serde_json::from_slice::<Said>(&entry.value).ok());
        let read: Vec<Said> = read.collect();
        self.common.set(read.iter().map(|said| said.level).min().unwrap_or_default());
        self.equals = equals(&read);
        let members: Members = read.into_iter().map(|said| (said.instance, said.led)).collect();
        if !members.keys().eq(self.members.keys()) {
            self.since = Instant::now();
        }
        self.members = members;
        Ok(())
    }

    async fn bucket(&mut self) -> Result<Kv, bus::Error> {
        if self.bucket.is_none() {
            self.bucket = Some(self.bus.bucket(topology::MEMBERS).await?);
        }
        self.bucket.clone().ok_or_else(|| bus::Error::config("no bucket of members"))
    }

    /// Says that nothing more is to come from here.
    pub(crate) async fn leave(&mut self) {
        let left = async {
            let key = self.key();
            self.bucket().await?.delete(&key).await
        };
        if let Err(error) = left.await {
            tracing::debug!(%error, "the membership lapses by itself");
        }
    }

    /// A shard of ours that another router should lead, and which.
    pub(crate) fn next_move(&self) -> Option<(u16, String)> {
        if self.since.elapsed() < SETTLED {
            return None;
        }
        next_move(&self.instance, &self.equals)
    }

    /// Who gets a shard when we stop.
    pub(crate) fn heir(&self, shard: u16) -> Option<String> {
        heir(&self.instance, &self.equals, shard)
    }
}

/// Those who can lead what we may have written.
fn equals(said: &[Said]) -> Members {
    said.iter().filter(|said| said.level >= LEVEL).map(|said| (said.instance.clone(), said.led.clone())).collect()
}

/// The router with most shards gives one to the router with fewest, as long as that makes them more alike. Of several
/// the names decide, so that all see it the same way.
fn next_move(me: &str, members: &Members) -> Option<(u16, String)> {
    let most = members.iter().max_by_key(|(name, led)| (led.len(), *name))?;
    let (least, has) = members.iter().min_by_key(|(name, led)| (led.len(), *name))?;
    if most.0 != me || most.1.len() < has.len() + 2 {
        return None;
    }
    Some((*most.1.iter().max()?, least.clone()))
}

fn heir(me: &str, members: &Members, shard: u16) -> Option<String> {
    let mut others: Vec<(usize, &String)> =
        members.iter().filter(|(name, _)| *name != me).map(|(name, led)| (led.len(), name)).collect();
    others.sort_unstable();
    let at = usize::from(shard).checked_rem(others.len())?;
    others.get(at).map(|(_, name)| (*name).clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(of: &[(&str, &[u16])]) -> Members {
        of.iter().map(|(name, led)| ((*name).to_owned(), led.to_vec())).collect()
    }

    #[test]
    fn shards_spread_evenly_one_at_a_time_and_then_stay() {
        for count in 1..=5_u16 {
            let names: Vec<String> = (0..count).map(|n| format!("r{n}")).collect();
            let mut now = members(&[]);
            for (n, name) in names.iter().enumerate() {
                now.insert(name.clone(), if n == 0 { (0..8).collect() } else { vec![] });
            }
            let mut moves = 0;
            while let Some((from, (shard, to))) =
                names.iter().find_map(|name| next_move(name, &now).map(|to| (name.clone(), to)))
            {
                assert_eq!(names.iter().filter(|name| next_move(name, &now).is_some()).count(), 1, "one at a time");
                now.get_mut(&from).unwrap().retain(|led| *led != shard);
                now.get_mut(&to).unwrap().push(shard);
                moves += 1;
                assert!(moves <= 8, "they wander: {now:?}");
            }
            let sizes: Vec<usize> = now.values().map(Vec::len).collect();
            assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{sizes:?}");
        }
    }

    #[test]
    fn an_older_router_is_left_nothing_that_it_may_not_understand() {
        let said = |json: &str| serde_json::from_str::<Said>(json).unwrap();
        let old = said(r#"{"instance":"old","led":[]}"#);
        let new = |name: &str| Said { instance: name.to_owned(), led: vec![], level: LEVEL };
        let me = Said { led: vec![0, 1, 2, 3], ..new("me") };
        let beside = equals(&[me, old]);
        assert_eq!((next_move("me", &beside), heir("me", &beside, 0)), (None, None));
        let me = Said { led: vec![0, 1, 2, 3], ..new("me") };
        let beside = equals(&[me, new("other")]);
        assert_eq!(next_move("me", &beside), Some((3, "other".to_owned())));
        assert_eq!(heir("me", &beside, 0), Some("other".to_owned()));
    }

    #[test]
    fn what_is_new_is_written_once_all_are_known_to_understand_it() {
        let common = Common::default();
        assert!(!common.understand(1));
        common.set(1);
        assert!(common.understand(1) && !common.understand(2));
        common.set(0);
        assert!(!common.understand(1));
    }

    #[test]
    fn whoever_stops_leaves_its_shards_to_all_others() {
        let now = members(&[("a", &[0, 1]), ("b", &[2, 3]), ("c", &[4])]);
        assert_eq!((0..4).map(|shard| heir("a", &now, shard).unwrap()).collect::<Vec<_>>(), ["c", "b", "c", "b"]);
        assert_eq!(heir("a", &members(&[("a", &[0])]), 0), None);
    }
}
