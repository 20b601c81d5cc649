//! Whether the addresses of a configuration are free.
//!
//! HAProxy pauses its listeners while it tries to take an address that it cannot have: for two
//! seconds its clients are refused. So the obvious cases are found out beforehand.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use crate::grammar::{Listen, listen};

/// Returns the reasons why addresses that `new` binds, and none of `old` does, cannot be had.
pub(crate) fn obstacles(new: &str, old: &[&str]) -> Vec<String> {
    wanted(new, old)
        .into_iter()
        .filter_map(|address| {
            let error = TcpListener::bind(address).err()?;
            Some(format!("cannot listen on {address}: {error}"))
        })
        .collect()
}

/// Tells whether two texts listen on the same addresses, in the same way.
pub(crate) fn same_binds(one: &str, other: &str) -> bool {
    let lines = |text: &str| -> BTreeSet<String> {
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.filter(|line| line.starts_with("bind ")).collect()
    };
    lines(one) == lines(other)
}

/// Returns the addresses of `new` on ports that `old` has nothing to do with. HAProxy shares the
/// other ports with itself, which nobody else can.
fn wanted(new: &str, old: &[&str]) -> BTreeSet<SocketAddr> {
    let taken: BTreeSet<_> =
        old.iter().copied().flat_map(binds).map(|address| address.port()).collect();
    binds(new).filter(|address| !taken.contains(&address.port())).collect()
}

/// Returns the plain addresses in `bind` lines. Others (ranges, sockets, variables) are HAProxy's
/// alone to judge.
fn binds(text: &str) -> impl Iterator<Item = SocketAddr> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "bind").and(words.next())?;
        let Listen { address, port } = listen(address.strip_prefix(':').unwrap_or(address)).ok()?;
        Some(SocketAddr::new(address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), port))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_addresses_on_new_ports_are_looked_at() {
        let old = "frontend a\n bind *:80\n";
        let new = "frontend a\n bind 127.0.0.2:80\n bind :81 name x\n bind [::1]:82\n \
            bind /some.sock\n bind *:83-85\n bind 127.0.0.1:86,127.0.0.2:86\n # bind *:87\n";
        let wanted: Vec<_> = wanted(new, &["", old]).iter().map(SocketAddr::to_string).collect();
        assert_eq!(wanted, ["0.0.0.0:81", "[::1]:82"]);
    }

    #[test]
    fn only_lines_that_bind_are_compared() {
        let one = "listen a\n  bind *:80\n  server a 1.2.3.4:1\n";
        assert!(same_binds(one, "listen b\n bind   *:80\n"));
        assert!(!same_binds(one, "listen a\n  bind *:80\n  bind *:81\n"));
    }

    #[test]
    fn a_taken_port_and_a_foreign_address_are_obstacles() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let text = format!("bind {address}\nbind 192.0.2.1:80\n");
        let obstacles = obstacles(&text, &[]);
        assert_eq!(obstacles.len(), 2, "{obstacles:?}");
        assert!(obstacles[0].contains(&address.to_string()), "{obstacles:?}");
        assert!(super::obstacles(&text, &[&text]).is_empty());
    }
}
