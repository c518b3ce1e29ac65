//! The Mosquitto that the features talk to: an image for the Docker engine, or a program where there is no engine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::machine;
use crate::run::{self, HINT, SHORT};

/// Tells the features which image to run.
const IMAGE_VARIABLE: &str = "DVS_MOSQUITTO_IMAGE";
/// Tells the features, and the bench, which program to run.
pub(crate) const PROGRAM_VARIABLE: &str = "DVS_MOSQUITTO_BIN";

const PUBLISHED: &str = "eclipse-mosquitto:2";
const OURS: &str = "dvs-test/mosquitto:debian";
const PULL_LIMIT: Duration = Duration::from_secs(20);
const IMPORT_LIMIT: Duration = Duration::from_secs(120);

/// Where the published image has its configuration, and so has ours.
const CONFIGURATION_FILE: &str = "/mosquitto/config/mosquitto.conf";
/// The published image also has one of this name that lets everybody in.
const OPEN_CONFIGURATION_FILE: &str = "/mosquitto-no-auth.conf";
/// A broker that lets everybody in, forgets all when it ends, and drops nothing however much waits for a sender.
const CONFIGURATION: &str = "\
listener 1883
allow_anonymous true
persistence false
max_queued_messages 0
log_dest stderr
log_type all
";

/// How the features get their broker.
pub(crate) enum Mosquitto {
    Image(String),
    Program(PathBuf),
}

impl Mosquitto {
    /// The best that this machine has. Says which.
    pub(crate) fn prepare() -> Result<Self> {
        let mosquitto = match machine::no_docker() {
            None => Self::Image(image()?),
            Some(reason) => {
                let program = program().context(format!("no container can be run: {reason}"))?;
                println!("broker: no container, as {reason}");
                Self::Program(program)
            }
        };
        match &mosquitto {
            Self::Image(image) => println!("broker: image {image}"),
            Self::Program(program) => println!("broker: program {}", program.display()),
        }
        Ok(mosquitto)
    }

    /// Tells `command` which broker to use, and that no other is meant.
    pub(crate) fn tell(&self, command: &mut Command) {
        command.env_remove(IMAGE_VARIABLE).env_remove(PROGRAM_VARIABLE);
        match self {
            Self::Image(image) => command.env(IMAGE_VARIABLE, image),
            Self::Program(program) => command.env(PROGRAM_VARIABLE, program),
        };
    }
}

pub(crate) fn program() -> Result<PathBuf> {
    let hint = format!("{HINT}install it: on Debian `sudo apt-get install -y mosquitto`");
    machine::find("mosquitto").ok_or_else(|| anyhow!(hint).context("there is no program `mosquitto`"))
}

fn image() -> Result<String> {
    if let Some(named) = std::env::var(IMAGE_VARIABLE).ok().filter(|name| !name.is_empty()) {
        return Ok(named);
    }
    for known in [PUBLISHED, OURS] {
        if is_there(known)? {
            return Ok(known.to_owned());
        }
    }
    println!("broker: no image here, pulling {PUBLISHED} for at most {} s", PULL_LIMIT.as_secs());
    let pull = run::captured(run::program("docker").args(["pull", "--quiet", PUBLISHED]), PULL_LIMIT);
    let refusal = match pull {
        Ok(pull) if pull.status.success() => return Ok(PUBLISHED.to_owned()),
        Ok(pull) => anyhow!(pull.err.trim().to_owned()),
        Err(error) => error,
    };
    println!("broker: {PUBLISHED} cannot be pulled ({refusal:#}); making {OURS} from this machine's program");
    import().with_context(|| {
        format!("{HINT}name an image in {IMAGE_VARIABLE}, or install Debian's mosquitto, then try again")
    })?;
    Ok(OURS.to_owned())
}

fn is_there(image: &str) -> Result<bool> {
    let asked = run::captured(run::program("docker").args(["image", "inspect", image]), SHORT)?;
    Ok(asked.status.success())
}

/// Makes an image of Debian's program, the libraries it needs, and a configuration.
fn import() -> Result<()> {
    let program = program().context("cannot make an image")?;
    let work = tempfile::tempdir().context("cannot make a folder for an image")?;
    let tree = work.path().join("tree");
    fill(&tree, &program).context("cannot fill an image")?;
    let archive = work.path().join("image.tar");
    let tar = |command: &mut Command| run::text(command).context("cannot pack an image");
    tar(run::program("tar").arg("-cf").arg(&archive).arg("-C").arg(&tree).args([
        "--owner=0",
        "--group=0",
        ".",
    ]))?;
    let start = format!(r#"CMD ["/usr/sbin/mosquitto","-c","{CONFIGURATION_FILE}"]"#);
    let mut command = run::program("docker");
    command.args(["import", "--change", &start, "--change", "EXPOSE 1883"]).arg(&archive).arg(OURS);
    let imported = run::captured(&mut command, IMPORT_LIMIT)?;
    if !imported.status.success() {
        bail!("{} ended with {}: {}", run::told(&command), imported.status, imported.err.trim());
    }
    Ok(())
}

fn fill(tree: &Path, program: &Path) -> Result<()> {
    write(tree, "/etc/passwd", "root:x:0:0::/:/\nmosquitto:x:1883:1883::/:/\n")?;
    write(tree, "/etc/group", "root:x:0:\nmosquitto:x:1883:\n")?;
    write(tree, CONFIGURATION_FILE, CONFIGURATION)?;
    write(tree, OPEN_CONFIGURATION_FILE, CONFIGURATION)?;
    for folder in ["/mosquitto/data", "/mosquitto/log", "/tmp"] {
        let folder = inside(tree, folder);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    copy(tree, program, "/usr/sbin/mosquitto")?;
    let needed = run::text(run::program("ldd").arg(program))?;
    for library in libraries(&needed) {
        copy(tree, Path::new(library), library)?;
    }
    Ok(())
}

/// The files in the answer of `ldd`: behind the arrow, or, for the loader, without one.
fn libraries(answer: &str) -> Vec<&str> {
    answer
        .lines()
        .filter_map(|line| {
            let file = line.split_once("=>").map_or(line, |(_, file)| file);
            file.split_whitespace().next().filter(|file| file.starts_with('/'))
        })
        .collect()
}

fn inside(tree: &Path, path: &str) -> PathBuf {
    tree.join(path.trim_start_matches('/'))
}

fn write(tree: &Path, path: &str, text: &str) -> Result<()> {
    let file = inside(tree, path);
    make_parent(&file)?;
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn copy(tree: &Path, from: &Path, path: &str) -> Result<()> {
    let file = inside(tree, path);
    make_parent(&file)?;
    fs::copy(from, &file).map(|_| ()).with_context(|| format!("cannot copy {}", from.display()))
}

fn make_parent(file: &Path) -> Result<()> {
    let parent = file.parent().unwrap_or(file);
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_with_and_without_an_arrow() {
        let answer = "\tlinux-vdso.so.1 (0x00007f44c6a37000)\n\
                      \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f44c601e000)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f44c6a39000)\n\
                      \tlibgone.so.1 => not found\n";
        assert_eq!(libraries(answer), ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
    }
}
