//! Bytes between two sockets, both ways, in one task. Nothing is held in memory while nothing waits: whatever
//! arrives is read into a buffer that all tunnels of a thread share.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
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

/// Moves bytes until both sides have ended, or one is broken.
pub(super) async fn relay(mut one: TcpStream, mut two: TcpStream) -> io::Result<()> {
    let ((from_one, to_one), (from_two, to_two)) = (one.split(), two.split());
    let (mut there, mut back) =
        (std::pin::pin!(pump(from_one, to_two)), std::pin::pin!(pump(from_two, to_one)));
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

async fn pump(from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
    loop {
        from.readable().await?;
        match BUFFER.with_borrow_mut(|buffer| step(&from, &to, buffer)) {
            Ok(Moved::Everything) => {}
            Ok(Moved::Rest(rest)) => to.write_all(&rest).await?,
            Ok(Moved::End) => return to.shutdown().await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn step(from: &ReadHalf<'_>, to: &WriteHalf<'_>, buffer: &mut [u8]) -> io::Result<Moved> {
    let count = from.try_read(buffer)?;
    if count == 0 {
        return Ok(Moved::End);
    }
    let written = match to.try_write(&buffer[..count]) {
        Ok(written) => written,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => return Err(error),
    };
    if written == count { Ok(Moved::Everything) } else { Ok(Moved::Rest(buffer[written..count].to_vec())) }
}
