//! The mark of who is destroying a volume. It decides nothing by itself: a destroy that comes to nothing takes its mark
//! away, at once or when the server answers again, because nobody else may.

use crate::entry::{self, Directory, Sound, State};
use crate::layout::{self, DELETING};
use crate::nodes;
use crate::problem::{At, Problem};
use crate::shared::{Folders, Work};
use crate::sweep::{self, Left};
use crate::target::{Bookmark, Fault, Handle, Listed, Name, TargetError};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::VolumeName;
use dvs_domain::user::{User, in_use};
use futures::StreamExt;
use tokio::time::Instant;

const STEP: &str = "mark as deleting";
const WITHDRAW: &str = "take the mark away";
/// How often the mark is tried that another node may be taking away.
const TRIES: usize = 3;
/// So many folders are looked into side by side, beside what others ask.
const LOOKS_AT_ONCE: usize = 4;

/// Marks a volume as being destroyed by this node, unless another node has it attached or destroys it.
pub(crate) async fn decide(work: &Work, sound: &Sound) -> Result<(), Problem> {
    match mark_and_look(work, sound.name(), &sound.metadata).await {
        Ok(()) => Ok(()),
        Err(problem) => Err(withdraw(work, sound, problem).await),
    }
}

async fn mark_and_look(work: &Work, name: &VolumeName, metadata: &Handle) -> Result<(), Problem> {
    mark(work, name, metadata).await?;
    let claims = nodes::attached_in(work, metadata, STEP).await?;
    let users: Vec<User> = claims
        .into_iter()
        // What this node has attached, its agent has detached before it asked.
        .filter(|claim| claim.node != work.shared.node.id)
        .map(|claim| User::Node { id: claim.node.to_string(), name: claim.node_name })
        .collect();
    if users.is_empty() {
        return Ok(());
    }
    let refused = in_use(&users)
        .with_hint("detach it there first; if that node is dead, `dvs release` takes away what it left");
    Err(refused.into())
}

async fn mark(work: &Work, name: &VolumeName, metadata: &Handle) -> Result<(), Problem> {
    let deleting = layout::name(DELETING).at(STEP)?;
    let own = work.shared.node.id.as_str();
    for _ in 0..TRIES {
        match work.mark(metadata, &deleting, own).await {
            Err(TargetError { fault: Fault::Exists, .. }) => {}
            marked => return marked.at(STEP),
        }
        match work.read_mark(metadata, &deleting).await.at(STEP)? {
            // An earlier attempt of this node was cut off, or an answer was lost.
            Some(node) if node == own => return Ok(()),
            Some(node) => return Err(destroyed_by(work, name, &node).at_step(STEP).into()),
            None => {} // It has just been taken away.
        }
    }
    let detail = format!("other nodes begin and give up destroying volume `{}`", work.shared.id(name));
    Err(Failure::new(FailureCode::Busy, detail).at_step(STEP).into())
}

/// Another node destroys it.
pub(crate) fn destroyed_by(work: &Work, name: &VolumeName, node: &str) -> Failure {
    let detail = format!("node {} is destroying volume `{}`", node.escape_debug(), work.shared.id(name));
    Failure::new(FailureCode::Busy, detail)
        .with_hint("if that node is dead, `dvs release` takes away what it left")
}

/// Takes this node's mark away after a destroy that came to nothing because of `problem`. When the server is away
/// nobody knows whether there is one: that is looked at when it is back. What was decided earlier stays marked.
pub(crate) async fn withdraw(work: &Work, sound: &Sound, problem: Problem) -> Problem {
    let shared = &work.shared;
    let problem = if sound.directory == Directory::Gone { problem.after_decision() } else { problem };
    if problem.is_away() || problem.is_stale() {
        shared.doubt(Left::Mark(sound.name().clone()));
        return problem;
    }
    match take_away(work, sound).await {
        Ok(()) => problem,
        Err(undo) => {
            let undo = undo.told(&shared.name, &shared.settings);
            Problem::Told(problem.told(&shared.name, &shared.settings).undo_failed(undo))
        }
    }
}

/// Takes this node's mark away. One that stays is taken away later.
pub(crate) async fn take_away(work: &Work, sound: &Sound) -> Result<(), Problem> {
    if sound.directory == Directory::Gone {
        return Ok(());
    }
    let work = work.undoing();
    let taken = match is_own(&work, &sound.metadata).await {
        Ok(true) => remove(&work, &sound.metadata).await,
        other => other.map(drop),
    };
    if taken.is_err() {
        work.shared.doubt(Left::Mark(sound.name().clone()));
    }
    taken
}

