//! A file system with FUSE that fails when it is told to: at one operation of many, and in one of several ways.
use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use fuser::{
    BackgroundSession, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};

use crate::block_log::BLOCK_BYTES;
use crate::tree::{Node, Tree};

/// Nothing is remembered by the kernel.
const TTL: Duration = Duration::ZERO;
/// Blocks of the whole file system.
const BLOCKS: u64 = 1 << 18;

/// How an operation fails, and those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens any more: the process is dead for the disk.
    Kill,
    /// No block can be taken any more.
    Full,
    /// Nothing can be written any more.
    Broken,
    /// This one operation fails, those after it do not.
    Once,
}

/// The file system. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Files(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    tree: Tree,
    /// Operations that change something, so far.
    operations: u64,
    plan: Option<(u64, Fault)>,
}

/// What becomes of an operation.
enum Verdict {
    Done,
    /// A part of it happens, and it is answered with an error.
    Half(Errno),
    Refused(Errno),
}

impl Files {
    /// Files that fail from some operation on.
    pub fn new(tree: Tree, plan: Option<(u64, Fault)>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            tree,
            operations: 0,
            plan,
        })))
    }

    /// Mounts them; they are unmounted when the answer is dropped.
    pub fn mount(&self, at: &Path) -> anyhow::Result<BackgroundSession> {
        let config = fuser::Config::default();
        fuser::spawn_mount(self.clone(), at, &config).context("mount files with FUSE")
    }

    /// How many operations changed something.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Whether an operation has failed.
    pub fn has_failed(&self) -> bool {
        let inner = self.lock();
        matches!(inner.plan, Some((at, _)) if inner.operations > at)
    }

    /// Nothing fails from now on.
    pub fn heal(&self) {
        self.lock().plan = None;
    }

    /// The files as they are, for another file system.
    pub fn tree(&self) -> Tree {
        self.lock().tree.reachable()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn step(&mut self, takes_room: bool) -> Verdict {
        let number = self.operations;
        self.operations += 1;
        match self.plan {
            Some((at, fault)) if number >= at => match fault {
                Fault::Full if !takes_room => Verdict::Done,
                Fault::Full if number == at => Verdict::Half(Errno::ENOSPC),
                Fault::Full => Verdict::Refused(Errno::ENOSPC),
                Fault::Kill | Fault::Broken if number > at => Verdict::Refused(Errno::EIO),
                Fault::Once if number > at => Verdict::Done,
                _ => Verdict::Half(Errno::EIO),
            },
            _ => Verdict::Done,
        }
    }

    /// For operations that happen as a whole or not at all.
    fn whole(&mut self, takes_room: bool) -> Result<(), Errno> {
        match self.step(takes_room) {
            Verdict::Done => Ok(()),
            Verdict::Half(error) | Verdict::Refused(error) => Err(error),
        }
    }

    fn is_full(&self) -> bool {
        matches!(self.plan, Some((at, Fault::Full)) if self.operations > at)
    }

    fn find(&self, parent: u64, name: &OsStr) -> Result<u64, Errno> {
        let entries = self.tree.entries(parent).ok_or(Errno::ENOTDIR)?;
        entries.get(name).copied().ok_or(Errno::ENOENT)
    }

    fn attributes(&self, inode: u64) -> Result<FileAttr, Errno> {
        let (kind, perm, size, blocks) = match self.tree.get(inode).ok_or(Errno::ENOENT)? {
            Node::Directory(_) => (FileType::Directory, 0o700, 0, 1),
            Node::File { content, size } => (FileType::RegularFile, 0o600, *size, content.blocks()),
        };
        Ok(FileAttr {
            ino: INodeNo(inode),
            size,
            blocks: (blocks * BLOCK_BYTES / 512) as u64,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: BLOCK_BYTES as u32,
            flags: 0,
        })
    }

    fn make(&mut self, parent: u64, name: &OsStr, directory: bool) -> Result<FileAttr, Errno> {
        self.whole(true)?;
        let made = self.tree.insert(parent, name, directory);
        self.attributes(made.ok_or(Errno::ENOTDIR)?)
    }

    fn remove(&mut self, parent: u64, name: &OsStr, directory: bool) -> Result<(), Errno> {
        let inode = self.find(parent, name)?;
        match self.tree.entries(inode) {
            Some(_) if !directory => return Err(Errno::EISDIR),
            Some(entries) if !entries.is_empty() => return Err(Errno::ENOTEMPTY),
            None if directory => return Err(Errno::ENOTDIR),
            _ => {}
        }
        self.whole(false)?;
        self.tree
            .entries_mut(parent)
            .map(|entries| entries.remove(name));
        Ok(())
    }

    fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) -> Result<(), Errno> {
        let inode = self.find(from.0, from.1)?;
        self.whole(false)?;
        self.tree
            .entries_mut(from.0)
            .map(|entries| entries.remove(from.1));
        let entries = self.tree.entries_mut(to.0).ok_or(Errno::ENOTDIR)?;
        entries.insert(to.1.to_owned(), inode);
        Ok(())
    }

    fn resize(&mut self, inode: u64, length: u64) -> Result<(), Errno> {
        self.whole(false)?;
        let (content, size) = self.tree.file_mut(inode).ok_or(Errno::EISDIR)?;
        content.truncate(length);
        *size = length;
        Ok(())
    }

    fn write(&mut self, inode: u64, offset: u64, data: &[u8]) -> Result<u32, Errno> {
        let (content, _) = self.tree.file_mut(inode).ok_or(Errno::EISDIR)?;
        let takes_room = !content.has(offset, data.len());
        let (part, answer) = match self.step(takes_room) {
            Verdict::Done => (data, Ok(data.len() as u32)),
            Verdict::Half(error) => (&data[..data.len() / 2], Err(error)),
            Verdict::Refused(error) => return Err(error),
        };
        let (content, size) = self.tree.file_mut(inode).ok_or(Errno::EISDIR)?;
        content.write(offset, part);
        if !part.is_empty() {
            *size = (*size).max(offset + part.len() as u64);
        }
        answer
    }

    fn allocate(&mut self, inode: u64, offset: u64, length: u64) -> Result<(), Errno> {
        self.whole(true)?;
        let (content, size) = self.tree.file_mut(inode).ok_or(Errno::EISDIR)?;
        content.allocate(offset, length as usize);
        *size = (*size).max(offset + length);
        Ok(())
    }

    fn read(&self, inode: u64, offset: u64, length: usize) -> Result<Vec<u8>, Errno> {
        match self.tree.get(inode) {
            Some(Node::File { content, size }) => {
                let length = length.min(size.saturating_sub(offset) as usize);
                Ok(content.read(offset, length))
            }
            _ => Err(Errno::EISDIR),
        }
    }
}

