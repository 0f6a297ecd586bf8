//! A machine's clock that a test can set, for one process.

use std::fs;
use std::path::{Path, PathBuf};

/// Where Debian and others have the library that stands before the system's clock.
const LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];

/// A clock; the process that is started with [`env`](Self::env) goes by it.
#[derive(Debug)]
pub struct Clock {
    file: PathBuf,
    library: &'static str,
}

impl Clock {
    /// One that is right, kept in a file.
    ///
    /// # Panics
    /// When `libfaketime` is not installed.
    pub fn new(file: &Path) -> Self {
        let library = LIBRARIES.into_iter().find(|library| Path::new(library).exists());
        let clock = Self { file: file.to_path_buf(), library: library.expect("libfaketime; `tools/test-deps.sh`") };
        clock.set(0);
        clock
    }

    /// What a process needs to go by it. Its steady clock stays the system's.
    pub fn env(&self) -> Vec<(String, String)> {
        let file = self.file.display().to_string();
        [
            ("LD_PRELOAD", self.library),
            ("FAKETIME_TIMESTAMP_FILE", file.as_str()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_NO_CACHE", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// Sets it so many seconds before or after the right time.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn set(&self, seconds: i64) {
        // Written aside and moved: half a file would be another time.
        let aside = self.file.with_extension("new");
        fs::write(&aside, format!("{seconds:+}\n")).expect("the clock's file");
        fs::rename(&aside, &self.file).expect("the clock's file");
    }
}
