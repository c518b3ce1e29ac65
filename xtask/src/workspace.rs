//! The workspace as cargo sees it: where it lies, where builds go, which crates it has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use cargo_metadata::{Metadata, MetadataCommand};

use crate::run;

/// The feature that lists those which are on by default.
const DEFAULT: &str = "default";

/// The workspace that this program was started in.
pub(crate) struct Workspace {
    pub(crate) metadata: Metadata,
}

impl Workspace {
    /// Asks cargo. Needs no network and builds nothing.
    pub(crate) fn load() -> Result<Self> {
        let metadata = MetadataCommand::new().no_deps().exec().context("cannot read the workspace")?;
        Ok(Self { metadata })
    }

    /// The workspace in `folder`. Writes down in its lock file which crates it has.
    pub(crate) fn of(folder: &Path) -> Result<Self> {
        let manifest = folder.join("Cargo.toml");
        let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec();
        Ok(Self {
            metadata: metadata
                .with_context(|| format!("cannot read the workspace in {}", folder.display()))?,
        })
    }

    /// The folder of the root manifest.
    pub(crate) fn root(&self) -> &Path {
        self.metadata.workspace_root.as_std_path()
    }

    /// Where a program of the workspace is after it was built.
    pub(crate) fn program(&self, profile: &str, name: &str) -> PathBuf {
        self.metadata.target_directory.as_std_path().join(profile).join(name)
    }

    /// Each feature that is off by default, with the crates that have it.
    pub(crate) fn optional_features(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut features = BTreeMap::<_, Vec<_>>::new();
        for package in &self.metadata.packages {
            let default = package.features.get(DEFAULT);
            for feature in package.features.keys() {
                if feature != DEFAULT && default.is_none_or(|default| !default.contains(feature)) {
                    features.entry(feature.as_str()).or_default().push(package.name.as_str());
                }
            }
        }
        features
    }

    /// Cargo, to be run at the root.
    pub(crate) fn cargo<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = run::program(cargo);
        command.current_dir(self.root()).args(arguments);
        command
    }
}