fn empty(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn entry(result: Result<FileAttr, Errno>, reply: ReplyEntry) {
    match result {
        Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Files {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let inner = self.lock();
        let found = inner.find(parent.0, name);
        entry(found.and_then(|inode| inner.attributes(inode)), reply);
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.lock().attributes(inode.0) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut inner = self.lock();
        let resized = size.map_or(Ok(()), |size| inner.resize(inode.0, size));
        match resized.and_then(|()| inner.attributes(inode.0)) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _: &Request, at: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        entry(self.lock().make(at.0, name, true), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.lock().remove(parent.0, name, false), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.lock().remove(parent.0, name, true), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to: INodeNo,
        new: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        empty(self.lock().rename((parent.0, name), (to.0, new)), reply);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        match self.lock().make(parent.0, name, false) {
            Ok(made) => reply.created(
                &TTL,
                &made,
                Generation(0),
                FileHandle(0),
                FopenFlags::FOPEN_DIRECT_IO,
            ),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.lock().read(inode.0, offset, size as usize) {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.lock().write(inode.0, offset, data) {
            Ok(written) => reply.written(written),
            Err(error) => reply.error(error),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(self.lock().whole(false), reply);
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(self.lock().whole(false), reply);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fallocate(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        empty(self.lock().allocate(inode.0, offset, length), reply);
    }

    fn readdir(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let inner = self.lock();
        let Some(entries) = inner.tree.entries(inode.0) else {
            return reply.error(Errno::ENOTDIR);
        };
        for (number, (name, &child)) in (1..).zip(entries).skip(offset as usize) {
            let kind = match inner.tree.entries(child) {
                Some(_) => FileType::Directory,
                None => FileType::RegularFile,
            };
            if reply.add(INodeNo(child), number, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let inner = self.lock();
        let taken = inner.tree.reachable().taken() / BLOCK_BYTES as u64;
        let free = if inner.is_full() {
            0
        } else {
            BLOCKS.saturating_sub(taken)
        };
        let block = BLOCK_BYTES as u32;
        reply.statfs(BLOCKS, free, free, 1 << 20, 1 << 19, block, 255, block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::ROOT;

    #[test]
    fn an_operation_fails_by_half_and_those_after_it_as_told() {
        let name = OsStr::new("f");
        for (fault, second, overwrite) in [
            (Fault::Kill, false, false),
            (Fault::Full, false, true),
            (Fault::Broken, false, false),
            (Fault::Once, true, true),
        ] {
            let files = Files::new(Tree::default(), Some((2, fault)));
            let mut inner = files.lock();
            let file = inner.make(ROOT, name, false).unwrap().ino.0;
            inner.write(file, 0, &[1; BLOCK_BYTES]).unwrap();
            let place = BLOCK_BYTES as u64;
            inner.write(file, place, &[2; BLOCK_BYTES]).unwrap_err();
            assert_eq!(inner.read(file, place, 9000).unwrap(), [2; BLOCK_BYTES / 2]);
            let next = inner.write(file, 2 * place, &[3; BLOCK_BYTES]);
            assert_eq!(next.is_ok(), second, "{fault:?}");
            assert_eq!(
                inner.write(file, 0, &[4; 8]).is_ok(),
                overwrite,
                "{fault:?}"
            );
            assert_eq!(inner.is_full(), fault == Fault::Full);
            drop(inner);
            files.heal();
            files.lock().remove(ROOT, name, false).unwrap();
            assert_eq!(files.tree().taken(), BLOCK_BYTES as u64);
        }
    }
}
