//! Commands that are run in a terminal and answered as a person would.

// Each test program uses a part of this.
#![allow(dead_code)]

use super::real::{Cloud, Outcome};
use rexpect::session::{PtySession, spawn_command};

/// How long one answer of the program may take.
const ANSWER: u64 = 200_000;

/// A command on a host, in a terminal of its own.
pub fn terminal(cloud: &Cloud, host: &str, words: &[&str]) -> Outcome<PtySession> {
    let mut command = cloud.command(host, words)?;
    command.env("TERM", "xterm").env("NO_COLOR", "1");
    Ok(spawn_command(command, Some(ANSWER))?)
}

/// Answers a question.
pub fn answer(terminal: &mut PtySession, question: &str, line: &str) -> Outcome {
    terminal.exp_string(question)?;
    terminal.send_line(line)?;
    Ok(())
}

/// Waits until a command has ended well.
pub fn ends_well(mut terminal: PtySession, whose: &str) -> Outcome {
    let said = terminal.exp_eof()?;
    let status = terminal.process().wait()?;
    let well = matches!(status, rexpect::process::WaitStatus::Exited(_, 0));
    match well {
        true => Ok(()),
        false => Err(format!("{whose} ended with {status:?}: {said}").into()),
    }
}

/// What stands after a label, up to the end of the line or a bracket.
pub fn shown(terminal: &mut PtySession, label: &str) -> Outcome<String> {
    terminal.exp_string(label)?;
    let line = terminal.read_line()?;
    Ok(line.split('(').next().unwrap_or_default().trim().to_owned())
}

/// Joins from a terminal; the initiator is found by mDNS unless its address is given.
pub fn join(
    cloud: &Cloud,
    host: &str,
    passphrase: &str,
    initiator: Option<&str>,
    fingerprint: &str,
) -> Outcome<PtySession> {
    let own = cloud.address(host)?.to_string();
    let mut words = vec!["microcloud", "join", "--address", &own, "--timeout", "60s"];
    words.extend(initiator.iter().flat_map(|at| ["--initiator-address", at]));
    let mut terminal = terminal(cloud, host, &words)?;
    answer(&mut terminal, "The passphrase", passphrase)?;
    // What a person would compare.
    terminal.exp_string(&format!(
        "knows the passphrase; its fingerprint is {fingerprint}"
    ))?;
    Ok(terminal)
}
