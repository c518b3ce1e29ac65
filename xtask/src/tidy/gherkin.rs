//! Rules for feature files. A line that is no step, because its keyword is misspelt, is a comment for the runner, and
//! a scenario without its `Then` passes: so each line must be known, and each scenario must do and expect something.

use std::collections::HashSet;

use super::{Breach, TextFile};

const RULE: &str = "features say what they mean";

/// What opens a scenario that runs once, or once per row of its examples.
const SCENARIOS: [&str; 4] = ["Scenario:", "Example:", "Scenario Outline:", "Scenario Template:"];
const OUTLINES: [&str; 2] = ["Scenario Outline:", "Scenario Template:"];
const EXAMPLES: [&str; 2] = ["Examples:", "Scenarios:"];
const STEPS: [&str; 6] = ["Given ", "When ", "Then ", "And ", "But ", "* "];

pub(super) fn breaches(files: &[TextFile]) -> Vec<Breach> {
    files
        .iter()
        .filter(|file| file.path.ends_with(".feature"))
        .flat_map(|file| Reader::new(file).read())
        .collect()
}

/// Reads one file from top to bottom.
struct Reader<'a> {
    file: &'a TextFile,
    names: HashSet<&'a str>,
    scenario: Option<Scenario<'a>>,
    /// Whether a description may stand here: below a feature or a rule, before anything else.
    describing: bool,
    in_background: bool,
    breaches: Vec<Breach>,
}

struct Scenario<'a> {
    line: usize,
    name: &'a str,
    outline: bool,
    when: bool,
    then: bool,
    in_examples: bool,
    rows: usize,
}

impl<'a> Reader<'a> {
    fn new(file: &'a TextFile) -> Self {
        let (names, breaches) = (HashSet::new(), Vec::new());
        Self { file, names, scenario: None, describing: false, in_background: false, breaches }
    }

    fn read(mut self) -> Vec<Breach> {
        let mut fence: Option<(usize, &str)> = None;
        for (index, line) in self.file.text.lines().enumerate() {
            let (number, line) = (index + 1, line.trim());
            let mark = ["\"\"\"", "```"].into_iter().find(|mark| line.starts_with(mark));
            match (fence, mark) {
                (Some((_, open)), Some(mark)) if open == mark => fence = None,
                (Some(_), _) => {}
                (None, Some(mark)) => fence = Some((number, mark)),
                (None, None) => self.line(number, line),
            }
        }
        if let Some((number, mark)) = fence {
            self.breach(number, format!("close the text with `{mark}`"));
        }
        self.close_scenario();
        if self.names.is_empty() {
            self.breach(1, "write a scenario, or remove the file".to_owned());
        }
        self.breaches
    }

    fn line(&mut self, number: usize, line: &'a str) {
        let starts = |words: &[&str]| words.iter().any(|word| line.starts_with(word));
        if line.is_empty() || line.starts_with('#') || line.starts_with('@') {
            return;
        }
        if starts(&["Feature:", "Rule:"]) {
            self.close_scenario();
            (self.describing, self.in_background) = (true, false);
        } else if starts(&["Background:"]) {
            self.close_scenario();
            (self.describing, self.in_background) = (false, true);
        } else if starts(&SCENARIOS) {
            self.open_scenario(number, line, starts(&OUTLINES));
        } else if starts(&EXAMPLES) {
            match &mut self.scenario {
                Some(scenario) if scenario.outline => scenario.in_examples = true,
                _ => self.breach(number, "put examples below a `Scenario Outline:`".to_owned()),
            }
        } else if starts(&STEPS) && (self.scenario.is_some() || self.in_background) {
            self.step(line);
        } else if line.starts_with('|') && (self.scenario.is_some() || self.in_background) {
            if let Some(scenario) = self.scenario.as_mut().filter(|scenario| scenario.in_examples) {
                scenario.rows += 1;
            }
        } else if !self.describing {
            self.breach(number, format!("`{line}` is no step, table, tag or comment: mend its first word"));
        }
    }

