//! A TCP relay that does harm when told: to what comes back from the server.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

/// What becomes of a response.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// It passes.
    Pass,
    /// It loses its last bytes to a reset.
    Cut,
    /// It comes two seconds late.
    Slow,
}

/// A listening relay in front of a server; dropping it lets its threads end with their connections.
pub struct Relay {
    pub address: SocketAddr,
    mode: Arc<AtomicU8>,
    stopped: Arc<AtomicBool>,
}

impl Relay {
    pub fn before(server: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, stopped) = (Arc::new(AtomicU8::new(Mode::Pass as u8)), Arc::new(AtomicBool::new(false)));
        let (told, over) = (Arc::clone(&mode), Arc::clone(&stopped));
        thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(far) = TcpStream::connect(server) else { continue };
                let (near_too, far_too) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                let (told, cut) = (Arc::clone(&told), Arc::new(AtomicBool::new(false)));
                let also = Arc::clone(&cut);
                thread::spawn(move || forth(near, far, &also));
                thread::spawn(move || back(far_too, near_too, &told, &cut));
            }
        });
        Relay { address, mode, stopped }
    }

    pub fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn forth(mut near: TcpStream, mut far: TcpStream, cut: &AtomicBool) {
    let mut buffer = [0; 16 * 1024];
    near.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    loop {
        match near.read(&mut buffer) {
            // A reset goes out when the last hold on the socket is gone.
            _ if cut.load(Ordering::SeqCst) => return,
            Ok(0) => break,
            Ok(count) if far.write_all(&buffer[..count]).is_ok() => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            _ => break,
        }
    }
    let _ = far.shutdown(Shutdown::Write);
}

fn back(mut far: TcpStream, mut near: TcpStream, mode: &AtomicU8, cut: &AtomicBool) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = far.read(&mut buffer) {
        let mode = mode.load(Ordering::SeqCst);
        if mode == Mode::Slow as u8 {
            thread::park_timeout(Duration::from_secs(2));
        }
        let passes = if mode == Mode::Cut as u8 { count.saturating_sub(3) } else { count };
        if near.write_all(&buffer[..passes]).is_err() {
            break;
        }
        if passes < count {
            let _ = SockRef::from(&near).set_linger(Some(Duration::ZERO));
            let _ = far.shutdown(Shutdown::Both);
            cut.store(true, Ordering::SeqCst);
            return;
        }
    }
    let _ = near.shutdown(Shutdown::Both);
}
