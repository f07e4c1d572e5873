//! The files of a small file system in memory, with the room they take.
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};

use crate::block_log::{BLOCK_BYTES, Image};

/// The inode of the top directory.
pub const ROOT: u64 = 1;

/// Directories and files. Cloning shares what the files hold.
#[derive(Debug, Clone)]
pub struct Tree {
    nodes: HashMap<u64, Node>,
    next: u64,
}

/// One of them.
#[derive(Debug, Clone)]
pub enum Node {
    /// Names with their inodes.
    Directory(BTreeMap<OsString, u64>),
    /// Bytes.
    File {
        /// What was written, in blocks.
        content: Image,
        /// Its length.
        size: u64,
    },
}

impl Default for Tree {
    fn default() -> Self {
        let root = (ROOT, Node::Directory(BTreeMap::new()));
        Self {
            nodes: HashMap::from([root]),
            next: ROOT + 1,
        }
    }
}

impl Tree {
    /// A directory or file.
    pub fn get(&self, inode: u64) -> Option<&Node> {
        self.nodes.get(&inode)
    }

    /// The entries of a directory.
    pub fn entries(&self, inode: u64) -> Option<&BTreeMap<OsString, u64>> {
        match self.nodes.get(&inode)? {
            Node::Directory(entries) => Some(entries),
            Node::File { .. } => None,
        }
    }

    /// The same to change them.
    pub fn entries_mut(&mut self, inode: u64) -> Option<&mut BTreeMap<OsString, u64>> {
        match self.nodes.get_mut(&inode)? {
            Node::Directory(entries) => Some(entries),
            Node::File { .. } => None,
        }
    }

    /// A file's bytes and length, to change them.
    pub fn file_mut(&mut self, inode: u64) -> Option<(&mut Image, &mut u64)> {
        match self.nodes.get_mut(&inode)? {
            Node::File { content, size } => Some((content, size)),
            Node::Directory(_) => None,
        }
    }

    /// Puts an empty directory or file into a directory, and answers its inode.
    pub fn insert(&mut self, parent: u64, name: &OsStr, directory: bool) -> Option<u64> {
        let inode = self.next;
        self.entries_mut(parent)?.insert(name.to_owned(), inode);
        self.next += 1;
        let node = if directory {
            Node::Directory(BTreeMap::new())
        } else {
            Node::File {
                content: Image::default(),
                size: 0,
            }
        };
        self.nodes.insert(inode, node);
        Some(inode)
    }

    /// What can still be reached from the top: a removed file lives only until the process that has it open ends.
    pub fn reachable(&self) -> Self {
        let mut nodes = HashMap::new();
        let mut left = vec![ROOT];
        while let Some(inode) = left.pop() {
            let Some(node) = self.nodes.get(&inode) else {
                continue;
            };
            if let Node::Directory(entries) = node {
                left.extend(entries.values());
            }
            nodes.insert(inode, node.clone());
        }
        Self {
            nodes,
            next: self.next,
        }
    }

    /// Bytes that all files take.
    pub fn taken(&self) -> u64 {
        let blocks = self.nodes.values().map(|node| match node {
            Node::File { content, .. } => content.blocks(),
            Node::Directory(_) => 1,
        });
        blocks.sum::<usize>() as u64 * BLOCK_BYTES as u64
    }
}
