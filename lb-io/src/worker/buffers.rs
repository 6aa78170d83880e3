//! Memory for bytes on their way: pooled, in a few sizes, charged to one budget per worker.
//!
//! A buffer is big while bytes stream through it and is lent last-in first-out, so a worker's traffic
//! runs through a few hot ones. A connection that must wait with bytes in hand moves them to the smallest
//! buffer that holds them ([`BufferPool::settle`]), so a slow peer ties up about what it sent.

/// Sizes of buffers in bytes. The last but one holds a head of ours at its limit and what we add to it, the last a request's
/// body that is held to be sent again.
pub const CLASS_BYTES: [usize; 6] = [1 << 10, 4 << 10, 16 << 10, RECEIVE_BYTES, QUEUE_BYTES, HELD_BYTES];

const HELD_BYTES: usize = lb_core::defaults::HOLD_BODY_MAX as usize;

/// Most bytes that a connection holds received and not consumed, and the room offered to a receive. It
/// is also the largest head that can be read.
pub const RECEIVE_BYTES: usize = 64 << 10;

/// Most bytes that wait in a connection to be sent: a head of ours.
pub const QUEUE_BYTES: usize = 128 << 10;

/// Bytes of free buffers of one size that a worker keeps for reuse; further ones go back to the allocator.
pub const KEPT_BYTES_PER_CLASS: usize = 2 << 20;

/// Received bytes that nobody has consumed yet. Never empty while a connection holds it.
#[derive(Debug)]
pub struct Buffer {
    storage: Box<[u8]>,
    start: u32,
    end: u32,
}

impl Buffer {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.storage[self.start as usize..self.end as usize]
    }

    /// How many bytes it holds.
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Forgets the first `count` bytes.
    ///
    /// # Panics
    /// If it holds fewer.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "consumed more than was there");
        self.start += count as u32;
    }

    /// Room behind the bytes.
    pub fn spare(&mut self) -> &mut [u8] {
        &mut self.storage[self.end as usize..]
    }

    /// Says that `count` bytes of [`Buffer::spare`] were filled.
    pub fn filled(&mut self, count: usize) {
        assert!(count <= self.storage.len() - self.end as usize, "filled more than there was room");
        self.end += count as u32;
    }

    /// Adds bytes at the end, as many as fit, and tells how many.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let spare = self.spare();
        let count = bytes.len().min(spare.len());
        spare[..count].copy_from_slice(&bytes[..count]);
        self.filled(count);
        count
    }

    /// Takes `count` bytes out of the middle, behind the first `at`, by moving those first ones up.
    ///
    /// # Panics
    /// If it holds fewer.
    pub fn cut(&mut self, at: usize, count: usize) {
        assert!(at + count <= self.len(), "cut more than was there");
        let start = self.start as usize;
        self.storage.copy_within(start..start + at, start + count);
        self.start += count as u32;
    }

    /// Moves the bytes to the front, which makes all free room spare.
    fn compact(&mut self) {
        self.storage.copy_within(self.start as usize..self.end as usize, 0);
        self.end -= self.start;
        self.start = 0;
    }

    fn capacity(&self) -> usize {
        self.storage.len()
    }
}

/// A worker's buffers.
#[derive(Debug)]
pub struct BufferPool {
    free: [Vec<Box<[u8]>>; CLASS_BYTES.len()],
    lent_bytes: usize,
    budget_bytes: usize,
}

impl BufferPool {
    /// A pool that lends at most `budget_bytes` at a time.
    pub fn new(budget_bytes: usize) -> Self {
        Self { free: Default::default(), lent_bytes: 0, budget_bytes }
    }

    /// A buffer with room for `bytes` (at most the largest class), or None at the budget.
    pub fn take(&mut self, bytes: usize) -> Option<Buffer> {
        let class = class_for(bytes);
        let size = CLASS_BYTES[class];
        if self.lent_bytes + size > self.budget_bytes {
            return None;
        }
        self.lent_bytes += size;
        let storage = self.free[class].pop().unwrap_or_else(|| vec![0; size].into_boxed_slice());
        Some(Buffer { storage, start: 0, end: 0 })
    }

