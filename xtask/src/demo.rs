//! What DVS does, shown in a minute: a volume made, used and deleted by jobs that go through a broker, which here
//! runs inside the agent. As root the volume is an image with a size that holds; without, a plain directory.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::machine;
use crate::run::{self, SHORT};
use crate::scene::{self, Scene};
use crate::sweep::Turn;
use crate::workspace::Workspace;

const NODE: &str = "demo";
const LARGE: &str = "5000M";
const SMALL: &str = "16M";
/// How much is written into the small volume: more than fits.
const TOO_MUCH_MEBIBYTES: u64 = 32;

/// How one `dvs` waits for its answer, in seconds.
const ANSWER_SECONDS: &str = "60";
/// The same, while the agent may not listen yet.
const FIRST_ANSWER_SECONDS: &str = "2";

/// Everything that the demo's commands need to know.
struct Demo {
    dvs: PathBuf,
    broker: SocketAddr,
    folder: PathBuf,
    /// Whether volumes are images on loop devices.
    real: bool,
}

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let obstacle = machine::no_loop_devices();
    match &obstacle {
        None => machine::require(&[machine::EXT])?,
        Some(reason) => println!("volumes are plain directories without a limit here: {reason}\n"),
    }
    run::shown(&mut workspace.cargo(["build", "-p", "dvs", "--features", "embedded-broker"]))?;
    let _turn = Turn::take()?;
    let mut scene = Scene::set("dvs-demo-")?;
    let demo = Demo {
        dvs: workspace.program("debug", "dvs"),
        broker: scene::free_address()?,
        folder: scene.folder().to_owned(),
        real: obstacle.is_none(),
    };
    let shown = demo.show(&mut scene);
    if shown.is_err() {
        eprintln!("the agent's last words:\n{}\n", scene.last_words());
    }
    shown?;
    scene.clear()?;
    println!("\nThat was it. `cargo xtask ci` runs all checks and tests.");
    Ok(())
}

impl Demo {
    fn show(&self, scene: &mut Scene) -> Result<()> {
        let (large, small) = (self.mount("large"), self.mount("small"));

        title("an agent with a broker inside it");
        self.start(scene)?;

        title("a job that creates a volume");
        self.create(&large, LARGE)?;
        if self.real {
            self.expect_mounted(scene, &large)?;
            show(run::program("df").arg("-h").arg(&large))?;
        }
        fs::write(large.join("greeting"), "hello\n").context("cannot write into the volume")?;
        show(run::program("ls").arg("-l").arg(&large))?;

        title("a small volume, and what happens when more is written than fits");
        self.create(&small, SMALL)?;
        if self.real {
            self.overfill(&small)?;
        } else {
            println!("(left out: a plain directory has no limit)");
        }

        title("what the agent has");
        show(self.dvs("ls").arg("--state").arg(self.state()))?;

        title("jobs that delete them");
        self.delete(&large)?;
        self.delete(&small)?;

        title("what is left");
        self.expect_nothing_left(scene)?;

        title("the agent stops when asked to");
        scene.stop()?;
        println!("stopped");
        Ok(())
    }

    fn start(&self, scene: &mut Scene) -> Result<()> {
        let (volumes, mounts) = (self.folder.join("volumes"), self.folder.join("mnt"));
        fs::create_dir_all(&mounts).with_context(|| format!("cannot make {}", mounts.display()))?;
        // The demo must not depend on how a service on this machine is configured.
        let configuration = self.folder.join("dvs.toml");
        fs::write(&configuration, "").with_context(|| format!("cannot write {}", configuration.display()))?;
        let kind = if self.real { "loop" } else { "fake" };
        let mut agent = run::program(&self.dvs);
        agent
            .env_remove("MQTT_BROKER")
            .env_remove("DOCKER_HOST")
            .env_remove("CONTAINER_HOST")
            .args(["--embedded-broker", &self.broker.to_string(), "--node", NODE])
            .arg("--config")
            .arg(configuration)
            .arg("--state")
            .arg(self.state())
            .args(["--store", &format!("demo={kind}://{}", volumes.display())])
            .arg("--mount-root")
            .arg(mounts);
        println!("$ {}", run::told(&agent).trim_matches('`'));
        scene.start(&mut agent, || self.listens())
    }

