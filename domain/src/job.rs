//! Jobs: one request to create or delete a volume, and the answers it gets.

pub use crate::job_key::{JobKey, JobKind, Maker};

use crate::failure::{Failure, FailureCode, FailureReport};
use crate::mount_point::MountPoint;
use crate::names::{JobId, SenderId, StoreName, VolumeName};
use crate::size::VolumeSize;
use crate::volume::{
    Comparison, Difference, FileSystem, Mode, Provision, StoreDescription, VolumeId, VolumeSpec,
};
use std::fmt;

/// One well-formed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Who asked.
    pub sender: SenderId,
    /// Under which id.
    pub id: JobId,
    /// For what.
    pub request: JobRequest,
}

impl Job {
    /// The job's identity.
    #[must_use]
    pub fn key(&self) -> JobKey {
        JobKey { sender: self.sender.clone(), kind: self.request.kind(), id: self.id.clone() }
    }
}

/// The content of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobRequest {
    /// Make a volume.
    Create(CreateRequest),
    /// Destroy a volume.
    Delete(DeleteRequest),
}

impl JobRequest {
    /// Create or delete.
    #[must_use]
    pub fn kind(&self) -> JobKind {
        match self {
            Self::Create(_) => JobKind::Create,
            Self::Delete(_) => JobKind::Delete,
        }
    }

    /// What the job is about.
    #[must_use]
    pub fn target(&self) -> &Target {
        match self {
            Self::Create(create) => &create.target,
            Self::Delete(delete) => &delete.target,
        }
    }
}

/// Which volume a job is about: by mount point, by name, or both; never neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    mount_point: Option<MountPoint>,
    name: Option<VolumeName>,
    /// The store, where the job names one.
    pub store: Option<StoreName>,
}

impl Target {
    /// A target by what is given.
    ///
    /// # Errors
    /// [`FailureCode::BadRequest`] when there is neither a mount point nor a name.
    pub fn new(
        store: Option<StoreName>,
        name: Option<VolumeName>,
        mount_point: Option<MountPoint>,
    ) -> Result<Self, Failure> {
        if mount_point.is_none() && name.is_none() {
            return Err(Failure::new(
                FailureCode::BadRequest,
                "the job names neither a mount point nor a volume",
            ));
        }
        Ok(Self { mount_point, name, store })
    }

    /// The mount point, if the job gave one.
    #[must_use]
    pub fn mount_point(&self) -> Option<&MountPoint> {
        self.mount_point.as_ref()
    }

    /// The name that the job gave, if any.
    #[must_use]
    pub fn given_name(&self) -> Option<&VolumeName> {
        self.name.as_ref()
    }

    /// The name that the job gave, or else the one that its mount point gives.
    #[must_use]
    pub fn name(&self) -> VolumeName {
        match (&self.name, &self.mount_point) {
            (Some(name), _) => name.clone(),
            (None, Some(mount_point)) => mount_point.derived_name(),
            (None, None) => unreachable!("the constructor refuses a target without both"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.store, &self.name) {
            (Some(store), Some(name)) => write!(formatter, "volume `{store}/{name}`")?,
            (None, Some(name)) => write!(formatter, "volume `{name}`")?,
            (_, None) => formatter.write_str("volume")?,
        }
        match &self.mount_point {
            Some(mount_point) => write!(formatter, " at `{mount_point}`"),
            None => Ok(()),
        }
    }
}

/// What a create job asks for. `None` stands for "as configured".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateRequest {
    /// Which volume.
    pub target: Target,
    /// How large.
    pub size: VolumeSize,
    /// The file system.
    pub file_system: Option<FileSystem>,
    /// The owner of its top directory.
    pub uid: Option<u32>,
    /// The group of its top directory.
    pub gid: Option<u32>,
    /// The permissions of its top directory.
    pub mode: Option<Mode>,
    /// Whether room is taken at once.
    pub provision: Option<Provision>,
}

