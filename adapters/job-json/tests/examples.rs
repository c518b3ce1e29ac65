//! The examples of the specification, word for word, and the exact bytes that deployed senders publish.

#![expect(clippy::unwrap_used, clippy::panic, reason = "also the helpers of tests may stop a test")]

use dvs_domain::failure::{FailureCode, FailureReport};
use dvs_domain::job::{Answer, Job, JobKind, JobRequest, Status};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::{JobId, NodeName, SenderId, StoreName};
use dvs_domain::ports::Arrival;
use dvs_job_json::{
    ANSWER_TEXT_CHARACTERS_MAX, Presence, ReceivedAnswer, TopicWords, Topics, decode, decode_answer,
    encode_answer, encode_job, encode_presence,
};

fn topics() -> Topics {
    Topics::new(TopicWords::default(), NodeName::new("n1").unwrap()).unwrap()
}

fn job(kind: JobKind, payload: &[u8]) -> Job {
    match decode(&topics(), &topics().job_topic(kind), payload, false) {
        Arrival::Job(job) => job,
        Arrival::Refused(refusal) => panic!("refused: {refusal:?}"),
    }
}

fn create(payload: &[u8]) -> (Job, u64) {
    let job = job(JobKind::Create, payload);
    let JobRequest::Create(create) = &job.request else { panic!("no create job: {job:?}") };
    let mebibytes = create.size.mebibytes();
    (job, mebibytes)
}

#[test]
fn the_specification_s_create_example() {
    let (job, mebibytes) = create(include_bytes!("examples/specification-create.json"));
    assert_eq!(job.id.as_str(), "1234567890");
    assert_eq!(job.sender.as_str(), "abcdefghi");
    assert_eq!(job.request.target().mount_point().unwrap().as_str(), "/mnt");
    assert_eq!(mebibytes, 5000);
}

#[test]
fn the_specification_s_delete_example() {
    let job = job(JobKind::Delete, include_bytes!("examples/specification-delete.json"));
    assert_eq!(job.key().to_string(), "delete job `1234567890` of `abcdefghi`");
    assert_eq!(job.request.target().mount_point().unwrap().as_str(), "/mnt");
}

#[test]
fn the_specification_s_status_example_is_understood() {
    let answer = decode_answer(include_bytes!("examples/specification-status.json")).unwrap();
    assert_eq!(answer, ReceivedAnswer { job: Some(JobId::new("1234567890").unwrap()), status: Status::Done });
}

#[test]
fn what_deployed_senders_publish() {
    let (job, mebibytes) = create(include_bytes!("examples/deployed-create.json"));
    assert_eq!(job.id.as_str(), "7d44a1f0-6b5e-4c0a-9b1d-2f3e4a5b6c7d");
    assert_eq!(job.sender.as_str(), "c0ffee00-1111-4222-8333-444455556666");
    assert!(job.request.target().mount_point().unwrap().as_str().ends_with("/_data"));
    assert_eq!(mebibytes, 5000);
    let delete = self::job(JobKind::Delete, include_bytes!("examples/deployed-delete.json"));
    assert_eq!(delete.request.target(), job.request.target());
}

#[test]
fn the_pseudo_json_of_very_old_senders_is_refused_without_a_guess() {
    for topic in ["docker/n1/volumes", "docker/n1/volumes/create"] {
        let payload = include_bytes!("examples/deployed-2015-pseudo.json");
        let Arrival::Refused(refusal) = decode(&topics(), topic, payload, false) else {
            panic!("taken for a job")
        };
        assert_eq!((refusal.sender, refusal.job), (None, None));
    }
}

#[test]
fn both_spellings_may_be_there_if_they_are_equal() {
    let (both, _) = create(
        br#"{"job":"1","jobId":"1","sipId":"s","mountPount":"/mnt/a","mountPoint":"/mnt/a","volumeSize":1}"#,
    );
    let (one, _) = create(br#"{"jobId":"1","sipId":"s","mountPount":"/mnt/a","volumeSize":"1"}"#);
    assert_eq!(both, one);
}

#[test]
fn sizes_and_owners_are_text_or_number_and_null_is_absent() {
    let (job, mebibytes) = create(
        br#"{"job":"1","jobId":null,"sipId":"s","mountPount":"/mnt/a","volumeSize":"0010","uid":"7","gid":4294967294,
            "mode":"0750","fs":"xfs","provision":"thick","store":"loop","name":"v","unknown":[1.5,{"a":null}]}"#,
    );
    let JobRequest::Create(create) = &job.request else { panic!("{job:?}") };
    assert_eq!((mebibytes, create.uid, create.gid), (10, Some(7), Some(4_294_967_294)));
    assert_eq!(create.mode.unwrap().bits(), 0o750);
    assert_eq!(create.file_system.unwrap().as_str(), "xfs");
    assert_eq!(create.provision.unwrap().as_str(), "thick");
    assert_eq!(create.target.to_string(), "volume `loop/v` at `/mnt/a`");
}

