//! One inotify instance for all followers: the kernel grants only a few to a user.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::sync::watch;

/// Wakes whoever follows a log in a directory.
#[derive(Debug)]
pub(super) struct Subscription {
    hub: Arc<Hub>,
    watch: i32,
    changed: watch::Receiver<()>,
}

#[derive(Debug)]
struct Hub {
    inotify: OwnedFd,
    watches: Mutex<HashMap<i32, Watched>>,
}

#[derive(Debug)]
struct Watched {
    changed: watch::Sender<()>,
    subscribers: usize,
}

impl Subscription {
    /// Begins to watch. Changes from now on are not missed.
    ///
    /// # Errors
    /// The directory is gone, or the limits of inotify are reached.
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        let hub = hub()?;
        // The lock keeps another subscriber's end from removing the watch in between.
        let mut watches = hub.watches.lock();
        let flags = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::ONLYDIR;
        let watch = inotify::add_watch(&hub.inotify, dir, flags)?;
        let watched = watches.entry(watch).or_insert_with(|| Watched {
            changed: watch::Sender::new(()),
            subscribers: 0,
        });
        watched.subscribers += 1;
        let changed = watched.changed.subscribe();
        drop(watches);
        Ok(Self {
            hub,
            watch,
            changed,
        })
    }

    /// Waits for a change since the last call; returns at once if there was one.
    pub(super) async fn changed(&mut self) {
        if self.changed.changed().await.is_err() {
            // The directory is gone; nothing will ever change again, and the caller's other event ends the wait.
            std::future::pending().await
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut watches = self.hub.watches.lock();
        let Some(watched) = watches.get_mut(&self.watch) else {
            return;
        };
        watched.subscribers -= 1;
        if watched.subscribers == 0 {
            watches.remove(&self.watch);
            // Fails only if the directory is gone, and the watch with it.
            let _gone = inotify::remove_watch(&self.hub.inotify, self.watch);
        }
    }
}

/// The instance of this process; its thread waits in the kernel and costs nothing while nothing happens.
fn hub() -> io::Result<Arc<Hub>> {
    static HUB: OnceLock<Arc<Hub>> = OnceLock::new();
    static MAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MAKING.lock();
    if let Some(hub) = HUB.get() {
        return Ok(Arc::clone(hub));
    }
    let inotify = inotify::init(CreateFlags::CLOEXEC)?;
    let hub = Arc::new(Hub {
        inotify,
        watches: Mutex::new(HashMap::new()),
    });
    let thread = Arc::clone(&hub);
    std::thread::Builder::new()
        .name("log-watch".to_owned())
        .spawn(move || thread.run())?;
    Ok(Arc::clone(HUB.get_or_init(|| hub)))
}

impl Hub {
    fn run(&self) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => self.wake(event.wd(), event.events()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "following logs has ended");
                    self.watches.lock().clear();
                    return;
                }
            }
        }
    }

    fn wake(&self, watch: i32, events: ReadFlags) {
        let mut watches = self.watches.lock();
        if events.contains(ReadFlags::QUEUE_OVERFLOW) {
            for watched in watches.values() {
                watched.changed.send_replace(());
            }
        } else if events.contains(ReadFlags::IGNORED) {
            // The directory is gone, and its number may be given again.
            watches.remove(&watch);
        } else if let Some(watched) = watches.get(&watch) {
            watched.changed.send_replace(());
        }
    }
}
