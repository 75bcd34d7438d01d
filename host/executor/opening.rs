//! How a guest opens a file of a granted directory: only files and directories, and without blocking.
//!
//! Opening a named pipe blocks until somebody opens its other end, and reading a terminal blocks too. The
//! engine's WASI opens files on threads that cannot be interrupted; some hundred guests that open one pipe
//! would block all of them, and no guest could open a file any more. So this module opens files in its place.
//! On Linux it opens as the engine does, beneath the granted directory, but without blocking, and checks what
//! it has opened. Where the system has no such call, it checks the type first, and the engine opens the file.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorType, ErrorCode, HostDescriptor, OpenFlags, PathFlags,
};

use super::guest::Guest;
use crate::store::LogLevel;

/// The interface, in the version that the engine's own functions are linked by.
const INTERFACE: &str = "wasi:filesystem/types@0.2.12";

/// The function that is replaced.
const OPEN_AT: &str = "[method]descriptor.open-at";

type Arguments = (
    Resource<Descriptor>,
    PathFlags,
    String,
    OpenFlags,
    DescriptorFlags,
);

type Opened = Result<Resource<Descriptor>, ErrorCode>;

/// What became of an attempt to open.
enum Attempt {
    /// It is open, or the system says why not.
    Done(Result<Descriptor, ErrorCode>),
    /// It is neither a file nor a directory.
    Neither,
    /// The system cannot open so.
    Unable,
}

/// Replace the engine's way to open a file, which has been linked before.
pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker
        .instance(INTERFACE)?
        .func_wrap_async(OPEN_AT, |store, arguments: Arguments| {
            Box::new(async move { open_at(store, arguments).await.map(|opened| (opened,)) })
        })?;
    linker.allow_shadowing(false);
    Ok(())
}

async fn open_at(
    mut store: StoreContextMut<'_, Guest>,
    (directory, path_flags, path, open_flags, flags): Arguments,
) -> wasmtime::Result<Opened> {
    let guest = store.data_mut();
    let attempt = match guest.ctx().table.get(&directory)? {
        Descriptor::File(_) => return Ok(Err(ErrorCode::NotDirectory)),
        Descriptor::Dir(directory) => {
            let directory = directory.clone();
            let named = path.clone();
            let opening = move || beneath(&directory, &named, path_flags, open_flags, flags);
            tokio::task::spawn_blocking(opening).await?
        }
    };
    match attempt {
        Attempt::Done(Ok(descriptor)) => Ok(Ok(guest.ctx().table.push(descriptor)?)),
        Attempt::Done(Err(error)) => Ok(Err(error)),
        Attempt::Neither => Ok(Err(refuse(guest, &path))),
        Attempt::Unable => {
            let mut filesystem = guest.filesystem();
            let same = Resource::new_borrow(directory.rep());
            let stat = filesystem.stat_at(same, path_flags, path.clone()).await;
            let found = stat.map(|stat| stat.type_);
            if !matches!(
                found,
                Ok(DescriptorType::RegularFile
                    | DescriptorType::Directory
                    | DescriptorType::SymbolicLink)
                    | Err(_)
            ) {
                return Ok(Err(refuse(guest, &path)));
            }
            let opened = filesystem.open_at(directory, path_flags, path, open_flags, flags);
            match opened.await {
                Ok(descriptor) => Ok(Ok(descriptor)),
                Err(error) => error.downcast().map(Err),
            }
        }
    }
}

fn refuse(guest: &Guest, path: &str) -> ErrorCode {
    let line = format!(
        "{path:?} was not opened: it is neither a file nor a directory, and a handler may open nothing else"
    );
    guest.log.line(LogLevel::Warn, &line);
    ErrorCode::NotPermitted
}

