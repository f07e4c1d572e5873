//! A file system with FUSE whose files are disks: one that logs what is done to it, and others made from images.
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context;
use bytes::Bytes;
use fuser::{
    BackgroundSession, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyWrite, Request,
    WriteFlags,
};

use crate::block_log::{BLOCK_BYTES, Entry, Image};

/// The inode of the disk that logs; disks of images follow.
const LOGGED: u64 = 2;
const TTL: Duration = Duration::from_secs(3600);

/// The disks. Clones are the same disks.
#[derive(Debug, Clone)]
pub struct Disks {
    inner: Arc<Mutex<Inner>>,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Inner {
    images: HashMap<u64, Image>,
    log: Vec<Entry>,
    next: u64,
}

impl Disks {
    /// Disks of a size, the logged one empty.
    pub fn new(bytes: u64) -> Self {
        let images = HashMap::from([(LOGGED, Image::default())]);
        let inner = Inner {
            images,
            log: Vec::new(),
            next: LOGGED + 1,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            bytes,
        }
    }

    /// Mounts the file system; it is unmounted when the answer is dropped.
    pub fn mount(&self, at: &Path) -> anyhow::Result<BackgroundSession> {
        let config = fuser::Config::default();
        fuser::spawn_mount(self.clone(), at, &config).context("mount the disks with FUSE")
    }

    /// The name of the file that is the logged disk.
    pub fn logged() -> String {
        LOGGED.to_string()
    }

    /// Puts an image in, and answers the name of its file.
    pub fn insert(&self, image: Image) -> String {
        let mut inner = self.lock();
        let inode = inner.next;
        inner.next += 1;
        inner.images.insert(inode, image);
        inode.to_string()
    }

    /// Takes an image out.
    pub fn remove(&self, name: &str) {
        let inode = name.parse().unwrap_or_default();
        self.lock().images.remove(&inode);
    }

    /// Notes in the log that a step was acknowledged.
    pub fn acknowledge(&self, writer: usize, step: u64) {
        self.lock().log.push(Entry::Ack { writer, step });
    }

    /// How many entries the log has.
    pub fn log_length(&self) -> usize {
        self.lock().log.len()
    }

    /// Takes the log out.
    pub fn take_log(&self) -> Vec<Entry> {
        std::mem::take(&mut self.lock().log)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attributes(&self, inode: u64) -> Option<FileAttr> {
        let directory = inode == INodeNo::ROOT.0;
        if !directory && !self.lock().images.contains_key(&inode) {
            return None;
        }
        let (kind, perm, size) = match directory {
            true => (FileType::Directory, 0o700, 0),
            false => (FileType::RegularFile, 0o600, self.bytes),
        };
        Some(FileAttr {
            ino: INodeNo(inode),
            size,
            blocks: size / 512,
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
}

impl Filesystem for Disks {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let inode = name.to_str().and_then(|name| name.parse().ok());
        match inode.and_then(|inode| self.attributes(inode)) {
            Some(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode.0) {
            Some(attributes) => reply.attr(&TTL, &attributes),
            None => reply.error(Errno::ENOENT),
        }
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
        let length = u64::from(size).min(self.bytes.saturating_sub(offset)) as usize;
        match self.lock().images.get(&inode.0) {
            Some(image) => reply.data(&image.read(offset, length)),
            None => reply.error(Errno::ENOENT),
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
        let mut inner = self.lock();
        let Some(image) = inner.images.get_mut(&inode.0) else {
            return reply.error(Errno::ENOENT);
        };
        image.write(offset, data);
        if inode.0 == LOGGED {
            inner.log.push(Entry::Write {
                offset,
                data: Bytes::copy_from_slice(data),
            });
        }
        reply.written(data.len() as u32);
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        if inode.0 == LOGGED {
            self.lock().log.push(Entry::Flush);
        }
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // Closing a file promises nothing.
        reply.ok();
    }
}