    /// Takes a buffer back, with whatever it holds.
    pub fn give_back(&mut self, buffer: Buffer) {
        let size = buffer.capacity();
        self.lent_bytes -= size;
        let free = &mut self.free[class_for(size)];
        if free.len() * size < KEPT_BYTES_PER_CLASS {
            free.push(buffer.storage);
        }
    }

    /// Makes room for at least one more byte behind the buffer's bytes: by moving them to its front or
    /// into a larger one. False if it holds [`RECEIVE_BYTES`], or the budget is reached.
    pub fn make_room(&mut self, buffer: &mut Buffer) -> bool {
        if !buffer.spare().is_empty() {
            return true;
        }
        if buffer.start > 0 {
            buffer.compact();
            return true;
        }
        if buffer.capacity() >= RECEIVE_BYTES {
            return false;
        }
        let Some(mut larger) = self.take(buffer.capacity() + 1) else { return false };
        larger.append(buffer.bytes());
        self.give_back(std::mem::replace(buffer, larger));
        true
    }

    /// Moves the bytes into the smallest buffer that holds them, if that is a smaller one.
    pub fn settle(&mut self, buffer: Buffer) -> Buffer {
        if CLASS_BYTES[class_for(buffer.len())] >= buffer.capacity() {
            return buffer;
        }
        let Some(mut smaller) = self.take(buffer.len()) else { return buffer };
        smaller.append(buffer.bytes());
        self.give_back(buffer);
        smaller
    }

    /// Bytes lent out now.
    pub fn lent_bytes(&self) -> usize {
        self.lent_bytes
    }

    /// Whether so little is left of the budget that new work is refused, so that work begun can go on.
    pub fn is_scarce(&self) -> bool {
        self.leaves_less_than(1)
    }

    /// Whether less than so many eighths of the budget are left.
    pub fn leaves_less_than(&self, eighths: usize) -> bool {
        self.lent_bytes + self.budget_bytes / 8 * eighths > self.budget_bytes
    }
}

fn class_for(bytes: usize) -> usize {
    CLASS_BYTES.iter().position(|&size| bytes <= size).expect("no buffer is larger than the largest class")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_bytes_move_to_the_smallest_buffer_and_grow_back() {
        let mut pool = BufferPool::new(1 << 20);
        let mut buffer = pool.take(64 << 10).unwrap();
        buffer.append(b"xxhello");
        buffer.consume(2);
        let mut buffer = pool.settle(buffer);
        assert_eq!((buffer.bytes(), pool.lent_bytes()), (&b"hello"[..], 1 << 10));
        while buffer.len() < 64 << 10 {
            assert!(pool.make_room(&mut buffer));
            let at = buffer.len();
            buffer.append(&[at as u8]);
        }
        assert!(!pool.make_room(&mut buffer), "full at the largest size");
        assert!(buffer.bytes().starts_with(b"hello"));
        assert!((5..64 << 10).all(|at| buffer.bytes()[at] == at as u8));
        pool.give_back(buffer);
        assert_eq!(pool.lent_bytes(), 0);
    }

    #[test]
    fn cutting_takes_bytes_out_of_the_middle() {
        let mut pool = BufferPool::new(1 << 20);
        let mut buffer = pool.take(1).unwrap();
        buffer.append(b"abXXXcd");
        buffer.cut(2, 3);
        assert_eq!(buffer.bytes(), b"abcd");
    }

    #[test]
    fn the_budget_is_never_exceeded() {
        let mut pool = BufferPool::new(130 << 10);
        let held: Vec<Buffer> = std::iter::from_fn(|| pool.take(64 << 10)).collect();
        assert_eq!(held.len(), 2);
        assert!(pool.take(1 << 10).is_some());
        assert!(pool.is_scarce());
    }

    #[test]
    fn kept_memory_is_bounded() {
        let mut pool = BufferPool::new(1 << 30);
        let many: Vec<Buffer> = (0..100).map(|_| pool.take(64 << 10).unwrap()).collect();
        many.into_iter().for_each(|buffer| pool.give_back(buffer));
        assert_eq!(pool.free[3].len() * (64 << 10), KEPT_BYTES_PER_CLASS);
    }
}
