//! An answer as a sender parses it: leniently, because the agent may have another version.

use dvs_domain::failure::{FailureCode, FailureReport};
use dvs_domain::job::Status;
use dvs_domain::names::JobId;
use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedAnswer {
    /// The id of the job; absent when the agent could not read it.
    pub job: Option<JobId>,
    pub status: Status,
}

/// Parses an answer; `None` if the payload is not one. Unknown keys are ignored; the code of a later version becomes
/// [`FailureCode::Internal`] and is kept in the text.
#[must_use]
pub fn decode_answer(payload: &[u8]) -> Option<ReceivedAnswer> {
    let json: AnswerJson = serde_json::from_slice(payload).ok()?;
    let job = json.job.or(json.job_id).and_then(|id| JobId::new(id).ok());
    let status = match json.status.as_str() {
        "PENDING" => Status::Pending,
        "DONE" => Status::Done,
        "FAILED" => Status::Failed(report(json.code.as_deref(), json.error, json.hint)),
        _ => return None,
    };
    Some(ReceivedAnswer { job, status })
}

fn report(code: Option<&str>, error: Option<String>, hint: Option<String>) -> FailureReport {
    let error = error.unwrap_or_else(|| "the agent gave no reason".to_owned());
    match (code.and_then(FailureCode::from_word), code) {
        (Some(code), _) => FailureReport { code, error, hint },
        (None, Some(word)) => {
            FailureReport { code: FailureCode::Internal, error: format!("{word}: {error}"), hint }
        }
        (None, None) => FailureReport { code: FailureCode::Internal, error, hint },
    }
}

#[derive(Deserialize)]
struct AnswerJson {
    job: Option<String>,
    #[serde(rename = "jobId")]
    job_id: Option<String>,
    status: String,
    code: Option<String>,
    error: Option<String>,
    hint: Option<String>,
}
