//! What waits to be written to one connection: shared frames in order, counted in bytes.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use fanfare_protocol::Frame;

/// Bytes gathered into one write at most, so that one connection cannot hog a slice of the loop.
const GATHER: usize = 64 << 10;
/// Frames of this size and more are handed to the kernel in place instead of being copied.
const LARGE: usize = 4 << 10;
/// Vectors of one write.
const VECTORS: usize = 64;

/// Frames that wait for one socket. Empty, it holds no heap memory.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    head: Option<Frame>,
    tail: VecDeque<Frame>,
    /// Bytes of `head` that the kernel has already.
    written: usize,
    bytes: usize,
}

/// How far a flush came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// The outbox is empty.
    Empty,
    /// One gathered write's worth went out; more waits.
    More,
    /// The kernel takes no more now.
    Blocked,
}

/// What a flush did, for the counters.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) writes: u64,
    pub(crate) bytes: u64,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// Bytes that wait, shared or not.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frames that wait.
    pub(crate) fn frames(&self) -> usize {
        self.tail.len() + usize::from(self.head.is_some())
    }

    pub(crate) fn push(&mut self, frame: Frame) {
        self.bytes += frame.bytes().len();
        if self.head.is_none() {
            self.head = Some(frame);
        } else {
            self.tail.push_back(frame);
        }
    }

    /// The first frame, where it has at most `most` bytes or `any` do. Not for an outbox of which bytes are out.
    pub(crate) fn take(&mut self, most: usize, any: bool) -> Option<Frame> {
        let head = self.head.take_if(|head| any || head.bytes().len() <= most)?;
        self.head = self.tail.pop_front();
        if self.head.is_none() {
            self.tail = VecDeque::new();
        }
        self.bytes -= head.bytes().len();
        Some(head)
    }

    /// Makes other frames of those that wait. Not for an outbox of which bytes are out.
    pub(crate) fn change(&mut self, mut change: impl FnMut(Frame) -> Frame) {
        self.head = self.head.take().map(&mut change);
        self.tail = std::mem::take(&mut self.tail).into_iter().map(change).collect();
        let waiting = self.head.iter().chain(&self.tail);
        self.bytes = waiting.map(|frame| frame.bytes().len()).sum();
    }

    /// Drops what waits, but for a frame of which a byte is out: that one finishes or the socket closes.
    pub(crate) fn clear_whole_frames(&mut self) {
        self.tail = VecDeque::new();
        if self.written == 0 {
            self.head = None;
        }
        self.bytes = self.head.as_ref().map_or(0, |frame| frame.bytes().len() - self.written);
    }

    /// Writes once what is possible: one frame in place, small ones gathered in `scratch`, large ones
    /// as vectors.
    pub(crate) fn flush(
        &mut self,
        socket: &mut impl Write,
        scratch: &mut Vec<u8>,
        written: &mut Written,
    ) -> io::Result<Flushed> {
        let Some(head) = &self.head else { return Ok(Flushed::Empty) };
        let first = &head.bytes()[self.written..];
        let (attempted, result) = if self.tail.is_empty() {
            (first.len(), socket.write(first))
        } else {
            self.write_gathered(socket, scratch)
        };
        match result {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                written.writes += 1;
                written.bytes += count as u64;
                self.advance(count);
                // A short write is the kernel's word that it is full: the next edge will tell.
                Ok(match (self.is_empty(), count < attempted) {
                    (true, _) => Flushed::Empty,
                    (false, true) => Flushed::Blocked,
                    (false, false) => Flushed::More,
                })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Flushed::Blocked),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Flushed::More),
            Err(error) => Err(error),
        }
    }

    fn write_gathered(&self, socket: &mut impl Write, scratch: &mut Vec<u8>) -> (usize, io::Result<usize>) {
        let skip = self.written;
        let waiting = || {
            let head = self.head.iter().map(move |frame| &frame.bytes()[skip..]);
            head.chain(self.tail.iter().map(Frame::bytes))
        };
        let mut attempted = 0;
        let mut count = 0;
        let mut large = false;
        for part in waiting().take(if skip < GATHER { usize::MAX } else { VECTORS }) {
            if count > 0 && attempted + part.len() > GATHER {
                break;
            }
            attempted += part.len();
            count += 1;
            large |= part.len() >= LARGE;
        }
        if large {
            let count = count.min(VECTORS);
            let slices: Vec<IoSlice<'_>> = waiting().take(count).map(IoSlice::new).collect();
            let attempted = slices.iter().map(|slice| slice.len()).sum();
            (attempted, socket.write_vectored(&slices))
        } else {
            scratch.clear();
            for part in waiting().take(count) {
                scratch.extend_from_slice(part);
            }
            (attempted, socket.write(scratch))
        }
    }

    fn advance(&mut self, mut count: usize) {
        self.bytes -= count;
        while let Some(head) = &self.head {
            let rest = head.bytes().len() - self.written;
            if count < rest {
                self.written += count;
                return;
            }
            count -= rest;
            self.written = 0;
            self.head = self.tail.pop_front();
        }
        // Ten thousand idle connections must not keep what one burst needed.
        self.tail = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A socket that takes at most the given number of bytes per write, then refuses.
    struct Narrow {
        takes: VecDeque<usize>,
        got: Vec<u8>,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.takes.pop_front() {
                None | Some(0) => Err(io::ErrorKind::WouldBlock.into()),
                Some(most) => {
                    let count = most.min(bytes.len());
                    self.got.extend_from_slice(&bytes[..count]);
                    Ok(count)
                }
            }
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let joined: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            self.write(&joined)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn frame(size: usize, fill: u8) -> Frame {
        Frame::from_wire(vec![fill; size])
    }

    #[test]
    fn eight_frames_leave_in_one_write() {
        let mut outbox = Outbox::default();
        for fill in 0..8 {
            outbox.push(frame(130, fill));
        }
        let mut socket = Narrow { takes: [usize::MAX].into(), got: Vec::new() };
        let mut written = Written::default();
        let flushed = outbox.flush(&mut socket, &mut Vec::new(), &mut written).unwrap();
        assert_eq!((flushed, written.writes, socket.got.len()), (Flushed::Empty, 1, 8 * 130));
    }

    #[test]
    fn clearing_keeps_the_frame_that_is_half_out() {
        let mut outbox = Outbox::default();
        outbox.push(frame(10, 1));
        outbox.push(frame(10, 2));
        let mut socket = Narrow { takes: [3].into(), got: Vec::new() };
        outbox.flush(&mut socket, &mut Vec::new(), &mut Written::default()).unwrap();
        outbox.clear_whole_frames();
        assert_eq!((outbox.frames(), outbox.bytes()), (1, 7));
    }

    proptest! {
        #[test]
        fn whatever_the_kernel_takes_the_bytes_arrive_in_order(
            sizes in prop::collection::vec(1usize..9_000, 1..40),
            takes in prop::collection::vec(0usize..20_000, 0..60),
        ) {
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            for (fill, size) in (0u8..).zip(&sizes) {
                outbox.push(frame(*size, fill));
                expected.extend(std::iter::repeat_n(fill, *size));
            }
            let mut socket = Narrow { takes: takes.into(), got: Vec::new() };
            let mut written = Written::default();
            while !outbox.is_empty() {
                if outbox.flush(&mut socket, &mut Vec::new(), &mut written).unwrap() == Flushed::Blocked
                    && socket.takes.is_empty()
                {
                    prop_assert_eq!(outbox.bytes(), expected.len() - socket.got.len());
                    socket.takes.push_back(usize::MAX);
                }
            }
            prop_assert_eq!(socket.got, expected);
            prop_assert_eq!(outbox.bytes(), 0);
        }
    }
}
