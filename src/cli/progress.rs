//! What is still waited for: lines that move on a terminal, only what changed elsewhere.

use super::output::{Paint, refusal, tell};
use super::ready::Unready;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::time::Duration;

/// How many objects have a line of their own on a terminal.
const MOST: usize = 12;

/// Shows on the standard error what is not ready yet.
#[derive(Debug)]
pub struct Progress {
    screen: Option<Screen>,
    /// What was said last of each object that is not ready.
    said: BTreeMap<String, String>,
    /// Refusals that were told.
    refused: BTreeSet<String>,
    paint: Paint,
    /// What they are in the end, such as `Ready`.
    word: &'static str,
}

#[derive(Debug)]
struct Screen {
    bars: MultiProgress,
    head: ProgressBar,
    rows: Vec<ProgressBar>,
}

impl Progress {
    /// Nothing is shown yet; `word` is what all of them are in the end, such as `Ready`.
    pub fn start(word: &'static str) -> Progress {
        Progress {
            screen: std::io::stderr()
                .is_terminal()
                .then(|| Screen::new(&word.to_lowercase())),
            said: BTreeMap::new(),
            refused: BTreeSet::new(),
            paint: Paint::of_stderr(),
            word,
        }
    }

    /// Shows what is not ready of `expected` objects.
    pub fn show(&mut self, not_ready: &[Unready], expected: usize) {
        for line in self.news(not_ready) {
            self.note(&line);
        }
        if let Some(screen) = &mut self.screen {
            screen.show(not_ready, expected);
        }
    }

    /// A line that stays.
    pub fn note(&self, line: &str) {
        match &self.screen {
            Some(screen) => {
                let _ = screen.bars.println(line);
            }
            None => tell(&format!("{line}\n")),
        }
    }

    /// Nothing moves any more.
    pub fn end(&mut self) {
        if let Some(screen) = self.screen.take() {
            let _ = screen.bars.clear();
        }
    }

    /// The lines that stay: what became ready and what is refused, and without a terminal every
    /// change of a sentence.
    fn news(&mut self, not_ready: &[Unready]) -> Vec<String> {
        let mut news = Vec::new();
        let now: BTreeMap<String, String> = not_ready
            .iter()
            .map(|one| (one.name.clone(), format!("{}: {}", one.word, one.message)))
            .collect();
        for name in self.said.keys().filter(|n| !n.is_empty()) {
            if !now.contains_key(name) {
                news.push(format!("{name}: {}", self.paint.green(self.word)));
            }
        }
        for one in not_ready {
            let sentence = now.get(&one.name);
            let fresh = self.said.get(&one.name) != sentence;
            // What is refused is told below, once.
            let is_refusal = one.refused.iter().any(|r| r.message == one.message);
            if let (true, None, false, Some(sentence)) = (fresh, &self.screen, is_refusal, sentence)
            {
                news.push(match one.name.as_str() {
                    "" => one.message.clone(),
                    name => format!("{name}: {sentence}"),
                });
            }
            for refused in &one.refused {
                let (message, command) = refusal(refused);
                if !self
                    .refused
                    .insert(format!("{}: {}", one.name, refused.message))
                {
                    continue;
                }
                let label = self.paint.red("refused:");
                news.push(format!("{}: {label} {message}", one.name));
                if let Some(command) = command {
                    news.push(format!("  to allow it once: {command}"));
                }
            }
        }
        self.said = now;
        news
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

impl Screen {
    fn new(word: &str) -> Screen {
        let bars = MultiProgress::new();
        let head = bars.add(ProgressBar::new(1));
        let template = format!("{{bar:24}} {{pos}}/{{len}} {word}, {{elapsed}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            head.set_style(style);
        }
        head.enable_steady_tick(Duration::from_millis(500));
        Screen {
            bars,
            head,
            rows: Vec::new(),
        }
    }

    fn show(&mut self, not_ready: &[Unready], expected: usize) {
        let ready = expected.saturating_sub(not_ready.len());
        self.head
            .set_length(u64::try_from(expected).unwrap_or(u64::MAX));
        self.head
            .set_position(u64::try_from(ready).unwrap_or(u64::MAX));
        let mut sentences: Vec<String> = not_ready
            .iter()
            .take(MOST)
            .map(|one| match one.name.as_str() {
                "" => one.message.clone(),
                name => format!("{name}  {}", one.message),
            })
            .collect();
        if not_ready.len() > MOST {
            sentences.push(format!("and {} more", not_ready.len() - MOST));
        }
        while self.rows.len() > sentences.len() {
            if let Some(row) = self.rows.pop() {
                row.finish_and_clear();
                self.bars.remove(&row);
            }
        }
        while self.rows.len() < sentences.len() {
            let row = self.bars.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("  {spinner} {wide_msg}") {
                row.set_style(style);
            }
            row.enable_steady_tick(Duration::from_millis(120));
            self.rows.push(row);
        }
        for (row, sentence) in self.rows.iter().zip(sentences) {
            row.set_message(sentence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::plan::Refused;

    fn one(name: &str, message: &str) -> Unready {
        Unready {
            name: name.into(),
            word: "Reconciling",
            message: message.into(),
            refused: Vec::new(),
            stuck: false,
        }
    }

    fn plain() -> Progress {
        Progress {
            screen: None,
            said: BTreeMap::new(),
            refused: BTreeSet::new(),
            paint: Paint::PLAIN,
            word: "Ready",
        }
    }

    #[test]
    fn only_what_changed_is_said_and_the_end_of_each() {
        let mut progress = plain();
        let first = [one("member/b", "join b"), one("member/c", "join c")];
        assert_eq!(
            progress.news(&first),
            [
                "member/b: Reconciling: join b",
                "member/c: Reconciling: join c"
            ]
        );
        assert!(progress.news(&first).is_empty());
        let next = [one("member/c", "c is joining")];
        assert_eq!(
            progress.news(&next),
            ["member/b: Ready", "member/c: Reconciling: c is joining"]
        );
        assert_eq!(progress.news(&[]), ["member/c: Ready"]);
    }

    #[test]
    fn a_refusal_is_told_once_with_the_command() {
        let message = "it holds data; to allow it once: microcloud approve Disk/d/wipe@S1";
        let refused = Refused {
            reason: "ApprovalNeeded".into(),
            message: message.into(),
            approve: Some("Disk/d/wipe@S1".into()),
        };
        let stalled = Unready {
            refused: vec![refused],
            word: "Stalled",
            ..one("disk/d", message)
        };
        let mut progress = plain();
        assert_eq!(
            progress.news(std::slice::from_ref(&stalled)),
            [
                "disk/d: refused: it holds data",
                "  to allow it once: microcloud approve Disk/d/wipe@S1"
            ]
        );
        assert!(progress.news(&[stalled]).is_empty());
    }

    #[test]
    fn the_controller_itself_has_no_name() {
        let mut progress = plain();
        assert_eq!(
            progress.news(&[one("", "nobody controls: no majority")]),
            ["nobody controls: no majority"]
        );
        assert!(progress.news(&[]).is_empty());
    }
}