    fn open_scenario(&mut self, line: usize, text: &'a str, outline: bool) {
        self.close_scenario();
        (self.describing, self.in_background) = (false, false);
        let name = text.split_once(':').map_or("", |(_, name)| name.trim());
        if name.is_empty() {
            self.breach(line, "give the scenario a name".to_owned());
        }
        if !self.names.insert(name) {
            self.breach(line, format!("another scenario here is called `{name}` too: rename one"));
        }
        let scenario =
            Scenario { line, name, outline, when: false, then: false, in_examples: false, rows: 0 };
        self.scenario = Some(scenario);
    }

    fn step(&mut self, line: &str) {
        if let Some(scenario) = &mut self.scenario {
            scenario.when |= line.starts_with("When ");
            scenario.then |= line.starts_with("Then ");
        }
    }

    fn close_scenario(&mut self) {
        let Some(scenario) = self.scenario.take() else { return };
        let Scenario { line, name, .. } = scenario;
        for (there, word) in [(scenario.when, "When"), (scenario.then, "Then")] {
            if !there {
                self.breach(
                    line,
                    format!("scenario `{name}` has no `{word}`: add one, or mend its spelling"),
                );
            }
        }
        // The first row names the columns.
        if scenario.outline && scenario.rows < 2 {
            self.breach(
                line,
                format!("outline `{name}` has no example and never runs: add `Examples:` with rows"),
            );
        }
    }

    fn breach(&mut self, line: usize, cure: String) {
        self.breaches.push(Breach::at_line(RULE, self.file, line, cure));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let found = breaches(&[TextFile::of("a.feature", text)]);
        found.into_iter().map(|breach| breach.place.replace("a.feature:", "")).collect()
    }

    #[test]
    fn a_good_feature_has_no_breach() {
        let good = "# Comment\n@tag\nFeature: Create\n  As a sender\n  I want volumes\n\n\
             Background:\n  Given an agent\n\n\
             @loop\nScenario: A volume\n  When I send\n    \"\"\"\n    {\"job\": \"1\"}\n    whatever\n    \"\"\"\n  \
             Then I get\n    | DONE |\n  And nothing else\n\n\
             Scenario Outline: Sizes\n  * a node\n  When I ask for <size>\n  Then I get it\n\n  \
             Examples:\n    | size |\n    | 1 |\n";
        assert_eq!(lines(good), [""; 0]);
    }

    #[test]
    fn a_misspelt_keyword_is_found_and_what_it_hides() {
        assert_eq!(lines("Feature: A\nScenario: B\n  When C\n  Than D\n"), ["4", "2"]);
        assert_eq!(lines("Feature: A\nBackground:\n  Givn x\nScenario: B\n  When C\n  Then D\n"), ["3"]);
    }

    #[test]
    fn a_scenario_without_when_or_then_is_found() {
        assert_eq!(lines("Feature: A\nScenario: B\n  Given C\n  Then D\n"), ["2"]);
        assert_eq!(lines("Feature: A\nScenario: B\n  When C\nScenario: E\n  When C\n  Then D\n"), ["2"]);
    }

    #[test]
    fn two_scenarios_of_one_name_are_found() {
        assert_eq!(
            lines("Feature: A\nScenario: B\n  When C\n  Then D\nExample: B\n  When C\n  Then D\n"),
            ["5"]
        );
    }

    #[test]
    fn what_never_runs_is_found() {
        assert_eq!(lines("Feature: A\n"), ["1"]);
        let outline = "Feature: A\nScenario Outline: B\n  When C\n  Then D\n  Examples:\n    | size |\n";
        assert_eq!(lines(outline), ["2"]);
        assert_eq!(lines("Feature: A\nScenario: B\n  When C\n  \"\"\"\n  Then D\n"), ["4", "2"]);
    }
}
