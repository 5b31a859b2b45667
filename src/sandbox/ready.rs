//! Waiting until a host can be used: booted, addressed, LXD answering.

use super::host;
use super::layout::Layout;
use super::process::Started;
use super::{Error, command};
use std::fs;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long each of the waits may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// Asks `question` until it says yes.
fn until(what: &str, hint: &str, mut question: impl FnMut() -> bool) -> Result<(), Error> {
    let begun = Instant::now();
    while !question() {
        if begun.elapsed() > DEADLINE {
            return Err(Error::Timeout {
                what: what.to_owned(),
                deadline: DEADLINE,
                hint: hint.to_owned(),
            });
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Waits until systemd has started what it starts at boot.
pub(super) fn booted(layout: &Layout, name: &str) -> Result<(), Error> {
    let hint = format!("see `microcloud sandbox exec {name} -- systemctl list-jobs`");
    until(&format!("booting {name}"), &hint, || {
        // It exits with an error when a unit failed; that host is usable all the same.
        let words = ["systemctl", "is-system-running", "--wait"].map(std::ffi::OsString::from);
        host::enter(layout, name, &words)
            .ok()
            .and_then(|mut c| c.stdin(std::process::Stdio::null()).output().ok())
            .is_some_and(|out| {
                let said = String::from_utf8_lossy(&out.stdout);
                matches!(said.trim(), "running" | "degraded")
            })
    })
}

/// Waits until the host has these addresses.
pub(super) fn addressed(name: &str, init: Started, addresses: &[Ipv4Addr]) -> Result<(), Error> {
    // The routing table of the host's network, without entering it.
    let table = format!("/proc/{}/net/fib_trie", init.pid);
    let hint = format!("see `microcloud sandbox exec {name} -- networkctl`");
    until(&format!("addressing {name}"), &hint, || {
        fs::read_to_string(&table).is_ok_and(|text| has_addresses(&text, addresses))
    })
}

fn has_addresses(table: &str, addresses: &[Ipv4Addr]) -> bool {
    addresses.iter().all(|address| {
        table
            .lines()
            .any(|l| l.ends_with(&format!("|-- {address}")))
    })
}

/// Waits until LXD answers that it is ready.
pub(super) fn lxd(name: &str, init: Started) -> Result<(), Error> {
    // By the host's own root: a socket's path may have 107 bytes, the state directory any length.
    let socket = host::root_of(init).join("var/lib/lxd/unix.socket");
    let hint = format!("see `microcloud sandbox exec {name} -- journalctl -u lxd`");
    until(&format!("LXD on {name}"), &hint, || {
        ready(&socket).unwrap_or(false)
    })
}

/// Whether `/internal/ready` on this socket answers 200.
fn ready(socket: &Path) -> std::io::Result<bool> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(command::SHORT))?;
    stream.set_write_timeout(Some(command::SHORT))?;
    stream.write_all(b"GET /internal/ready HTTP/1.1\r\nHost: lxd\r\nConnection: close\r\n\r\n")?;
    let mut start = [0_u8; 12];
    stream.read_exact(&mut start)?;
    Ok(&start[8..] == b" 200")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_200_is_ready() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket)?;
        let server = thread::spawn(move || -> std::io::Result<()> {
            for status in ["503 Service Unavailable", "200 OK"] {
                let (mut stream, _) = listener.accept()?;
                let mut request = [0; 512];
                let _ = stream.read(&mut request)?;
                stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes())?;
            }
            Ok(())
        });
        assert!(!ready(&socket)?);
        assert!(ready(&socket)?);
        assert!(server.join().is_ok_and(|r| r.is_ok()));
        assert!(ready(&socket).is_err());
        Ok(())
    }

    #[test]
    fn addresses_in_the_table_are_whole() {
        let table = "Local:\n  |-- 10.77.0.11\n     /32 host LOCAL\n";
        assert!(has_addresses(table, &[Ipv4Addr::new(10, 77, 0, 11)]));
        assert!(!has_addresses(table, &[Ipv4Addr::new(10, 77, 0, 1)]));
        assert!(!has_addresses(table, &[Ipv4Addr::new(0, 77, 0, 11)]));
    }
}
