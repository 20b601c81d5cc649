//! Who an instance, a key or a session belongs to, where several claim it.

use std::time::Duration;

use consul::{Registration, SessionRequest};
use nix::sys::signal::Signal;

use crate::world::World;

/// Registers an instance as a registrator of a host would.
fn register(world: &World, id: &str, host: &str, container: &str) {
    let meta =
        [("managed-by", "registrator"), ("registrator-host", host), ("container", container)];
    let meta = meta.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let service = Registration {
        id: id.into(),
        name: "web".into(),
        address: "192.0.2.9".into(),
        meta,
        ..Default::default()
    };
    world.ask(async |client| client.register(&service).await.unwrap());
}

#[test]
fn the_session_and_the_keys_of_another_host_are_left_alone_in_either_format() {
    let world = World::new();
    let label = ["--label", "SERVICE_ID=mine", "--label", "SERVICE_NAME=web"];
    world.run("one", &label);
    world.run("two", &[]);
    let theirs = ["services/web/mine", "services/web/other:web:80"];
    let session = world.ask(async |client| {
        let name = "registrator node2".to_owned();
        let request = SessionRequest { name, ..SessionRequest::default() };
        let session = client.session_create(&request).await.unwrap();
        for key in theirs {
            assert!(client.kv_acquire(key, b"192.0.2.9:80", &session).await.unwrap());
        }
        session
    });
    for (number, format) in ["addr", "json"].into_iter().enumerate() {
        world.start(&["--kv-format", format]);
        world.until("said, and the other key is there", || {
            world.log().matches("another node holds keys").count() == number + 1
                && world.keys("services/").contains_key("services/busybox/node1:two:80")
        });
        let keys = world.keys("services/");
        for key in theirs {
            assert_eq!(keys[key].session.as_deref(), Some(session.as_str()), "{key}");
            assert_eq!(keys[key].value, b"192.0.2.9:80");
        }
        world.stop_registrator();
    }
}

#[test]
fn keys_in_the_old_format_hold_address_and_port_and_a_successor_takes_them_over() {
    let world = World::new();
    world.run("one", &[]);
    world.start(&["--kv-format", "addr"]).settle();
    let key = || world.keys("services/").remove("services/busybox/node1:one:80").unwrap();
    let before = key();
    let address = world.services()["node1:one:80"].address.clone();
    assert_eq!(String::from_utf8(before.value.clone()).unwrap(), format!("{address}:80"));
    world.kill_registrator();
    world.run("two", &[]);
    world.start(&["--kv-format", "addr"]);
    world.until("both", || world.keys("services/").len() == 2);
    assert_eq!((key().session, key().modify_index), (before.session, before.modify_index));
}

#[test]
fn an_id_that_somebody_else_has_at_this_agent_stays_his_and_a_predecessors_is_taken_over() {
    let world = World::new();
    register(&world, "theirs", "node2", "c0ffee000000");
    // An operator's own service, and what a registrator that marks nothing left.
    for (id, name, port) in [("vault", "vault", 8200), ("before", "busybox", 80)] {
        let unmarked =
            Registration { id: id.into(), name: name.into(), port, ..Default::default() };
        world.ask(async |client| client.register(&unmarked).await.unwrap());
    }
    let names = ["theirs", "vault", "before"].map(|id| format!("{id}-container"));
    let ids = ["theirs", "vault", "before"]
        .map(|id| world.run(&format!("{id}-container"), &["--label", &format!("SERVICE_ID={id}")]));
    world.start(&["--resync", "1s"]);
    for (id, container) in ["theirs", "vault"].iter().zip(&ids) {
        let suffixed = format!("{id}:{}", &container[..12]);
        world.until(&suffixed, || world.services().contains_key(&suffixed));
    }
    world.until("taken over", || world.services().contains_key("before"));
    assert!(world.log().contains("registrator of host \\\"node2\\\""), "{}", world.log());
    assert!(world.log().contains("a service that is not ours"), "{}", world.log());
    let names = names.each_ref().map(String::as_str);
    world.docker.cli(&[&["rm", "-f"][..], &names].concat()).unwrap();
    world.until("ours are gone", || world.services().len() == 1);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(world.services()["theirs"].address, "192.0.2.9");
    let all = world.ask(async |client| client.agent_services(None).await.unwrap());
    assert_eq!(all["vault"].port, 8200);
}

#[test]
fn what_another_registrator_under_our_name_puts_back_is_left_to_it_and_said() {
    let world = World::new();
    world.run("one", &[]);
    world.start(&["--resync", "0"]).settle();
    let strange = "node1:strange:80";
    register(&world, strange, "node1", "c0ffee000000");
    world.signal(Signal::SIGHUP);
    world.until("removed", || !world.services().contains_key(strange));
    assert!(!world.log().contains("another registrator"), "{}", world.log());
    register(&world, strange, "node1", "c0ffee000000");
    world.signal(Signal::SIGHUP);
    world.until("said", || world.log().contains("another registrator"));
    for _ in 0..3 {
        register(&world, strange, "node1", "c0ffee000000");
        world.signal(Signal::SIGHUP);
        std::thread::sleep(Duration::from_millis(300));
        assert!(world.services().contains_key(strange), "{}", world.log());
    }
    assert_eq!(world.log().matches("another registrator").count(), 1, "{}", world.log());
    world.docker.cli(&["rm", "-f", "one"]).unwrap();
    world.until("ours is gone", || world.services().len() == 1);
}
