//! Questions, answered by a person on a terminal or by a program: plain lines in, plain lines out.

use crate::cli::error::CommandError;
use crate::cli::output::{Paint, lines};
use crate::cli::print;
use comfy_table::{Table, presets};
use std::collections::BTreeSet;
use tokio::sync::mpsc;

/// How often a question is asked again whose answer makes no sense.
const TRIES: usize = 20;

/// Asks, and reads the standard input.
#[derive(Debug)]
pub struct Asker {
    given: Option<mpsc::UnboundedReceiver<String>>,
    /// Nothing is asked: what has a default gets it.
    yes: bool,
}

fn aborted() -> CommandError {
    CommandError::NotDone("aborted: the answers ended before the questions did".to_owned())
}

impl Asker {
    /// With `yes` nothing is asked, and every question has its default.
    pub fn new(yes: bool) -> Asker {
        Asker { given: None, yes }
    }

    /// Whether nothing is asked.
    pub fn silent(&self) -> bool {
        self.yes
    }

    /// The next line of the standard input. Loses nothing when it is dropped before it is ready.
    ///
    /// # Errors
    /// There are no more.
    pub async fn read(&mut self) -> Result<String, CommandError> {
        let given = self.given.get_or_insert_with(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            // A thread of its own: reading cannot be given up, and must not keep the program.
            std::thread::spawn(move || {
                for line in std::io::stdin().lines() {
                    let Ok(line) = line else { return };
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
            receiver
        });
        let line = given.recv().await.ok_or_else(aborted)?;
        Ok(line.trim().to_owned())
    }

    /// Asks for a text until `check` takes it; an empty answer is the default.
    ///
    /// # Errors
    /// The answers ended, or nothing is asked and there is no default.
    pub async fn text<T>(
        &mut self,
        question: &str,
        default: Option<&str>,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, CommandError> {
        let hint = match default {
            Some("") => " [none]".to_owned(),
            Some(default) => format!(" [{default}]"),
            None => String::new(),
        };
        for _ in 0..TRIES {
            let answer = if self.yes {
                let missing = || CommandError::Usage(format!("not answered by a flag: {question}"));
                default.ok_or_else(missing)?.to_owned()
            } else {
                print(&format!("{question}{hint}: "));
                let answer = self.read().await?;
                match default {
                    Some(default) if answer.is_empty() => default.to_owned(),
                    _ => answer,
                }
            };
            match check(&answer) {
                Ok(value) => return Ok(value),
                Err(reason) if self.yes => return Err(CommandError::Usage(reason)),
                Err(reason) => print(&format!("  {}\n", Paint::of_stdout().red(&reason))),
            }
        }
        Err(aborted())
    }

    /// Asks yes or no.
    ///
    /// # Errors
    /// As [`Asker::text`].
    pub async fn yes_no(&mut self, question: &str, default: bool) -> Result<bool, CommandError> {
        let word = if default { "yes" } else { "no" };
        self.text(
            &format!("{question} (yes/no)"),
            Some(word),
            |answer| match answer.to_ascii_lowercase().as_str() {
                "y" | "yes" => Ok(true),
                "n" | "no" => Ok(false),
                _ => Err("yes or no".to_owned()),
            },
        )
        .await
    }

    /// Shows rows and asks which; their places. `/TEXT` shows only rows with that text, and `all`
    /// then means those. `check` says what is wrong with a choice.
    ///
    /// # Errors
    /// As [`Asker::text`].
    pub async fn select(
        &mut self,
        question: &str,
        header: &[&str],
        rows: &[Vec<String>],
        default: &BTreeSet<usize>,
        check: impl Fn(&BTreeSet<usize>) -> Result<(), String>,
    ) -> Result<BTreeSet<usize>, CommandError> {
        if self.yes {
            return match check(default) {
                Ok(()) => Ok(default.clone()),
                Err(reason) => Err(CommandError::Usage(format!("{question}: {reason}"))),
            };
        }
        let mut shown: Vec<usize> = (0..rows.len()).collect();
        print(&format!("{question}\n"));
        show(header, rows, &shown);
        let word = match default {
            all if all.len() == rows.len() && !rows.is_empty() => "all".to_owned(),
            none if none.is_empty() => "none".to_owned(),
            some => some
                .iter()
                .map(|place| (place + 1).to_string())
                .collect::<Vec<_>>()
                .join(","),
        };
        for _ in 0..TRIES {
            print(&format!(
                "Which? (such as 1,3-4; all; none; /TEXT to show fewer) [{word}]: "
            ));
            let answer = self.read().await?;
            if let Some(filter) = answer.strip_prefix('/') {
                let filter = filter.to_lowercase();
                let has =
                    |row: &Vec<String>| row.iter().any(|c| c.to_lowercase().contains(&filter));
                shown = (0..rows.len()).filter(|place| has(&rows[*place])).collect();
                show(header, rows, &shown);
                continue;
            }
            let chosen = match answer.as_str() {
                "" => Ok(default.clone()),
                answer => parse(answer, &shown, rows.len()),
            };
            match chosen.and_then(|chosen| check(&chosen).map(|()| chosen)) {
                Ok(chosen) => return Ok(chosen),
                Err(reason) => print(&format!("  {}\n", Paint::of_stdout().red(&reason))),
            }
        }
        Err(aborted())
    }
}

fn show(header: &[&str], rows: &[Vec<String>], shown: &[usize]) {
    let mut table = Table::new();
    let head = ["#"].into_iter().chain(header.iter().copied());
    table.load_style(presets::NOTHING).set_header(head);
    for place in shown {
        let number = (place + 1).to_string();
        table.add_row([number].iter().chain(&rows[*place]));
    }
    print(&lines(&table, "  "));
}

/// `1,3-4`, `all` (of what is shown) or `none`, counted from 1.
fn parse(answer: &str, shown: &[usize], count: usize) -> Result<BTreeSet<usize>, String> {
    match answer.to_ascii_lowercase().as_str() {
        "all" => return Ok(shown.iter().copied().collect()),
        "none" => return Ok(BTreeSet::new()),
        _ => {}
    }
    let number = |text: &str| match text.trim().parse::<usize>() {
        Ok(number) if (1..=count).contains(&number) => Ok(number),
        _ => Err(format!(
            "`{}` is not a number from 1 to {count}",
            text.trim()
        )),
    };
    let mut chosen = BTreeSet::new();
    for part in answer.split([',', ' ']).filter(|part| !part.is_empty()) {
        let (from, to) = match part.split_once('-') {
            Some((from, to)) => (number(from)?, number(to)?),
            None => (number(part)?, number(part)?),
        };
        chosen.extend((from..=to).map(|number| number - 1));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_as_people_write_them() {
        let set = |places: &[usize]| Ok(places.iter().copied().collect::<BTreeSet<_>>());
        assert_eq!(parse("1,3-4", &[0, 1, 2, 3], 4), set(&[0, 2, 3]));
        assert_eq!(parse("2 4", &[0, 1, 2, 3], 4), set(&[1, 3]));
        assert_eq!(parse("ALL", &[1, 3], 4), set(&[1, 3]));
        assert_eq!(parse("none", &[0], 4), set(&[]));
        for wrong in ["0", "5", "x", "1-9", "-"] {
            assert!(parse(wrong, &[0], 4).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn with_yes_nothing_is_asked() {
        let mut asker = Asker::new(true);
        assert!(asker.yes_no("Really?", true).await.unwrap());
        let parse = |t: &str| t.parse::<u8>().map_err(|e| e.to_string());
        assert_eq!(asker.text("How many?", Some("3"), parse).await.unwrap(), 3);
        let error = asker.text("How many?", None, parse).await.unwrap_err();
        assert_eq!(error.to_string(), "not answered by a flag: How many?");
        let default = BTreeSet::from([0]);
        let rows = [vec!["a".to_owned()]];
        let chosen = asker
            .select("Which?", &["NAME"], &rows, &default, |_| Ok(()))
            .await
            .unwrap();
        assert_eq!(chosen, default);
    }
}
