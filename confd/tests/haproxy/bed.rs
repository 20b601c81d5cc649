//! An HAProxy with servers behind it, and the part of confd that drives it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use confd::haproxy::{Event, Haproxy, Settings};
use testbed::haproxy::{Haproxy as Real, Program, Web, programs};
use testbed::port::free_port;

/// How long anything may take that is said to happen soon.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// How long a server may take to leave.
pub(crate) const DRAIN: Duration = Duration::from_secs(4);

/// A real HAProxy, what drives it, and where its clients connect.
pub(crate) struct Bed {
    pub(crate) real: Real,
    pub(crate) driver: Haproxy,
    pub(crate) front: SocketAddr,
}

/// A file with one backend `b`, plus lines for its servers.
pub(crate) fn text(front: SocketAddr, servers: &[String]) -> String {
    let servers: String = servers.iter().flat_map(|server| ["    server ", server, "\n"]).collect();
    format!(
        "defaults\n    mode http\n    timeout connect 1s\n    timeout client 30s\n    timeout server 30s\n\
         \x20   retries 3\n    option redispatch\n\
         frontend f\n    bind {front}\n    default_backend b\n\
         backend b\n    balance roundrobin\n{servers}"
    )
}

/// A server line for a web server.
pub(crate) fn line(name: &str, web: &Web, options: &str) -> String {
    format!("{name} {} {options}", web.address())
}

impl Bed {
    /// Starts an HAProxy with these servers.
    pub(crate) fn start(program: &Program, servers: &[String]) -> Self {
        let front = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
        let text = text(front, servers);
        let real = Real::start(program, &text).unwrap();
        let mut settings = Settings::new(real.runtime(), real.master());
        settings.program.clone_from(&program.path);
        settings.drain_timeout = DRAIN;
        let driver = Haproxy::new(settings, Some(text));
        Self { real, driver, front }
    }

    /// Returns the file with these servers, once it is on the disk.
    pub(crate) fn write(&self, servers: &[String]) -> String {
        let text = text(self.front, servers);
        self.real.write(&text).unwrap();
        text
    }

    /// Does the background work until an event comes.
    pub(crate) async fn event(&mut self) -> Event {
        let events =
            tokio::time::timeout(SOON, self.driver.work()).await.expect("something is under way");
        let mut events = events.unwrap();
        assert_eq!(events.len(), 1, "{events:?}");
        events.remove(0)
    }

    /// Returns the value of a column of `show servers state` for a server of `b`.
    pub(crate) fn field(&self, server: &str, column: &str) -> Option<String> {
        let state = self.real.command("show servers state b").unwrap();
        let header = state.lines().find_map(|line| line.strip_prefix("# ")).unwrap();
        let position = header.split(' ').position(|name| name == column).unwrap();
        let rows = state.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        rows.into_iter().find(|row| row.get(3) == Some(&server)).map(|row| row[position].to_owned())
    }

    /// Returns the weight of a server of `b`, `None` if it is not there.
    pub(crate) fn weight(&self, server: &str) -> Option<u16> {
        self.field(server, "srv_uweight").map(|weight| weight.parse().unwrap())
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, what: &str, mut so: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + SOON;
        while !so(self) {
            assert!(
                Instant::now() < end,
                "never: {what}\n{}",
                self.real.command("show servers state").unwrap()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Returns what a test runs against.
pub(crate) fn versions() -> &'static [Program] {
    programs()
}
