//! What must be there: exactly the volumes that were answered `DONE` and not deleted. Looked for in the mount table,
//! among the loop devices, in the store, in the journal, and below the mount points; any difference is told.

use crate::ground::Ground;
use crate::machine::{self, Mount};
use crate::process::text;
use crate::sender::{End, Wish};
use crate::wait::success;
use anyhow::{Context, Result, bail, ensure};
use dvs_domain::ledger::{AnswerState, Phase};
use dvs_domain::ports::Journal;
use dvs_journal_redb::RedbJournal;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long what follows an answer may take: the kernel lets go of a killed process's devices a moment later, and the
/// journal learns that an answer has arrived.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);

/// What lies in a volume's folder.
const FILES: [&str; 3] = ["image", "record", "record.copy"];
/// What lies in the store's folder besides.
const BESIDES: [&str; 3] = ["id", "staging", "volumes"];
/// What lies in the state folder of an agent that runs.
const STATE: [&str; 6] = ["agent.sock", "journal", "journal.reserve", "lock", "loop", "store-ids"];

/// The file in a volume that tells whether it was ever formatted anew.
const MARKER: &str = "marker";

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    /// By mount point.
    pub(crate) attached: BTreeMap<PathBuf, Known>,
    /// By name.
    pub(crate) unattached: BTreeMap<String, Known>,
    /// Mount points over which there is a guard, because their volume is damaged.
    pub(crate) guarded: BTreeSet<PathBuf>,
    /// Mount points where a volume was mounted over a guard when it was mended.
    pub(crate) mended: BTreeSet<PathBuf>,
    /// Whether the journal need not know yet that the last answers have arrived: it learns that with what it records next.
    pub(crate) answers_may_be_out: bool,
    /// Directories below the mount points that were not made by the agent.
    pub(crate) own_directories: BTreeSet<PathBuf>,
}

/// A volume that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) size: u64,
    thick: bool,
    /// Its name, where it was given one.
    name: Option<String>,
    /// What its user wrote into it.
    marker: Option<String>,
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) volumes: usize,
    pub(crate) jobs: usize,
}

impl Truth {
    /// Notes what `wish` has come to. A volume that was not there before gets a file from its user.
    pub(crate) fn apply(&mut self, wish: &Wish, end: &End, marker: &str) -> Result<()> {
        if *end != End::Done {
            return Ok(());
        }
        match wish {
            Wish::Create { at, name, size, more } => {
                let thick = more.contains(&("provision", "thick"));
                let known = Known::unmarked(*size, thick, name.clone());
                match (at, name) {
                    (Some(at), _) if !self.attached.contains_key(at) => {
                        self.attached.insert(at.clone(), known);
                        self.mark(at, marker)?;
                    }
                    (None, Some(name)) => {
                        self.unattached.entry(name.clone()).or_insert(known);
                    }
                    _ => {}
                }
            }
            Wish::Delete { at: Some(at), .. } => {
                self.attached.remove(at);
                self.mended.remove(at);
            }
            Wish::Delete { name, .. } => {
                self.attached.retain(|_, known| known.name.is_none() || known.name != *name);
                self.unattached.retain(|known, _| Some(known) != name.as_ref());
            }
        }
        Ok(())
    }

    /// Makes sure that the machine has this and nothing else.
    pub(crate) async fn check(&self, ground: &Ground) -> Result<Seen> {
        success(SETTLED_WITHIN, async || {
            self.check_machine(ground)?;
            self.check_list(ground)?;
            let jobs = self.check_journal(ground).await?;
            Ok(Seen { volumes: self.attached.len() + self.unattached.len(), jobs })
        })
        .await
        .with_context(|| format!("node {}", ground.launch.node))
    }

    /// Looks at the machine once more, where nothing can have changed.
    pub(crate) async fn check_again(&self, ground: &Ground) -> Result<()> {
        success(SETTLED_WITHIN, async || self.check_machine(ground)).await
    }

