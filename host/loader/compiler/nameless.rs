//! Files without a name: no other process can open such a file, and once it is sealed nobody can change it.

use std::fs::File;
use std::io::{Read, Result, Seek, Write};
use std::path::PathBuf;

/// A file without a name, in memory where the system has such files.
pub struct Nameless {
    file: File,
    /// Whether it is in memory, so that it can be sealed.
    in_memory: bool,
}

impl Nameless {
    /// An empty one.
    pub fn new() -> Result<Nameless> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{MemfdFlags, memfd_create};
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            if let Ok(file) = memfd_create("fishway-code", flags) {
                return Ok(Nameless {
                    file: File::from(file),
                    in_memory: true,
                });
            }
        }
        let number = rand::random::<u64>();
        let name = format!(".fishway-code-{}-{number:x}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        let file = options.open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Nameless {
            file,
            in_memory: false,
        })
    }

    /// For a child to write to.
    pub fn for_child(&self) -> Result<File> {
        self.file.try_clone()
    }

    /// Write to its end.
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes)
    }

    /// How many bytes it has.
    pub fn length(&self) -> Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// All that it has.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.length()?).unwrap_or(0));
        let mut file = &self.file;
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Give what it has to somebody, part by part.
    pub fn parts(&self, mut give: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut file = &self.file;
        file.rewind()?;
        let mut part = vec![0; 256 << 10];
        loop {
            match file.read(&mut part)? {
                0 => return Ok(()),
                read => give(&part[..read])?,
            }
        }
    }

    /// Let nobody change it any more, not even this process or a child that still has it. The answer is a path by which
    /// this process can open it; none where it cannot be sealed, or has no such path.
    pub fn seal(&self) -> Option<PathBuf> {
        #[cfg(target_os = "linux")]
        if self.in_memory {
            use rustix::fd::AsRawFd;
            use rustix::fs::{SealFlags, fcntl_add_seals};
            let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
            fcntl_add_seals(&self.file, seals).ok()?;
            let path = PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
            return path.exists().then_some(path);
        }
        let _ = self.in_memory;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_read_and_never_written_again() {
        let mut code = Nameless::new().unwrap();
        code.write_all(b"code").unwrap();
        let path = code.seal().unwrap();
        assert!(code.write_all(b"more").is_err());
        assert!(
            File::options()
                .write(true)
                .open(&path)
                .and_then(|mut file| file.write_all(b"x"))
                .is_err()
        );
        assert_eq!(std::fs::read(path).unwrap(), b"code");
        assert_eq!(code.bytes().unwrap(), b"code");
        assert_eq!(code.length().unwrap(), 4);
    }
}
