//! Follows the README's list of how to add a store, in a copy of the workspace, and tries what has come of it: a store
//! that is added so has the protection of the contract when its disk is away.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::machine;
use crate::run::{self, SHORT};
use crate::scene::{self, Scene};
use crate::sweep::Turn;
use crate::tidy;
use crate::workspace::Workspace;

/// The heading of the list.
const HEADING: &str = "## How to add a store";
/// A command of the list stands this far to the right.
const COMMAND_INDENT: &str = "       ";
/// What a command of the list says for the name, and the name that the store gets.
const PLACEHOLDER: &str = "NAME";
const NAME: &str = "twin";

const NODE: &str = "new-store";
/// How long one `dvs` waits for its answer, in seconds.
const ANSWER_SECONDS: &str = "30";
/// The same, while the agent may not listen yet.
const FIRST_ANSWER_SECONDS: &str = "2";

/// Follows the list and tries the store.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    machine::require(&[machine::MOSQUITTO])?;
    let tree = workspace.metadata.target_directory.as_std_path().join("new-store");
    copy(workspace.root(), &tree)?;
    let readme = fs::read_to_string(tree.join("README.md")).context("cannot read the README")?;
    let commands = commands(&readme)?;
    println!("$ {}", commands.replace('\n', "\n$ "));
    run::shown(run::program("sh").current_dir(&tree).args(["-e", "-c", &commands]))?;
    let copy = Workspace::of(&tree)?;
    tidy::check(&copy)?;
    let cargo = |arguments: &[&str]| {
        let mut cargo = copy.cargo(arguments.iter().copied());
        // What no crate of the workspace is part of needs not be built again.
        cargo.env("CARGO_TARGET_DIR", &workspace.metadata.target_directory);
        run::shown(&mut cargo)
    };
    cargo(&["fmt", "--all", "--", "--check"])?;
    cargo(&["test", "-p", &format!("dvs-store-{NAME}"), "--test", "contract"])?;
    // As the features do, so that less is built.
    cargo(&["build", "-p", "dvs", "--features", "failpoints"])?;
    let _turn = Turn::take()?;
    let mut scene = Scene::set("dvs-demo-")?;
    let dvs = scene.folder().join("dvs");
    fs::copy(workspace.program("debug", "dvs"), &dvs).context("cannot copy the program")?;
    let trial = Trial { dvs, broker: scene::free_address()?, folder: scene.folder().to_owned() };
    let _broker = Broker::start(trial.broker, &trial.folder)?;
    let tried = trial.run(&mut scene);
    if tried.is_err() {
        eprintln!("the agent's last words:\n{}\n", scene.last_words());
    }
    tried?;
    scene.clear()
}

/// Everything that git knows or would add, as it is now. What is the same already stays, so that it is not built again.
fn copy(root: &Path, tree: &Path) -> Result<()> {
    fs::create_dir_all(tree).with_context(|| format!("cannot make {}", tree.display()))?;
    // The house rules ask git which files there are.
    run::text(run::program("git").current_dir(tree).args(["init", "-q"]))?;
    let files = files(root)?;
    for stale in self::files(tree)?.difference(&files) {
        let stale = tree.join(stale);
        fs::remove_file(&stale).with_context(|| format!("cannot remove {}", stale.display()))?;
        // Up to the first folder that is not empty.
        stale.ancestors().skip(1).find(|folder| fs::remove_dir(folder).is_err());
    }
    for file in &files {
        let (from, to) = (root.join(file), tree.join(file));
        let content = fs::read(&from).with_context(|| format!("cannot read {file}"))?;
        if fs::read(&to).is_ok_and(|there| there == content) {
            continue;
        }
        fs::create_dir_all(to.parent().unwrap_or(tree))
            .with_context(|| format!("cannot make room for {file}"))?;
        fs::copy(&from, &to).with_context(|| format!("cannot copy {file}"))?;
    }
    Ok(())
}

fn files(root: &Path) -> Result<BTreeSet<String>> {
    let mut git = run::program("git");
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let is_file = |path: &&str| fs::symlink_metadata(root.join(path)).is_ok_and(|found| found.is_file());
    Ok(run::text(&mut git)?.split('\0').filter(is_file).map(ToOwned::to_owned).collect())
}

/// The commands of the list, for this store.
fn commands(readme: &str) -> Result<String> {
    let (_, list) = readme.split_once(HEADING).with_context(|| format!("the README has no `{HEADING}`"))?;
    let list = list.split("\n## ").next().unwrap_or_default();
    let commands: Vec<_> = list.lines().filter_map(|line| line.strip_prefix(COMMAND_INDENT)).collect();
    if commands.is_empty() {
        bail!("`{HEADING}` in the README has no commands");
    }
    Ok(commands.join("\n").replace(PLACEHOLDER, NAME))
}

/// A broker, ended with this.
struct Broker(Child);

