//! Bytes between two sockets, both ways, in one task. Nothing is held in memory while nothing waits: whatever
//! arrives is read into a buffer that all tunnels of a thread share.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

/// What is moved in one step.
const CHUNK: usize = 32 << 10;
/// How long one direction may go on after the other has ended.
const LAST_WORDS: Duration = Duration::from_secs(5);

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into());
}

/// One step's result.
enum Moved {
    Everything,
    /// What the other socket did not take.
    Rest(Vec<u8>),
    End,
}

/// Moves bytes until both sides have ended, or one is broken. So is a client that takes nothing for as long as
/// `unread`: an owner that gives it up cannot say so, as its last word stands behind what is not taken. The owner
/// has its own reasons not to read for a while.
pub(super) async fn relay(mut client: TcpStream, mut owner: TcpStream, unread: Duration) -> io::Result<()> {
    let ((from_client, to_client), (from_owner, to_owner)) = (client.split(), owner.split());
    let mut there = std::pin::pin!(pump(from_client, to_owner, None));
    let mut back = std::pin::pin!(pump(from_owner, to_client, Some(unread)));
    tokio::select! {
        done = &mut there => {
            done?;
            drop(tokio::time::timeout(LAST_WORDS, back).await);
        }
        done = &mut back => {
            done?;
            drop(tokio::time::timeout(LAST_WORDS, there).await);
        }
    }
    Ok(())
}

async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, unread: Option<Duration>) -> io::Result<()> {
    loop {
        match poll_fn(|context| BUFFER.with_borrow_mut(|buffer| step(&mut from, &to, buffer, context)))
            .await?
        {
            Moved::Everything => {}
            Moved::Rest(rest) => write_all(&mut to, &rest, unread).await?,
            Moved::End => return to.shutdown().await,
        }
    }
}

async fn write_all(to: &mut WriteHalf<'_>, mut rest: &[u8], unread: Option<Duration>) -> io::Result<()> {
    let Some(unread) = unread else { return to.write_all(rest).await };
    while !rest.is_empty() {
        let written = tokio::time::timeout(unread, to.write(rest)).await??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        rest = &rest[written..];
    }
    Ok(())
}

/// Reads as a reader does that waits: one that finds less than the buffer holds knows that no more is there.
fn step(
    from: &mut ReadHalf<'_>,
    to: &WriteHalf<'_>,
    buffer: &mut [u8],
    context: &mut Context<'_>,
) -> Poll<io::Result<Moved>> {
    let mut read = ReadBuf::new(buffer);
    ready!(Pin::new(from).poll_read(context, &mut read))?;
    let came = read.filled();
    if came.is_empty() {
        return Poll::Ready(Ok(Moved::End));
    }
    let written = match to.try_write(came) {
        Ok(written) => written,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => return Poll::Ready(Err(error)),
    };
    let moved = if written == came.len() { Moved::Everything } else { Moved::Rest(came[written..].to_vec()) };
    Poll::Ready(Ok(moved))
}