    fn mark(&mut self, at: &Path, text: &str) -> Result<()> {
        let known = self.attached.get_mut(at).context("only a volume that is there is written to")?;
        let file = at.join(MARKER);
        let mounted = machine::mounts_below(at, None)?.iter().any(|mount| mount.point == at);
        ensure!(mounted, "DONE was said, and nothing is mounted at {}", at.display());
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        known.marker = Some(text.to_owned());
        Ok(())
    }

    fn check_machine(&self, ground: &Ground) -> Result<()> {
        let mut mounts = machine::mounts_below(&ground.mounts, None)?;
        for point in &self.mended {
            let guard = mounts.iter().position(|mount| mount.point == *point && is_guard(mount));
            mounts.remove(guard.with_context(|| format!("no guard below {}: {mounts:?}", point.display()))?);
        }
        let mut found: Vec<&PathBuf> = mounts.iter().map(|mount| &mount.point).collect();
        let expected: Vec<&PathBuf> = self.attached.keys().collect();
        found.sort();
        ensure!(found == expected, "mounted at {found:?}, expected at {expected:?}");
        let loops = machine::loops_below(&ground.folder)?;
        let mut names: Vec<String> = self.unattached.keys().cloned().collect();
        let mut devices = 0;
        for mount in &mounts {
            let known = &self.attached[&mount.point];
            if self.guarded.contains(&mount.point) {
                ensure!(is_guard(mount), "no guard: {mount:?}");
                continue;
            }
            devices += 1;
            let mut of_image = loops.iter().filter(|found| found.device == mount.source);
            let image = &of_image.next().with_context(|| format!("no loop device of ours: {mount:?}"))?.file;
            names.push(known.check(mount, image, &ground.store)?);
        }
        ensure!(loops.len() == devices, "loop devices {loops:?} for the mounts {mounts:?}");
        self.check_store(ground, names)?;
        self.check_directories(ground)
    }

    fn check_store(&self, ground: &Ground, mut names: Vec<String>) -> Result<()> {
        let found = machine::paths_below(&ground.store)?;
        let volumes = ground.store.join("volumes");
        if !self.guarded.is_empty() {
            let listed = fs::read_dir(&volumes).context("cannot list the volumes")?.count();
            ensure!(listed == names.len() + self.guarded.len(), "volumes: {found:?}");
            return Ok(());
        }
        names.sort();
        let mut expected: Vec<PathBuf> = BESIDES.iter().map(|path| ground.store.join(path)).collect();
        for name in &names {
            let folder = volumes.join(name);
            expected.extend(FILES.iter().map(|file| folder.join(file)));
            expected.push(folder);
        }
        expected.sort();
        ensure!(found == expected, "in the store {found:?}, expected {expected:?}");
        Ok(())
    }

    fn check_directories(&self, ground: &Ground) -> Result<()> {
        let found: BTreeSet<PathBuf> = machine::paths_below(&ground.mounts)?.into_iter().collect();
        let mut expected = self.own_directories.clone();
        for point in self.attached.keys() {
            let above = point.ancestors().take_while(|path| *path != ground.mounts);
            expected.extend(above.map(Path::to_path_buf));
        }
        ensure!(found == expected, "below the mount points {found:?}, expected {expected:?}");
        Ok(())
    }

    /// What the agent lists must be the same again.
    fn check_list(&self, ground: &Ground) -> Result<()> {
        let (state, program) = (&ground.launch.state, ground.launch.program.display().to_string());
        let listed =
            text(&program, ["ls".as_ref(), "--json".as_ref(), "--state".as_ref(), state.as_os_str()])?;
        let listed: Vec<serde_json::Value> =
            serde_json::from_str(&listed).context("`dvs ls` prints no JSON")?;
        let mut found: Vec<(String, String)> = Vec::new();
        for volume in &listed {
            let text = |key: &str| volume[key].as_str().unwrap_or_default().to_owned();
            found.push((text("mount_point"), text("state")));
        }
        let state = |at: &PathBuf| if self.guarded.contains(at) { "damaged" } else { "attached" };
        let attached = self.attached.keys().map(|at| (at.display().to_string(), state(at).to_owned()));
        let unattached = self.unattached.keys().map(|_| (String::new(), "unattached".to_owned()));
        let mut expected: Vec<_> = attached.chain(unattached).collect();
        found.sort();
        expected.sort();
        ensure!(found == expected, "`dvs ls` lists {found:?}, expected {expected:?}");
        Ok(())
    }

