//! A journal as a file: one [`Record`] as JSON a line, in the order of the stream. `grep` and `jq` read it.

use std::io::{BufRead, Write};

use contract::journal::{Behind, Entry, Record, VERSION};
use contract::{Encoding, SmolStr};

/// Largest record that is read, in bytes.
const RECORD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Writes records to a file.
///
/// # Errors
/// What the file says.
pub fn write_journal<'a>(mut to: impl Write, records: impl IntoIterator<Item = &'a Record>) -> std::io::Result<u64> {
    let mut written = 0;
    for record in records {
        let line = Encoding::Json.encode(record).map_err(std::io::Error::other)?;
        to.write_all(&line)?;
        to.write_all(b"\n")?;
        written += 1;
    }
    to.flush()?;
    Ok(written)
}

/// Reads a file of records.
///
/// # Errors
/// What is wrong with it, with the line.
pub fn read_journal(from: impl BufRead) -> Result<Vec<Record>, String> {
    let mut records = Vec::new();
    for (number, line) in from.lines().enumerate() {
        let line = line.map_err(|error| error.to_string())?;
        if line.trim().is_empty() {
            continue;
        }
        let record = Encoding::Json.decode::<Record>(line.as_bytes(), RECORD_BYTES_MAX);
        let record = record.map_err(|error| format!("line {}: {error}", number + 1))?;
        if record.v != VERSION {
            return Err(format!("line {}: journal version {} is not known", number + 1, record.v));
        }
        records.push(record);
    }
    Ok(records)
}

/// Entries as a router with batches of one would have written them.
#[must_use]
pub fn records(entries: Vec<Entry>) -> Vec<Record> {
    let record = |(n, entry)| Record {
        v: VERSION,
        id: SmolStr::from(format!("r{n}")),
        epoch: 1,
        cursor: n,
        behind: Behind::default(),
        entries: vec![entry],
    };
    (1..).zip(entries).map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_reads_back_as_it_was_written() {
        let run = crate::Seeds::new(crate::Scenario::named("chaos").unwrap()).unwrap().run(3);
        let records = records(run.journal);
        let mut file = Vec::new();
        let written = write_journal(&mut file, &records).unwrap();
        assert_eq!(usize::try_from(written).unwrap(), records.len());
        assert_eq!(read_journal(file.as_slice()).unwrap(), records);
        assert!(read_journal(&b"{\"v\":1}\n"[..]).unwrap_err().starts_with("line 1: "));
    }
}
