//! What all scenarios of a run share: the program to test, the kind of store, the broker, the folders.

use anyhow::{Result, bail, ensure};
use dvs_trials::agent::{self, has_failpoints};
use dvs_trials::scratch::Scratch;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

static STAGE: OnceLock<Stage> = OnceLock::new();

const STORE_VARIABLE: &str = "DVS_E2E_STORE";

/// Which kind of store the run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    Loop,
    /// Plain directories.
    Fake,
}

#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) program: PathBuf,
    pub(crate) store: Store,
    pub(crate) broker: SocketAddr,
    pub(crate) folder: PathBuf,
    pub(crate) mounts: PathBuf,
    /// Whether the agent mounts; an ordinary user's shows volumes by links.
    pub(crate) mounts_really: bool,
    pub(crate) has_failpoints: bool,
    /// A word that no other run on this machine has.
    pub(crate) run: String,
    scenarios: AtomicUsize,
}

impl Stage {
    /// Sets the stage of this process, once.
    pub(crate) fn set(scratch: &Scratch, broker: SocketAddr, may_mount: bool) -> Result<&'static Self> {
        let program = agent::program()?;
        let stage = Self {
            has_failpoints: has_failpoints(&program)?,
            program,
            store: Store::chosen(may_mount)?,
            broker,
            folder: scratch.folder.clone(),
            mounts: scratch.mounts.clone(),
            mounts_really: may_mount,
            run: std::process::id().to_string(),
            scenarios: AtomicUsize::new(0),
        };
        ensure!(STAGE.set(stage).is_ok(), "the stage is set once");
        Ok(Self::get())
    }

    pub(crate) fn get() -> &'static Self {
        STAGE.get().expect("the stage is set before any scenario runs")
    }

    /// A number for the next scenario.
    pub(crate) fn next_scenario(&self) -> usize {
        self.scenarios.fetch_add(1, Ordering::Relaxed)
    }
}

impl Store {
    fn chosen(may_mount: bool) -> Result<Self> {
        match std::env::var(STORE_VARIABLE).unwrap_or_default().as_str() {
            "" => Ok(if may_mount { Self::Loop } else { Self::Fake }),
            "loop" if may_mount => Ok(Self::Loop),
            "loop" => bail!("{STORE_VARIABLE}=loop needs root"),
            "fake" => Ok(Self::Fake),
            other => bail!("{STORE_VARIABLE} is `{other}`, neither `loop` nor `fake`"),
        }
    }

    /// The word in URLs and in the name of the store.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Loop => "loop",
            Self::Fake => "fake",
        }
    }
}

impl fmt::Display for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}
