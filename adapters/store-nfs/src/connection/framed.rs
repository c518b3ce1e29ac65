//! The stream below the client library: puts answers together from their fragments, up to a bound, and hands on
//! only what has the shape of an answer to what was asked.

use super::shape::{self, REPLY_BYTES_MAX};
use nfs3_client::io::{AsyncRead, AsyncWrite};
use std::io::{self, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The most fragments that an answer comes in: an empty one costs a server nothing.
const FRAGMENTS_MAX: usize = 1024;
/// The flag of the last fragment, in its length.
const LAST: u32 = 0x8000_0000;
/// Where a call says which program and procedure it is of, in words: after its length, id, kind and version.
const PROGRAM_WORD: usize = 4;
const PROCEDURE_WORD: usize = 6;

/// A stream of calls and answers, one call at a time.
pub(crate) struct Framed<S> {
    stream: S,
    asked: (u32, u32),
    reply: Vec<u8>,
    given: usize,
}

impl<S> Framed<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, asked: (0, 0), reply: Vec::new(), given: 0 }
    }
}

impl<S: tokio::io::AsyncRead + Unpin + Send> Framed<S> {
    /// Reads a whole answer, and makes one fragment of it.
    async fn receive(&mut self) -> io::Result<()> {
        self.reply.clear();
        self.reply.extend([0; 4]);
        self.given = 0;
        for _ in 0..FRAGMENTS_MAX {
            let header = self.stream.read_u32().await?;
            let length = usize::try_from(header & !LAST).unwrap_or(usize::MAX);
            if REPLY_BYTES_MAX < self.reply.len().saturating_add(length) {
                return Err(nonsense(format!("an answer of more than {REPLY_BYTES_MAX} bytes")));
            }
            // Grows as bytes come, not as the length says.
            let came = (&mut self.stream).take(length as u64).read_to_end(&mut self.reply).await?;
            if came < length {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if header & LAST != 0 {
                let body = &self.reply[4..];
                shape::check(body, self.asked.0, self.asked.1).map_err(nonsense)?;
                let length = u32::try_from(body.len()).unwrap_or(u32::MAX) | LAST;
                self.reply[..4].copy_from_slice(&length.to_be_bytes());
                return Ok(());
            }
        }
        Err(nonsense(format!("an answer in more than {FRAGMENTS_MAX} pieces")))
    }
}

impl<S: tokio::io::AsyncRead + Unpin + Send> AsyncRead for Framed<S> {
    async fn async_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.reply.len() {
            self.receive().await?;
        }
        let rest = &self.reply[self.given..];
        let bytes = rest.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&rest[..bytes]);
        self.given += bytes;
        Ok(bytes)
    }
}

impl<S: tokio::io::AsyncWrite + Unpin + Send> AsyncWrite for Framed<S> {
    async fn async_write(&mut self, call: &[u8]) -> io::Result<usize> {
        self.async_write_all(call).await.map(|()| call.len())
    }

    /// The library writes each call at once.
    async fn async_write_all(&mut self, call: &[u8]) -> io::Result<()> {
        let word = |at: usize| call.get(at * 4..).and_then(|rest| rest.first_chunk()).copied();
        let number = |at| word(at).map_or(0, u32::from_be_bytes);
        self.asked = (number(PROGRAM_WORD), number(PROCEDURE_WORD));
        self.stream.write_all(call).await
    }
}

/// What did come, and is no answer.
fn nonsense(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}
