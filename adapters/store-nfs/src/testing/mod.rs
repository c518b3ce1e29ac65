//! What tests stand the store on: a folder of this host, and a real server.

use crate::settings::Settings;
use crate::target::folder::FolderExport;
use crate::{NfsStore, ThisNode, layout};
use dvs_domain::failure::Failure;
use dvs_domain::names::{NodeId, StoreName};
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

pub mod bare;
pub mod counting;
pub mod decoding;
pub mod ganesha;

pub use crate::target::script::{Lost, Refusal, Script};

/// A port at which a connection is not made in this time drops what comes.
const FULL_AFTER: Duration = Duration::from_millis(200);

/// A folder of this host that stands for an export: for several stores at once, as on several nodes.
pub struct FolderServer {
    export: Arc<FolderExport>,
    script: Arc<Script>,
    root: PathBuf,
}

impl FolderServer {
    /// The folder `root`, which must be there.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        let script = Arc::new(Script::default());
        let export = Arc::new(FolderExport::new(root.to_owned(), Arc::clone(&script)));
        Self { export, script, root: root.to_owned() }
    }

    /// When its calls fail.
    #[must_use]
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// A store on it, with options as in a URL.
    ///
    /// # Errors
    /// As [`NfsStore::open`].
    pub fn store(&self, name: &StoreName, node: &ThisNode, options: &str) -> Result<NfsStore, Failure> {
        let url = Url::parse(&format!("nfs://localhost{}?{options}", self.root.display()));
        let url = url.map_err(|error| Failure::internal("no URL", error))?;
        let settings = Settings::parse(&url)?;
        Ok(NfsStore::on(name.clone(), settings, node.clone(), self.export.clone()))
    }
}

impl NfsStore {
    /// How many calls to the server were made so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.shared.export.calls()
    }

    /// Whether this store is clearing away, or knows of something to clear away.
    #[must_use]
    pub fn is_untidy(&self) -> bool {
        self.shared.is_untidy()
    }

    /// Whether this store is writing the list that nodes share.
    #[must_use]
    pub fn is_posting(&self) -> bool {
        self.shared.listing.is_posting()
    }
}

/// Node number `number`.
///
/// # Errors
/// Never, for a number.
pub fn node(number: u8) -> Result<ThisNode, Failure> {
    Ok(ThisNode { id: NodeId::new(format!("{number:032x}"))?, name: format!("node{number}") })
}

/// Whether `name` is one of something that is being made or removed.
#[must_use]
pub fn is_temporary(name: &str) -> bool {
    layout::Temporary::parse(name).is_some()
}

/// Whether `name` is the one of the list that nodes share, or of one that is being written.
#[must_use]
pub fn is_list(name: &str) -> bool {
    name.strip_prefix(layout::LIST).is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix('-').is_some_and(|node| NodeId::new(node).is_ok())
    })
}

/// A port at which packets are dropped: nobody accepts, and as many wait as may.
pub struct DroppingPort {
    /// The port.
    pub port: u16,
    _kept: (TcpListener, Vec<TcpStream>),
}

impl DroppingPort {
    /// Makes one, on loopback.
    ///
    /// # Errors
    /// When nothing can listen there.
    pub fn open() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        rustix::net::listen(&listener, 0)?;
        let address = listener.local_addr()?;
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, FULL_AFTER) {
            waiting.push(stream);
        }
        Ok(Self { port: address.port(), _kept: (listener, waiting) })
    }
}
