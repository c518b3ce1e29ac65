//! What is really there after a job: looked at from outside, never asked of the agent alone.

use crate::identity::Identity;
use crate::stage::{Stage, Store};
use crate::world::World;
use anyhow::{Context, Result, bail, ensure};
use dvs_trials::machine::{self, Mount};
use dvs_trials::process;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a command may take that only asks.
const ASK_LIMIT: Duration = Duration::from_secs(20);

impl World {
    /// What is mounted exactly at `name`, the last of several.
    pub(crate) fn mount_at(&self, name: &str) -> Result<Option<Mount>> {
        let point = self.at(name);
        let mounts = machine::mounts_below(&point, self.namespace())?;
        Ok(mounts.into_iter().rfind(|mount| mount.point == point))
    }

    /// What is mounted at `name`, which must be a volume of this scenario's own store.
    pub(crate) fn volume_mount(&self, name: &str) -> Result<Mount> {
        let mount = self.mount_at(name)?.with_context(|| format!("nothing is mounted at `{name}`"))?;
        if World::is_loop() {
            self.image_behind(&mount)?;
        }
        Ok(mount)
    }

    pub(crate) fn image_behind(&self, mount: &Mount) -> Result<PathBuf> {
        let loops = machine::loops_below(&self.folder)?;
        let behind = loops.into_iter().find(|found| found.device == mount.source);
        let behind = behind.with_context(|| {
            format!(
                "`{}` at `{}` is no loop device of this store",
                mount.source.display(),
                mount.point.display()
            )
        })?;
        Ok(behind.file)
    }

    /// The only image in the store.
    pub(crate) fn only_image(&self) -> Result<PathBuf> {
        let images: Vec<_> = machine::paths_below(&self.store_folder())?
            .into_iter()
            .filter(|path| path.ends_with("image"))
            .collect();
        match images.as_slice() {
            [image] => Ok(image.clone()),
            others => bail!("not one image but {others:?}"),
        }
    }

    /// Whether a volume can be seen at `name`.
    pub(crate) fn is_attached(&self, name: &str) -> Result<bool> {
        if Stage::get().mounts_really {
            return Ok(self.mount_at(name)?.is_some());
        }
        match fs::read_link(self.at(name)) {
            Ok(target) => Ok(target.starts_with(self.store_folder()) && target.is_dir()),
            Err(_) => Ok(false),
        }
    }

    /// How many volumes can be seen.
    pub(crate) fn count_attached(&self) -> Result<usize> {
        if Stage::get().mounts_really {
            return Ok(machine::mounts_below(&self.mounts, self.namespace())?.len());
        }
        let paths = machine::paths_below(&self.mounts)?;
        Ok(paths.iter().filter(|path| path.is_symlink() && path.is_dir()).count())
    }

    /// By what the volume at `name` is known again.
    pub(crate) fn identity_at(&self, path: &Path) -> Result<Identity> {
        let name = path.display().to_string();
        if Stage::get().store == Store::Fake {
            let found =
                fs::metadata(self.seen_at(&name)).with_context(|| format!("cannot look at {name}"))?;
            return Ok(Identity::of(&found, Vec::new()));
        }
        let image = self.image_behind(&self.volume_mount(&name)?)?;
        let file = fs::File::open(&image).with_context(|| format!("cannot open {}", image.display()))?;
        let found = file.metadata().context("cannot look at the image")?;
        // `s_uuid` in the superblock of ext2, ext3 and ext4: every formatting draws another.
        let mut file_system = vec![0; 16];
        file.read_exact_at(&mut file_system, 1024 + 0x68).context("cannot read the image")?;
        Ok(Identity::of(&found, file_system))
    }

    /// Notes what each volume is that can be seen, when it is seen for the first time.
    pub(crate) fn note_volumes(&mut self) -> Result<()> {
        let points: Vec<PathBuf> = if Stage::get().mounts_really {
            let own = self.own_mounts.clone();
            let mounts = machine::mounts_below(&self.mounts, self.namespace())?.into_iter();
            mounts.map(|mount| mount.point).filter(|point| !own.contains(point)).collect()
        } else {
            machine::paths_below(&self.mounts)?
                .into_iter()
                .filter(|path| !self.own_paths.contains(path) && path.is_symlink() && path.is_dir())
                .collect()
        };
        self.seen.retain(|point, _| points.contains(point));
        for point in points {
            if !self.seen.contains_key(&point) {
                let identity = self.identity_at(&point)?;
                self.seen.insert(point, identity);
            }
        }
        Ok(())
    }

    /// Makes sure that no volume is left, nor anything that was made for one.
    pub(crate) async fn check_no_volume_left(&self) -> Result<()> {
        let mounts: Vec<_> = machine::mounts_below(&self.mounts, self.namespace())?
            .into_iter()
            .filter(|mount| !self.own_mounts.contains(&mount.point))
            .collect();
        ensure!(mounts.is_empty(), "there are mounts left: {mounts:?}");
        let loops = machine::loops_below(&self.folder)?;
        ensure!(loops.is_empty(), "there are loop devices left: {loops:?}");
        let before = self.store_before.as_ref().context("no agent was started")?;
        let mut stored = machine::paths_below(&self.store_folder())?;
        stored.retain(|path| !before.contains(path) && !self.own_paths.contains(path));
        ensure!(stored.is_empty(), "the store is not empty: {stored:?}");
        if self.agent.is_some() {
            let listed = self.listed().await?;
            ensure!(listed.is_empty(), "the agent still lists volumes: {listed:?}");
        }
        Ok(())
    }

    /// Makes sure that nothing is left, neither volumes nor directories that were made for them.
    pub(crate) async fn check_nothing_left(&self) -> Result<()> {
        self.check_no_volume_left().await?;
        let mut paths = machine::paths_below(&self.mounts)?;
        paths.retain(|path| !self.own_paths.contains(path));
        ensure!(paths.is_empty(), "what was made for a volume is left: {paths:?}");
        let missing: Vec<_> = self.own_paths.iter().filter(|path| path.symlink_metadata().is_err()).collect();
        ensure!(missing.is_empty(), "what was there before is gone: {missing:?}");
        Ok(())
    }

    /// Name and mount point of each volume that the agent lists.
    pub(crate) async fn listed(&self) -> Result<Vec<(String, String)>> {
        let listed = self.listed_whole().await?;
        let text =
            |volume: &serde_json::Value, key: &str| volume[key].as_str().unwrap_or_default().to_owned();
        Ok(listed.iter().map(|volume| (text(volume, "name"), text(volume, "mount_point"))).collect())
    }

    /// The name of each volume that is attached, by the agent's word.
    pub(crate) async fn listed_as_attached(&self) -> Result<BTreeSet<String>> {
        let listed = self.listed_whole().await?.into_iter();
        Ok(listed.filter(|it| it["state"] == "attached").map(|it| it["name"].to_string()).collect())
    }

    /// Each volume that the agent lists, with all that it tells.
    pub(crate) async fn listed_whole(&self) -> Result<Vec<serde_json::Value>> {
        let mut command = Command::new(&self.launch.program);
        command.arg("ls").arg("--state").arg(&self.launch.state).arg("--json");
        let printed = process::run(&mut command, ASK_LIMIT).await?;
        ensure!(printed.code == Some(0), "`dvs ls` ended with {:?}: {}", printed.code, printed.err);
        serde_json::from_str(&printed.out).with_context(|| format!("no JSON list: {}", printed.out))
    }
}
