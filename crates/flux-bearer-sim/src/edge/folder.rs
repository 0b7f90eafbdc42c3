//! A temporary folder that goes with the process.

use std::io;
use std::path::{Path, PathBuf};

/// Folders of one process id that may lie about from processes that were killed.
const ATTEMPTS: u32 = 1000;

/// A new folder below the system's temporary one, removed with all it holds when dropped. It holds nothing secret.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes a folder that nobody had before, so that nobody else can have prepared what is in it.
    pub fn create() -> io::Result<Self> {
        let process = std::process::id();
        for attempt in 0..ATTEMPTS {
            let path = std::env::temp_dir().join(format!("flux-bearer-sim-{process}-{attempt}"));
            match std::fs::create_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| Self { path }),
            }
        }
        Err(io::Error::from(io::ErrorKind::AlreadyExists))
    }

    /// Writes a file of this name and says where it is.
    pub fn write(&self, name: &str, content: &str) -> io::Result<PathBuf> {
        let file = self.path.join(name);
        std::fs::write(&file, content)?;
        Ok(file)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(folder = %self.path.display(), %error, "can't remove the temporary folder");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_its_files() {
        let folder = Folder::create().unwrap();
        let file = folder.write("hosts", "127.0.0.1 localhost\n").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "127.0.0.1 localhost\n");
        drop(folder);
        // The folder's own name may already be another test's.
        assert!(!file.exists());
    }

    #[test]
    fn two_folders_are_two() {
        let (one, other) = (Folder::create().unwrap(), Folder::create().unwrap());
        assert_ne!(one.path(), other.path());
    }
}
