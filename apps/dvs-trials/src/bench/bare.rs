//! The least that anybody could do: the system calls themselves, and `mkfs.ext4` with the agent's own options. No
//! record, no staging, no checks, nothing undone, nothing made durable but what `mkfs` makes so by itself.

use super::{Place, Plan, on_threads};
use anyhow::{Context, Result, bail};
use dvs_store_loop::device;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The options of the agent's own formatting.
const OPTIONS: [&str; 8] = [
    "-q",
    "-F",
    "-m",
    "0",
    "-O",
    "^resize_inode,metadata_csum_seed",
    "-E",
    "root_owner=0:0,lazy_itable_init=1,lazy_journal_init=1",
];

pub(super) struct Bare {
    place: Place,
    mkfs: PathBuf,
}

impl Bare {
    pub(super) fn new(place: Place) -> Result<Self> {
        let mkfs = ["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"].map(PathBuf::from);
        let mkfs = mkfs.into_iter().find(|program| program.exists()).context("there is no mkfs.ext4")?;
        Ok(Self { place, mkfs })
    }

    pub(super) async fn alone(self: &Arc<Self>, name: &str) -> Result<(Duration, Duration)> {
        let (bare, name) = (Arc::clone(self), name.to_owned());
        tokio::task::spawn_blocking(move || bare.pair(&name)).await.context("a thread ended early")?
    }

    pub(super) async fn lanes(self: &Arc<Self>, name: &str, plan: &Plan) -> Result<()> {
        let (name, pairs) = (name.to_owned(), plan.pairs);
        let lane = move |bare: &Self, lane| {
            (0..pairs).try_for_each(|pair| bare.pair(&format!("{name}-{lane}-{pair}")).map(drop))
        };
        on_threads(self, plan.lanes, lane).await
    }

    fn pair(&self, name: &str) -> Result<(Duration, Duration)> {
        let begun = Instant::now();
        self.create(name).with_context(|| format!("cannot make {name}"))?;
        let create = begun.elapsed();
        let begun = Instant::now();
        self.delete(name).with_context(|| format!("cannot delete {name}"))?;
        Ok((create, begun.elapsed()))
    }

    fn create(&self, name: &str) -> Result<()> {
        let (image, point) = (self.place.images.join(name), self.place.mounts.join(name));
        let file = File::options().read(true).write(true).create_new(true).open(&image)?;
        file.set_len(self.place.size << 20)?;
        let mut mkfs = Command::new(&self.mkfs);
        mkfs.args(OPTIONS).arg(&image).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = mkfs.status()?;
        if !status.success() {
            bail!("mkfs.ext4 ended with {status}");
        }
        let device = device::attach(&file).map_err(|failure| anyhow::anyhow!(failure.chain()))?;
        fs::create_dir(&point)?;
        mount(device.path(), &point, "ext4", MountFlags::NOSUID | MountFlags::NODEV, None)?;
        fs::remove_dir(point.join("lost+found"))?;
        Ok(())
    }

    fn delete(&self, name: &str) -> Result<()> {
        let (image, point) = (self.place.images.join(name), self.place.mounts.join(name));
        unmount(&point, UnmountFlags::empty())?; // The kernel frees the device with it.
        fs::remove_dir(&point)?;
        fs::remove_file(&image)?;
        Ok(())
    }
}
