//! Containers as people start them, and as nobody should.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};
use services::Options;

fn one_of<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> impl Strategy<Value = T> + use<T> {
    select(values.to_vec())
}

fn words(text: &'static str) -> Vec<&'static str> {
    text.split_whitespace().collect()
}

/// Keys as people write them, and as nobody should.
fn key() -> impl Strategy<Value = String> {
    let scopes = [
        "SERVICE_",
        "SERVICE_",
        "SERVICE_80_",
        "SERVICE_80_tcp_",
        "SERVICE_53_udp_",
        "SERVICE_1-99_",
        "SERVICE_99-1_",
        "SERVICE_99999_",
        "SERVICE_0_",
        "service.80.",
        "service.",
        "acme.SERVICE_",
        "",
    ];
    let names = words(
        "NAME NAME TAGS ID ID IP NETWORK INTERNAL WEIGHT HEALTH PORT IGNORE FORCE_REGISTER \
         ENABLE_TAG_OVERRIDE CHECK_HTTP CHECK_HTTPS CHECK_2_TCP CHECK_TTL CHECK_GRPC \
         CHECK_SCRIPT CHECK_CMD CHECK_INTERVAL CHECK_TIMEOUT CHECK_HEADER CHECK_METHOD \
         CHECK_BODY CHECK_DEREGISTER_AFTER CHECK_INITIAL_STATUS MANAGED-BY CONSUL-X _",
    );
    let word = prop_oneof![4 => one_of(&names).prop_map(str::to_owned), 1 => "\\PC{0,8}|[\\x00-\\x7f]{0,8}"];
    let foreign = words(
        "ambassador.container ambassador.system ambassador.base com.docker.compose.project \
         com.docker.compose.service com.docker.swarm.service.name",
    );
    let own = (one_of(&scopes), word).prop_map(|(scope, word)| format!("{scope}{word}"));
    prop_oneof![9 => own, 1 => one_of(&foreign).prop_map(str::to_owned)]
}

/// Values as people write them, and as nobody should.
fn value() -> impl Strategy<Value = String> {
    let known = [
        "true",
        "false",
        "",
        "10",
        "10:1",
        "0",
        "65536",
        "/health",
        "10s",
        "1h1h",
        "99999999h",
        "1ns",
        "web",
        "my_web",
        "a,b\\,c",
        "10.9.8.7",
        "fd00::7",
        "127.0.0.1",
        "0.0.0.0",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:0.0.0.0",
        "::ffff:10.9.8.7",
        "..",
        "a/../b",
        "gate",
        "ignore",
        "back",
        ":8081/x",
        "http://elsewhere/",
        "X: y",
        "HEAD",
        "passing",
        "x\n  server own 127.0.0.1:1",
        "\u{202e}\u{85}\u{2028}",
        "{{ x }}",
        "$(reboot)",
        "\"",
        "'",
    ];
    prop_oneof![
        6 => one_of(&known).prop_map(str::to_owned),
        2 => "[a-z0-9,:./-]{0,12}",
        2 => "\\PC{0,20}",
        2 => "[\\x00-\\x7f]{0,20}",
        1 => (0..2000_usize).prop_map(|length| "ä".repeat(length)),
    ]
}

fn pairs() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map(key(), value(), 0..12)
}

fn ports() -> impl Strategy<Value = Value> {
    let ips = words(
        "0.0.0.0 0.0.0.0 :: 10.0.0.1 127.0.0.1 fd00::1 ::1 ::ffff:127.0.0.9 ::ffff:0.0.0.0 ::ffff:10.0.0.2 x",
    );
    let ips: Vec<&str> = ips.into_iter().chain([""]).collect();
    let binding = (one_of(&ips), prop_oneof![Just("80".to_owned()), "[0-9]{0,5}"])
        .prop_map(|(ip, port)| json!({"HostIp": ip, "HostPort": port}));
    let keys = ["80/tcp", "80/udp", "53/udp", "443/tcp", "9/sctp", "0/tcp", "80", "junk"];
    let bindings = prop::option::of(prop::collection::vec(binding, 0..4));
    prop::collection::btree_map(one_of(&keys), bindings, 0..5).prop_map(|ports| json!(ports))
}

