//! What the generated configuration does with backends, and what it shows of them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::{Ambassador, Server, free_address, haproxies, request};

/// Enough requests that shares are told from chance.
const REQUESTS: usize = 300;

#[test]
fn a_dead_backend_costs_no_request_and_the_living_share_them_equally() {
    for haproxy in haproxies() {
        let (one, two) = (Server::start("1", Duration::ZERO), Server::start("2", Duration::ZERO));
        let (address, dead) = (free_address(), free_address());
        let servers = [&address, &one.address, &dead, &two.address].map(String::as_str);
        let ambassador = Ambassador::running(&haproxy, &servers);
        let mut shares = BTreeMap::<String, usize>::new();
        for _ in 0..REQUESTS {
            // From the first one on, when no check has found out yet.
            *shares.entry(request(&address).unwrap()).or_default() += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
        println!("{shares:?} of {REQUESTS} requests, with a dead backend beside them");
        let part = REQUESTS / 2 - REQUESTS / 20..=REQUESTS / 2 + REQUESTS / 20;
        assert!(["1", "2"].iter().all(|name| part.contains(&shares[*name])), "{shares:?}");
        let config = ambassador.file("haproxy.cfg");
        for line in ["retries 3", "option redispatch", "option clitcpka", "option srvtcpka"] {
            assert!(config.contains(line), "{line}: {config}");
        }
    }
}

#[test]
fn statistics_and_figures_for_prometheus_are_shown_where_they_are_asked_for() {
    for haproxy in haproxies() {
        let (server, address) = (Server::start("web", Duration::ZERO), free_address());
        let stats = free_address();
        let arguments = ["--stats", &stats, &address, &server.address];
        let _ambassador = Ambassador::running(&haproxy, &arguments);
        request(&address).unwrap();
        let get = |path: &str| testbed::haproxy::get(stats.parse().unwrap(), path).unwrap();
        let (page, figures) = (get("/"), get("/metrics"));
        assert!(page.contains("Statistics Report") && page.contains(&server.address), "{page}");
        assert!(figures.contains("haproxy_server_sessions_total"), "{figures}");
    }
}