    /// Reads a copy of the journal, as a restart would find it now. Gives how many jobs are in it.
    async fn check_journal(&self, ground: &Ground) -> Result<usize> {
        let state = &ground.launch.state;
        let mut found: Vec<_> = machine::paths_below(state)?
            .iter()
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .collect();
        found.sort();
        ensure!(found == STATE, "in the state folder {found:?}, expected {STATE:?}");
        let copy = ground.launch.log.with_file_name("copy-of-journal");
        fs::create_dir_all(&copy).context("cannot make a folder for a copy")?;
        fs::copy(state.join("journal"), copy.join("journal")).context("cannot copy the journal")?;
        let remembered = RedbJournal::open(&copy.join("journal"))
            .map_err(|failure| anyhow::anyhow!(failure.chain()))?
            .load()
            .await
            .map_err(|failure| anyhow::anyhow!(failure.chain()))?;
        let mut points: Vec<_> =
            remembered.attachments.iter().map(|found| PathBuf::from(found.mount_point.as_str())).collect();
        points.sort();
        let expected: Vec<_> = self.attached.keys().cloned().collect();
        ensure!(points == expected, "the journal attaches at {points:?}, expected {expected:?}");
        let refusals = &remembered.refusals;
        ensure!(
            self.answers_may_be_out || refusals.is_empty(),
            "refusals wait for an acknowledgement: {refusals:?}"
        );
        for record in &remembered.jobs {
            match &record.phase {
                Phase::Finished(finished)
                    if !finished.needs_undo
                        && (self.answers_may_be_out || finished.answers == AnswerState::Acknowledged) => {}
                unsettled => bail!("the journal has not settled {}: {unsettled:?}", record.key()),
            }
        }
        Ok(remembered.jobs.len())
    }
}

/// Whether `mount` is a guard of the agent.
pub(crate) fn is_guard(mount: &Mount) -> bool {
    mount.file_system == "tmpfs" && mount.options.iter().any(|option| option == "ro")
}

impl Known {
    /// A volume of `size` mebibytes into which nobody has written a marker.
    pub(crate) fn unmarked(size: u64, thick: bool, name: Option<String>) -> Self {
        Self { size, thick, name, marker: None }
    }

    /// Makes sure that `mount` shows this volume, and gives the name of its folder in the store.
    fn check(&self, mount: &Mount, image: &Path, store: &Path) -> Result<String> {
        let name = image
            .strip_prefix(store.join("volumes"))
            .ok()
            .filter(|rest| rest.ends_with("image"))
            .and_then(|rest| rest.parent()?.to_str())
            .with_context(|| format!("{mount:?} shows {}, which is no volume", image.display()))?;
        for option in ["nosuid", "nodev"] {
            ensure!(mount.options.iter().any(|found| found == option), "not {option}: {mount:?}");
        }
        let found = fs::metadata(image).with_context(|| format!("cannot look at {}", image.display()))?;
        let bytes = self.size * 1024 * 1024;
        ensure!(found.len() == bytes, "{} has {} bytes, not {bytes}", image.display(), found.len());
        ensure!(!self.thick || bytes <= found.blocks() * 512, "{} is not allocated", image.display());
        if let Some(marker) = &self.marker {
            let file = mount.point.join(MARKER);
            let text =
                fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            ensure!(text == *marker, "{} says {text}, not {marker}", file.display());
        }
        Ok(name.to_owned())
    }
}
