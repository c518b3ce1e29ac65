//! Whatever arrives, decoding ends with a job or a refusal; and what is encoded is decoded to the same.

#![expect(clippy::unwrap_used, reason = "also the helpers of tests may stop a test")]

use dvs_domain::job::{CreateRequest, DeleteRequest, Job, JobKind, JobRequest, Target};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::{JobId, NodeName, SenderId, StoreName, VolumeName};
use dvs_domain::ports::Arrival;
use dvs_domain::size::VolumeSize;
use dvs_domain::volume::{FileSystem, Mode, Provision};
use dvs_job_json::{TopicWords, Topics, decode, decode_answer, encode_job};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn topics() -> Topics {
    Topics::new(TopicWords::default(), NodeName::new("n1").unwrap()).unwrap()
}

fn valid() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec![
        include_bytes!("examples/specification-create.json").to_vec(),
        include_bytes!("examples/specification-delete.json").to_vec(),
        include_bytes!("examples/deployed-create.json").to_vec(),
        br#"{"job":"1","sipId":"s","name":"v","volumeSize":3,"uid":1,"mode":"0700","x":[{"y":[1,2]}]}"#
            .to_vec(),
    ])
}

/// One change to a payload.
#[derive(Clone, Debug)]
enum Mutation {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, String),
    Double(prop::sample::Index, prop::sample::Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<prop::sample::Index>;
    let token = prop::sample::select(vec![
        "\"",
        "\\",
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "null",
        "1e9",
        "-0",
        "\\u0000",
        "\u{feff}",
        "\"job\":\"1\",",
    ]);
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(index, bits)| Mutation::Flip(index, bits)),
        at().prop_map(Mutation::Cut),
        (at(), token).prop_map(|(index, token)| Mutation::Insert(index, token.to_owned())),
        (at(), at()).prop_map(|(from, to)| Mutation::Double(from, to)),
    ]
}

fn mutate(mut payload: Vec<u8>, mutations: &[Mutation]) -> Vec<u8> {
    for mutation in mutations {
        if payload.is_empty() {
            break;
        }
        let length = payload.len();
        match mutation {
            Mutation::Flip(index, bits) => payload[index.index(length)] ^= bits,
            Mutation::Cut(index) => payload.truncate(index.index(length)),
            Mutation::Insert(index, token) => {
                let at = index.index(length);
                payload.splice(at..at, token.bytes());
            }
            Mutation::Double(from, to) => {
                let (from, to) = (from.index(length), to.index(length));
                let part = payload[from.min(to)..from.max(to)].to_vec();
                payload.splice(from.min(to)..from.min(to), part);
            }
        }
    }
    payload
}

prop_compose! {
    fn job()(
        sender in "[a-zA-Z0-9 .ü$-]{1,40}",
        id in "[!-~]{1,128}",
        path in option::of(vec("[a-zA-Z0-9_ äé\"\\\\]{1,12}", 1..5)),
        name in option::of("[a-zA-Z0-9][a-zA-Z0-9_.-]{0,30}"),
        store in option::of("[a-z]{1,10}"),
        size in option::of(1..=VolumeSize::MEBIBYTES_MAX),
        fs in option::of(prop::sample::select(FileSystem::ALL.to_vec())),
        owner in (option::of(0..u32::MAX), option::of(0..u32::MAX)),
        mode in option::of(1..=0o7777_u32),
        thick in option::of(any::<bool>()),
    ) -> Job {
        let mount_point = match (&path, &name) {
            (None, Some(_)) => None,
            _ => Some(MountPoint::new(format!("/{}", path.unwrap_or_else(|| vec!["mnt".into()]).join("/"))).unwrap()),
        };
        let target = Target::new(
            store.map(|store| StoreName::new(store).unwrap()),
            name.map(|name| VolumeName::new(name).unwrap()),
            mount_point,
        ).unwrap();
        let request = match size {
            None => JobRequest::Delete(DeleteRequest { target }),
            Some(size) => JobRequest::Create(CreateRequest {
                target,
                size: VolumeSize::from_mebibytes(size).unwrap(),
                file_system: fs,
                uid: owner.0,
                gid: owner.1,
                mode: mode.map(|bits| Mode::parse(&format!("{bits:o}")).unwrap()),
                provision: thick.map(|thick| if thick { Provision::Thick } else { Provision::Thin }),
            }),
        };
        Job { sender: SenderId::new(sender).unwrap(), id: JobId::new(id).unwrap(), request }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_end_with_a_refusal(payload in vec(any::<u8>(), 0..400), topic in ".{0,40}") {
        prop_assert!(matches!(decode(&topics(), &topic, &payload, false), Arrival::Refused(_)));
        let create = topics().job_topic(JobKind::Create);
        prop_assert!(matches!(decode(&topics(), &create, &payload, false), Arrival::Refused(_)));
        let _ = decode_answer(&payload);
    }

    #[test]
    fn mutated_payloads_never_stop_the_decoder(
        payload in valid(),
        mutations in vec(mutation(), 1..6),
        delete in any::<bool>(),
    ) {
        let payload = mutate(payload, &mutations);
        let topics = topics();
        let topic = topics.job_topic(if delete { JobKind::Delete } else { JobKind::Create });
        match decode(&topics, &topic, &payload, false) {
            Arrival::Refused(refusal) => prop_assert!(refusal.report.error.len() < 400, "{refusal:?}"),
            Arrival::Job(job) => prop_assert_eq!(
                decode(&topics, &encode_job(&topics, &job).0, &encode_job(&topics, &job).1, false),
                Arrival::Job(job),
            ),
        }
    }

    #[test]
    fn what_is_sent_is_what_arrives(job in job()) {
        let topics = topics();
        let (topic, payload) = encode_job(&topics, &job);
        prop_assert_eq!(decode(&topics, &topic, &payload, false), Arrival::Job(job));
    }
}
