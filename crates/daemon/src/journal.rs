//! `throughline journal`: the journal as a file, to try policies on.

use std::io::BufWriter;
use std::path::Path;

use bus::{Bus, permissions, topology};
use contract::journal::Record;
use contract::{Encoding, subject};

use crate::Failure;
use crate::output::say;
use crate::run::options;
use crate::settings::Loaded;

/// Largest record that is read.
const RECORD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Writes the records of a shard that are still in the stream to a file, one a line.
///
/// Read with the router's own credential: an operator's may not read the journal.
pub(crate) async fn export(loaded: Loaded, to: &Path, shard: u16) -> Result<(), Failure> {
    let bus = Bus::connect(options(&loaded, permissions::ROUTER, "export")?).await?;
    let (stream, log) = (topology::journal_stream(shard), subject::journal(shard, subject::Journal::Log));
    let Some(newest) = bus.last(&stream, &log).await? else {
        return Err(Failure::Other(format!("the journal of shard {shard} is empty")));
    };
    let file = std::fs::File::create(to).map_err(|error| Failure::Other(format!("{}: {error}", to.display())))?;
    let mut file = BufWriter::new(file);
    let mut reader = bus.read(&stream, 0, Some(&log)).await?;
    let mut written = 0;
    loop {
        let stored = reader.next().await?;
        let record: Record = Encoding::MsgPack.decode(&stored.payload, RECORD_BYTES_MAX)?;
        written += simulator::write_journal(&mut file, [&record])?;
        if stored.seq >= newest.seq {
            break;
        }
    }
    say(&format!("{written} records of shard {shard} in {}", to.display()));
    Ok(())
}
