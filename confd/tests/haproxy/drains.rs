//! Servers that go keep their connections for a while.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use confd::haproxy::Event;
use testbed::haproxy::{Load, Web};

use crate::bed::{Bed, DRAIN, SOON, line, versions};

/// Opens a connection whose answer never ends.
fn hold(front: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(front).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(b"GET /hold HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    alive(&mut stream);
    stream
}

fn alive(stream: &mut TcpStream) {
    assert!(stream.read(&mut [0; 4096]).unwrap() > 0, "the connection was cut");
}

/// Returns how many idle connections to a server HAProxy keeps for reuse.
fn idle(bed: &Bed, server: &str) -> u64 {
    let answer = bed.real.command("show servers conn b").unwrap();
    let row = answer.lines().find(|line| line.starts_with(&format!("b/{server} "))).unwrap();
    // After name, id, address and port: - purge_delay used_cur used_max need_est unsafe_nb safe_nb idle_lim idle_cur.
    row.split(' ').nth(12).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_connection_lives_until_the_drain_is_over() {
    for program in versions() {
        let [old, new] = ["old", "new"].map(|name| Web::start(name).unwrap());
        let mut bed = Bed::start(program, &[line("old", &old, "")]);
        let mut stream = hold(bed.front);
        let wanted = bed.write(&[line("new", &new, "")]);
        let start = Instant::now();
        let applied = bed.driver.apply(&wanted).await.unwrap();
        assert_eq!((applied.reloaded, applied.leaving), (None, 1));
        assert!(start.elapsed() < DRAIN, "the drain blocks");

        let early = tokio::time::timeout(Duration::from_millis(1500), bed.driver.work()).await;
        assert!(early.is_err(), "{}: {early:?}", program.version);
        alive(&mut stream);
        // A name that drains is no drift.
        assert_eq!(bed.driver.drift().await.unwrap().operations, 0);
        assert_eq!(old.requests(), 1);

        let Event::Removed { server, after, killed, .. } = bed.event().await else {
            panic!("it was added")
        };
        assert_eq!((server.as_str(), killed), ("old", true));
        assert!(after >= DRAIN, "{after:?}");
        let mut rest = Vec::new();
        assert!(stream.read_to_end(&mut rest).is_ok() || !rest.is_empty());
        assert_eq!(bed.weight("old"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_goes_at_once_even_with_connections_kept_for_reuse() {
    for program in versions() {
        let [old, new] = ["old", "new"].map(|name| Web::start(name).unwrap());
        let mut bed = Bed::start(program, &[line("old", &old, "")]);
        let load = Load::start(bed.front);
        bed.until("the old server is used", |_| old.requests() > 20).await;
        bed.until("a connection is kept for reuse", |bed| idle(bed, "old") > 0).await;
        let wanted = bed.write(&[line("new", &new, "")]);
        bed.driver.apply(&wanted).await.unwrap();
        let Event::Removed { after, killed, .. } = bed.event().await else {
            panic!("it was added")
        };
        assert!(!killed && after < DRAIN, "{}: {after:?}", program.version);
        let tally = load.stop();
        assert!(tally.failures.is_empty(), "{}: {tally:?}", program.version);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn later_changes_do_not_wait_for_a_drain_and_a_server_may_come_back() {
    for program in versions() {
        let [old, new, third] = ["old", "new", "third"].map(|name| Web::start(name).unwrap());
        let mut bed = Bed::start(program, &[line("old", &old, "weight 3")]);
        let mut stream = hold(bed.front);
        let wanted = bed.write(&[line("new", &new, "")]);
        bed.driver.apply(&wanted).await.unwrap();
        let wanted = bed.write(&[line("new", &new, ""), line("third", &third, "")]);
        let applied = bed.driver.apply(&wanted).await.unwrap();
        assert_eq!((applied.reloaded, applied.operations, applied.leaving), (None, 1, 1));

        let wanted = bed.write(&[line("new", &new, ""), line("old", &old, "weight 4")]);
        let applied = bed.driver.apply(&wanted).await.unwrap();
        assert_eq!((applied.reloaded, applied.leaving), (None, 1), "{}", program.version);
        let Event::Removed { server, .. } = bed.event().await else { panic!("it was added") };
        assert_eq!(server, "third");
        assert_eq!(bed.weight("old"), Some(4));
        let before = old.requests();
        let load = Load::start(bed.front);
        bed.until("the old server is back", |_| old.requests() > before).await;
        assert!(load.stop().failures.is_empty());
        alive(&mut stream);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_with_other_options_takes_a_reload() {
    for program in versions() {
        let [old, new] = ["old", "new"].map(|name| Web::start(name).unwrap());
        let mut bed = Bed::start(program, &[line("old", &old, "")]);
        let _stream = hold(bed.front);
        let wanted = bed.write(&[line("new", &new, "")]);
        bed.driver.apply(&wanted).await.unwrap();
        let wanted = bed.write(&[line("new", &new, ""), line("old", &old, "maxconn 5")]);
        let reason = bed.driver.apply(&wanted).await.unwrap().reloaded.unwrap();
        assert!(reason.contains("b/old") && reason.contains("options"), "{reason}");
    }
}
