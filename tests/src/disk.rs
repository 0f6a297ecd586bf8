//! A small disk that a test can fill.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory, mounted on a folder. Unmounted when it is dropped.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Mounts one of so many MiB on a folder. `None` when that is not allowed: mostly only root may mount, and in some
    /// containers not even root.
    ///
    /// # Panics
    /// Without a folder, or `mount`.
    pub fn on(folder: &Path, mib: u32) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("not run: only root can mount a small disk to fill");
            return None;
        }
        fs::create_dir_all(folder).expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=0700"), "tmpfs"])
            .arg(folder)
            .status()
            .expect("mount is there");
        if !mounted.success() {
            println!("not run: root may not mount here either ({mounted})");
            return None;
        }
        Some(Self { folder: folder.to_path_buf() })
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }

    /// Takes all room that is left; again, what became free since.
    ///
    /// # Panics
    /// When that fails for another reason than want of room.
    pub fn fill(&self) {
        let mut file: File = OpenOptions::new().create(true).append(true).open(self.ballast()).expect("a file");
        let piece = vec![0_u8; 64 * 1024];
        loop {
            match file.write_all(&piece) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return,
                Err(error) => panic!("filling {}: {error}", self.folder.display()),
            }
        }
    }

    /// Gives the room back.
    ///
    /// # Panics
    /// When it was not filled.
    pub fn clear(&self) {
        fs::remove_file(self.ballast()).expect("it is filled");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whoever still writes there is about to end.
        let _ = Command::new("umount").arg("--lazy").arg(&self.folder).status();
    }
}
