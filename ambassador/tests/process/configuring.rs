//! Configurations: handed over, refused, and found again after a restart.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{
    Ambassador, Server, SteadyClient, eventually, free_address, haproxies, refused, request,
};

#[test]
fn started_empty_it_refuses_connections_until_a_configuration_is_applied() {
    for haproxy in haproxies() {
        let (server, address) = (Server::start("web", Duration::ZERO), free_address());
        let ambassador = Ambassador::running(&haproxy, &[]);
        assert!(refused(&address));
        let started = Instant::now();
        ambassador.reconfigure(&[&address, &server.address]);
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert_eq!(request(&address).unwrap(), "web");
        assert_eq!(
            ambassador.ask(&["showconfig"]).stdout,
            ambassador.file("haproxy.cfg").as_bytes()
        );
    }
}

#[test]
fn a_frontend_without_backends_refuses_connections() {
    for haproxy in haproxies() {
        let (server, address) = (Server::start("web", Duration::ZERO), free_address());
        let ambassador = Ambassador::running(&haproxy, &[&address, &server.address]);
        assert_eq!(request(&address).unwrap(), "web");
        ambassador.reconfigure(&[&address]);
        eventually("refused", || refused(&address));
    }
}

#[test]
fn a_steady_client_notices_no_reconfiguration_whether_applied_or_rejected() {
    for haproxy in haproxies() {
        let (one, two) = (Server::start("1", Duration::ZERO), Server::start("2", Duration::ZERO));
        let address = free_address();
        let ambassador = Ambassador::running(&haproxy, &[&address, &one.address]);
        request(&address).unwrap();
        let client = SteadyClient::start(&address);
        for _ in 0..5 {
            ambassador.reconfigure(&[&address, &one.address, &two.address]);
            ambassador.reconfigure(&[&address, &two.address]);
            for (bad, message) in [
                ([&address, "no-such-host.invalid:80"], "could not resolve address"),
                (["192.0.2.1:80", &one.address], "192.0.2.1:80"),
                ([&one.address, &two.address], &one.address),
            ] {
                let output = ambassador.ask(&["reconfigure", bad[0], bad[1]]);
                assert_eq!(output.status.code(), Some(1));
                let said = String::from_utf8(output.stderr).unwrap();
                assert!(said.contains(message), "{said}");
                assert!(ambassador.file("haproxy.cfg.rejected").contains(bad[1]));
                assert!(ambassador.file("haproxy.cfg").contains(&two.address));
            }
        }
        let (answered, failures) = client.stop();
        assert_eq!(failures, Vec::<String>::new(), "of {answered}");
        assert!(answered > 100, "{answered}");
    }
}

#[test]
fn a_restart_comes_back_with_the_last_configuration_that_was_accepted() {
    for haproxy in haproxies() {
        let (one, two) = (Server::start("1", Duration::ZERO), Server::start("2", Duration::ZERO));
        let address = free_address();
        let mut ambassador = Ambassador::running(&haproxy, &[&address, &one.address]);
        ambassador.reconfigure(&[&address, &two.address]);
        for damage in [None, Some("nonsense\n"), Some("")] {
            ambassador.stop();
            if let Some(text) = damage {
                std::fs::write(ambassador.path("haproxy.cfg"), text).unwrap();
            }
            if damage == Some("") {
                std::fs::remove_file(ambassador.path("haproxy.cfg")).unwrap();
            }
            ambassador.run(&[&address, &one.address]);
            assert_eq!(request(&address).unwrap(), "2", "{damage:?}");
        }
        assert_eq!(ambassador.file("haproxy.cfg.rejected"), "nonsense\n");
    }
}

#[test]
fn a_new_command_line_counts_more_than_what_was_served_before() {
    for haproxy in haproxies() {
        let (one, two) = (Server::start("1", Duration::ZERO), Server::start("2", Duration::ZERO));
        let address = free_address();
        let mut ambassador = Ambassador::running(&haproxy, &[&address, &one.address]);
        assert_eq!(request(&address).unwrap(), "1");
        ambassador.stop();
        ambassador.run(&[&address, &two.address]);
        assert_eq!(request(&address).unwrap(), "2");
    }
}

