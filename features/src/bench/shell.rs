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

pub(super) struct Shell {
    place: Place,
    /// The first number of a loop device that nobody else has.
    first_number: u32,
}

impl Shell {
    pub(super) fn new(place: Place) -> Result<Self> {
        let mut first_number = 0;
        for device in fs::read_dir("/sys/block").context("cannot list /sys/block")? {
            let name = device.context("cannot list /sys/block")?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("loop")?.parse::<u32>().ok());
            first_number = first_number.max(number.map_or(0, |number| number + 1));
        }
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
