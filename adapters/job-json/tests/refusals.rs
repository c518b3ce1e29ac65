//! What is refused, with which code and which words, and whether its sender hears of it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "also the helpers of tests may stop a test")]

use dvs_domain::failure::FailureCode;
use dvs_domain::job::Refusal;
use dvs_domain::names::NodeName;
use dvs_domain::ports::Arrival;
use dvs_job_json::{NESTING_MAX, PAYLOAD_BYTES_MAX, PEEK_BYTES_MAX, TopicWords, Topics, decode};

const CREATE: &str = "docker/n1/volumes/create";
const DELETE: &str = "docker/n1/volumes/delete";

fn arrival(topic: &str, payload: &[u8], retained: bool) -> Arrival {
    let topics = Topics::new(TopicWords::default(), NodeName::new("n1").unwrap()).unwrap();
    decode(&topics, topic, payload, retained)
}

fn refusal(topic: &str, payload: &[u8]) -> Refusal {
    match arrival(topic, payload, false) {
        Arrival::Refused(refusal) => refusal,
        Arrival::Job(job) => panic!("{} was taken: {job:?}", String::from_utf8_lossy(payload)),
    }
}

/// Whom the refusal can be told to, and about which job.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    Nobody,
    Sender,
    SenderAndJob,
}
use Told::{Nobody, Sender, SenderAndJob};

fn told(refusal: &Refusal) -> Told {
    match (&refusal.sender, &refusal.job) {
        (None, _) => Nobody,
        (Some(_), None) => Sender,
        (Some(_), Some(_)) => SenderAndJob,
    }
}

fn check(topic: &str, payload: &[u8], code: FailureCode, whom: Told, words: &str) {
    let refused = refusal(topic, payload);
    let shown = String::from_utf8_lossy(&payload[..payload.len().min(200)]).into_owned();
    assert_eq!(refused.report.code, code, "{shown}: {}", refused.report.error);
    assert_eq!(told(&refused), whom, "{shown}: {}", refused.report.error);
    assert!(refused.report.error.contains(words), "{shown}: {}", refused.report.error);
    assert!(refused.report.error.len() < 400, "{shown}: {}", refused.report.error);
    assert!(refused.report.hint.is_some(), "{shown}");
}

