//! What the rig needs of the machine: a mount namespace of its own, ext4, loop devices. Needs root.
#![allow(
    clippy::disallowed_methods,
    reason = "the rig is a test; making and mounting ext4 is its tools' work"
)]
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Leaves the mounts of everybody else alone from now on. To be called before threads exist; whatever is mounted afterwards goes
/// away with the process, with its loop devices.
pub fn private_mounts() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace of its own needs root")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("make mounts private")
}

/// Makes an ext4 file system in a file.
pub fn make_ext4(file: &Path) -> anyhow::Result<()> {
    let options = [
        "-q",
        "-F",
        "-b",
        "4096",
        "-E",
        "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
    ];
    run(Command::new("mkfs.ext4").args(options).arg(file))
}

/// A file system mounted through a loop device, until dropped.
#[derive(Debug)]
pub struct LoopMount<'p> {
    at: &'p Path,
}

impl<'p> LoopMount<'p> {
    /// Mounts the file system in a file.
    pub fn new(file: &Path, at: &'p Path) -> anyhow::Result<Self> {
        run(Command::new("mount")
            .args(["-t", "ext4", "-o", "loop"])
            .arg(file)
            .arg(at))?;
        Ok(Self { at })
    }

    /// Unmounts it, which fails when it is still in use.
    pub fn unmount(self) -> anyhow::Result<()> {
        let result = run(Command::new("umount").arg(self.at));
        std::mem::forget(self);
        result
    }
}

impl Drop for LoopMount<'_> {
    fn drop(&mut self) {
        // Reached after an error only, which matters more than what happens here.
        let _ = run(Command::new("umount").arg("-l").arg(self.at));
    }
}

/// A file system in memory of a limited size, until dropped.
#[derive(Debug)]
pub struct Tmpfs<'p> {
    at: &'p Path,
}

impl<'p> Tmpfs<'p> {
    /// Mounts an empty one of a size such as `24m`.
    pub fn new(at: &'p Path, size: &str) -> anyhow::Result<Self> {
        let options = format!("size={size}");
        mount(
            Some("tmpfs"),
            at,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .context("mount a tmpfs")?;
        Ok(Self { at })
    }

    /// Gives it another size.
    pub fn resize(&self, size: &str) -> anyhow::Result<()> {
        let options = format!("size={size}");
        let none: Option<&str> = None;
        mount(
            none,
            self.at,
            none,
            MsFlags::MS_REMOUNT,
            Some(options.as_str()),
        )
        .context("resize a tmpfs")
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        // The mount namespace ends with the process in any case.
        let _ = nix::mount::umount2(self.at, nix::mount::MntFlags::MNT_DETACH);
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .output()
        .with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed: {}", said.trim());
    }
    Ok(())
}
