//! How much memory the system gives at a time.
//!
//! With huge pages the system hands out two megabytes wherever one byte is touched: that makes large tables quicker and a
//! small process three times its size. So a process begins without, and gets them once it has grown.

use std::time::Duration;

use crate::metrics::Process;

/// From this size on a process is large: a hundred thousand open conversations, or an adapter under load.
const LARGE: u64 = 128 << 20;

/// How often a small process is measured.
const LOOK: Duration = Duration::from_secs(1);

/// Small pages from now on, for this process and those that it starts. Call it before threads are started.
///
/// Where the system knows no such switch, nothing happens.
pub fn small_pages() {
    switch(false);
}

/// Huge pages from now on, as far as the system gives them.
pub fn huge_pages() {
    switch(true);
}

/// Gives the process huge pages once it is large; ends then.
pub async fn grow() {
    grow_from(LARGE).await;
}

async fn grow_from(large: u64) {
    // Where the size cannot be read, the process is better off with what the system does by itself.
    while Process::read().resident_bytes.is_some_and(|size| size < large) {
        tokio::time::sleep(LOOK).await;
    }
    huge_pages();
}

#[cfg(target_os = "linux")]
fn switch(wanted: bool) {
    if let Err(error) = nix::sys::prctl::set_thp_disable(!wanted) {
        tracing::debug!(%error, wanted, "huge pages cannot be switched");
    }
}

#[cfg(not(target_os = "linux"))]
fn switch(_wanted: bool) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn huge_pages_come_with_size() {
        small_pages();
        assert!(nix::sys::prctl::get_thp_disable().unwrap());
        let small = tokio::time::timeout(LOOK * 100, grow_from(u64::MAX)).await;
        assert!(small.is_err(), "it went on looking");
        assert!(nix::sys::prctl::get_thp_disable().unwrap());
        grow_from(1).await;
        assert!(!nix::sys::prctl::get_thp_disable().unwrap());
    }
}