impl Broker {
    fn start(address: SocketAddr, folder: &Path) -> Result<Self> {
        let configuration = folder.join("mosquitto.conf");
        let listener = format!("listener {} {}\nallow_anonymous true\n", address.port(), address.ip());
        fs::write(&configuration, listener)
            .with_context(|| format!("cannot write {}", configuration.display()))?;
        let mut broker = run::program("mosquitto");
        broker.arg("-c").arg(configuration).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(broker.spawn().context("cannot start mosquitto")?))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It holds nothing that is needed any more.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An agent with two stores of the new kind.
struct Trial {
    dvs: PathBuf,
    broker: SocketAddr,
    folder: PathBuf,
}

impl Trial {
    fn run(&self, scene: &mut Scene) -> Result<()> {
        let (disk, away) = (self.disk("first"), self.folder.join("away"));
        self.check()?;
        self.start(scene)?;
        self.done(self.create("attached", "first"))?;
        scene.stop()?;
        fs::rename(&disk, &away).context("cannot take the first store away")?;
        self.start(scene)?;
        self.unavailable(self.create("another", "first"))?;
        self.unavailable(self.delete("attached"))?;
        self.done(self.create("beside", "second"))?;
        self.done(self.delete("beside"))?;
        if disk.exists() {
            bail!("something was made in the place of a store that is away: {}", disk.display());
        }
        fs::rename(&away, &disk).context("cannot bring the first store back")?;
        self.done(self.delete("attached"))?;
        scene.stop()?;
        println!("a store that was added by the README's list is awaited when its disk is away");
        Ok(())
    }

    /// `dvs check` knows the kind, and makes nothing.
    fn check(&self) -> Result<()> {
        let mut check = run::program(&self.dvs);
        self.settings(check.env_remove("MQTT_BROKER").arg("check"))?;
        let checked = run::captured(&mut check, SHORT)?;
        let told = format!("{}{}", checked.out, checked.err);
        if !told.contains("store first") || told.contains("there is no kind") {
            bail!("`dvs check` does not know `{NAME}`: {told}");
        }
        if self.disk("first").exists() {
            bail!("`dvs check` has made a store");
        }
        Ok(())
    }

    fn start(&self, scene: &mut Scene) -> Result<()> {
        let mut agent = run::program(&self.dvs);
        agent.args(["-b", &self.broker.to_string(), "--node", NODE]);
        self.settings(&mut agent)?;
        scene.start(&mut agent, || self.listens())
    }

    fn settings(&self, command: &mut Command) -> Result<()> {
        let mounts = self.folder.join("mnt");
        fs::create_dir_all(&mounts).with_context(|| format!("cannot make {}", mounts.display()))?;
        let configuration = self.folder.join("dvs.toml");
        fs::write(&configuration, "").with_context(|| format!("cannot write {}", configuration.display()))?;
        for variable in ["MQTT_BROKER", "DOCKER_HOST", "CONTAINER_HOST"] {
            command.env_remove(variable);
        }
        for store in ["first", "second"] {
            command.args(["--store", &format!("{store}={NAME}://{}", self.disk(store).display())]);
        }
        command.arg("--config").arg(configuration).arg("--state").arg(self.folder.join("state"));
        command.arg("--mount-root").arg(mounts).args(["--docker", "none", "--podman", "none"]);
        Ok(())
    }

    /// Whether the agent takes jobs: the second store is there whatever becomes of the first.
    fn listens(&self) -> Result<bool> {
        if TcpStream::connect(self.broker).is_err() {
            return Ok(false);
        }
        let mut create = self.create("listens", "second");
        let answer = run::captured(create.args(["--timeout", FIRST_ANSWER_SECONDS]), SHORT)?;
        match answer.status.code() {
            Some(0) => Ok(true),
            // No answer, or no broker: not yet.
            Some(2 | 69) => Ok(false),
            _ => bail!("{} ended with {}: {}", run::told(&create), answer.status, answer.err.trim()),
        }
    }

    fn done(&self, mut job: Command) -> Result<()> {
        println!("$ {}", run::told(&job).trim_matches('`'));
        run::shown(job.args(["--timeout", ANSWER_SECONDS]))
    }

    fn unavailable(&self, mut job: Command) -> Result<()> {
        println!("$ {}", run::told(&job).trim_matches('`'));
        let answer = run::captured(job.args(["--timeout", ANSWER_SECONDS]), SHORT * 2)?;
        println!("{}", answer.err.trim());
        if answer.status.success() || !answer.err.contains("store-unavailable") {
            bail!("{} ended with {}, not with `store-unavailable`", run::told(&job), answer.status);
        }
        Ok(())
    }

    fn create(&self, name: &str, store: &str) -> Command {
        let mut create = self.job("create", name);
        create.args(["--size", "16M", "--store", store]);
        create
    }

    fn delete(&self, name: &str) -> Command {
        self.job("delete", name)
    }

    fn job(&self, command: &str, name: &str) -> Command {
        let mut job = run::program(&self.dvs);
        job.env_remove("MQTT_BROKER").args([command, "-b", &self.broker.to_string(), "--node", NODE]);
        job.arg("--mount").arg(self.folder.join("mnt").join(name));
        job
    }

    fn disk(&self, store: &str) -> PathBuf {
        self.folder.join(store)
    }
}
