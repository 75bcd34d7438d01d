//! What a disk keeps when the power goes: a model of it, fed with what `shim.c` wrote down.
//!
//! What was synced is there. Of what was written since, any part may be: each piece of a write
//! between two multiples of 512 bytes is there or is not, by chance, and so is each cut of a file.
//! Names are kept in their order within one directory, up to any point after its last sync. That
//! is less than any file system of today promises.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const SECTOR_BYTES: u64 = 512;

/// One line of what the shim wrote down.
#[derive(Debug, Clone)]
pub enum Record {
    Created {
        inode: u64,
        path: PathBuf,
    },
    Written {
        inode: u64,
        offset: u64,
        data: Arc<[u8]>,
    },
    Cut {
        inode: u64,
        size: u64,
    },
    Synced {
        inode: u64,
    },
    Folder {
        path: PathBuf,
    },
    FolderSynced {
        path: PathBuf,
    },
    Renamed {
        from: PathBuf,
        to: PathBuf,
    },
    Removed {
        path: PathBuf,
    },
    /// Somebody outside heard of this: from whom, and what.
    Told {
        by: String,
        text: String,
    },
}

/// Read what the shim wrote.
pub fn read(journal: &[u8]) -> Vec<Record> {
    let mut rest = journal;
    let mut records = Vec::new();
    while !rest.is_empty() {
        let (head, more) = rest.split_at(40);
        let number =
            |index: usize| u64::from_ne_bytes(head[index * 8..index * 8 + 8].try_into().unwrap());
        let (name, more) = more.split_at(number(3) as usize);
        let (data, more) = more.split_at(number(4) as usize);
        rest = more;
        let name = String::from_utf8(name.to_vec()).unwrap();
        let (inode, offset, path) = (number(1), number(2), PathBuf::from(&name));
        let text = || String::from_utf8(data.to_vec()).unwrap();
        records.push(match number(0) {
            1 => Record::Created { inode, path },
            2 => Record::Written {
                inode,
                offset,
                data: data.into(),
            },
            3 => Record::Cut {
                inode,
                size: offset,
            },
            4 => Record::Synced { inode },
            5 => Record::Folder { path },
            6 => Record::FolderSynced { path },
            7 => Record::Renamed {
                from: path,
                to: text().into(),
            },
            8 => Record::Removed { path },
            9 => Record::Told {
                by: name,
                text: text(),
            },
            kind => panic!("the shim has no record {kind}"),
        });
    }
    records
}

/// A file or a directory that has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    File(usize),
    Folder,
}

/// A change of names that is not on disk yet.
#[derive(Debug, Clone)]
enum Naming {
    Added { path: PathBuf, node: Node },
    Renamed { from: PathBuf, to: PathBuf },
    Removed { path: PathBuf },
}

impl Naming {
    fn is_in(&self, folder: &Path) -> bool {
        match self {
            Naming::Added { path, .. } | Naming::Removed { path } => path.parent() == Some(folder),
            Naming::Renamed { from, to } => {
                from.parent() == Some(folder) || to.parent() == Some(folder)
            }
        }
    }
}

/// A change of a file that is not on disk yet.
#[derive(Debug, Clone)]
enum Change {
    Written { offset: u64, data: Arc<[u8]> },
    Cut { size: u64 },
}

#[derive(Debug, Clone, Default)]
struct Content {
    kept: Vec<u8>,
    changes: Vec<Change>,
}

impl Content {
    fn sync(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            apply(&mut self.kept, &change, &mut |_| true);
        }
    }
}