#[test]
fn a_name_can_stand_for_the_mount_point_and_a_delete_ignores_what_only_creates_have() {
    let by_name = job(JobKind::Delete, br#"{"job":"1","sipId":"s","name":"v","volumeSize":"none","uid":-1}"#);
    assert_eq!(by_name.request.target().to_string(), "volume `v`");
    let (created, _) = create(br#"{"job":"1","sipId":"s","name":"v","volumeSize":3}"#);
    assert_eq!(created.request.target().mount_point(), None);
}

#[test]
fn escapes_spell_the_same_key_and_text() {
    let (job, _) =
        create(br#"{"j\u006fb":"1","sipId":"\u00fc","mountPoint":"\/mnt\/\ud83d\ude00","volumeSize":1}"#);
    assert_eq!(job.sender.as_str(), "ü");
    assert_eq!(job.request.target().mount_point().unwrap().as_str(), "/mnt/😀");
}

fn answer(status: Status) -> Answer {
    Answer { sender: SenderId::new("s").unwrap(), job: Some(JobId::new("1").unwrap()), status }
}

fn said(answer: &Answer) -> (String, String) {
    let (topic, payload) = encode_answer(&topics(), answer);
    (topic, String::from_utf8(payload).unwrap())
}

fn failed(hint: Option<&str>) -> Status {
    Status::Failed(FailureReport {
        code: FailureCode::InUse,
        error: "cannot delete volume at `/mnt/a`: container `db` (stopped) still uses it".to_owned(),
        hint: hint.map(str::to_owned),
    })
}

#[test]
fn answers_are_spelt_as_the_contract_says() {
    let jobs = "docker/sip/s/jobs".to_owned();
    let pending = r#"{"job":"1","jobId":"1","status":"PENDING"}"#.to_owned();
    assert_eq!(said(&answer(Status::Pending)), (jobs.clone(), pending));
    assert_eq!(
        said(&answer(Status::Done)),
        (jobs.clone(), r#"{"job":"1","jobId":"1","status":"DONE"}"#.to_owned())
    );
    let (topic, payload) = said(&answer(failed(Some("remove the container first"))));
    assert_eq!(topic, format!("{jobs}/failed"));
    assert_eq!(
        payload,
        r#"{"job":"1","jobId":"1","status":"FAILED","code":"in-use","error":"cannot delete volume at `/mnt/a`: container `db` (stopped) still uses it","hint":"remove the container first"}"#
    );
    let without_id = Answer { job: None, ..answer(failed(None)) };
    assert_eq!(
        said(&without_id).1,
        r#"{"status":"FAILED","code":"in-use","error":"cannot delete volume at `/mnt/a`: container `db` (stopped) still uses it"}"#
    );
}

#[test]
fn answers_are_understood_by_the_sender_of_this_version_and_tolerated_from_others() {
    for status in [Status::Pending, Status::Done, failed(None), failed(Some("h"))] {
        let (_, payload) = encode_answer(&topics(), &answer(status.clone()));
        let answer = decode_answer(&payload).unwrap();
        assert_eq!(answer, ReceivedAnswer { job: Some(JobId::new("1").unwrap()), status });
    }
    let later = br#"{"jobId":"1","status":"FAILED","code":"melted","error":"e","more":[1]}"#;
    let Status::Failed(report) = decode_answer(later).unwrap().status else { panic!() };
    assert_eq!((report.code, report.error.as_str()), (FailureCode::Internal, "melted: e"));
    for none in [&b""[..], b"DONE", b"{}", b"{\"status\":\"OK\"}", b"[]", b"\xff"] {
        assert_eq!(decode_answer(none), None);
    }
}

#[test]
fn a_huge_reason_is_cut() {
    let report = FailureReport { code: FailureCode::Internal, error: "\u{1}".repeat(1_000_000), hint: None };
    let (_, payload) = encode_answer(&topics(), &answer(Status::Failed(report)));
    assert!(payload.len() < ANSWER_TEXT_CHARACTERS_MAX * 6 + 200, "{}", payload.len());
    let Status::Failed(report) = decode_answer(&payload).unwrap().status else { panic!() };
    assert!(report.error.ends_with("\u{1}…"));
}

#[test]
fn jobs_are_sent_in_the_documented_spelling() {
    let (job, _) = create(include_bytes!("examples/specification-create.json"));
    let (topic, payload) = encode_job(&topics(), &job);
    assert_eq!(topic, "docker/n1/volumes/create");
    assert_eq!(
        String::from_utf8(payload).unwrap(),
        r#"{"job":"1234567890","sipId":"abcdefghi","mountPount":"/mnt","volumeSize":"5000"}"#
    );
    let delete = self::job(JobKind::Delete, include_bytes!("examples/specification-delete.json"));
    let (topic, payload) = encode_job(&topics(), &delete);
    assert_eq!(topic, "docker/n1/volumes/delete");
    assert_eq!(
        String::from_utf8(payload).unwrap(),
        r#"{"job":"1234567890","sipId":"abcdefghi","mountPount":"/mnt"}"#
    );
    assert_eq!(MountPoint::new("/mnt").unwrap(), *delete.request.target().mount_point().unwrap());
}

#[test]
fn presence_names_version_and_stores() {
    let online = Presence::Online {
        version: "0.1.0".to_owned(),
        stores: ["fast", "big"].map(|name| StoreName::new(name).unwrap()).to_vec(),
    };
    assert_eq!(
        String::from_utf8(encode_presence(&online)).unwrap(),
        r#"{"state":"online","version":"0.1.0","stores":["fast","big"]}"#
    );
    assert_eq!(encode_presence(&Presence::Offline), br#"{"state":"offline"}"#);
}
