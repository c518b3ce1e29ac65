//! The specification's own commands, in its order, by one shell for each volume made and one for each deleted.
//! `losetup -d` is not among them, but without it every delete would keep the image's room. Nothing is made durable
//! but what `mkfs` makes so by itself.

use super::{Place, Plan, on_threads};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CREATE: &str = r#"
touch "$IMAGE" &&
truncate -s "${SIZE}M" "$IMAGE" &&
mkfs.ext2 -F -m 0 "$IMAGE" &&
mknod -m 660 "$DEVICE" b 7 "$NUMBER" &&
losetup "$DEVICE" "$IMAGE" &&
mkdir "$POINT" &&
mount "$DEVICE" "$POINT" &&
rm -R "$POINT/lost+found"
"#;

const DELETE: &str = r#"
umount "$POINT" &&
losetup -d "$DEVICE" &&
rm "$IMAGE" &&
rm "$DEVICE"
"#;

/// Numbers that nobody gets who asks the kernel for a free loop device: it gives the lowest. The kernel keeps the
/// devices, unbound, so that the same ones serve the next run.
const FIRST_NUMBER: u32 = 60_000;
const NUMBERS_END: u32 = 70_000;

pub(super) struct Shell {
    place: Place,
    /// The first number of the lanes' loop devices.
    first_number: u32,
}

impl Shell {
    pub(super) fn new(place: Place, lanes: u32) -> Result<Self> {
        let is_free = |number: u32| !fs::exists(format!("/sys/block/loop{number}/loop")).unwrap_or(true);
        let first_number = (FIRST_NUMBER..NUMBERS_END)
            .step_by(lanes as usize)
            .find(|first| (*first..first + lanes).all(is_free))
            .context("no numbers of loop devices are free")?;
        Ok(Self { place, first_number })
    }

    pub(super) async fn alone(self: &Arc<Self>, name: &str) -> Result<(Duration, Duration)> {
        let (shell, name) = (Arc::clone(self), name.to_owned());
        tokio::task::spawn_blocking(move || shell.pair(&name, 0))
            .await
            .context("a shell's thread ended early")?
    }

    pub(super) async fn lanes(self: &Arc<Self>, name: &str, plan: &Plan) -> Result<()> {
        let (name, pairs) = (name.to_owned(), plan.pairs);
        let lane = move |shell: &Self, lane| {
            (0..pairs).try_for_each(|pair| shell.pair(&format!("{name}-{lane}-{pair}"), lane).map(drop))
        };
        on_threads(self, plan.lanes, lane).await
    }

    fn pair(&self, name: &str, lane: u32) -> Result<(Duration, Duration)> {
        let create = self.run(CREATE, name, lane)?;
        let delete = self.run(DELETE, name, lane)?;
        // The specification leaves the mount point where it is.
        let point = self.place.mounts.join(name);
        fs::remove_dir(&point).with_context(|| format!("cannot remove {}", point.display()))?;
        Ok((create, delete))
    }

    fn run(&self, script: &str, name: &str, lane: u32) -> Result<Duration> {
        let device = self.place.images.join(format!("device-{lane}"));
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let paths: [(&str, &Path); 3] = [
            ("IMAGE", &self.place.images.join(name)),
            ("DEVICE", &device),
            ("POINT", &self.place.mounts.join(name)),
        ];
        command.envs(paths).env("NUMBER", (self.first_number + lane).to_string());
        command.env("SIZE", self.place.size.to_string());
        let begun = Instant::now();
        let output = command.output().context("cannot start a shell")?;
        let took = begun.elapsed();
        if !output.status.success() {
            bail!(
                "the shell ended with {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(took)
    }
}