#[cfg(target_os = "linux")]
fn beneath(
    directory: &wasmtime_wasi::filesystem::Dir,
    path: &str,
    path_flags: PathFlags,
    open_flags: OpenFlags,
    flags: DescriptorFlags,
) -> Attempt {
    use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
    use rustix::io::Errno;
    use wasmtime_wasi::filesystem::{Dir, File};

    let (how, mode) = match how(directory, open_flags, flags) {
        Ok(how) => how,
        Err(error) => return Attempt::Done(Err(error)),
    };
    let follow = match path_flags.contains(PathFlags::SYMLINK_FOLLOW) {
        true => OFlags::empty(),
        false => OFlags::NOFOLLOW,
    };
    let open = |how: OFlags, mode: Mode| {
        let how = how | follow | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        // Any rename on the machine while it looks makes it start again.
        let mut tries = 0..4;
        loop {
            match openat2(&*directory.dir, path, how, mode, resolve) {
                Err(Errno::AGAIN) if tries.next().is_some() => {}
                other => return other,
            }
        }
    };
    let kind =
        |file: &rustix::fd::OwnedFd| fstat(file).map(|stat| FileType::from_raw_mode(stat.st_mode));
    // Looked at before it is opened: to open a device or a pipe may do something.
    match open(OFlags::PATH, Mode::empty()).and_then(|file| kind(&file)) {
        Ok(FileType::RegularFile | FileType::Directory | FileType::Symlink) => {}
        Ok(_) => return Attempt::Neither,
        // Some filters of system calls say so of all that they do not know.
        Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => return Attempt::Unable,
        // Creating it may be what is asked for.
        Err(Errno::NOENT) => {}
        Err(error) => return Attempt::Done(Err(code(error))),
    }
    let bits = match how.contains(OFlags::CREATE) {
        true => Mode::from_raw_mode(0o666),
        false => Mode::empty(),
    };
    let opened = match open(how | OFlags::NONBLOCK | OFlags::NOCTTY, bits) {
        Ok(opened) => opened,
        Err(Errno::PERM | Errno::AGAIN) => return Attempt::Unable,
        Err(error) => return Attempt::Done(Err(code(error))),
    };
    let perms = directory.perms;
    match kind(&opened) {
        Ok(FileType::Directory) => {
            let opened = Dir::new(opened.into(), perms, mode, false);
            Attempt::Done(Ok(Descriptor::Dir(opened)))
        }
        Ok(FileType::RegularFile) if open_flags.contains(OpenFlags::DIRECTORY) => {
            Attempt::Done(Err(ErrorCode::NotDirectory))
        }
        Ok(FileType::RegularFile) => {
            let opened = File::new(opened.into(), perms, mode, false);
            Attempt::Done(Ok(Descriptor::File(opened)))
        }
        Ok(_) => Attempt::Neither,
        Err(error) => Attempt::Done(Err(code(error))),
    }
}

/// How a file is opened for these flags, as the engine's own way does it.
#[cfg(target_os = "linux")]
fn how(
    directory: &wasmtime_wasi::filesystem::Dir,
    open_flags: OpenFlags,
    flags: DescriptorFlags,
) -> Result<(rustix::fs::OFlags, wasmtime_wasi::OpenMode), ErrorCode> {
    use rustix::fs::OFlags;
    use wasmtime_wasi::OpenMode;

    let synced = DescriptorFlags::FILE_INTEGRITY_SYNC
        | DescriptorFlags::DATA_INTEGRITY_SYNC
        | DescriptorFlags::REQUESTED_WRITE_SYNC;
    if flags.intersects(synced) {
        return Err(ErrorCode::Unsupported);
    }
    let makes = OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::TRUNCATE;
    if open_flags.contains(OpenFlags::DIRECTORY) && open_flags.intersects(makes) {
        return Err(ErrorCode::Invalid);
    }
    let creates = open_flags.contains(OpenFlags::CREATE);
    let truncates = open_flags.contains(OpenFlags::TRUNCATE);
    let writes = flags.contains(DescriptorFlags::WRITE) || creates || truncates;
    let reads = flags.contains(DescriptorFlags::READ) || !flags.contains(DescriptorFlags::WRITE);
    if writes && directory.perms.write_not_permitted() {
        return Err(ErrorCode::NotPermitted);
    }
    let mut mode = OpenMode::empty();
    mode.set(OpenMode::READ, reads);
    mode.set(OpenMode::WRITE, writes);
    let mut how = match (reads, writes) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        _ => OFlags::RDONLY,
    };
    if creates {
        how |= OFlags::CREATE;
        if open_flags.contains(OpenFlags::EXCLUSIVE) {
            how |= OFlags::EXCL;
        }
    }
    // What is made anew is empty.
    if truncates && !how.contains(OFlags::EXCL) {
        how |= OFlags::TRUNC;
    }
    Ok((how, mode))
}

#[cfg(target_os = "linux")]
fn code(error: rustix::io::Errno) -> ErrorCode {
    match error {
        // A way out of the granted directory.
        rustix::io::Errno::XDEV => ErrorCode::NotPermitted,
        // A pipe that nobody reads, or a socket.
        rustix::io::Errno::NXIO => ErrorCode::NotPermitted,
        other => ErrorCode::from(std::io::Error::from(other)),
    }
}

#[cfg(not(target_os = "linux"))]
fn beneath(
    _: &wasmtime_wasi::filesystem::Dir,
    _: &str,
    _: PathFlags,
    _: OpenFlags,
    _: DescriptorFlags,
) -> Attempt {
    Attempt::Unable
}