/// Make a change, or as much of it as chance has it.
fn apply(file: &mut Vec<u8>, change: &Change, keeps: &mut dyn FnMut(u64) -> bool) {
    match change {
        Change::Cut { size } => {
            if keeps(*size) {
                file.resize(*size as usize, 0);
            }
        }
        Change::Written { offset, data } => {
            let (mut from, end) = (*offset, offset + data.len() as u64);
            while from < end {
                let to = ((from / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
                if keeps(from) {
                    if (file.len() as u64) < to {
                        file.resize(to as usize, 0);
                    }
                    let part = &data[(from - offset) as usize..(to - offset) as usize];
                    file[from as usize..to as usize].copy_from_slice(part);
                }
                from = to;
            }
        }
    }
}

/// How much of what was not synced is there after all.
#[derive(Debug, Clone, Copy)]
enum Luck {
    Nothing,
    Everything,
    /// Each piece with this probability.
    Pieces(f64),
    /// This share of the changes of a file, in their order; the next is torn.
    First(f64),
}

/// A disk and its memory.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    names: BTreeMap<PathBuf, Node>,
    contents: Vec<Content>,
    /// Which file an inode is now: its number is given to another one after its end.
    inodes: HashMap<u64, usize>,
    namings: Vec<Naming>,
    /// A disk that says that it has synced, and has not: to see that a test would tell.
    pub lies: bool,
}

impl Disk {
    /// All that is below a directory, synced.
    pub fn load(root: &Path) -> Disk {
        let mut disk = Disk::default();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let found = std::fs::symlink_metadata(&path).unwrap();
                let node = if found.is_dir() {
                    folders.push(path.clone());
                    Node::Folder
                } else {
                    disk.file(found.ino(), std::fs::read(&path).unwrap())
                };
                disk.names.insert(path, node);
            }
        }
        disk
    }

    fn file(&mut self, inode: u64, kept: Vec<u8>) -> Node {
        self.inodes.insert(inode, self.contents.len());
        self.contents.push(Content {
            kept,
            changes: Vec::new(),
        });
        Node::File(self.contents.len() - 1)
    }

    /// Let this happen.
    pub fn happen(&mut self, record: &Record) {
        match record {
            Record::Created { inode, path } => {
                let node = self.file(*inode, Vec::new());
                self.namings.push(Naming::Added {
                    path: path.clone(),
                    node,
                });
            }
            Record::Written {
                inode,
                offset,
                data,
            } => {
                let (offset, data) = (*offset, data.clone());
                self.change(*inode, Change::Written { offset, data });
            }
            Record::Cut { inode, size } => self.change(*inode, Change::Cut { size: *size }),
            Record::Synced { inode } if !self.lies => {
                if let Some(file) = self.inodes.get(inode) {
                    self.contents[*file].sync();
                }
            }
            Record::Folder { path } => {
                let node = Node::Folder;
                self.namings.push(Naming::Added {
                    path: path.clone(),
                    node,
                });
            }
            Record::FolderSynced { path } if !self.lies => {
                let (synced, kept) = std::mem::take(&mut self.namings)
                    .into_iter()
                    .partition(|one| one.is_in(path));
                self.namings = kept;
                let synced: Vec<Naming> = synced;
                synced
                    .iter()
                    .for_each(|naming| name(&mut self.names, naming));
            }
            Record::Renamed { from, to } => {
                let (from, to) = (from.clone(), to.clone());
                self.namings.push(Naming::Renamed { from, to });
            }
            Record::Removed { path } => self.namings.push(Naming::Removed { path: path.clone() }),
            Record::Synced { .. } | Record::FolderSynced { .. } | Record::Told { .. } => {}
        }
    }

    fn change(&mut self, inode: u64, change: Change) {
        let file = self
            .inodes
            .get(&inode)
            .unwrap_or_else(|| panic!("nobody made file {inode}"));
        self.contents[*file].changes.push(change);
    }

    /// The power goes: put what is left to another place. `root` is where it lay.
    pub fn fail(&self, root: &Path, to: &Path, random: &mut StdRng) {
        let mut chance = || match random.random_range(0..5) {
            0 => Luck::Nothing,
            1 => Luck::Everything,
            2 => Luck::Pieces(0.5),
            3 => Luck::Pieces(0.9),
            _ => Luck::First(random.random()),
        };
        let (of_names, of_contents) = (chance(), chance());
        self.leave(root, to, (of_names, of_contents), random);
    }

    /// The same, and nothing of what was not synced is left.
    pub fn fail_at_worst(&self, root: &Path, to: &Path) {
        let mut random = StdRng::seed_from_u64(0);
        self.leave(root, to, (Luck::Nothing, Luck::Nothing), &mut random);
    }

    /// Put names and contents to another place, as much of them as luck has it.
    fn leave(&self, root: &Path, to: &Path, luck: (Luck, Luck), random: &mut StdRng) {
        let (of_names, of_contents) = luck;
        let mut names = self.names.clone();
        // In each directory, up to some point.
        let mut ended: Vec<&Path> = Vec::new();
        for naming in &self.namings {
            let folders: Vec<&Path> = match naming {
                Naming::Added { path, .. } | Naming::Removed { path } => vec![path],
                Naming::Renamed { from, to } => vec![from, to],
            };
            let folders: Vec<&Path> = folders.iter().filter_map(|path| path.parent()).collect();
            let lasts = match of_names {
                Luck::Nothing => false,
                Luck::Everything => true,
                Luck::Pieces(share) | Luck::First(share) => random.random_bool(share),
            };
            if lasts && !folders.iter().any(|folder| ended.contains(folder)) {
                name(&mut names, naming);
            } else {
                ended.extend(folders);
            }
        }
        for (path, node) in &names {
            let place = to.join(path.strip_prefix(root).unwrap());
            // What lies in a directory that has no name has none either.
            if !place.parent().unwrap().is_dir() {
                continue;
            }
            match node {
                Node::Folder => std::fs::create_dir(&place).unwrap(),
                Node::File(file) => {
                    let left = left(&self.contents[*file], of_contents, random);
                    std::fs::write(&place, left).unwrap();
                }
            }
        }
    }
}

fn name(names: &mut BTreeMap<PathBuf, Node>, naming: &Naming) {
    match naming {
        Naming::Added { path, node } => {
            names.insert(path.clone(), *node);
        }
        Naming::Removed { path } => {
            names.remove(path);
        }
        Naming::Renamed { from, to } => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
    }
}

fn left(content: &Content, luck: Luck, random: &mut StdRng) -> Vec<u8> {
    let mut file = content.kept.clone();
    let whole = match luck {
        Luck::Nothing => return file,
        Luck::Everything => content.changes.len(),
        Luck::Pieces(_) => 0,
        Luck::First(share) => (content.changes.len() as f64 * share) as usize,
    };
    for (index, change) in content.changes.iter().enumerate() {
        match luck {
            Luck::Pieces(share) => apply(&mut file, change, &mut |_| random.random_bool(share)),
            _ if index < whole => apply(&mut file, change, &mut |_| true),
            _ if index == whole => apply(&mut file, change, &mut |_| random.random_bool(0.5)),
            _ => {}
        }
    }
    file
}
