//! What the socket shows of volumes. The spelling of these keys is a promise to scripts: `dvs ls --json`.

use dvs_core::{AttachmentRegistry, StoreRegistry};
use dvs_domain::failure::{Failure, FailureCode, FailureReport};
use dvs_domain::names::{StoreName, VolumeName};
use dvs_domain::ports::{Claim, ClaimKind, VolumeStore};
use dvs_domain::volume::{Entry, FileSystem, Provision, Volume, VolumeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tokio::sync::mpsc::Sender;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeView {
    pub store: String,
    pub name: String,
    /// `attached`, `not-attached` (it should be, see `reason`), `unattached` (it need not be), `damaged`,
    /// `unavailable`, or `missing` (it should be attached, and its store does not have it).
    pub state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where it is attached, or should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_point: Option<String>,
    pub holders: Vec<String>,
    /// What nodes say that share its store, where it is looked at alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<ClaimView>,
    /// What its store recorded, if that can be read.
    #[serde(flatten)]
    pub figures: Option<Figures>,
}

/// What a node has said about a volume of a store that it shares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimView {
    /// The node's id in the store.
    pub node: String,
    /// What it is called, if it has said that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// `attached`, or `deleting`.
    pub kind: String,
}

impl From<Claim> for ClaimView {
    fn from(claim: Claim) -> Self {
        let kind = match claim.kind {
            ClaimKind::Attached => "attached",
            ClaimKind::Deleting => "deleting",
        };
        Self { node: claim.node.to_string(), node_name: claim.node_name, kind: kind.to_owned() }
    }
}

/// What a store recorded of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    pub size_bytes: u64,
    /// What it takes in the store, in bytes.
    pub allocated_bytes: Option<u64>,
    /// Its file system, where the store formats one.
    pub file_system: Option<String>,
    /// `thin` or `thick`, where the store takes room.
    pub provision: Option<String>,
    /// The owner of its top directory.
    pub uid: u32,
    /// The group of its top directory.
    pub gid: u32,
    /// The permissions of its top directory, octal.
    pub mode: String,
    pub made_by: Option<String>,
    /// When it was made, in milliseconds since the Unix epoch.
    pub made_at_milliseconds: u64,
}

/// A failure, as every door of DVS shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureView {
    pub code: String,
    /// The thing, the step, the cause.
    pub error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl From<FailureReport> for FailureView {
    fn from(report: FailureReport) -> Self {
        Self { code: report.code.as_str().to_owned(), error: report.error, hint: report.hint }
    }
}

/// Sends every volume to `views`: what the stores list, and what should be attached though its store does not answer or does not
/// have it. One after the other: the views of thousands would take megabytes.
pub(super) async fn each(stores: &StoreRegistry, node: &AttachmentRegistry, views: &Sender<VolumeView>) {
    let show = async |view| _ = views.send(view).await;
    let mut unlisted: BTreeSet<VolumeId> =
        node.book(|book| book.iter().map(|attachment| attachment.volume.clone()).collect());
    for (name, store) in stores.iter() {
        match stores.list(name).await {
            Ok(entries) => {
                for entry in entries {
                    unlisted.remove(&VolumeId { store: name.clone(), name: entry.name().clone() });
                    show(of_entry(name, store.as_ref(), node, entry).await).await;
                }
            }
            Err(failure) => {
                for id in of_silent_store(name, stores, node) {
                    show(attached_or_not(&id, node, Some(("unavailable", failure.chain())), None)).await;
                    unlisted.remove(&id);
                }
            }
        }
    }
    // What a job has removed meanwhile is not missing.
    unlisted.retain(|id| node.book(|book| book.of(id).is_some()));
    for id in unlisted {
        show(missing(&id, stores, node)).await;
    }
}

/// The volume called `name`, in `store` or in whichever store has it.
pub(super) async fn one(
    stores: &StoreRegistry,
    node: &AttachmentRegistry,
    store: Option<&StoreName>,
    name: &VolumeName,
) -> Result<Option<VolumeView>, Failure> {
    let Some((id, entry)) = stores.find(store, name).await? else {
        let meant = |id: &VolumeId| store.is_none_or(|store| *store == id.store);
        let attached = node.book(|book| book.named(name).map(|it| it.volume.clone()).find(meant));
        return Ok(attached.map(|id| missing(&id, stores, node)));
    };
    let adapter = stores.get(&id.store)?;
    let mut view = of_entry(&id.store, adapter.as_ref(), node, entry).await;
    if let Some(shared) = adapter.shared() {
        view.claims = shared.claims(name).await?.into_iter().map(ClaimView::from).collect();
    }
    Ok(Some(view))
}

async fn of_entry(
    store_name: &StoreName,
    store: &dyn VolumeStore,
    node: &AttachmentRegistry,
    entry: Entry,
) -> VolumeView {
    let id = VolumeId { store: store_name.clone(), name: entry.name().clone() };
    match entry {
        Entry::Damaged { reason, .. } => attached_or_not(&id, node, Some(("damaged", reason)), None),
        Entry::Sound(volume) => {
            // A remote store would take round trips for each volume, and knows only what it can be at most.
            let allocated = match store.shared() {
                Some(_) => None,
                None => store.usage(&id.name).await.ok().map(|usage| usage.allocated_bytes),
            };
            attached_or_not(&id, node, None, Some(figures(&volume, allocated)))
        }
    }
}

