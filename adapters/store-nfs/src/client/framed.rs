//! The stream below the client library: joins the fragments of a reply up to a bound, and passes only replies on whose
//! lengths are consistent.

use super::shape::{self, REPLY_BYTES_MAX};
use nfs3_client::io::{AsyncRead, AsyncWrite};
use std::io::{self, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Bounds the number of fragments, because empty fragments cost a server nothing.
const FRAGMENTS_MAX: usize = 1024;
/// Flag of the last fragment, in the length word.
const LAST: u32 = 0x8000_0000;
/// Positions of program and procedure in a call, in words: after length, id, direction and RPC version.
const PROGRAM_WORD: usize = 4;
const PROCEDURE_WORD: usize = 6;

/// Carries one call at a time.
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
    /// Reads a whole reply and makes one fragment of it.
    async fn receive(&mut self) -> io::Result<()> {
        self.reply.clear();
        self.reply.extend([0; 4]);
        self.given = 0;
        for _ in 0..FRAGMENTS_MAX {
            let header = self.stream.read_u32().await?;
            let length = usize::try_from(header & !LAST).unwrap_or(usize::MAX);
            if REPLY_BYTES_MAX < self.reply.len().saturating_add(length) {
                return Err(invalid(format!("a reply of more than {REPLY_BYTES_MAX} bytes")));
            }
            // The buffer grows by the bytes received, not by the length announced.
            let came = (&mut self.stream).take(length as u64).read_to_end(&mut self.reply).await?;
            if came < length {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if header & LAST != 0 {
                let body = &self.reply[4..];
                shape::check(body, self.asked.0, self.asked.1).map_err(invalid)?;
                let length = u32::try_from(body.len()).unwrap_or(u32::MAX) | LAST;
                self.reply[..4].copy_from_slice(&length.to_be_bytes());
                return Ok(());
            }
        }
        Err(invalid(format!("a reply in more than {FRAGMENTS_MAX} fragments")))
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

    /// The library writes a call with one call of this.
    async fn async_write_all(&mut self, call: &[u8]) -> io::Result<()> {
        let word = |at: usize| call.get(at * 4..).and_then(|rest| rest.first_chunk()).copied();
        let number = |at| word(at).map_or(0, u32::from_be_bytes);
        self.asked = (number(PROGRAM_WORD), number(PROCEDURE_WORD));
        self.stream.write_all(call).await
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}