    /// Whether the agent takes jobs: it says that nothing is what is left of a volume that never was.
    fn listens(&self) -> Result<bool> {
        if TcpStream::connect(self.broker).is_err() {
            return Ok(false);
        }
        let mut delete = self.job("delete", &self.mount("nothing"));
        let answer = run::captured(delete.args(["--timeout", FIRST_ANSWER_SECONDS]), SHORT)?;
        match answer.status.code() {
            Some(0) => Ok(true),
            // No answer, or no broker: not yet.
            Some(2 | 69) => Ok(false),
            _ => bail!("{} ended with {}: {}", run::told(&delete), answer.status, answer.err.trim()),
        }
    }

    fn create(&self, mount: &Path, size: &str) -> Result<()> {
        show(self.job("create", mount).args(["--size", size, "--timeout", ANSWER_SECONDS]))
    }

    fn delete(&self, mount: &Path) -> Result<()> {
        show(self.job("delete", mount).args(["--timeout", ANSWER_SECONDS]))
    }

    fn overfill(&self, volume: &Path) -> Result<()> {
        let mut dd = run::program("dd");
        dd.env("LC_ALL", "C").args(["if=/dev/zero", "bs=1M", &format!("count={TOO_MUCH_MEBIBYTES}")]);
        dd.arg(format!("of={}", volume.join("too-much").display()));
        println!("$ {}", run::told(&dd).trim_matches('`'));
        let written = run::captured(&mut dd, SHORT)?;
        println!("{}", written.err.trim());
        if written.status.success() {
            bail!("{TOO_MUCH_MEBIBYTES} MiB fit into a volume of {SMALL}");
        }
        if !written.err.contains("No space left on device") {
            bail!("writing too much failed, but not for want of space");
        }
        Ok(())
    }

    fn expect_mounted(&self, scene: &Scene, mount: &Path) -> Result<()> {
        if !scene.mounts()?.iter().any(|mounted| mounted == mount) {
            bail!("the job is done, and nothing is mounted at {}", mount.display());
        }
        Ok(())
    }

    fn expect_nothing_left(&self, scene: &Scene) -> Result<()> {
        let mut left = files_below(&self.folder.join("volumes"))?;
        // The agent that still runs keeps others away from the store by the one, and knows it again by the other.
        left.retain(|file| !file.ends_with("lock") && !file.ends_with("id"));
        left.extend(entries(&self.folder.join("mnt"))?);
        left.extend(scene.mounts()?);
        left.extend(scene.loops()?.into_iter().map(|found| found.device));
        if !left.is_empty() {
            let left: Vec<_> = left.iter().map(|path| path.display().to_string()).collect();
            bail!("after the deletes there are still: {}", left.join(", "));
        }
        println!("no mount, no loop device, no image, no folder at the mount points");
        Ok(())
    }

    fn job(&self, command: &str, mount: &Path) -> Command {
        let mut job = self.dvs(command);
        job.args(["-b", &self.broker.to_string(), "--node", NODE, "--mount"]).arg(mount);
        job
    }

    fn dvs(&self, command: &str) -> Command {
        let mut dvs = run::program(&self.dvs);
        dvs.env_remove("MQTT_BROKER").arg(command);
        dvs
    }

    fn mount(&self, name: &str) -> PathBuf {
        self.folder.join("mnt").join(name)
    }

    fn state(&self) -> PathBuf {
        self.folder.join("state")
    }
}

fn title(text: &str) {
    println!("\n-- {text}");
}

/// Shows a command as one would type it, and runs it.
fn show(command: &mut Command) -> Result<()> {
    println!("$ {}", run::told(command).trim_matches('`'));
    run::shown(command)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>();
    list().with_context(|| format!("cannot list {}", folder.display()))
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in entries(folder)? {
        if path.is_dir() && !path.is_symlink() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}
