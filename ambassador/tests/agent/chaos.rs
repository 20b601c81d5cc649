//! Whatever dies, and whenever: in the end everything is as it should be.

use std::time::Duration;

use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::{Node, eventually};

/// Returns chance that can be had again: `CHAOS_SEED` is its seed, and a new one is printed for whoever reads of a failure.
fn chance() -> StdRng {
    let seed = std::env::var("CHAOS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::rng().random());
    println!("CHAOS_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

#[test]
fn no_orphan_is_left_and_no_client_forgotten_whenever_the_agent_and_clients_are_killed() {
    let node = Node::new();
    let mut random = chance();
    let mut agent = node.agent();
    for round in 0..12 {
        for slot in 0..3 {
            let name = format!("client-{slot}");
            match random.random_range(0..4) {
                0 => drop(node.docker.cli(&["rm", "-f", &name])),
                1 => drop(node.docker.cli(&["restart", "-t", "0", &name])),
                2 => drop(node.docker.cli(&["kill", &name])),
                _ => {
                    let _ = node.docker.cli(&["rm", "-f", &name]);
                    node.client(&name, "rng:80", &[]);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(random.random_range(0..500)));
        if round % 2 == 0 {
            agent.kill().unwrap();
            agent = node.agent();
        }
    }
    eventually("settled", || node.settled());
}

#[test]
fn no_orphan_is_left_when_the_engine_is_killed_too() {
    let node = Node::new();
    let mut random = chance();
    let mut agent = node.agent();
    for round in 0..3 {
        std::thread::scope(|scope| {
            let clients = scope.spawn(|| {
                for slot in 0..4 {
                    let name = format!("client-{slot}");
                    let _ = node.docker.cli(&["rm", "-f", &name]);
                    let label = "ambassador.upstreams=rng:80";
                    let _ = node.docker.run(&name, &["--label", label, "--restart", "always"]);
                }
            });
            std::thread::sleep(Duration::from_millis(random.random_range(0..1500)));
            node.docker.kill().unwrap();
            clients.join().unwrap();
        });
        if round == 1 {
            agent.kill().unwrap();
        }
        node.docker.launch().unwrap();
        if round == 1 {
            agent = node.agent();
        }
    }
    eventually("settled", || node.settled());
    assert!(agent.exited().unwrap().is_none(), "{}", node.log());
}

#[test]
fn an_agent_that_is_stopped_takes_along_the_ambassadors_of_those_who_have_gone() {
    let node = Node::new();
    for _ in 0..4 {
        let agent = node.agent();
        node.client("client", "rng:80", &[]);
        eventually("an ambassador", || node.settled() && !node.ambassadors().is_empty());
        // It learns of both at once.
        agent.signal(Signal::SIGSTOP).unwrap();
        node.docker.cli(&["rm", "-f", "client"]).unwrap();
        agent.signal(Signal::SIGTERM).unwrap();
        agent.signal(Signal::SIGCONT).unwrap();
        let ended = agent.wait(Duration::from_secs(10)).unwrap().expect("it ends");
        assert_eq!(ended.code(), Some(0));
        assert!(node.ambassadors().is_empty(), "{}", node.log());
    }
}

#[test]
fn an_agent_outlives_the_engine() {
    let node = Node::new();
    let agent = node.agent();
    node.client("client", "rng:80", &["--restart", "always"]);
    eventually("an ambassador", || node.settled());
    node.docker.restart().unwrap();
    eventually("the client is back", || {
        let running = node.docker.cli(&["inspect", "-f", "{{.State.Running}}", "client"]);
        running.is_ok_and(|running| running == "true")
    });
    eventually("settled", || node.settled());
    assert!(agent.exited().unwrap().is_none(), "{}", node.log());
    agent.stop().unwrap();
    assert_eq!(agent.exited().unwrap().and_then(|status| status.code()), Some(0));
}

#[test]
fn fifty_clients_started_at_once_have_fifty_ambassadors() {
    let node = Node::new();
    let _agent = node.agent();
    std::thread::scope(|scope| {
        for lane in 0..5 {
            let node = &node;
            scope.spawn(move || {
                for number in 0..10 {
                    let name = format!("client-{lane}-{number}");
                    let label = "ambassador.upstreams=rng:80,hasher:80,redis:6379";
                    node.docker.run(&name, &["--label", label, "--network", "none"]).unwrap();
                }
            });
        }
    });
    eventually("settled", || node.settled());
    assert_eq!(node.ambassadors().len(), 50);
}
