//! Ports that nobody uses.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Mutex, PoisonError};

use anyhow::bail;

/// Ports are taken from below the range that Linux uses for outgoing connections.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// Returns a port on 127.0.0.1 that is free for TCP and UDP, and is returned only once as long as this process lives: also
/// to the other programs of tests that run meanwhile, whose servers may take their time to open it.
pub fn free_port() -> anyhow::Result<u16> {
    // A name that one process at a time can have, and of which nothing is left when that ends.
    static TAKEN: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    let random = RandomState::new();
    for attempt in 0_u32..1_000 {
        let span = u64::from(PORTS.end - PORTS.start);
        let port = PORTS.start + u16::try_from(random.hash_one(attempt) % span)?;
        let name = SocketAddr::from_abstract_name(format!("ambassador-testbed-port-{port}"))?;
        let Ok(taken) = UnixListener::bind_addr(&name) else { continue };
        let address = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            TAKEN.lock().unwrap_or_else(PoisonError::into_inner).push(taken);
            return Ok(port);
        }
    }
    bail!("no port of {PORTS:?} is free")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_returned_once() {
        let mut ports: Vec<_> = (0..200).map(|_| free_port().unwrap()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 200);
    }
}