impl CreateRequest {
    /// A request for a volume at `mount_point`, all else as configured.
    #[must_use]
    pub fn at(mount_point: MountPoint, size: VolumeSize) -> Self {
        let target = Target { mount_point: Some(mount_point), name: None, store: None };
        Self { target, size, file_system: None, uid: None, gid: None, mode: None, provision: None }
    }

    /// Fills in what this leaves open from the defaults of `store`, for a volume called `name`.
    ///
    /// # Errors
    /// [`FailureCode::Unsupported`] where the store cannot do what is asked, and [`FailureCode::BadRequest`]
    /// for a size below the least of the file system.
    pub fn complete(&self, store: &StoreDescription, name: VolumeName) -> Result<VolumeSpec, Failure> {
        let lacks = |what: &str| {
            Failure::new(FailureCode::Unsupported, format!("store `{}` ({}) {what}", store.name, store.kind))
                .with_hint("leave that option out, or name another store")
        };
        if self.file_system.is_some() && store.file_system.is_none() {
            return Err(lacks("makes no file system"));
        }
        if self.provision.is_some() && store.provision.is_none() {
            return Err(lacks("allocates nothing in advance"));
        }
        let file_system = self.file_system.or(store.file_system);
        if let Some(fs) = file_system.filter(|fs| self.size.mebibytes() < fs.mebibytes_min()) {
            return Err(Failure::new(
                FailureCode::BadRequest,
                format!("{} is too small for {fs}: at least {} MiB", self.size, fs.mebibytes_min()),
            ));
        }
        Ok(VolumeSpec {
            id: VolumeId { store: store.name.clone(), name },
            size: self.size,
            file_system,
            uid: self.uid.unwrap_or(store.uid),
            gid: self.gid.unwrap_or(store.gid),
            mode: self.mode.unwrap_or(store.mode),
            provision: self.provision.or(store.provision),
        })
    }

    /// Whether `volume` is what this asks for. What the request leaves open agrees with anything:
    /// a changed default never turns a repeated job into a conflict.
    #[must_use]
    pub fn compare(&self, volume: &VolumeSpec) -> Comparison {
        let mut differences = Vec::new();
        let mut compare = |field: &'static str, is: String, asked: Option<String>| {
            if let Some(asked) = asked.filter(|asked| *asked != is) {
                differences.push(Difference { field, is, asked });
            }
        };
        let or_none = |value: Option<&'static str>| value.unwrap_or("none").to_owned();
        compare("size", volume.size.to_string(), Some(self.size.to_string()));
        compare(
            "file system",
            or_none(volume.file_system.map(FileSystem::as_str)),
            self.file_system.map(|fs| fs.as_str().to_owned()),
        );
        compare("uid", volume.uid.to_string(), self.uid.map(|uid| uid.to_string()));
        compare("gid", volume.gid.to_string(), self.gid.map(|gid| gid.to_string()));
        compare("mode", volume.mode.to_string(), self.mode.map(|mode| mode.to_string()));
        compare(
            "provision",
            or_none(volume.provision.map(Provision::as_str)),
            self.provision.map(|provision| provision.as_str().to_owned()),
        );
        if differences.is_empty() { Comparison::Same } else { Comparison::Differs(differences) }
    }

    #[cfg(test)]
    pub(crate) fn of_size(size: VolumeSize) -> Self {
        Self::at(MountPoint::new("/mnt/v").expect("a normal path"), size)
    }
}

/// What a delete job asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRequest {
    /// Which volume.
    pub target: Target,
}

/// What a sender is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whose topic it goes to.
    pub sender: SenderId,
    /// The id that the sender chose; absent when the refused job had no usable one.
    pub job: Option<JobId>,
    /// What is said.
    pub status: Status,
}

