//! The thread that writes: whatever the disk does, the daemon's loop goes on.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    Sample,
    store::{Store, StoreError},
};
use crate::error::chain;

/// How often counters go into the history. A tunnel that is torn down by others takes so much of it along at most.
const PERIOD: Duration = Duration::from_secs(10);

/// Samples that may wait. What is dropped is not lost: the next sample's difference has it.
const WAITING: usize = 2;

/// How long the last sample may take to be written when the daemon ends.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// How often old buckets are made coarser, in seconds.
const THINNING: i64 = 3_600;

/// The daemon's end: takes samples, never waits.
#[derive(Debug)]
pub struct Recorder {
    boot: String,
    samples: SyncSender<Sample>,
    ended: oneshot::Receiver<()>,
    health: Arc<Mutex<Health>>,
    last: Option<Instant>,
}

impl Recorder {
    /// Starts the thread that writes `path`.
    ///
    /// # Errors
    /// The kernel has no thread for it.
    pub fn start(path: PathBuf) -> std::io::Result<Self> {
        let (samples, received) = sync_channel(WAITING);
        let (end, ended) = oneshot::channel();
        let health = Arc::default();
        let mut writer = Writer { health: Arc::clone(&health), ..Writer::new(path) };
        std::thread::Builder::new().name("history".to_owned()).spawn(move || {
            writer.run(&received);
            drop(writer);
            let _ = end.send(());
        })?;
        // Interfaces get the same numbers at each boot.
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(Self { boot: boot.trim().to_owned(), samples, ended, health, last: None })
    }

    /// Whether it is time for a sample.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.last.is_none_or(|last| last.elapsed() >= PERIOD)
    }

    /// The name of a device: another one with each creation and each boot.
    #[must_use]
    pub fn device(&self, index: u32) -> String {
        format!("{}/{index}", self.boot)
    }

    /// Hands a sample over, unless two wait already.
    pub fn offer(&mut self, sample: Sample) {
        self.last = Some(Instant::now());
        let _ = self.samples.try_send(sample);
    }

    /// What came of the last attempt.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.lock().map(|health| health.clone()).unwrap_or_default()
    }

    /// Why it is not written, if it is not. The hub itself is none the worse for it.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        match self.health() {
            Health::Failing(text) => Some(text),
            Health::Untried | Health::Working => None,
        }
    }

    /// Lets what waits be written and the file be closed, if that takes no longer than two seconds.
    pub async fn finish(self) {
        drop(self.samples);
        let _ = tokio::time::timeout(LAST_WRITE, self.ended).await;
    }
}

/// What came of the last attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// There was none yet.
    #[default]
    Untried,
    /// The file has all that was offered.
    Working,
    /// Why it has not.
    Failing(String),
}

/// The thread's own.
#[derive(Debug)]
struct Writer {
    path: PathBuf,
    store: Option<Store>,
    health: Arc<Mutex<Health>>,
    /// A damaged file was put aside already; a disk that damages another one is not filled with them.
    put_aside: bool,
    /// When old buckets were made coarser.
    thinned: Option<i64>,
}

impl Writer {
    fn new(path: PathBuf) -> Self {
        Self { path, store: None, health: Arc::default(), put_aside: false, thinned: None }
    }

    fn run(&mut self, samples: &Receiver<Sample>) {
        for sample in samples {
            self.take(&sample);
        }
    }

    fn take(&mut self, sample: &Sample) {
        let mut result = self.write(sample);
        if let Err(error) = &result
            && error.is_damage()
            && !self.put_aside
        {
            self.put_aside = true;
            match put_aside(&self.path, sample.at) {
                Ok(aside) => {
                    tracing::warn!(
                        "{}; it is now {}, and the history begins anew",
                        chain(error),
                        aside.display()
                    );
                    result = self.write(sample);
                }
                Err(cause) => tracing::warn!("{}, and cannot be put aside: {cause}", chain(error)),
            }
        }
        let health = match result {
            Ok(()) => Health::Working,
            Err(error) => Health::Failing(format!(
                "no history: {}; traffic goes on, and relay tries again",
                chain(&error)
            )),
        };
        self.tell(health);
    }

    /// Says what is new.
    fn tell(&self, health: Health) {
        let Ok(mut told) = self.health.lock() else { return };
        if *told != health {
            match (&*told, &health) {
                (_, Health::Failing(text)) => tracing::warn!("{text}"),
                (Health::Failing(_), _) => tracing::info!("the history is written again"),
                _ => {}
            }
            *told = health;
        }
    }

    fn write(&mut self, sample: &Sample) -> Result<(), StoreError> {
        let store = match self.store.take() {
            Some(store) => store,
            None => Store::open(&self.path)?,
        };
        let store = self.store.insert(store);
        let mut result = store.record(sample);
        if result.is_ok() && self.thinned.is_none_or(|at| (sample.at - at).abs() >= THINNING) {
            result = store.thin(sample.at);
            self.thinned = result.is_ok().then_some(sample.at);
        }
        if result.as_ref().is_err_and(|error| !error.is_passing()) {
            self.store = None;
        }
        result
    }
}

/// Renames the file and its logs; returns its new name.
fn put_aside(path: &Path, now: i64) -> std::io::Result<PathBuf> {
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let aside = with(&format!(".corrupt-{now}"));
    std::fs::rename(path, &aside)?;
    for log in ["-wal", "-shm"] {
        match std::fs::rename(with(log), with(&format!(".corrupt-{now}{log}"))) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

#[cfg(test)]
mod tests;