/// What is attached of a store that does not answer, and what it has listed when it last did.
fn of_silent_store(
    store: &StoreName,
    stores: &StoreRegistry,
    node: &AttachmentRegistry,
) -> BTreeSet<VolumeId> {
    let last_seen = stores.last_seen(store).into_iter();
    let mut known: BTreeSet<VolumeId> =
        last_seen.map(|name| VolumeId { store: store.clone(), name }).collect();
    node.book(|book| {
        let of_store = book.iter().filter(|attachment| attachment.volume.store == *store);
        known.extend(of_store.map(|found| found.volume.clone()));
    });
    known
}

/// What the node's book has and no store.
fn missing(id: &VolumeId, stores: &StoreRegistry, node: &AttachmentRegistry) -> VolumeView {
    let reason = match stores.get(&id.store) {
        // The book is written first and cleared last.
        Ok(_) => "its store does not have it, unless a job is making or removing it right now".to_owned(),
        Err(failure) => failure.chain(),
    };
    attached_or_not(id, node, Some(("missing", reason)), None)
}

fn attached_or_not(
    id: &VolumeId,
    node: &AttachmentRegistry,
    broken: Option<(&str, String)>,
    figures: Option<Figures>,
) -> VolumeView {
    let attachment = node.book(|book| book.of(id).cloned());
    let trouble = attachment.as_ref().and_then(|attachment| node.trouble_at(&attachment.mount_point));
    let (state, reason) = match (broken, &attachment, trouble) {
        (Some((state, reason)), ..) => (state, Some(reason)),
        (None, Some(_), Some(trouble)) if trouble.code == FailureCode::Damaged => {
            ("damaged", Some(trouble.error))
        }
        (None, Some(_), Some(trouble)) => ("not-attached", Some(trouble.error)),
        (None, Some(_), None) => ("attached", None),
        (None, None, _) => ("unattached", None),
    };
    VolumeView {
        store: id.store.to_string(),
        name: id.name.to_string(),
        state: state.to_owned(),
        reason,
        mount_point: attachment.as_ref().map(|attachment| attachment.mount_point.to_string()),
        holders: attachment
            .map(|attachment| attachment.holders.iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
        claims: Vec::new(),
        figures,
    }
}

fn figures(volume: &Volume, allocated_bytes: Option<u64>) -> Figures {
    let spec = &volume.spec;
    Figures {
        size_bytes: spec.size.bytes(),
        allocated_bytes,
        file_system: spec.file_system.map(FileSystem::as_str).map(str::to_owned),
        provision: spec.provision.map(Provision::as_str).map(str::to_owned),
        uid: spec.uid,
        gid: spec.gid,
        mode: spec.mode.to_string(),
        made_by: volume.made_by.as_ref().map(ToString::to_string),
        made_at_milliseconds: volume.made_at.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use dvs_domain::attachment::Attachment;
    use dvs_domain::ledger::{Change, Remembered};
    use dvs_domain::mount_point::MountPoint;
    use dvs_domain::ports::Journal;
    use dvs_store_fake::FakeStore;
    use std::sync::Arc;
    use tokio::sync::mpsc;

    struct NoJournal;

    #[async_trait]
    impl Journal for NoJournal {
        async fn load(&self) -> Result<Remembered, Failure> {
            Ok(Remembered::default())
        }

        async fn commit(&self, _: &[Change]) -> Result<(), Failure> {
            Ok(())
        }
    }

    fn attachment(store: &str, mount_point: &str) -> Attachment {
        Attachment {
            volume: VolumeId {
                store: StoreName::new(store).unwrap(),
                name: VolumeName::new("lost").unwrap(),
            },
            mount_point: MountPoint::new(mount_point).unwrap(),
            made_directories: Vec::new(),
            holders: Default::default(),
        }
    }

    #[tokio::test]
    async fn what_should_be_attached_and_no_store_has_is_shown_as_missing() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let store = FakeStore::at(StoreName::new("here").unwrap(), folder.path());
        let stores = StoreRegistry::new(vec![Arc::new(store)]).unwrap();
        let node = AttachmentRegistry::new(
            Arc::new(NoJournal),
            [attachment("here", "/mnt/a"), attachment("gone", "/mnt/b")],
        );

        let (sender, mut receiver) = mpsc::channel(9);
        let mut views = Vec::new();
        each(&stores, &node, &sender).await;
        drop(sender);
        while let Some(view) = receiver.recv().await {
            views.push(view);
        }
        let told: Vec<_> = views.iter().map(|view| (view.store.as_str(), view.state.as_str())).collect();
        assert_eq!(told, [("gone", "missing"), ("here", "missing")]);
        assert_eq!(views[1].mount_point.as_deref(), Some("/mnt/a"));
        assert!(views[1].reason.as_ref().unwrap().starts_with("its store does not have it"));
        assert!(views[0].reason.as_ref().unwrap().contains("no store is called `gone`"));

        let name = VolumeName::new("lost").unwrap();
        let here = StoreName::new("here").unwrap();
        assert_eq!(one(&stores, &node, Some(&here), &name).await.unwrap().as_ref(), Some(&views[1]));
    }
}
