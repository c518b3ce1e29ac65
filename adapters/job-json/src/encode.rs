//! Topics and payloads of answers, jobs and presence.

use crate::topics::Topics;
use dvs_domain::job::{Answer, CreateRequest, Job, JobRequest, Status};
use dvs_domain::names::StoreName;
use serde::Serialize;

/// Maximum length of a reason or hint in an answer. A broker may disconnect a client because of one huge message, and
/// the answer would then be sent again for ever.
pub const ANSWER_TEXT_CHARACTERS_MAX: usize = 4096;

/// The topic and payload of `answer`. Only `PENDING` and `DONE` ever go to `…/jobs`: deployed senders
/// take any other word there for success.
#[must_use]
pub fn encode_answer(topics: &Topics, answer: &Answer) -> (String, Vec<u8>) {
    let id = answer.job.as_ref().map(|id| id.as_str());
    let mut json = AnswerJson { job: id, job_id: id, status: "", code: None, error: None, hint: None };
    let topic = match &answer.status {
        Status::Pending => {
            json.status = "PENDING";
            topics.answers(&answer.sender)
        }
        Status::Done => {
            json.status = "DONE";
            topics.answers(&answer.sender)
        }
        Status::Failed(report) => {
            json.status = "FAILED";
            json.code = Some(report.code.as_str());
            json.error = Some(cut(&report.error));
            json.hint = report.hint.as_deref().map(cut);
            topics.failures(&answer.sender)
        }
    };
    (topic, bytes(&json))
}

/// The topic and payload of `job`, in the documented spelling.
#[must_use]
pub fn encode_job(topics: &Topics, job: &Job) -> (String, Vec<u8>) {
    let target = job.request.target();
    let mut json = JobJson {
        job: job.id.as_str(),
        sip_id: job.sender.as_str(),
        mount_pount: target.mount_point().map(|path| path.as_str()),
        volume_size: None,
        store: target.store.as_ref().map(StoreName::as_str),
        name: target.given_name().map(|name| name.as_str()),
        fs: None,
        uid: None,
        gid: None,
        mode: None,
        provision: None,
    };
    if let JobRequest::Create(CreateRequest { target: _, size, file_system, uid, gid, mode, provision }) =
        &job.request
    {
        json.volume_size = Some(size.mebibytes().to_string());
        json.fs = file_system.map(|fs| fs.as_str());
        json.uid = *uid;
        json.gid = *gid;
        json.mode = mode.map(|mode| mode.to_string());
        json.provision = provision.map(|provision| provision.as_str());
    }
    (topics.job_topic(job.request.kind()), bytes(&json))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    Online {
        version: String,
        /// Its stores, the default one first.
        stores: Vec<StoreName>,
    },
    /// Also the last will, which the broker publishes when the connection is lost.
    Offline,
}

#[must_use]
pub fn encode_presence(presence: &Presence) -> Vec<u8> {
    bytes(&match presence {
        Presence::Online { version, stores } => PresenceJson {
            state: "online",
            version: Some(version),
            stores: Some(stores.iter().map(StoreName::as_str).collect()),
        },
        Presence::Offline => PresenceJson { state: "offline", version: None, stores: None },
    })
}

/// The order of the fields is the order on the wire.
#[derive(Serialize)]
struct AnswerJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<&'a str>,
    #[serde(rename = "jobId", skip_serializing_if = "Option::is_none")]
    // The key that deployed senders read.
    job_id: Option<&'a str>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Serialize)]
struct JobJson<'a> {
    job: &'a str,
    #[serde(rename = "sipId")]
    sip_id: &'a str,
    #[serde(rename = "mountPount", skip_serializing_if = "Option::is_none")] // The documented spelling.
    mount_pount: Option<&'a str>,
    #[serde(rename = "volumeSize", skip_serializing_if = "Option::is_none")]
    volume_size: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fs: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provision: Option<&'static str>,
}

#[derive(Serialize)]
struct PresenceJson<'a> {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stores: Option<Vec<&'a str>>,
}

fn bytes(json: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(json).expect("texts and numbers can always be written as JSON")
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(ANSWER_TEXT_CHARACTERS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
