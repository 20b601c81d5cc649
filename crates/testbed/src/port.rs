//! Ports that nobody uses.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};

use anyhow::bail;

/// Ports are taken from below the range that Linux uses for outgoing connections.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// Returns a port on 127.0.0.1 that is free for TCP and UDP, and is returned only once.
pub fn free_port() -> anyhow::Result<u16> {
    static TAKEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let random = RandomState::new();
    for attempt in 0_u32..1_000 {
        let span = u64::from(PORTS.end - PORTS.start);
        let port = PORTS.start + u16::try_from(random.hash_one(attempt) % span)?;
        let address = (Ipv4Addr::LOCALHOST, port);
        let free = TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok();
        if free && !taken.contains(&port) {
            taken.push(port);
            return Ok(port);
        }
    }
    bail!("no port of {PORTS:?} is free")
}
