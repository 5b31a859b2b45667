//! Calling the machine's own programs: with a deadline, and with what they said when they fail.

use super::Error;
use super::layout::{Layout, MARKER};
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a short administrative program may take.
pub(super) const SHORT: Duration = Duration::from_secs(20);

/// How many bytes of a program's error output an error shows.
const SHOWN: usize = 600;

/// A program that works for this sandbox. It bears the sandbox's marker, so that one that outlives
/// a killed command is ended by `down` before it can make anything after that.
pub(super) fn helper(layout: &Layout, program: &str) -> Command {
    let mut command = Command::new(program);
    command.env(MARKER, layout.home());
    command
}

/// Runs `command` with `input` on its standard input and returns its standard output.
pub(super) fn run(
    command: &mut Command,
    input: Option<&str>,
    deadline: Duration,
) -> Result<String, Error> {
    let shown = show(command);
    let failed = |status: String, said: &str| Error::Command {
        program: shown.clone(),
        status,
        said: tail(said),
    };
    command
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|e| failed("not started".into(), &e.to_string()))?;
    let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (status, out, err) = thread::scope(|scope| {
        let (stdin, stdout, stderr) = streams;
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A program that ends without reading its input says why on its error output.
            scope.spawn(move || drop(stdin.write_all(input.as_bytes())));
        }
        let out = scope.spawn(move || slurp(stdout));
        let err = scope.spawn(move || slurp(stderr));
        let status = wait(&mut child, deadline);
        (
            status,
            out.join().unwrap_or_default(),
            err.join().unwrap_or_default(),
        )
    });
    match status {
        Ok(Some(status)) if status.success() => Ok(out),
        Ok(Some(status)) => Err(failed(status.to_string(), &err)),
        Ok(None) => Err(Error::Timeout {
            what: shown,
            deadline,
            hint: tail(&err),
        }),
        Err(e) => Err(failed("cannot be waited for".into(), &e.to_string())),
    }
}

/// Waits for `child`; kills it at the deadline and returns `None`.
fn wait(child: &mut Child, deadline: Duration) -> std::io::Result<Option<ExitStatus>> {
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn slurp(stream: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        // What was read before an error is still worth showing.
        let _ = stream.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The program and its arguments, for a message.
fn show(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|a| a.to_string_lossy().into_owned()));
    let line = words.join(" ");
    match line.char_indices().nth(120) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

/// The end of what a program said, on one line.
pub(super) fn tail(said: &str) -> String {
    let said = said.trim();
    let mut from = said.len().saturating_sub(SHOWN);
    while !said.is_char_boundary(from) {
        from += 1;
    }
    let line = said[from..]
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect::<Vec<_>>()
        .join(" | ");
    if line.is_empty() {
        "it said nothing".to_owned()
    } else {
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_input_failure_and_deadline() {
        let out = run(&mut Command::new("cat"), Some("hello"), SHORT);
        assert_eq!(out.ok().as_deref(), Some("hello"));
        let failed = run(
            Command::new("sh").args(["-c", "echo because >&2; exit 3"]),
            None,
            SHORT,
        );
        let said = failed.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(
            said.contains("exit status: 3") && said.contains("because"),
            "{said}"
        );
        let begun = Instant::now();
        let late = run(
            Command::new("sleep").arg("30"),
            None,
            Duration::from_millis(50),
        );
        assert!(matches!(late, Err(Error::Timeout { .. })));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_missing_program_is_named() {
        let said = run(&mut Command::new("no-such-program"), None, SHORT)
            .err()
            .map(|e| e.to_string());
        assert!(said.is_some_and(|s| s.contains("no-such-program failed (not started)")));
    }

    #[test]
    fn the_tail_keeps_whole_characters() {
        let long = "ä".repeat(1000);
        assert!(tail(&long).chars().all(|c| c == 'ä'));
        assert_eq!(tail(" \n"), "it said nothing");
    }
}
