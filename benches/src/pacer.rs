//! Asks at a steady rate and tells how long each answer took, from when it was due to be asked for: who waits for a late
//! answer asks the next late, and that counts.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::client::{Client, get};

/// Connections that ask in turn. As many answers may be late by one round of them before one is asked for late.
const CONNECTIONS: u32 = 16;

/// The times of `seconds * rate` answers, in microseconds.
///
/// # Errors
/// If a connection fails or an answer is not 200.
pub fn run(address: SocketAddr, path: &str, rate: u32, seconds: u32) -> Result<Vec<f64>> {
    let request = get("bench", path, &[]);
    let pace = Duration::from_secs(1) / rate;
    let clients: Vec<Client> = (0..CONNECTIONS).map(|_| Client::connect(address)).collect::<Result<_>>()?;
    let start = Instant::now() + Duration::from_millis(20);
    let ask = |(place, mut client): (usize, Client)| {
        let request = request.clone();
        thread::spawn(move || -> Result<Vec<f64>> {
            let mut times = Vec::new();
            for number in (place as u32..rate * seconds).step_by(CONNECTIONS as usize) {
                let due = start + pace * number;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let status = client.send(request.as_bytes())?.status;
                if status != 200 {
                    return Err(format!("an answer of {status}").into());
                }
                times.push(due.elapsed().as_secs_f64() * 1e6);
            }
            Ok(times)
        })
    };
    let threads: Vec<_> = clients.into_iter().enumerate().map(ask).collect();
    let mut all = Vec::new();
    for thread in threads {
        all.extend(thread.join().map_err(|_| "a thread of the pacer panicked")??);
    }
    Ok(all)
}
