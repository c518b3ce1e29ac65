//! Topics: their configurable words, and the topic of each kind of message.

use crate::shown;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::JobKind;
use dvs_domain::names::{NodeName, SenderId};

/// The fixed words of the topics. Every one is configurable; [`Topics::new`] checks them.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicWords {
    /// The first word of every topic.
    pub docker: String,
    /// Precedes the kind of a job.
    pub volumes: String,
    pub create: String,
    pub delete: String,
    /// Takes the place of a node's name in the topics of senders.
    pub sip: String,
    pub jobs: String,
    /// The leaf below `jobs` for failures.
    pub failed: String,
    /// The leaf for presence.
    pub agent: String,
}

impl Default for TopicWords {
    fn default() -> Self {
        Self {
            docker: "docker".to_owned(),
            volumes: "volumes".to_owned(),
            create: "create".to_owned(),
            delete: "delete".to_owned(),
            sip: "sip".to_owned(),
            jobs: "jobs".to_owned(),
            failed: "failed".to_owned(),
            agent: "agent".to_owned(),
        }
    }
}

impl TopicWords {
    /// Longer words would let a topic grow beyond what MQTT can carry (65,535 bytes).
    const BYTES_MAX: usize = 255;

    fn each(&self) -> [(&'static str, &str); 8] {
        [
            ("docker", &self.docker),
            ("volumes", &self.volumes),
            ("create", &self.create),
            ("delete", &self.delete),
            ("sip", &self.sip),
            ("jobs", &self.jobs),
            ("failed", &self.failed),
            ("agent", &self.agent),
        ]
    }

    fn check(&self) -> Result<(), Failure> {
        for (what, word) in self.each() {
            let one_level = !word.is_empty()
                && word.len() <= Self::BYTES_MAX
                && !word.chars().any(|c| matches!(c, '/' | '+' | '#') || c.is_control());
            if !one_level {
                return Err(refuse(format!(
                    "topic word `{what}` = `{}` must be 1 to 255 bytes without `/`, `+`, `#` or control \
                     characters",
                    shown(word)
                )));
            }
        }
        if self.docker.starts_with('$') {
            return Err(refuse(format!(
                "topic word `docker` = `{}` must not start with `$`: those topics are the broker's own",
                shown(&self.docker)
            )));
        }
        for ((one, one_word), (other, other_word)) in [
            (("create", &self.create), ("delete", &self.delete)),
            // The agent would receive its own presence as a job.
            (("volumes", &self.volumes), ("agent", &self.agent)),
        ] {
            if one_word == other_word {
                return Err(refuse(format!(
                    "topic words `{one}` and `{other}` are both `{}`",
                    shown(one_word)
                )));
            }
        }
        Ok(())
    }
}

/// The topics of one node, and of the senders that its agent answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    words: TopicWords,
    node: NodeName,
}

impl Topics {
    /// The topics of `node`, made of `words`.
    ///
    /// # Errors
    /// [`FailureCode::BadRequest`] when a word is not one topic level, when two words that must differ are
    /// equal, or when the node's name is the word for senders.
    pub fn new(words: TopicWords, node: NodeName) -> Result<Self, Failure> {
        words.check()?;
        if node.as_str() == words.sip {
            return Err(refuse(format!("a node cannot be called `{node}`: answers to senders go there")));
        }
        Ok(Self { words, node })
    }

    #[must_use]
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// What the agent subscribes to: `docker/<node>/volumes/#`.
    #[must_use]
    pub fn subscription(&self) -> String {
        format!("{}/#", self.volumes())
    }

    /// The topic for jobs of `kind`.
    #[must_use]
    pub fn job_topic(&self, kind: JobKind) -> String {
        format!("{}/{}", self.volumes(), self.leaf(kind))
    }

    /// The topic for `PENDING` and `DONE` to `sender`, and for nothing else.
    #[must_use]
    pub fn answers(&self, sender: &SenderId) -> String {
        let TopicWords { docker, sip, jobs, .. } = &self.words;
        format!("{docker}/{sip}/{sender}/{jobs}")
    }

    /// The topic for failures to `sender`.
    #[must_use]
    pub fn failures(&self, sender: &SenderId) -> String {
        format!("{}/{}", self.answers(sender), self.words.failed)
    }

    /// The topic for the agent's presence.
    #[must_use]
    pub fn presence(&self) -> String {
        format!("{}/{}/{}", self.words.docker, self.node, self.words.agent)
    }

