//! An io_uring for readiness and accepting.
//!
//! Why here: pushing an entry is unsafe because an entry may point to memory. The entries made here (poll,
//! accept without an address, cancel, nop) point to none, so everything that this type offers is safe. A
//! descriptor that is closed before its entry is submitted gives a completion with EBADF, or arms the
//! descriptor's next owner under a tag that the caller no longer knows; both are errors of logic that tags
//! with generations rule out, not of memory.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

/// Room in a ring's two queues.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Entries between two submissions; when there are more, they are submitted earlier.
    pub submissions: u32,
    /// Completions that the ring holds. The kernel keeps what is above it aside, and ends multishot
    /// requests, which the caller then arms anew.
    pub completions: u32,
}

impl Default for Size {
    fn default() -> Size {
        Size { submissions: 512, completions: 8_192 }
    }
}

const REGISTER_RING_FDS: libc::c_uint = 20;
const UNREGISTER_RING_FDS: libc::c_uint = 21;
const ENTER_GETEVENTS: u32 = 1 << 0;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;
const ENTER_NO_IOWAIT: u32 = 1 << 7;

/// What an entry was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Its completion tells nothing: a removal, a cancellation, a nop.
    Nothing = 0,
    /// Multishot accept.
    Accept = 1,
    /// Multishot poll for reading (and whatever else was asked for with it).
    Readable = 2,
    /// Multishot poll for writing alone.
    Writable = 3,
    /// Multishot poll of an eventfd.
    Wake = 4,
}

/// Names an entry in its completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// What for.
    pub kind: Kind,
    /// Of which listener or connection; below 2^24.
    pub index: u32,
    /// Of the connection.
    pub generation: u32,
}

impl Tag {
    fn to_user_data(self) -> u64 {
        (self.kind as u64) << 56 | u64::from(self.index & 0xff_ffff) << 32 | u64::from(self.generation)
    }

    fn from_user_data(bits: u64) -> Tag {
        let kind = match bits >> 56 {
            1 => Kind::Accept,
            2 => Kind::Readable,
            3 => Kind::Writable,
            4 => Kind::Wake,
            _ => Kind::Nothing,
        };
        Tag { kind, index: (bits >> 32) as u32 & 0xff_ffff, generation: bits as u32 }
    }
}

/// One completion.
#[derive(Debug)]
pub struct Completion {
    /// Of which entry.
    pub tag: Tag,
    /// Whether the entry will complete again (`IORING_CQE_F_MORE`). If not, it is no longer armed.
    pub more: bool,
    /// What it says.
    pub outcome: Outcome,
}

/// What a completion says.
#[derive(Debug)]
pub enum Outcome {
    /// An accepted connection: non-blocking, close-on-exec.
    Accepted(OwnedFd),
    /// The poll(2) bits that are set.
    Ready(u32),
    /// A failure; ECANCELED where somebody cancelled.
    Failed(io::Error),
}

/// Pieces of deferred work that one call is sure to do, if so many are due.
const DEFERRED_WORK_MAX: usize = 16;

/// A ring that belongs to the thread that made it (`SINGLE_ISSUER`), hence neither `Send` nor `Sync`.
pub struct Ring {
    ring: IoUring,
    /// The ring's place in the thread's table of registered rings, which spares a lookup per call.
    registered: Option<u32>,
    enter_flags: u32,
    /// Entries for which the queue had no place though it was submitted: the kernel wants completions to be
    /// taken first, or lacks memory. At most one removal and two polls per connection.
    late: VecDeque<squeue::Entry>,
    of_one_thread: PhantomData<*const ()>,
}

impl Ring {
    /// Makes a ring for the calling thread.
    ///
    /// # Errors
    /// EPERM where io_uring is forbidden, ENOSYS or EINVAL where the kernel (before 6.1) lacks it or the
    /// flags, ENOMEM where RLIMIT_MEMLOCK is charged and too small.
    pub fn new(size: Size) -> io::Result<Ring> {
        // NO_SQARRAY (6.6) spares an indirection. The others are needed: without DEFER_TASKRUN the ring is a
        // third slower.
        let ring = match build(size, true) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => build(size, false),
            other => other,
        }?;
        let params = ring.params();
        if !(params.is_feature_ext_arg()
            && params.is_feature_nodrop()
            && params.is_feature_skip_cqe_on_success())
        {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let mut enter_flags = ENTER_GETEVENTS | ENTER_EXT_ARG;
        if params.is_feature_no_iowait() {
            // An idle balancer is idle, not waiting for a disk.
            enter_flags |= ENTER_NO_IOWAIT;
        }
        let registered = register(ring.as_raw_fd()).ok();
        Ok(Ring { ring, registered, enter_flags, late: VecDeque::new(), of_one_thread: PhantomData })
    }