#[test]
fn a_file_changed_by_others_is_remembered_and_loaded_on_request() {
    for haproxy in haproxies() {
        let (one, two) = (Server::start("1", Duration::ZERO), Server::start("2", Duration::ZERO));
        let address = free_address();
        let ambassador = Ambassador::running(&haproxy, &[&address, &one.address]);
        let first = ambassador.file("haproxy.cfg");
        let text = first.replace(&one.address, &two.address);
        for (signal, text, name) in [
            (Signal::SIGHUP, &text, "2"),
            (Signal::SIGUSR2, &first, "1"),
            (Signal::SIGHUP, &text, "2"),
        ] {
            std::fs::write(ambassador.path("haproxy.cfg"), text).unwrap();
            ambassador.signal(signal);
            eventually("loaded", || request(&address).is_ok_and(|answer| answer == name));
            eventually("remembered", || ambassador.file("haproxy.cfg.accepted") == *text);
        }

        std::fs::write(ambassador.path("haproxy.cfg"), "nonsense\n").unwrap();
        ambassador.signal(Signal::SIGHUP);
        eventually("refused", || ambassador.file("haproxy.cfg.rejected") == "nonsense\n");
        assert_eq!(request(&address).unwrap(), "2");
        assert_eq!(ambassador.file("haproxy.cfg.accepted"), text);
    }
}

#[test]
fn what_others_brought_in_is_remembered_only_when_haproxy_has_it() {
    for haproxy in haproxies() {
        let (one, two) = (Server::start("1", Duration::ZERO), Server::start("2", Duration::ZERO));
        let (address, taken) = (free_address(), free_address());
        let ambassador = Ambassador::running(&haproxy, &[&address, &one.address]);
        // Servers change by the runtime socket, without a reload, and the file follows.
        let text = ambassador.file("haproxy.cfg").replace(&one.address, &two.address);
        std::fs::write(ambassador.path("haproxy.cfg"), &text).unwrap();
        eventually("remembered", || ambassador.file("haproxy.cfg.accepted") == text);

        let holder = TcpListener::bind(&taken).unwrap();
        let more = text.replace(&address, &taken);
        std::fs::write(ambassador.path("haproxy.cfg"), &more).unwrap();
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(ambassador.file("haproxy.cfg.accepted"), text, "nobody has asked for it yet");
        ambassador.signal(Signal::SIGHUP);
        eventually("refused", || ambassador.file("haproxy.cfg.rejected") == more);
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(ambassador.file("haproxy.cfg.accepted"), text, "the address is taken");
        drop(holder);
        ambassador.signal(Signal::SIGHUP);
        eventually("remembered", || ambassador.file("haproxy.cfg.accepted") == more);
        assert_eq!(request(&taken).unwrap(), "2");
    }
}

#[test]
fn an_address_that_somebody_else_has_at_the_start_gives_way_to_what_was_accepted_and_is_tried_again()
 {
    for haproxy in haproxies() {
        let server = Server::start("web", Duration::ZERO);
        let (address, taken) = (free_address(), free_address());
        let mut ambassador = Ambassador::running(&haproxy, &[&address, &server.address]);
        eventually("remembered", || ambassador.file("haproxy.cfg.accepted").contains(&address));
        ambassador.stop();
        let holder = TcpListener::bind(&taken).unwrap();
        ambassador.run(&[&taken, &server.address]);
        assert_eq!(request(&address).unwrap(), "web");
        assert!(ambassador.file("haproxy.cfg.accepted").contains(&address));
        assert!(ambassador.file("haproxy.cfg.rejected").contains(&taken));
        drop(holder);
        eventually("tried again", || request(&taken).is_ok_and(|answer| answer == "web"));
        eventually("remembered", || ambassador.file("haproxy.cfg.accepted").contains(&taken));
    }
}

