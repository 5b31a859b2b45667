//! Which packets get from this machine to others: datagrams that must not be taken to pieces on the
//! way, of one size after another, which the other agent answers.
//!
//! An answer is shorter than what it answers and says nothing but its size, so that nobody gains
//! anything by asking in another's name.

use super::{LocalHost, Roots, interfaces};
use crate::services::host::{HostError, PathsReport, PathsRequest, Reach};
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

/// What a question begins with.
const QUESTION: &[u8; 8] = b"mc-path?";

/// What an answer begins with.
const ANSWER: &[u8; 8] = b"mc-path!";

/// The question's word, a number that its answer repeats, and in an answer the size it came with.
const HEAD: usize = 16;

/// How long each try waits for its answer.
const TRIES: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
];

/// Less than this gets through every network that deserves the name: IPv6 asks for 1280, and IPv4
/// of every host for 576.
const SMALL: u32 = 256;

/// Larger packets are not tried.
const LARGE: u32 = 16_384;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(2);

static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// What is in a packet besides the datagram's content: the headers of IP and UDP.
fn headers(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => 20 + 8,
        IpAddr::V6(_) => 40 + 8,
    }
}

/// Answers other agents' questions until it is told to stop.
///
/// # Errors
/// The port cannot be listened on.
pub async fn answer_paths(port: u16, stop: CancellationToken) -> io::Result<()> {
    let socket = match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(socket) => socket,
        // A machine without IPv6.
        Err(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).await?,
    };
    let mut packet = vec![0; LARGE as usize];
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            received = socket.recv_from(&mut packet) => received,
        };
        // What cannot be received is a packet that is lost.
        let Ok((length, from)) = received else {
            continue;
        };
        if let Some(answer) = answer(&packet[..length]) {
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

/// The answer to a question, if it is one: shorter than the question.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    if question.len() <= HEAD + 4 || !question.starts_with(QUESTION) {
        return None;
    }
    let size = u32::try_from(question.len()).ok()?;
    let mut answer = ANSWER.to_vec();
    answer.extend_from_slice(&question[8..HEAD]);
    answer.extend_from_slice(&size.to_be_bytes());
    Some(answer)
}

fn question(number: u64, size: usize) -> Vec<u8> {
    let mut question = QUESTION.to_vec();
    question.extend_from_slice(&number.to_be_bytes());
    question.resize(size, 0);
    question
}

/// Finds out which packets get from here to others.
async fn look(roots: &Roots, port: u16, request: PathsRequest) -> Result<PathsReport, HostError> {
    let interfaces = interfaces::report(roots).await?;
    let has = |i: &&crate::services::host::InterfaceReport| {
        i.addresses.iter().any(|a| a.addr() == request.from)
    };
    let Some(mtu) = interfaces.iter().find(has).map(|i| i.mtu.min(LARGE)) else {
        return Ok(PathsReport::default());
    };
    let from = request.from;
    let tries = request.to.into_iter().map(|to| async move {
        let reach = reach(from, SocketAddr::new(to, port), mtu).await;
        (to, reach)
    });
    let paths: BTreeMap<IpAddr, Reach> = futures_util::future::join_all(tries)
        .await
        .into_iter()
        .collect();
    Ok(PathsReport { mtu, paths })
}

impl LocalHost {
    /// Tries which packets get from this machine to the agents of others, which listen on `port`.
    ///
    /// # Errors
    /// The interfaces cannot be read.
    pub async fn paths(&self, port: u16, request: PathsRequest) -> Result<PathsReport, HostError> {
        look(&self.roots, port, request).await
    }
}

/// What gets from an address to an agent, by an interface of this MTU.
async fn reach(from: IpAddr, to: SocketAddr, mtu: u32) -> Reach {
    let largest = match socket(from).await {
        Ok(socket) => largest(&socket, to, mtu).await,
        Err(error) => {
            tracing::debug!(%from, %error, "cannot send from there");
            None
        }
    };
    if let Some(size) = largest {
        return Reach::Packets(size);
    }
    match tokio::time::timeout(CONNECT, TcpStream::connect(to)).await {
        Ok(Ok(_)) => Reach::ConnectionsOnly,
        _ => Reach::Nothing,
    }
}

