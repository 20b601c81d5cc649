//! Starting, stopping, dying and coming back.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{
    Ambassador, LIMIT, Server, eventually, free_address, haproxies, refused, request,
};

#[test]
fn a_killed_haproxy_is_back_soon_each_time() {
    for haproxy in haproxies() {
        let (server, address) = (Server::start("web", Duration::ZERO), free_address());
        let ambassador = Ambassador::running(&haproxy, &[&address, &server.address]);
        for _ in 0..3 {
            let master = ambassador.master().unwrap();
            kill(Pid::from_raw(master), Signal::SIGKILL).unwrap();
            eventually("another master", || {
                let healthy = ambassador.ask(&["healthcheck"]).status.success();
                healthy && ambassador.master().is_some_and(|now| now != master)
            });
            assert_eq!(request(&address).unwrap(), "web");
        }
        assert!(ambassador.process().exited().unwrap().is_none());
    }
}

#[test]
fn a_stopped_ambassador_finishes_running_requests_and_takes_no_new_ones() {
    let each = |signal: Signal| haproxies().into_iter().map(move |program| (program, signal));
    for (haproxy, signal) in each(Signal::SIGTERM).chain(each(Signal::SIGUSR1)) {
        let (server, address) = (Server::start("late", Duration::from_secs(4)), free_address());
        let ambassador = Ambassador::running(&haproxy, &[&address, &server.address]);
        let client = std::thread::spawn({
            let address = address.clone();
            move || request(&address)
        });
        server.wait_for_a_request();
        ambassador.signal(signal);
        eventually("refused", || refused(&address));
        assert!(!client.is_finished(), "it is refused while the request runs");
        assert_eq!(client.join().unwrap().unwrap(), "late");
        let answered = Instant::now();
        assert_eq!(ambassador.end(), Some(0));
        assert!(answered.elapsed() < Duration::from_secs(4), "{:?}", answered.elapsed());
    }
}

#[test]
fn connections_that_do_not_end_are_cut_in_time() {
    for haproxy in haproxies() {
        let (server, address) = (Server::start("never", LIMIT), free_address());
        let arguments = ["--stop-after", "1", &address, &server.address];
        let ambassador = Ambassador::running(&haproxy, &arguments);
        let mut client = TcpStream::connect(&address).unwrap();
        client.write_all(b"hello\n").unwrap();
        server.wait_for_a_request();
        let asked = Instant::now();
        ambassador.stop();
        let taken = asked.elapsed();
        assert!(taken >= Duration::from_secs(1) && taken < Duration::from_secs(5), "{taken:?}");
        assert!(matches!(client.read(&mut [0; 8]), Ok(0) | Err(_)));
    }
}

#[test]
fn a_second_signal_cuts_connections_at_once() {
    for haproxy in haproxies() {
        let (server, address) = (Server::start("never", LIMIT), free_address());
        let ambassador = Ambassador::running(&haproxy, &[&address, &server.address]);
        let mut client = TcpStream::connect(&address).unwrap();
        client.write_all(b"hello\n").unwrap();
        server.wait_for_a_request();
        ambassador.signal(Signal::SIGINT);
        eventually("refused", || refused(&address));
        let asked = Instant::now();
        ambassador.stop();
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    }
}

#[test]
fn a_killed_ambassador_leaves_nothing_that_its_successor_cannot_handle() {
    for haproxy in haproxies() {
        let (server, address) = (Server::start("web", Duration::ZERO), free_address());
        let arguments = [address.as_str(), &server.address];
        let mut ambassador = Ambassador::running(&haproxy, &arguments);
        let left = ambassador.master().unwrap();
        ambassador.process().kill().unwrap();
        ambassador.run(&arguments);
        eventually("the new one serves alone", || {
            let status = std::fs::read_to_string(format!("/proc/{left}/stat")).unwrap_or_default();
            let alone = ambassador.master().is_some_and(|master| master != left);
            alone && (status.is_empty() || status.contains(") Z "))
        });
        eventually("served", || request(&address).is_ok());
    }
}

#[test]
fn a_directory_serves_one_ambassador_only() {
    let ambassador = Ambassador::running(&haproxies()[0], &[]);
    let output = ambassador.ask(&["run"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("another ambassador"));
    ambassador.wait_until_healthy();
}

#[test]
fn without_the_program_it_keeps_trying() {
    let mut ambassador = Ambassador::new("/no/such/haproxy".as_ref());
    ambassador.spawn(&ambassador.command(&["run"]));
    eventually("tried again", || ambassador.log().matches("haproxy starts again").count() > 1);
    assert_eq!(ambassador.ask(&["healthcheck"]).status.code(), Some(1));
    ambassador.stop();
}

#[test]
fn an_idle_ambassador_is_small() {
    for haproxy in haproxies() {
        let (server, address) = (Server::start("web", Duration::ZERO), free_address());
        let ambassador = Ambassador::running(&haproxy, &[&address, &server.address]);
        let own = |pid: i32| -> u64 {
            let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
            let line = text.lines().find(|line| line.starts_with("Private_Dirty")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let master = ambassador.master().unwrap();
        let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children"));
        let children = children.unwrap();
        let workers = children.split_whitespace().map(|pid| own(pid.parse().unwrap()));
        let kilobytes = own(master) + workers.sum::<u64>();
        assert!(kilobytes < 12 * 1024, "HAProxy's own memory is {kilobytes} kB");
    }
}