/// Returns inspect documents of running containers.
pub(crate) fn documents() -> impl Strategy<Value = Value> {
    let images = ["acme/web:1", "r:5000/a@sha256:0f", "sha256:00", "consul", "", "_", "\n"];
    let modes = ["bridge", "bridge", "host", "none", "container:other"];
    let health = prop::option::of((one_of(&["starting", "healthy", "unhealthy", "?"]), value()));
    let networks = prop::collection::btree_map(
        one_of(&["back", "p_back", "ingress", "z"]),
        (one_of(&["", "10.1.0.2", "bad"]), one_of(&["", "fd00::2"])),
        0..3,
    );
    let container = (one_of(&images), one_of(&["/app", "/a b\n", "", "/.."]), any::<bool>());
    (pairs(), pairs(), ports(), networks, health, (container, one_of(&modes))).prop_map(
        |(labels, environment, ports, networks, health, ((image, name, paused), mode))| {
            let environment: Vec<String> =
                environment.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let networks: Map<String, Value> = networks
                .into_iter()
                .map(|(name, (four, six))| {
                    (name.to_owned(), json!({"IPAddress": four, "GlobalIPv6Address": six}))
                })
                .collect();
            let health = health.map(|(status, output)| json!({"Status": status, "Log": [{"Output": output}]}));
            json!({
                "Id": "0123456789abcdef0123456789abcdef", "Name": name,
                "State": {"Running": true, "Paused": paused, "Health": health},
                "Config": {"Image": image, "Labels": labels, "Env": environment, "ExposedPorts": {"80/tcp": {}}},
                "HostConfig": {"NetworkMode": mode},
                "NetworkSettings": {"Ports": ports, "Networks": networks},
            })
        },
    )
}

/// Returns what an operator may ask for.
pub(crate) fn options() -> impl Strategy<Value = Options> {
    let ips =
        ["10.5.5.5", "fd00::5", "0.0.0.0", "127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.5.5.5"];
    let ip = prop::option::of(one_of(&ips));
    let network = prop::option::of(one_of(&["back", "z"]));
    let cidr = prop::option::of(one_of(&["10.0.0.0/8", "fd00::/8", "junk"]));
    (any::<[bool; 4]>(), ip, network, cidr, value()).prop_map(|(flags, ip, network, cidr, tag)| {
        Options {
            explicit: flags[0] && flags[1],
            internal: flags[2],
            ip: ip.map(|ip| ip.parse().unwrap()),
            use_ip_from_label: flags[3].then(|| "SERVICE_NAME".to_owned()),
            network: network.map(Into::into),
            network_cidr: cidr.map(Into::into),
            label_prefix: String::new(),
            tags: vec![tag],
            compose_names: flags[3],
        }
    })
}

/// Returns documents with the right names in them and anything behind them.
pub(crate) fn json_of(depth: u32) -> impl Strategy<Value = Value> {
    let names = words(
        "Id Name State Running Health Status Log Output Config Image Labels Env ExposedPorts \
         StopTimeout StopSignal HostConfig NetworkMode NetworkSettings Networks IPAddress \
         Ports 80/tcp HostIp HostPort SERVICE_NAME",
    );
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        one_of(&["running", "healthy", "80", "SERVICE_NAME=x", "10.0.0.1", "container:", ""])
            .prop_map(Value::from),
    ];
    let name = one_of(&names);
    let any = leaf.prop_recursive(depth, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(one_of(&names), inner, 0..10).prop_map(|map| json!(map)),
        ]
    });
    prop::collection::btree_map(name, any, 0..12).prop_map(|map| json!(map))
}