/// A socket whose datagrams are never taken to pieces, whatever was heard of the way before.
async fn socket(from: IpAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((from, 0)).await?;
    match from {
        IpAddr::V4(_) => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)?,
        IpAddr::V6(_) => set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE)?,
    }
    Ok(socket)
}

/// The largest packet that gets through, if any does.
async fn largest(socket: &UdpSocket, to: SocketAddr, mtu: u32) -> Option<u32> {
    if arrives(socket, to, mtu, &TRIES[..2]).await {
        return Some(mtu);
    }
    if !arrives(socket, to, SMALL.min(mtu), &TRIES).await {
        return None;
    }
    // Something gets through: that the largest did not may have been a packet lost.
    if arrives(socket, to, mtu, &TRIES[1..]).await {
        return Some(mtu);
    }
    let (mut through, mut lost) = (SMALL, mtu);
    while lost > through + 1 {
        let size = through.midpoint(lost);
        if arrives(socket, to, size, &TRIES[..2]).await {
            through = size;
        } else {
            lost = size;
        }
    }
    Some(through)
}

/// Whether a packet of this size is answered.
async fn arrives(socket: &UdpSocket, to: SocketAddr, size: u32, tries: &[Duration]) -> bool {
    let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
    let Some(length) = size.checked_sub(headers(to.ip())) else {
        return false;
    };
    let question = question(number, length as usize);
    let Some(expected) = answer(&question) else {
        return false;
    };
    for limit in tries {
        // Too large for the interface, or nobody there: the packet does not arrive.
        if socket.send_to(&question, to).await.is_err() {
            tokio::time::sleep(*limit / 4).await;
            continue;
        }
        let answered = async {
            let mut packet = [0; 64];
            loop {
                match socket.recv_from(&mut packet).await {
                    Ok((length, _)) if packet[..length] == expected[..] => return,
                    // Somebody else's, an earlier one's, or that nobody listens there.
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        if tokio::time::timeout(*limit, answered).await.is_ok() {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_questions_are_answered_and_shorter_than_they_are() {
        let asked = question(7, 1472);
        let said = answer(&asked).unwrap();
        assert!(said.len() < HEAD + 5);
        assert_eq!(&said[8..HEAD], 7_u64.to_be_bytes());
        assert_eq!(&said[HEAD..], 1472_u32.to_be_bytes());
        // An answer is no question, and neither is something short.
        assert_eq!(answer(&said), None);
        assert_eq!(answer(&question(7, HEAD + 4)), None);
        assert_eq!(answer(b"GET / HTTP/1.1\r\n\r\n------"), None);
    }

    #[tokio::test]
    async fn the_whole_mtu_gets_through_here_and_nothing_where_nobody_is() {
        let free = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let stop = CancellationToken::new();
        let answering = tokio::spawn(answer_paths(port, stop.clone()));
        let here: IpAddr = "127.0.0.1".parse().unwrap();
        let reached = reach(here, SocketAddr::new(here, port), 1500).await;
        assert_eq!(reached, Reach::Packets(1500));
        stop.cancel();
        answering.await.unwrap().unwrap();
        let reached = reach(here, SocketAddr::new(here, port), 1500).await;
        assert_eq!(reached, Reach::Nothing);
    }

    #[tokio::test]
    async fn the_largest_that_is_answered_is_found() {
        let server = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
        let to = server.local_addr().unwrap();
        // A way that loses what is larger than 1400 bytes.
        let way = tokio::spawn(async move {
            let mut packet = [0; 2000];
            loop {
                let (length, from) = server.recv_from(&mut packet).await.unwrap();
                if length + 28 <= 1400 {
                    let said = answer(&packet[..length]).unwrap();
                    server.send_to(&said, from).await.unwrap();
                }
            }
        });
        let reached = reach(to.ip(), to, 1500).await;
        assert_eq!(reached, Reach::Packets(1400));
        way.abort();
    }
}
