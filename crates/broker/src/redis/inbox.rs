//! What came from the socket and is not read yet, in one buffer that is reused.

/// Size of the buffer, in bytes; larger things make it grow for as long as they are in it.
const SIZE: usize = 256 << 10;

#[derive(Default)]
pub(crate) struct Inbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// So many bytes from `start` on, there or yet to come, belong to something that is dropped.
    dropping: usize,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; SIZE], ..Self::default() }
    }

    /// What waits to be read.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// `len` bytes of the unread are done with.
    pub(crate) fn consume(&mut self, len: usize) {
        self.start += len;
    }

    /// The next `len` bytes are nothing that anyone reads.
    pub(crate) fn drop_next(&mut self, len: usize) {
        self.dropping = len;
        self.drop_what_is_there();
    }

    /// Where bytes from the socket go; at least so much that `need` unread bytes fit.
    pub(crate) fn space(&mut self, need: usize) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > SIZE && need <= SIZE {
                self.buffer.truncate(SIZE);
                self.buffer.shrink_to_fit();
            }
        } else if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if need > self.buffer.len() {
            self.buffer.resize(need, 0);
        }
        &mut self.buffer[self.end..]
    }

    /// `len` bytes were put into the space.
    pub(crate) fn filled(&mut self, len: usize) {
        self.end += len;
        self.drop_what_is_there();
    }

    /// Forgets everything: the link is another.
    pub(crate) fn clear(&mut self) {
        (self.start, self.end, self.dropping) = (0, 0, 0);
    }

    fn drop_what_is_there(&mut self) {
        let len = self.dropping.min(self.end - self.start);
        self.dropping -= len;
        self.start += len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(inbox: &mut Inbox, bytes: &[u8], need: usize) {
        inbox.space(need)[..bytes.len()].copy_from_slice(bytes);
        inbox.filled(bytes.len());
    }

    #[test]
    fn the_tail_is_kept_and_the_rest_reused() {
        let mut inbox = Inbox::new();
        put(&mut inbox, b"abcdef", 1);
        inbox.consume(4);
        put(&mut inbox, b"gh", 1);
        assert_eq!(inbox.unread(), b"efgh");
        assert_eq!(inbox.space(1).len(), SIZE - 4);
    }

    #[test]
    fn it_grows_for_a_large_thing_and_shrinks_after() {
        let mut inbox = Inbox::new();
        put(&mut inbox, b"abc", 1);
        assert_eq!(inbox.space(3 * SIZE).len(), 3 * SIZE - 3);
        assert_eq!(inbox.unread(), b"abc");
        inbox.consume(3);
        assert_eq!(inbox.space(1).len(), SIZE);
        assert!(inbox.buffer.capacity() < 2 * SIZE);
    }

    #[test]
    fn dropping_reaches_into_what_is_still_to_come() {
        let mut inbox = Inbox::new();
        put(&mut inbox, b"xxabc", 1);
        inbox.drop_next(2);
        assert_eq!(inbox.unread(), b"abc");
        inbox.drop_next(7);
        assert_eq!(inbox.unread(), b"");
        put(&mut inbox, b"yy", 1);
        assert_eq!(inbox.unread(), b"");
        put(&mut inbox, b"yyz", 1);
        assert_eq!(inbox.unread(), b"z");
    }
}