    /// Which kind of job arrives on `topic`, if any.
    #[must_use]
    pub fn kind_of(&self, topic: &str) -> Option<JobKind> {
        let leaf = topic.strip_prefix(&self.volumes())?.strip_prefix('/')?;
        [JobKind::Create, JobKind::Delete].into_iter().find(|kind| self.leaf(*kind) == leaf)
    }

    fn volumes(&self) -> String {
        format!("{}/{}/{}", self.words.docker, self.node, self.words.volumes)
    }

    fn leaf(&self, kind: JobKind) -> &str {
        match kind {
            JobKind::Create => &self.words.create,
            JobKind::Delete => &self.words.delete,
        }
    }
}

fn refuse(detail: String) -> Failure {
    Failure::new(FailureCode::BadRequest, detail).with_hint("give each topic word one plain topic level")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeName {
        NodeName::new("n1").unwrap()
    }

    #[test]
    fn topics_are_spelt_as_the_contract_says() {
        let topics = Topics::new(TopicWords::default(), node()).unwrap();
        let sender = SenderId::new("abcdefghi").unwrap();
        assert_eq!(topics.subscription(), "docker/n1/volumes/#");
        assert_eq!(topics.job_topic(JobKind::Create), "docker/n1/volumes/create");
        assert_eq!(topics.job_topic(JobKind::Delete), "docker/n1/volumes/delete");
        assert_eq!(topics.answers(&sender), "docker/sip/abcdefghi/jobs");
        assert_eq!(topics.failures(&sender), "docker/sip/abcdefghi/jobs/failed");
        assert_eq!(topics.presence(), "docker/n1/agent");
    }

    #[test]
    fn every_word_is_configurable() {
        let words = TopicWords {
            docker: "a".into(),
            volumes: "b".into(),
            create: "c".into(),
            delete: "d".into(),
            sip: "e".into(),
            jobs: "f".into(),
            failed: "g".into(),
            agent: "h".into(),
        };
        let topics = Topics::new(words, node()).unwrap();
        let sender = SenderId::new("s").unwrap();
        assert_eq!(topics.subscription(), "a/n1/b/#");
        assert_eq!(topics.kind_of("a/n1/b/c"), Some(JobKind::Create));
        assert_eq!(topics.kind_of("a/n1/b/d"), Some(JobKind::Delete));
        assert_eq!(topics.failures(&sender), "a/e/s/f/g");
        assert_eq!(topics.presence(), "a/n1/h");
        assert!(Topics::new(TopicWords::default(), NodeName::new("e").unwrap()).is_ok());
    }

    #[test]
    fn only_the_two_leaves_are_jobs() {
        let topics = Topics::new(TopicWords::default(), node()).unwrap();
        for topic in [
            "",
            "docker/n1/volumes",
            "docker/n1/volumes/",
            "docker/n1/volumes/Create",
            "docker/n1/volumes/create/",
            "docker/n1/volumes/create/x",
            "docker/n1/volumes//create",
            "docker/n1/volumescreate",
            "docker/n2/volumes/create",
            "docker/n1/volumes/resize",
        ] {
            assert_eq!(topics.kind_of(topic), None, "{topic:?}");
        }
    }

    #[test]
    fn words_that_are_not_one_topic_level_are_refused() {
        let long = "w".repeat(256);
        for bad in ["", "a/b", "+", "#", "a#", "a\0", "a\n", long.as_str()] {
            for at in 0..8 {
                let mut words = TopicWords::default();
                let word = [
                    &mut words.docker,
                    &mut words.volumes,
                    &mut words.create,
                    &mut words.delete,
                    &mut words.sip,
                    &mut words.jobs,
                    &mut words.failed,
                    &mut words.agent,
                ]
                .into_iter()
                .nth(at)
                .unwrap();
                bad.clone_into(word);
                assert!(Topics::new(words, node()).is_err(), "{bad:?} as word {at}");
            }
        }
    }

    #[test]
    fn words_that_would_be_mistaken_for_each_other_are_refused() {
        let refused = |words| Topics::new(words, node()).unwrap_err().to_string();
        let same = TopicWords { delete: "create".into(), ..TopicWords::default() };
        assert_eq!(refused(same), "topic words `create` and `delete` are both `create`");
        let own = TopicWords { agent: "volumes".into(), ..TopicWords::default() };
        assert_eq!(refused(own), "topic words `volumes` and `agent` are both `volumes`");
        let broker = TopicWords { docker: "$share".into(), ..TopicWords::default() };
        assert!(refused(broker).contains("the broker's own"));
        let node_is_sip = TopicWords { sip: "n1".into(), ..TopicWords::default() };
        assert!(refused(node_is_sip).contains("a node cannot be called `n1`"));
    }
}