/// A create job with `rest` after sender and id.
fn with(rest: &str) -> Vec<u8> {
    format!(r#"{{"job":"1","sipId":"s",{rest}}}"#).into_bytes()
}

#[test]
fn payloads_that_are_no_object_are_refused() {
    for (payload, words) in [
        (&b""[..], "no JSON object: EOF"),
        (b" \n", "no JSON object"),
        (b"\0", "no JSON object"),
        (b"null", "no JSON object"),
        (b"true", "no JSON object"),
        (b"17", "no JSON object"),
        (b"\"job\"", "no JSON object"),
        (br#"[{"job":"1","sipId":"s"}]"#, "no JSON object"),
        (b"{jobId : 1, sipId : node, mountPoint : /mnt/a, volumeSize : 5}", "key must be a string"),
        (b"{'job':'1','sipId':'s'}", "key must be a string"),
        (br#"{"job":"1","sipId":"s","mountPount":"/mnt/a","volumeSize":"5""#, "EOF"),
        (br#"{"job":"1","sipId":"s","mountPount":"/mnt/a","volumeSize":"5",}"#, "trailing comma"),
        (br#"{"job":"1","sipId":"s","mountPount":"/mnt/a","volumeSize":5}{}"#, "trailing characters"),
        (br#"{"job":"1","sipId":"s","mountPount":"/mnt/a","volumeSize":5} x"#, "trailing characters"),
        (br#"{"job":"1","sipId":"s","mountPount":"/mnt/a","volumeSize":05}"#, "invalid number"),
        (br#"{"job":"1","sipId":"s","mountPount":"/mnt/a","volumeSize":+5}"#, "expected value"),
        (br#"{"job":"1","sipId":"s","mountPount":"/mnt/a","volumeSize":0x10}"#, "no JSON object"),
        (br#"{"job":"1","sipId":"s","mountPount":"/mnt/a","volumeSize":NaN}"#, "expected value"),
        (br#"{"job":"1","sipId":"s","mountPount":"/mnt/a","volumeSize":1e999}"#, "number out of range"),
        (br#"{"job":"1","sipId":"s" /* c */,"mountPount":"/mnt/a","volumeSize":5}"#, "no JSON object"),
        (
            b"{\"job\":\"1\",\"sipId\":\"s\",\"mountPount\":\"/mnt/a\nb\",\"volumeSize\":5}",
            "control character",
        ),
        (br#"{"job":"1","sipId":"s","mountPount":"/mnt/a","volumeSize":"\ud800"}"#, "no JSON object"),
        (br#"{"job":"1","sipId":"s","mountPount":"/mnt/a"b","volumeSize":5}"#, "no JSON object"),
        (
            b"\xef\xbb\xbf{\"job\":\"1\",\"sipId\":\"s\",\"mountPount\":\"/mnt/a\",\"volumeSize\":5}",
            "no JSON",
        ),
        (
            b"{\"job\":\"1\",\"sipId\":\"s\",\"mountPount\":\"/mnt/\xff\",\"volumeSize\":5}",
            "not UTF-8 after byte 42",
        ),
        (b"\xff\xfe{\0}\0", "not UTF-8 after byte 0"),
    ] {
        check(CREATE, payload, FailureCode::BadRequest, Nobody, words);
    }
}

#[test]
fn unusable_senders_and_ids_are_refused() {
    let long = format!(r#"{{"job":"1","sipId":"{}"}}"#, "s".repeat(129));
    let long_id = format!(r#"{{"job":"{}","sipId":"s"}}"#, "1".repeat(129));
    for (payload, whom, words) in [
        ("{}", Nobody, "`sipId` is missing"),
        (r#"{"job":"1"}"#, Nobody, "`sipId` is missing"),
        (r#"{"job":"1","sipId":null}"#, Nobody, "`sipId` is missing"),
        (r#"{"job":"1","sipid":"s"}"#, Nobody, "`sipId` is missing"),
        (r#"{"job":"1","sipId":""}"#, Nobody, "sender `` must be"),
        (r#"{"job":"1","sipId":"a/b"}"#, Nobody, "sender `a/b` must be"),
        (r##"{"job":"1","sipId":"#"}"##, Nobody, "sender `#` must be"),
        (r#"{"job":"1","sipId":"+"}"#, Nobody, "sender `+` must be"),
        (r#"{"job":"1","sipId":"a\u0000"}"#, Nobody, "must be"),
        (r#"{"job":"1","sipId":17}"#, Nobody, "`sipId` must be a text, not a number"),
        (r#"{"job":"1","sipId":["s"]}"#, Nobody, "`sipId` must be a text, not a list"),
        (long.as_str(), Nobody, "must be 1 to 128"),
        (r#"{"sipId":"s"}"#, Sender, "`job` is missing"),
        (r#"{"sipId":"s","jobID":"1"}"#, Sender, "`job` is missing"),
        (r#"{"sipId":"s","job":""}"#, Sender, "job id `` must be"),
        (r#"{"sipId":"s","job":"a b"}"#, Sender, "job id `a b` must be"),
        (r#"{"sipId":"s","job":"ä"}"#, Sender, "must be 1 to 128 visible ASCII"),
        (r#"{"sipId":"s","job":1}"#, Sender, "`job` must be a text, not a number"),
        (r#"{"sipId":"s","jobId":true}"#, Sender, "`jobId` must be a text, not true or false"),
        (r#"{"sipId":"s","job":{"id":"1"}}"#, Sender, "`job` must be a text, not an object"),
        (
            r#"{"sipId":"s","job":"1","jobId":"2"}"#,
            Sender,
            "two spellings of one key, and differ: `1` and `2`",
        ),
        (r#"{"sipId":"s","job":"1","jobId":1}"#, Sender, "`jobId` must be a text"),
        (long_id.as_str(), Sender, "must be 1 to 128"),
    ] {
        check(CREATE, payload.as_bytes(), FailureCode::BadRequest, whom, words);
        check(DELETE, payload.as_bytes(), FailureCode::BadRequest, whom, words);
    }
}

#[test]
fn bad_contents_are_refused_and_their_sender_hears_of_it() {
    for (rest, words) in [
        (r#""mountPount":"/mnt/a""#, "`volumeSize` is missing"),
        (r#""mountPount":"/mnt/a","volumeSize":null"#, "`volumeSize` is missing"),
        (r#""volumeSize":"5""#, "neither a mount point nor a volume"),
        (r#""mountPount":null,"volumeSize":"5""#, "neither a mount point nor a volume"),
        (r#""mountPount":7,"volumeSize":"5""#, "`mountPount` must be a text, not a number"),
        (r#""mountPoint":["/mnt"],"volumeSize":"5""#, "`mountPoint` must be a text, not a list"),
        (
            r#""mountPount":"/mnt/a","mountPoint":"/mnt/b","volumeSize":"5""#,
            "two spellings of one key, and differ: `/mnt/a` and `/mnt/b`",
        ),
        (r#""mountPount":"/mnt/a","volumeSize":"0""#, "0 bytes"),
        (r#""mountPount":"/mnt/a","volumeSize":0"#, "0 bytes"),
        (r#""mountPount":"/mnt/a","volumeSize":16777217"#, "above the most, 16 TiB"),
        (r#""mountPount":"/mnt/a","volumeSize":18446744073709551615"#, "above the most"),
        (r#""mountPount":"/mnt/a","volumeSize":99999999999999999999"#, "too large or not whole"),
        (r#""mountPount":"/mnt/a","volumeSize":"99999999999999999999""#, "is too large"),
        (r#""mountPount":"/mnt/a","volumeSize":-1"#, "negative, too large or not whole"),
        (r#""mountPount":"/mnt/a","volumeSize":"-1""#, "`volumeSize` `-1` is no whole number"),
        (r#""mountPount":"/mnt/a","volumeSize":5000.5"#, "not whole"),
        (r#""mountPount":"/mnt/a","volumeSize":5000.0"#, "not whole"),
        (r#""mountPount":"/mnt/a","volumeSize":5e3"#, "not whole"),
        (r#""mountPount":"/mnt/a","volumeSize":-0"#, "not whole"),
        (r#""mountPount":"/mnt/a","volumeSize":"5e3""#, "no whole number"),
        (r#""mountPount":"/mnt/a","volumeSize":"""#, "no whole number"),
        (r#""mountPount":"/mnt/a","volumeSize":" 5""#, "no whole number"),
        (r#""mountPount":"/mnt/a","volumeSize":"+5""#, "no whole number"),
        (r#""mountPount":"/mnt/a","volumeSize":"5M""#, "without sign, point or unit"),
        (r#""mountPount":"/mnt/a","volumeSize":"٣""#, "no whole number"),
        (r#""mountPount":"/mnt/a","volumeSize":true"#, "must be a whole number, not true or false"),
        (r#""mountPount":"/mnt/a","volumeSize":[5]"#, "must be a whole number, not a list"),
        (r#""mountPount":"/mnt/a","volumeSize":{"n":5}"#, "must be a whole number, not an object"),
        (r#""mountPount":"/mnt/a","volumeSize":5,"uid":-1"#, "`uid` must be a whole number"),
        (r#""mountPount":"/mnt/a","volumeSize":5,"uid":4294967295"#, "`uid` 4294967295 is above the most"),
        (r#""mountPount":"/mnt/a","volumeSize":5,"gid":"root""#, "`gid` `root` is no whole number"),
        (r#""mountPount":"/mnt/a","volumeSize":5,"gid":1.5"#, "`gid` must be a whole number"),
        (r#""mountPount":"/mnt/a","volumeSize":5,"mode":"0888""#, "mode `0888` is not octal"),
        (r#""mountPount":"/mnt/a","volumeSize":5,"mode":755"#, "`mode` must be a text, not a number"),
        (r#""mountPount":"/mnt/a","volumeSize":5,"fs":"vfat""#, "`vfat` is no file system"),
        (r#""mountPount":"/mnt/a","volumeSize":5,"fs":"EXT4""#, "`EXT4` is no file system"),
        (r#""mountPount":"/mnt/a","volumeSize":5,"provision":"fat""#, "neither `thin` nor `thick`"),
        (r#""mountPount":"/mnt/a","volumeSize":5,"store":"a/b""#, "store name `a/b` must be"),
        (r#""mountPount":"/mnt/a","volumeSize":5,"name":"../evil""#, "volume name `../evil` must be"),
        (r#""mountPount":"/mnt/a","volumeSize":5,"name":"""#, "volume name `` must be"),
        (r#""mountPount":"/mnt/a","volumeSize":5,"name":"a\nb""#, r"volume name `a\nb` must be"),
        (r#""mountPount":"/mnt/a","volumeSize":5,"volumeSize":6"#, "key `volumeSize` is there twice"),
        (r#""mountPount":"/mnt/a","volumeSize":5,"x":1,"x":1"#, "key `x` is there twice"),
        (r#""mountPount":"/mnt/a","volumeSize":5,"x":[{"y":1,"y":1}]"#, "key `y` is there twice"),
        (r#""mountPount":"/mnt/a","volumeSize":5,"x":1,"\u0078":2"#, "key `x` is there twice"),
        (r#""mountPount":"/mnt/a","volumeSize":5,"job":"1""#, "key `job` is there twice"),
    ] {
        check(CREATE, &with(rest), FailureCode::BadRequest, SenderAndJob, words);
    }
}

#[test]
fn mount_points_that_are_not_normal_are_forbidden_paths() {
    let long = format!("/mnt/{}", "x/".repeat(3000));
    for path in [
        "",
        "/",
        "mnt/a",
        "./a",
        "/mnt/",
        "/mnt//a",
        "/mnt/./a",
        "/mnt/../etc",
        "/mnt/a/..",
        r"/mnt/a\u0000b",
        r"/mnt/a\nb",
        &long,
    ] {
        let payload = with(&format!(r#""mountPount":"{path}","volumeSize":"5""#));
        check(CREATE, &payload, FailureCode::ForbiddenPath, SenderAndJob, "mount point `");
        check(DELETE, &payload, FailureCode::ForbiddenPath, SenderAndJob, "mount point `");
    }
}

#[test]
fn a_key_twice_hides_sender_or_id_only_where_they_are_ambiguous() {
    let twice = |payload: &str, whom, words| {
        check(CREATE, payload.as_bytes(), FailureCode::BadRequest, whom, words);
    };
    twice(r#"{"sipId":"s","sipId":"t","job":"1"}"#, Nobody, "key `sipId` is there twice");
    twice(r#"{"sipId":"s","sipId":"s","job":"1"}"#, SenderAndJob, "key `sipId` is there twice");
    twice(r#"{"sipId":"s","job":"1","job":"2"}"#, Sender, "key `job` is there twice");
    twice(r#"{"sipId":"s","job":"1","job":"2","job":"2"}"#, Sender, "key `job` is there twice");
}

fn nested(levels: usize, open: &str, close: &str) -> Vec<u8> {
    with(&format!(
        r#""mountPount":"/mnt/a","volumeSize":5,"x":{}1{}"#,
        open.repeat(levels),
        close.repeat(levels)
    ))
}

#[test]
fn nesting_has_a_limit_that_no_depth_can_break() {
    for (open, close) in [("[", "]"), (r#"{"k":"#, "}")] {
        assert!(matches!(arrival(CREATE, &nested(NESTING_MAX - 1, open, close), false), Arrival::Job(_)));
        for levels in [NESTING_MAX, NESTING_MAX + 1, 127, 128, 1000, 9000] {
            let payload = nested(levels, open, close);
            assert!(payload.len() <= PAYLOAD_BYTES_MAX, "{levels}");
            check(CREATE, &payload, FailureCode::BadRequest, SenderAndJob, "nested deeper than 8");
        }
    }
    check(CREATE, "[".repeat(60_000).as_bytes(), FailureCode::BadRequest, Nobody, "no JSON object");
    let open = format!(r#"{{"sipId":"s","x":{}"#, "[".repeat(60_000));
    check(CREATE, open.as_bytes(), FailureCode::BadRequest, Nobody, "no JSON object");
}

#[test]
fn payload_size_has_a_limit_and_the_sender_hears_of_it_as_long_as_it_is_reasonable() {
    let of_length = |bytes: usize| {
        let frame = with(r#""mountPount":"/mnt/a","volumeSize":5,"x":"""#).len();
        let payload =
            with(&format!(r#""mountPount":"/mnt/a","volumeSize":5,"x":"{}""#, "x".repeat(bytes - frame)));
        assert_eq!(payload.len(), bytes);
        payload
    };
    assert!(matches!(arrival(CREATE, &of_length(PAYLOAD_BYTES_MAX), false), Arrival::Job(_)));
    let words = "larger than 64 KiB";
    check(CREATE, &of_length(PAYLOAD_BYTES_MAX + 1), FailureCode::BadRequest, SenderAndJob, words);
    check(CREATE, &of_length(PEEK_BYTES_MAX), FailureCode::BadRequest, SenderAndJob, words);
    check(CREATE, &of_length(PEEK_BYTES_MAX + 1), FailureCode::BadRequest, Nobody, words);
    check(CREATE, &of_length(PEEK_BYTES_MAX * 2)[..PEEK_BYTES_MAX], FailureCode::BadRequest, Nobody, words);
    check(CREATE, &vec![b'['; PAYLOAD_BYTES_MAX + 1], FailureCode::BadRequest, Nobody, words);
}

#[test]
fn unknown_topics_and_retained_messages_are_refused_and_their_sender_hears_of_it() {
    let good = with(r#""mountPount":"/mnt/a","volumeSize":5"#);
    for topic in [
        "docker/n1/volumes",
        "docker/n1/volumes/",
        "docker/n1/volumes/resize",
        "docker/n2/volumes/create",
        "",
    ] {
        check(topic, &good, FailureCode::UnknownTopic, SenderAndJob, "is no topic for jobs");
        check(topic, b"not json", FailureCode::UnknownTopic, Nobody, "is no topic for jobs");
    }
    let long = format!("docker/n1/volumes/{}", "\u{7}".repeat(1000));
    check(&long, &good, FailureCode::UnknownTopic, SenderAndJob, "is no topic for jobs");
    for (topic, payload) in [(CREATE, &good[..]), (DELETE, &good[..]), (CREATE, b""), (CREATE, b"[")] {
        let Arrival::Refused(refused) = arrival(topic, payload, true) else { panic!("an old job was taken") };
        assert_eq!(refused.report.code, FailureCode::UnknownTopic);
        assert!(refused.report.error.contains("retained"), "{}", refused.report.error);
    }
}