/// Takes this node's mark away from `name`, if there is one, and what it was made for was not decided.
pub(crate) async fn settle(work: &Work, folders: &Folders, name: &VolumeName) -> Result<(), Problem> {
    let file = layout::name(name.as_str()).at(WITHDRAW)?;
    let found = work.look_up(&folders.metadata, &file).await.at(WITHDRAW)?;
    if let Some(found) = found.filter(|found| found.attributes.is_folder)
        && is_own(work, &found.handle).await?
    {
        let is_undecided = match entry::find_in(work, folders, name).await? {
            State::Sound(sound) => sound.directory != Directory::Gone,
            State::Damaged(_) => work.look_up(&folders.volumes, &file).await.at(WITHDRAW)?.is_some(),
            State::Absent => false,
        };
        if is_undecided {
            remove(work, &found.handle).await?;
        }
    }
    work.shared.doubts().remove(&Left::Mark(name.clone()));
    Ok(())
}

/// How far this node's marks from before this start were looked for.
#[derive(Debug)]
pub(crate) enum Search {
    /// The next page is here, in this folder, or is the first one.
    At(Option<(Handle, Bookmark)>),
    Done,
}

impl Default for Search {
    fn default() -> Self {
        Self::At(None)
    }
}

impl Search {
    /// Where to go on in `folder`, unless nothing is left to do. A place in another folder is none in this one.
    fn next(&self, folder: &Handle) -> Option<Option<Bookmark>> {
        match self {
            Self::Done => None,
            Self::At(Some((at, bookmark))) if at == folder => Some(Some(*bookmark)),
            Self::At(_) => Some(None),
        }
    }
}

/// Looks for this node's marks from before this start: whatever they were made for was not decided, or has left more.
/// Where there are more volumes than can be looked into within a limit, the next time goes on from there.
pub(crate) async fn look_for_own(work: &Work, folders: &Folders) -> Result<(), Problem> {
    let shared = &work.shared;
    let until = Instant::now() + shared.long();
    loop {
        let next = shared.search().next(&folders.metadata);
        let Some(from) = next else { return Ok(()) };
        if until <= Instant::now() {
            return Err(sweep::not_all(shared).into());
        }
        let listed = work.anew().list(&folders.metadata, from).await;
        if matches!(listed, Err(TargetError { fault: Fault::LostPlace, .. })) {
            *shared.search() = Search::default();
        }
        let page = listed.at(WITHDRAW)?;
        let found: Vec<Option<VolumeName>> = futures::stream::iter(page.entries)
            .map(|entry| own_mark_in(work, folders, entry, until))
            .buffer_unordered(LOOKS_AT_ONCE)
            .collect()
            .await;
        for name in found.into_iter().flatten() {
            shared.doubt(Left::Mark(name));
        }
        sweep::refuse_too_many(shared.doubts().len())?;
        let at = |bookmark| Search::At(Some((folders.metadata.clone(), bookmark)));
        *shared.search() = page.next.map_or(Search::Done, at);
    }
}

/// The volume that an entry is of, if this node's mark is in it, or may be: nobody could read it in time.
async fn own_mark_in(work: &Work, folders: &Folders, entry: Listed, until: Instant) -> Option<VolumeName> {
    let name = VolumeName::new(String::from_utf8(entry.name).ok()?).ok()?;
    let is_marked = until <= Instant::now()
        || is_own_in(&work.anew(), folders, &name, entry.handle).await.unwrap_or(true);
    is_marked.then_some(name)
}

async fn is_own_in(
    work: &Work,
    folders: &Folders,
    name: &VolumeName,
    metadata: Option<Handle>,
) -> Result<bool, Problem> {
    if let Some(metadata) = metadata {
        return is_own(work, &metadata).await;
    }
    let file = layout::name(name.as_str()).at(WITHDRAW)?;
    match work.look_up(&folders.metadata, &file).await.at(WITHDRAW)? {
        Some(found) => is_own(work, &found.handle).await,
        None => Ok(false),
    }
}

async fn is_own(work: &Work, metadata: &Handle) -> Result<bool, Problem> {
    let marked = work.read_mark(metadata, &deleting()?).await.at(WITHDRAW)?;
    Ok(marked.is_some_and(|node| node == work.shared.node.id.as_str()))
}

async fn remove(work: &Work, metadata: &Handle) -> Result<(), Problem> {
    work.remove_file(metadata, &deleting()?).await.at(WITHDRAW).map(drop)
}

fn deleting() -> Result<Name, Problem> {
    layout::name(DELETING).at(WITHDRAW)
}