    /// Begins to accept on `listener` until cancelled or failed, under [`Ring::accept_tag`]`(index)`.
    pub fn accept(&mut self, listener: BorrowedFd<'_>, index: u32) {
        let entry = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd()))
            .flags(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)
            .build()
            .user_data(Ring::accept_tag(index).to_user_data());
        self.push(entry);
    }

    /// The tag of [`Ring::accept`]'s completions.
    pub fn accept_tag(index: u32) -> Tag {
        Tag { kind: Kind::Accept, index, generation: 0 }
    }

    /// Begins to tell under `tag` when any of `events` (poll(2) bits) becomes true, now or later, edge-like,
    /// until cancelled or failed. Errors and hang-ups of either side are told unasked.
    ///
    /// # Panics
    /// For a tag of [`Kind::Accept`], whose completions are taken for descriptors.
    pub fn poll(&mut self, descriptor: BorrowedFd<'_>, events: i16, tag: Tag) {
        assert!(tag.kind != Kind::Accept, "a poll under an accept's tag");
        let entry = opcode::PollAdd::new(types::Fd(descriptor.as_raw_fd()), u32::from(events as u16))
            .multi(true)
            .build()
            .user_data(tag.to_user_data());
        self.push(entry);
    }

    /// Ends a poll. Its last completion says ECANCELED.
    pub fn remove_poll(&mut self, tag: Tag) {
        // Not by POLL_REMOVE: that fails with EALREADY while a wake-up of the poll is being handled; the poll
        // would stay armed and keep the closed socket open for ever. A cancellation always takes.
        self.cancel(tag);
    }

    /// Ends any other entry. Its last completion says ECANCELED.
    pub fn cancel(&mut self, tag: Tag) {
        let entry = opcode::AsyncCancel::new(tag.to_user_data()).build();
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS));
    }

    fn push(&mut self, entry: squeue::Entry) {
        if self.ring.submission().is_full() {
            // A failure shows by the queue being still full, and comes back with the next turn.
            let _ = self.enter(0, None);
        }
        if !self.late.is_empty() || !self.push_now(&entry) {
            self.late.push_back(entry);
        }
    }

    fn push_now(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the entries made in this module point to no memory.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    /// Submits what was pushed, runs the kernel's deferred work, and waits until a completion is there or
    /// `timeout` (None: for ever) is over. Where more are due at once it goes on until there are `enough`.
    ///
    /// # Errors
    /// What io_uring_enter(2) says, but for what the next call repairs.
    pub fn turn(&mut self, timeout: Option<Duration>, enough: usize) -> io::Result<()> {
        while let Some(entry) = self.late.pop_front() {
            if !self.push_now(&entry) {
                self.late.push_front(entry);
                return self.enter(0, None);
            }
        }
        match timeout {
            Some(Duration::ZERO) => self.enter(0, None)?,
            _ => self.enter(1, timeout)?,
        }
        // Since Linux 6.13 one call does at most 20 pieces of deferred work, however many are due.
        let mut before = 0;
        while self.waiting() >= before + DEFERRED_WORK_MAX && self.waiting() < enough {
            before = self.waiting();
            self.enter(0, None)?;
        }
        Ok(())
    }

    /// Completions that wait to be taken.
    fn waiting(&mut self) -> usize {
        self.ring.completion().len()
    }

    fn enter(&mut self, min_complete: u32, timeout: Option<Duration>) -> io::Result<()> {
        let to_submit = self.ring.submission().len() as u32;
        let timespec = timeout.map(types::Timespec::from);
        let mut arguments = types::SubmitArgs::new();
        if let Some(timespec) = &timespec {
            arguments = arguments.timespec(timespec);
        }
        let (descriptor, flags) = match self.registered {
            Some(index) => (index as RawFd, self.enter_flags | ENTER_REGISTERED_RING),
            None => (self.ring.as_raw_fd(), self.enter_flags),
        };
        // SAFETY: `arguments` and the timespec it points to live until the call is over, its size is the
        // one given, and the descriptor names our ring (this type never leaves the thread whose table of
        // registered rings the index is for).
        let outcome = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                descriptor,
                to_submit,
                min_complete,
                flags,
                ptr::from_ref(&arguments),
                size_of_val(&arguments),
            )
        };
        if outcome >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // Time is over; a signal; completions must be taken first; no memory for an entry now.
            Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
            _ => Err(error),
        }
    }

    /// Takes up to `limit` completions.
    pub fn take(&mut self, limit: usize, into: &mut Vec<Completion>) {
        into.extend(self.ring.completion().take(limit).filter_map(|entry| decode(&entry)));
    }
}

fn build(size: Size, without_array: bool) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(size.completions);
    if without_array {
        builder.setup_no_sqarray();
    }
    builder.build(size.submissions)
}

/// None for completions that tell nothing.
fn decode(entry: &cqueue::Entry) -> Option<Completion> {
    let tag = Tag::from_user_data(entry.user_data());
    let outcome = match (tag.kind, entry.result()) {
        (Kind::Nothing, _) => return None,
        (_, result) if result < 0 => Outcome::Failed(io::Error::from_raw_os_error(-result)),
        (Kind::Accept, descriptor) => {
            // SAFETY: only `Ring::accept` makes entries of this kind, and a result that is not negative is
            // a new descriptor that the kernel tells only here, once.
            Outcome::Accepted(unsafe { OwnedFd::from_raw_fd(descriptor) })
        }
        (_, bits) => Outcome::Ready(bits as u32),
    };
    Some(Completion { tag, more: cqueue::more(entry.flags()), outcome })
}

/// As `struct io_uring_rsrc_update` of the kernel's interface.
#[repr(C)]
struct RingUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

fn register(ring: RawFd) -> io::Result<u32> {
    let mut update = RingUpdate { offset: u32::MAX, reserved: 0, data: ring as u64 };
    call_register(ring, REGISTER_RING_FDS, &mut update)?;
    Ok(update.offset)
}

fn call_register(ring: RawFd, operation: libc::c_uint, update: &mut RingUpdate) -> io::Result<()> {
    // SAFETY: `update` is one valid element of the layout that both operations expect.
    let outcome = unsafe {
        libc::syscall(libc::SYS_io_uring_register, ring, operation, ptr::from_mut(update), 1 as libc::c_uint)
    };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Connections that were accepted and never looked at are closed, not leaked.
        self.take(usize::MAX, &mut Vec::new());
        if let Some(offset) = self.registered.take() {
            // Else the ring would live as long as the thread.
            let mut update = RingUpdate { offset, reserved: 0, data: 0 };
            let _ = call_register(self.ring.as_raw_fd(), UNREGISTER_RING_FDS, &mut update);
        }
    }
}
