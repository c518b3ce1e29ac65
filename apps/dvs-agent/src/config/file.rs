//! The configuration file: TOML, every key known. All that is wrong with it is told at once.

use super::ENGINE_SECONDS;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the file says; everything may be absent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FileSettings {
    pub(super) broker: Option<String>,
    pub(super) node: Option<String>,
    pub(super) state: Option<PathBuf>,
    pub(super) stores: Option<Vec<String>>,
    pub(super) mount_roots: Option<Vec<String>>,
    pub(super) client_id: Option<String>,
    pub(super) user: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) authorities_file: Option<PathBuf>,
    pub(super) certificate_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) keep_alive_seconds: Option<u64>,
    pub(super) docker: Option<String>,
    pub(super) podman: Option<String>,
    pub(super) engine_seconds: Option<u64>,
    /// `[topics]`: word → spelling.
    pub(super) topics: BTreeMap<&'static str, String>,
    pub(super) workers: Option<u64>,
    pub(super) queue: Option<u64>,
    pub(super) job_seconds: Option<u64>,
    pub(super) stop_seconds: Option<u64>,
    pub(super) remembered_jobs: Option<u64>,
    pub(super) remembered_days: Option<u64>,
    pub(super) remembered_jobs_max: Option<u64>,
}

/// The words of `[topics]`.
pub(super) const TOPIC_WORDS: [&str; 8] =
    ["docker", "volumes", "create", "delete", "sip", "jobs", "failed", "agent"];

impl FileSettings {
    /// The largest file that is read, in bytes.
    const BYTES_MAX: u64 = 1 << 20;

    /// Reads the file at `path`. One that is absent is empty, unless it `must_exist`.
    pub(super) fn read(path: &Path, must_exist: bool, problems: &mut Vec<String>) -> Self {
        let shown = path.display();
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => {
                return Self::default();
            }
            Ok(metadata) if metadata.len() > Self::BYTES_MAX => {
                problems.push(format!("`{shown}` is larger than {} bytes", Self::BYTES_MAX));
                return Self::default();
            }
            _ => {}
        }
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &shown.to_string(), problems),
            Err(error) => {
                problems.push(format!("cannot read `{shown}`: {error}"));
                Self::default()
            }
        }
    }

    fn parse(text: &str, file: &str, problems: &mut Vec<String>) -> Self {
        let table = match text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(error) => {
                problems.push(format!("`{file}` is not TOML: {}", error.to_string().trim_end()));
                return Self::default();
            }
        };
        let mut top = Section::new(file, "", table, problems);
        let mut settings = Self {
            broker: top.text("broker"),
            node: top.text("node"),
            state: top.text("state").map(PathBuf::from),
            stores: top.texts("stores"),
            mount_roots: top.texts("mount_roots"),
            ..Self::default()
        };
        let [mqtt, engines, topics, limits] =
            ["mqtt", "engines", "topics", "limits"].map(|name| top.table(name));
        top.end();
        let mut mqtt = Section::new(file, "mqtt.", mqtt, problems);
        settings.client_id = mqtt.text("client_id");
        settings.user = mqtt.text("user");
        settings.password_file = mqtt.text("password_file").map(PathBuf::from);
        settings.authorities_file = mqtt.text("authorities_file").map(PathBuf::from);
        settings.certificate_file = mqtt.text("certificate_file").map(PathBuf::from);
        settings.key_file = mqtt.text("key_file").map(PathBuf::from);
        settings.keep_alive_seconds = mqtt.number("keep_alive_seconds", 5, 65_535);
        mqtt.end();
        let mut engine = Section::new(file, "engines.", engines, problems);
        settings.docker = engine.text("docker");
        settings.podman = engine.text("podman");
        settings.engine_seconds = engine.number("seconds", *ENGINE_SECONDS.start(), *ENGINE_SECONDS.end());
        engine.end();
        let mut words = Section::new(file, "topics.", topics, problems);
        for word in TOPIC_WORDS {
            settings.topics.extend(words.text(word).map(|spelling| (word, spelling)));
        }
        words.end();
        let mut limit = Section::new(file, "limits.", limits, problems);
        settings.workers = limit.number("workers", 1, 256);
        settings.queue = limit.number("queue", 1, 100_000);
        settings.job_seconds = limit.number("job_seconds", 1, 110);
        settings.stop_seconds = limit.number("stop_seconds", 0, 600);
        settings.remembered_jobs = limit.number("remembered_jobs", 10_000, 10_000_000);
        settings.remembered_days = limit.number("remembered_days", 7, 3650);
        settings.remembered_jobs_max = limit.number("remembered_jobs_max", 10_000, 10_000_000);
        limit.end();
        settings
    }
}

/// A table of the file while it is read: what is left at the end is unknown.
struct Section<'a> {
    file: &'a str,
    path: &'static str,
    table: toml::Table,
    known: Vec<&'static str>,
    problems: &'a mut Vec<String>,
}