/// The word of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// The job is on disk, work starts.
    Pending,
    /// The work is finished and durable.
    Done,
    /// There will be no `DONE`. Never said on `…/jobs`: deployed senders take it for success.
    Failed(FailureReport),
}

/// A message that is no job, or none that can be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whom to tell; nobody when the payload has no usable sender.
    pub sender: Option<SenderId>,
    /// The id that the sender chose, if it is usable.
    pub job: Option<JobId>,
    /// Why.
    pub report: FailureReport,
}

impl Refusal {
    /// The refusal of `job`.
    #[must_use]
    pub fn of(job: &Job, failure: &Failure) -> Self {
        Self { sender: Some(job.sender.clone()), job: Some(job.id.clone()), report: failure.report() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> CreateRequest {
        CreateRequest::of_size(VolumeSize::from_mebibytes(100).unwrap())
    }

    fn description() -> StoreDescription {
        StoreDescription {
            name: StoreName::new("loop").unwrap(),
            kind: "loop",
            file_system: Some(FileSystem::Ext4),
            provision: Some(Provision::Thin),
            uid: 0,
            gid: 0,
            mode: Mode::DEFAULT,
            attachable: true,
            is_shared: false,
        }
    }

    #[test]
    fn what_a_request_leaves_open_agrees_with_anything() {
        let name = VolumeName::new("v").unwrap();
        let asked = CreateRequest { file_system: Some(FileSystem::Ext2), uid: Some(5), ..request() };
        let spec = asked.complete(&description(), name).unwrap();
        assert_eq!(asked.compare(&spec), Comparison::Same);
        assert_eq!(request().compare(&spec), Comparison::Same);
    }

    #[test]
    fn a_conflict_names_each_difference() {
        let spec = request().complete(&description(), VolumeName::new("v").unwrap()).unwrap();
        let other = CreateRequest {
            size: VolumeSize::from_mebibytes(300).unwrap(),
            file_system: Some(FileSystem::Xfs),
            uid: Some(1),
            gid: Some(2),
            mode: Some(Mode::parse("0700").unwrap()),
            provision: Some(Provision::Thick),
            ..request()
        };
        let conflict = other.compare(&spec).into_result(&spec.id).unwrap_err();
        assert_eq!(conflict.code(), FailureCode::Conflict);
        assert_eq!(
            conflict.to_string(),
            "volume `loop/v` is there with other content: size is 100 MiB, \
             the request asks for 300 MiB; file system is ext4, the request asks for xfs; uid is 0, \
             the request asks for 1; gid is 0, the request asks for 2; mode is 0755, the request asks for 0700; \
             provision is thin, the request asks for thick"
        );
    }

    #[test]
    fn sizes_below_the_least_of_a_file_system_are_refused() {
        for (fs, least) in [(FileSystem::Ext4, 1), (FileSystem::Btrfs, 109), (FileSystem::Xfs, 300)] {
            let of = |mebibytes| CreateRequest {
                file_system: Some(fs),
                ..CreateRequest::of_size(VolumeSize::from_mebibytes(mebibytes).unwrap())
            };
            let complete =
                |request: CreateRequest| request.complete(&description(), VolumeName::new("v").unwrap());
            assert!(complete(of(least)).is_ok());
            if least > 1 {
                assert_eq!(complete(of(least - 1)).unwrap_err().code(), FailureCode::BadRequest);
            }
        }
    }

    #[test]
    fn what_a_store_cannot_do_is_refused() {
        assert!(description().admit_mount_point().is_ok());
        let plain = StoreDescription { file_system: None, attachable: false, ..description() };
        assert_eq!(plain.admit_mount_point().unwrap_err().code(), FailureCode::Unsupported);
        let asked = CreateRequest { file_system: Some(FileSystem::Ext4), ..request() };
        let refused = asked.complete(&plain, VolumeName::new("v").unwrap()).unwrap_err();
        assert_eq!(refused.code(), FailureCode::Unsupported);
    }
}
