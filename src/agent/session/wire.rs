//! Messages on a connection: four bytes of length, then as many bytes.

use bytes::BytesMut;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Why no message came.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// The other side is gone.
    #[error("the connection was closed")]
    Closed,
    /// It wants to send more than it may.
    #[error("a message of {size} bytes was announced, and {most} are allowed now")]
    TooLarge { size: usize, most: usize },
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}

/// The messages of the other side.
pub(super) struct Frames<R> {
    from: R,
    /// What came of the next message; kept when [`Frames::next`] is dropped, which loses nothing.
    come: BytesMut,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(super) fn new(from: R) -> Frames<R> {
        Frames {
            from,
            come: BytesMut::new(),
        }
    }

    /// The next message, of `most` bytes at most. Nothing is kept for what is announced and does
    /// not come.
    pub(super) async fn next(&mut self, most: usize) -> Result<Vec<u8>, WireError> {
        loop {
            if let Some((head, rest)) = self.come.split_first_chunk::<4>() {
                let size = usize::try_from(u32::from_be_bytes(*head)).unwrap_or(usize::MAX);
                if size > most {
                    return Err(WireError::TooLarge { size, most });
                }
                if rest.len() >= size {
                    let whole = self.come.split_to(4 + size);
                    return Ok(whole[4..].to_vec());
                }
            }
            if self.from.read_buf(&mut self.come).await? == 0 {
                return Err(WireError::Closed);
            }
        }
    }
}

/// Sends a message.
pub(super) async fn send<W: AsyncWrite + Unpin>(to: &mut W, message: &[u8]) -> io::Result<()> {
    let size = u32::try_from(message.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "too large"))?;
    let mut whole = Vec::with_capacity(4 + message.len());
    whole.extend_from_slice(&size.to_be_bytes());
    whole.extend_from_slice(message);
    to.write_all(&whole).await?;
    to.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn messages_come_whole_however_they_are_cut_and_are_bounded() {
        let (mut ours, theirs) = tokio::io::duplex(3);
        let sender = tokio::spawn(async move {
            send(&mut ours, b"first").await.unwrap();
            send(&mut ours, b"").await.unwrap();
            ours.write_all(&[0, 0, 0, 9]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(5)).await;
            ours.write_all(b"123456789").await.unwrap();
            ours.write_all(&[0, 0, 1, 0]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(5)).await;
        });
        let mut frames = Frames::new(theirs);
        assert_eq!(frames.next(9).await.unwrap(), b"first");
        assert_eq!(frames.next(9).await.unwrap(), b"");
        let early = tokio::time::timeout(Duration::from_secs(1), frames.next(9)).await;
        assert!(early.is_err(), "it is not whole");
        assert_eq!(
            frames.next(9).await.unwrap(),
            b"123456789",
            "nothing is lost"
        );
        let refused = frames.next(9).await.unwrap_err();
        assert!(matches!(
            refused,
            WireError::TooLarge { size: 256, most: 9 }
        ));
        sender.await.unwrap();
    }
}
