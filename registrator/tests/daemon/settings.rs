//! What containers and operators ask for, and what an agent is told then.

use std::process::Command;
use std::time::Duration;

use consul::Registration;
use testbed::consul::Consul;

use crate::world::{SOON, World};

/// An agent that other nodes reach.
const ADVERTISED: &str = r#"{"advertise_addr": "192.0.2.7"}"#;
/// Shows the engine's socket (its folder is `$1`) where older registrators had it and nowhere else, and runs `$2`
/// with the rest.
const AS_OF_OLD: &str = r#"exec 3<"$2" && mount --bind "$1" /mnt && mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /run &&
ln -s /mnt/docker.sock /tmp/docker.sock && shift 2 && exec /proc/self/fd/3 "$@""#;
/// Says what a web server at host `$1`, port `$2`, answers.
const FETCH: &str = r#"exec 3<>"/dev/tcp/$1/$2" && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && cat <&3"#;

#[test]
fn others_may_change_the_tags_where_the_container_lets_them() {
    let world = World::new();
    let tags = ["--label", "SERVICE_TAGS=ours"];
    world.run("open", &[&tags[..], &["--label", "SERVICE_ENABLE_TAG_OVERRIDE=true"]].concat());
    world.run("shut", &tags);
    world.start(&["--resync", "1s"]).settle();
    world.ask(async |client| {
        let services = client.agent_services(None).await.unwrap();
        // The one that is put right comes last: by then the other one was seen, too.
        for id in ["node1:open:80", "node1:shut:80"] {
            let service = services[id].clone();
            let changed = Registration {
                id: service.id,
                name: service.name,
                address: service.address,
                port: service.port,
                tags: vec!["theirs".into()],
                meta: service.meta,
                enable_tag_override: service.enable_tag_override,
                ..Registration::default()
            };
            client.register(&changed).await.unwrap();
        }
    });
    let tags = |id: &str| world.services()[id].tags.clone();
    assert_eq!(tags("node1:open:80"), ["theirs"]);
    world.until("put right", || tags("node1:shut:80") == ["ours"]);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(tags("node1:open:80"), ["theirs"], "{}", world.log());
}

#[test]
fn with_a_prefix_only_labels_behind_it_count() {
    let world = World::new();
    let ours = ["--label", "acme.SERVICE_NAME=ours", "--label", "acme.service.80.tags=dotted"];
    let other = ["--label", "SERVICE_NAME=other", "--label", "SERVICE_80_TAGS=other"];
    world.run("web", &[&ours[..], &other].concat());
    world.run("plain", &other);
    world.start(&["--label-prefix", "acme."]).settle();
    let services = world.services();
    let web = &services["node1:web:80"];
    assert_eq!((web.name.as_str(), &web.tags), ("ours", &vec!["dotted".to_owned()]));
    assert_eq!(services["node1:plain:80"].name, "busybox");
}

#[test]
fn on_the_hosts_network_exposed_ports_are_at_the_nodes_address() {
    let world = World::with(Consul::options().config(ADVERTISED).start().unwrap());
    world.run("web", &["--network", "host"]);
    for internal in ["--internal=true", "--internal=false"] {
        world.start(&[internal]).settle();
        let web = &world.services()["node1:web:80"];
        assert_eq!((web.address.as_str(), web.port), ("192.0.2.7", 80), "{internal}");
        world.kill_registrator();
        world.ask(async |client| client.deregister("node1:web:80").await.unwrap());
    }
}

// What the engine does decides what may be registered.
#[test]
fn a_port_bound_in_one_family_is_reached_and_registered_in_that_family_alone() {
    let world = World::with(Consul::options().config(ADVERTISED).start().unwrap());
    let run = |name: &str, port: &str| {
        let server = ["busybox", "httpd", "-f", "-p", "80"];
        world
            .docker
            .cli(&[&["run", "-d", "--name", name, "-p", port][..], &server].concat())
            .unwrap();
    };
    run("four", "0.0.0.0:18094:80");
    run("six", "[::]:18096:80");
    run("both", "18098:80");
    let reaches = |host: &str, port: u16| {
        let words = ["2", "bash", "-c", FETCH, "bash", host, &port.to_string()];
        let answer = world.docker.inside("timeout").args(words).output().unwrap();
        answer.stdout.starts_with(b"HTTP/")
    };
    let ways =
        || [18094, 18096, 18098].map(|port| (reaches("127.0.0.1", port), reaches("::1", port)));
    world.within(SOON, || match ways() {
        [(true, false), (false, true), (true, true)] => Ok(()),
        others => Err(format!("{others:?}")),
    });
    world.start(&["--internal=false"]);
    world.until("two", || world.services().len() == 2);
    let services = world.services().into_values().map(|one| (one.address, one.port));
    let expected = [18098, 18094].map(|port| ("192.0.2.7".to_owned(), port));
    assert_eq!(services.collect::<Vec<_>>(), expected);
    world.until("said", || world.log().contains("container=\"six\""));
}

#[test]
fn dockers_socket_is_found_where_older_registrators_had_it() {
    let world = World::new();
    world.run("one", &[]);
    let registrator = world.command(&["--internal", "--dry-run"]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", AS_OF_OLD, "sh"]).arg(world.docker.folder());
    command.arg(registrator.get_program()).args(registrator.get_args());
    let environment = registrator.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let output = command.envs(environment).env("DOCKER_HOST", "").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("socket=\"/tmp/docker.sock\""), "{said}");
    let plan = String::from_utf8_lossy(&output.stdout);
    assert!(plan.contains("register   node1:one:80"), "{plan}{said}");
}