impl<'a> Section<'a> {
    fn new(file: &'a str, path: &'static str, table: toml::Table, problems: &'a mut Vec<String>) -> Self {
        Self { file, path, table, known: Vec::new(), problems }
    }

    fn text(&mut self, key: &'static str) -> Option<String> {
        self.typed(key, "text", |value| match value {
            toml::Value::String(text) => Some(text),
            _ => None,
        })
    }

    fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        self.typed(key, "a list of texts", |value| match value {
            toml::Value::Array(values) => {
                values.into_iter().map(|value| value.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
            }
            _ => None,
        })
    }

    fn number(&mut self, key: &'static str, least: u64, most: u64) -> Option<u64> {
        self.typed(key, &format!("a whole number from {least} to {most}"), |value| {
            let number = u64::try_from(value.as_integer()?).ok()?;
            (least..=most).contains(&number).then_some(number)
        })
    }

    fn table(&mut self, key: &'static str) -> toml::Table {
        let table = self.typed(key, "a table", |value| match value {
            toml::Value::Table(table) => Some(table),
            _ => None,
        });
        table.unwrap_or_default()
    }

    fn typed<T>(
        &mut self,
        key: &'static str,
        what: &str,
        read: impl FnOnce(toml::Value) -> Option<T>,
    ) -> Option<T> {
        self.known.push(key);
        let read = read(self.table.remove(key)?);
        if read.is_none() {
            self.problems.push(format!("`{}`: `{}{key}` must be {what}", self.file, self.path));
        }
        read
    }

    fn end(self) {
        for unknown in self.table.keys() {
            let nearest = self
                .known
                .iter()
                .max_by(|a, b| strsim::jaro_winkler(a, unknown).total_cmp(&strsim::jaro_winkler(b, unknown)));
            let (file, path) = (self.file, self.path);
            let hint = nearest.map(|known| format!("; did you mean `{path}{known}`?")).unwrap_or_default();
            self.problems.push(format!("`{file}`: there is no key `{path}{unknown}`{hint}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (FileSettings, Vec<String>) {
        let mut problems = Vec::new();
        let settings = FileSettings::parse(text, "dvs.toml", &mut problems);
        (settings, problems)
    }

    #[test]
    fn every_key_is_read() {
        let (settings, problems) = parse(
            "broker = 'b'\nnode = 'n'\nstate = '/s'\nstores = ['a=fake:///x']\nmount_roots = ['/data']\n\
             [mqtt]\nclient_id = 'c'\nuser = 'u'\npassword_file = '/p'\nkeep_alive_seconds = 5\n\
             [engines]\ndocker = '/d'\npodman = 'none'\nseconds = 30\n\
             [topics]\nsip = 'brokers'\n\
             [limits]\nworkers = 2\nqueue = 3\njob_seconds = 4\nstop_seconds = 0\nremembered_jobs = 20000\nremembered_days = 8\nremembered_jobs_max = 30000\n",
        );
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(settings.topics, BTreeMap::from([("sip", "brokers".to_owned())]));
        assert_eq!((settings.docker.as_deref(), settings.engine_seconds), (Some("/d"), Some(30)));
        assert_eq!((settings.workers, settings.remembered_days), (Some(2), Some(8)));
        assert_eq!((settings.remembered_jobs, settings.remembered_jobs_max), (Some(20_000), Some(30_000)));
    }

    #[test]
    fn all_problems_are_told_at_once_and_unknown_keys_with_the_nearest_one() {
        let (_, problems) = parse(
            "brokr = 'b'\nnode = 1\n[limits]\nworker = 2\nqueue = 0\njob_seconds = 111\n[mqtt]\npassword = 'x'\n\
             [engines]\nseconds = 31\npodmann = ''\n",
        );
        assert_eq!(
            problems,
            [
                "`dvs.toml`: `node` must be text",
                "`dvs.toml`: there is no key `brokr`; did you mean `broker`?",
                "`dvs.toml`: there is no key `mqtt.password`; did you mean `mqtt.password_file`?",
                "`dvs.toml`: `engines.seconds` must be a whole number from 1 to 30",
                "`dvs.toml`: there is no key `engines.podmann`; did you mean `engines.podman`?",
                "`dvs.toml`: `limits.queue` must be a whole number from 1 to 100000",
                "`dvs.toml`: `limits.job_seconds` must be a whole number from 1 to 110",
                "`dvs.toml`: there is no key `limits.worker`; did you mean `limits.workers`?",
            ]
        );
    }

    #[test]
    fn what_is_no_toml_is_one_problem() {
        let (settings, problems) = parse("broker = \n");
        assert_eq!(settings, FileSettings::default());
        assert_eq!(problems.len(), 1);
    }
}
