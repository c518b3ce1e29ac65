//! The calls of a store, one after the other on one connection, and nothing besides: what the store is measured by.

use crate::layout::{self, METADATA, VOLUMES};
use crate::problem::Problem;
use crate::settings::Settings;
use crate::target::{Export, Handle, Name, NfsExport, Owner, Target, TargetError};
use dvs_domain::failure::Failure;
use dvs_domain::names::StoreName;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// How long everything together may take.
const LIMIT: Duration = Duration::from_secs(600);

/// An export, reached by bare calls.
pub struct Bare {
    target: Arc<dyn Target>,
    volumes: Handle,
    metadata: Handle,
    owner: Owner,
    settings: Settings,
}

impl Bare {
    /// Reaches the export at `url`, on which a store has made its folders.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn reach(url: &Url) -> Result<Self, Failure> {
        let settings = Settings::parse(url)?;
        let target = NfsExport::new(settings.clone()).visit(LIMIT);
        let reached = async {
            let root = target.root().await?;
            Ok((folder(&*target, &root, VOLUMES).await?, folder(&*target, &root, METADATA).await?))
        };
        let (volumes, metadata) = reached.await.map_err(|error| told(error, &settings))?;
        let owner = Owner { uid: settings.uid, gid: settings.gid, mode: settings.mode.bits() };
        Ok(Self { target, volumes, metadata, owner, settings })
    }

    /// Makes what a volume consists of.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn make(&self, name: &str) -> Result<(), Failure> {
        let made = async {
            let (name, staged) = (layout::name(name)?, layout::name(&format!(".bare-{name}"))?);
            let target = &*self.target;
            let metadata = target.make_folder(&self.metadata, &staged, None).await?;
            target.make_folder(&self.volumes, &staged, Some(&self.owner)).await?;
            target.write_file(&metadata, &layout::name("record")?, &[b'x'; 4096 + 700]).await?;
            target.rename((&self.metadata, &staged), (&self.metadata, &name)).await?;
            target.rename((&self.volumes, &staged), (&self.volumes, &name)).await
        };
        made.await.map_err(|error| told(error, &self.settings))
    }

    /// Removes the directory `name` with the folders and files in it, two levels deep.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn remove(&self, name: &str) -> Result<(), Failure> {
        let removed = async {
            let name = layout::name(name)?;
            let top = self.target.look_up(&self.volumes, &name).await?;
            if let Some(top) = top {
                for (folder, handle) in self.entries(&top.handle).await? {
                    for (file, _) in self.entries(&handle).await? {
                        self.target.remove_file(&handle, &file).await?;
                    }
                    self.target.remove_folder(&top.handle, &folder).await?;
                }
                self.target.remove_folder(&self.volumes, &name).await?;
            }
            Ok(())
        };
        removed.await.map_err(|error| told(error, &self.settings))
    }

    /// Lists the volumes, and says how many there are.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn list(&self) -> Result<usize, Failure> {
        let listed = async {
            Ok(self.entries(&self.volumes).await?.len() + self.entries(&self.metadata).await?.len())
        };
        listed.await.map(|entries| entries / 2).map_err(|error| told(error, &self.settings))
    }

    async fn entries(&self, folder: &Handle) -> Result<Vec<(Name, Handle)>, TargetError> {
        let (mut entries, mut from) = (Vec::new(), None);
        loop {
            let page = self.target.list(folder, from).await?;
            for entry in page.entries {
                if let (Ok(name), Some(handle)) = (Name::new(entry.name), entry.handle) {
                    entries.push((name, handle));
                }
            }
            from = page.next;
            if from.is_none() {
                return Ok(entries);
            }
        }
    }
}

async fn folder(target: &dyn Target, root: &Handle, name: &str) -> Result<Handle, TargetError> {
    let found = target.look_up(root, &layout::name(name)?).await?;
    let fault = crate::target::Fault::NotThere;
    found.map(|found| found.handle).ok_or(TargetError { call: "look up", fault })
}

fn told(error: TargetError, settings: &Settings) -> Failure {
    match StoreName::new("bare") {
        Ok(name) => Problem::Call("bare calls", error).told(&name, settings),
        Err(failure) => failure,
    }
}