#[test]
fn what_is_handed_over_between_two_starts_is_started_at_once_and_what_came_of_it_is_the_answer() {
    for haproxy in haproxies() {
        let (one, two) = (Server::start("1", Duration::ZERO), Server::start("2", Duration::ZERO));
        let (address, taken) = (free_address(), free_address());
        let _holder = TcpListener::bind(&taken).unwrap();
        let mut ambassador = Ambassador::new(&haproxy);
        ambassador.spawn(ambassador.command(&["run"]).args([&taken, &one.address]));
        let pauses = || ambassador.log().matches("haproxy starts again").count();
        eventually("pauses of some seconds", || pauses() > 5);
        let first = ambassador.file("haproxy.cfg");
        for (listen, code) in [(&taken, 1), (&address, 0)] {
            let asked = Instant::now();
            let output = ambassador.ask(&["reconfigure", listen, &two.address]);
            let took = asked.elapsed();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(code), "{said}\n{}", ambassador.log());
            assert!(took < Duration::from_secs(2), "{took:?}");
            if code == 1 {
                assert!(said.contains("cannot bind"), "{said}");
                assert!(ambassador.file("haproxy.cfg.rejected").contains(&taken));
                assert_eq!(ambassador.file("haproxy.cfg"), first);
            }
        }
        assert_eq!(request(&address).unwrap(), "2");
        assert_eq!(ambassador.file("haproxy.cfg.accepted"), ambassador.file("haproxy.cfg"));
    }
}

#[test]
fn what_was_refused_at_the_start_is_tried_again() {
    for haproxy in haproxies() {
        let (server, address) = (Server::start("web", Duration::ZERO), free_address());
        let mut ambassador = Ambassador::new(&haproxy);
        let page = ambassador.path("page");
        let text = format!(
            "listen in\n mode tcp\n timeout connect 1s\n timeout client 1m\n timeout server 1m\n \
             bind {address}\n server s {} \nfrontend other\n mode http\n timeout client 1m\n \
             http-request return status 200 content-type text/plain file {}\n",
            server.address,
            page.display()
        );
        std::fs::write(ambassador.path("haproxy.cfg"), text).unwrap();
        ambassador.run(&[]);
        assert!(refused(&address));
        std::fs::write(page, "hello\n").unwrap();
        eventually("served", || request(&address).is_ok_and(|name| name == "web"));
    }
}

#[test]
fn debugconfig_applies_nothing_and_tells_haproxys_verdict() {
    for haproxy in haproxies() {
        let ambassador = Ambassador::running(&haproxy, &[]);
        let served = ambassador.file("haproxy.cfg");
        let good = ambassador.ask(&["debugconfig", "80", "127.0.0.1", "81"]);
        assert_eq!(good.status.code(), Some(0));
        let text = String::from_utf8(good.stdout).unwrap();
        assert!(text.contains("stats socket"), "{text}");
        assert!(text.contains("server 127.0.0.1:81 127.0.0.1:81"), "{text}");
        let bad = ambassador.ask(&["debugconfig", "80", "no-such-host.invalid:80"]);
        assert_eq!(bad.status.code(), Some(1));
        assert!(String::from_utf8(bad.stderr).unwrap().contains("could not resolve"));
        assert_eq!(ambassador.file("haproxy.cfg"), served);
    }
}

#[test]
fn without_a_running_ambassador_reconfigure_fails_and_says_where_it_looked() {
    let ambassador = Ambassador::new("haproxy".as_ref());
    let output = ambassador.ask(&["reconfigure", "--timeout", "1", "80", "a:80"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("control.sock"));
}

#[test]
fn debugconfig_needs_no_ambassador_that_runs() {
    for haproxy in haproxies() {
        let ambassador = Ambassador::new(&haproxy);
        for dir in [ambassador.path(""), ambassador.path("missing")] {
            let ask = |words: &[&str]| {
                ambassador
                    .command(&["debugconfig"])
                    .args(words)
                    .env("AMBASSADOR_DIR", &dir)
                    .output()
            };
            let good = ask(&["80", "127.0.0.1:81"]).unwrap();
            assert!(good.status.success(), "{good:?}");
            let printed = String::from_utf8(good.stdout).unwrap();
            assert!(
                printed.contains("stats socket") && printed.contains("127.0.0.1:81"),
                "{printed}"
            );
            let bad = ask(&["80", "no-such-host.invalid:80"]).unwrap();
            assert_eq!(bad.status.code(), Some(1), "{bad:?}");
            let served = String::from_utf8(ask(&[]).unwrap().stderr).unwrap();
            assert!(served.contains("no ambassador has run yet"), "{served}");
        }
        assert!(!ambassador.path("missing").exists());
    }
}
