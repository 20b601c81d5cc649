//! Access rules, TLS, secrets, and containers that mean harm.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use testbed::consul::{Consul, free_port};
use testbed::tls::{Certificates, SecureDocker, forward};

use crate::world::World;

/// A token that may do everything, and must never be seen.
const MASTER: &str = "5e5a3e00-0000-4000-8000-00000000beef";

/// Makes a token with a policy of these rules.
fn token(world: &World, policy: &str) -> String {
    let file = world.consul.folder().join("policy.hcl");
    fs::write(&file, policy).unwrap();
    let rules = format!("@{}", file.display());
    world.consul.command(&["acl", "policy", "create", "-name", "ours", "-rules", &rules]).unwrap();
    let create = ["acl", "token", "create", "-policy-name", "ours", "-format", "json"];
    let created = world.consul.command(&create).unwrap();
    let created: serde_json::Value = serde_json::from_str(&created).unwrap();
    created["SecretID"].as_str().unwrap().to_owned()
}

#[test]
fn a_token_that_may_write_no_keys_registers_services_all_the_same() {
    let mut world = World::with(Consul::options().deny_all_but(MASTER).start().unwrap());
    world.look_with(MASTER);
    world.set("CONSUL_HTTP_TOKEN", MASTER);
    let policy = world.output(&["--kv-prefix=", "acl-policy"]).stdout;
    let token = token(&world, &String::from_utf8(policy).unwrap());
    world.set("CONSUL_HTTP_TOKEN", &token);
    world.run("one", &[]);
    world.start(&[]);
    world.until("registered", || world.services().contains_key("node1:one:80"));
    world.until("said", || world.log().contains("the keys are not written"));
    // Nothing waits for the keys from now on either.
    for name in ["two", "three"] {
        world.run(name, &[]);
        let id = format!("node1:{name}:80");
        world.until("another", || world.services().contains_key(&id));
    }
    assert!(world.keys("services/").is_empty());
    assert!(!world.log().contains("consul is away"), "{}", world.log());
    assert_eq!(world.log().matches("the keys are not written").count(), 1, "{}", world.log());
}

#[test]
fn the_printed_policy_is_enough_where_everything_else_is_denied() {
    let mut world = World::with(Consul::options().deny_all_but(MASTER).start().unwrap());
    world.look_with(MASTER);
    world.set("CONSUL_HTTP_TOKEN", MASTER);
    let policy = String::from_utf8(world.output(&["acl-policy"]).stdout).unwrap();
    assert!(policy.contains("agent \"node1\""), "{policy}");
    let token = token(&world, &policy);
    // The token's file is empty of use at first, and is read again when it changes.
    let token_file = world.consul.folder().join("token");
    fs::write(&token_file, "00000000-1111-2222-3333-444444444444").unwrap();
    world.set("CONSUL_HTTP_TOKEN", "");
    world.set("CONSUL_HTTP_TOKEN_FILE", &token_file.display().to_string());
    world.run("one", &["--label", "SERVICE_CHECK_TTL=30s"]);
    world.start(&["--log", "debug"]);
    world.until("refused", || world.log().contains("waiting for consul"));
    fs::write(&token_file, &token).unwrap();
    world.settle();
    world.docker.cli(&["pause", "one"]).unwrap();
    world.until("critical", || world.checks().contains_key("node1:one:80:docker-health"));
    world.docker.cli(&["unpause", "one"]).unwrap();
    world.until("journal", || !world.keys("services-events/").is_empty());
    world.docker.cli(&["stop", "one"]).unwrap();
    world.settle();
    for secret in [token.as_str(), MASTER, "444444444444"] {
        assert!(!world.log().contains(secret), "a token was logged");
    }
}

#[test]
fn consul_is_spoken_to_over_tls_with_a_certificate_of_our_own_and_checked() {
    let certificates = Certificates::new().unwrap();
    let port = free_port().unwrap();
    let file = |name: &str| certificates.file(name);
    let config = serde_json::json!({
        "ports": {"https": port}, "ca_file": file("ca.pem"), "cert_file": file("cert.pem"),
        "key_file": file("key.pem"), "verify_incoming_https": true,
    });
    let mut world = World::with(Consul::options().config(&config.to_string()).start().unwrap());
    world.run("one", &[]);
    world.set("CONSUL_HTTP_ADDR", &format!("https://localhost:{port}"));
    world.set("CONSUL_CACERT", &file("ca.pem"));
    let refused = world.start(&[]);
    refused
        .until("without a certificate of its own", || world.log().contains("waiting for consul"));
    world.kill_registrator();
    world.set("CONSUL_CLIENT_CERT", &file("cert.pem"));
    world.set("CONSUL_CLIENT_KEY", &file("key.pem"));
    world.start(&[]).settle();
    world.kill_registrator();
    fs::copy(file("cert.pem"), file("other.pem")).unwrap();
    world.set("CONSUL_TLS_SERVER_NAME", "elsewhere.example");
    world.start(&[]);
    world.until("another name", || world.log().matches("waiting for consul").count() == 2);
}

#[test]
fn docker_is_spoken_to_over_tcp_with_and_without_tls() {
    let engine = SecureDocker::start().unwrap();
    engine.run("far", &["--expose", "80"]).unwrap();
    let mut world = World::new();
    let to = format!("UNIX-CONNECT:{}", engine.socket().display());
    let (port, _way) = forward(&to).unwrap();
    world.set("DOCKER_HOST", &format!("tcp://127.0.0.1:{port}"));
    world.start(&[]);
    world.until("over tcp", || world.services().contains_key("node1:far:80"));
    world.kill_registrator();
    engine.cli(&["rename", "far", "farther"]).unwrap();
    world.set("DOCKER_HOST", &engine.secure_url());
    world.set("DOCKER_TLS_VERIFY", "1");
    world.set("DOCKER_CERT_PATH", &engine.certificates().folder().display().to_string());
    world.start(&[]);
    world.until("over TLS", || world.services().contains_key("node1:farther:80"));
}

#[test]
fn a_hostile_container_is_cleaned_or_refused_and_the_others_are_registered() {
    let world = World::new();
    world.start(&[]);
    world.run("good", &[]);
    let long = format!("SERVICE_LONG={}", "x".repeat(100_000));
    let labels = [
        "SERVICE_NAME=we b\n}; drop",
        "SERVICE_TAGS=a\nb,\"c\",} server evil",
        "SERVICE_bad.key!here=value",
        "SERVICE_ID=../../../etc/passwd\r\n",
        "SERVICE_CHECK_HTTP=/\nX: y",
        "SERVICE_ESCAPES=\u{1b}[31m\u{0}".trim_end_matches('\0'),
        &long,
    ];
    let labels: Vec<_> = labels.iter().flat_map(|label| ["--label", label]).collect();
    world.run("evil", &labels);
    let file = world.consul.folder().join("labels");
    let many: Vec<_> = (0..10_000).map(|number| format!("SERVICE_MANY{number}={number}")).collect();
    fs::write(&file, many.join("\n")).unwrap();
    world.run("many", &["--label-file", &file.display().to_string()]);
    world.until("the good one", || world.services().contains_key("node1:good:80"));
    world.until("many labels", || world.services().contains_key("node1:many:80"));
    world.until("the evil one", || world.log().contains("container=\"evil\""));
    std::thread::sleep(Duration::from_secs(1));
    for service in world.services().values() {
        let texts = [&service.id, &service.name, &service.address].into_iter();
        for text in texts.chain(&service.tags).chain(service.meta.values()) {
            assert!(!text.chars().any(char::is_control), "{text:?}");
            assert!(text.len() <= 512, "{}", text.len());
        }
    }
    assert!(world.log().lines().all(|line| line.len() < 4_000));
    world.docker.cli(&["rm", "-f", "evil", "many"]).unwrap();
    world.settle();
}

#[test]
fn no_secret_is_shown_anywhere() {
    let mut world = World::new();
    let (token, password) = ("c0ffee00-aaaa-4bbb-8ccc-dddddddddddd", "sesame-open");
    world.set("CONSUL_HTTP_TOKEN", token);
    world.set(
        "CONSUL_HTTP_ADDR",
        &format!("http://user:{password}@127.0.0.1:{}", world.consul.http_port()),
    );
    let labels = [
        "SERVICE_NAME=bad name\n",
        "SERVICE_CHECK_HTTP=/",
        "SERVICE_CHECK_HEADER=Authorization: Bearer s3cret-header",
        "SERVICE_CHECK_BODY=s3cret-body",
        "SERVICE_CHECK_2_SCRIPT=curl -u me:s3cret-script h",
        "SERVICE_CHECK_3_HTTP=/",
        "SERVICE_CHECK_3_HEADER=Bearer s3cret-bare",
        "SERVICE_CHECK_4_HTTP=http://me:s3cret-url@elsewhere/",
    ];
    let labels: Vec<_> = labels.iter().flat_map(|label| ["--label", label]).collect();
    world.run("one", &[&["--env", "PASSWORD=hunter2-hunter2"], &labels[..]].concat());
    world.start(&["--log", "trace,bollard=trace,bollard::docker=trace"]);
    world.until("registered", || world.services().contains_key("node1:one:80"));
    world.signal(Signal::SIGUSR1);
    world.until("the state", || world.log().contains("\"looking_at\""));
    let mut texts = vec![world.log()];
    assert!(texts[0].contains("SERVICE_CHECK_4_HTTP") && texts[0].contains("Authorization"));
    for args in [
        &["--help"][..],
        &["--dry-run", "--internal"],
        &["list", "--internal"],
        &["list", "--internal", "--json"],
        &["--consul-addr=ftp://u:sesame-open@h"],
        &["consul://u:sesame-open@h:99999"],
        &["acl-policy"],
        &["--bad", "--consul-token=x"],
    ] {
        let output = world.output(args);
        texts.push(String::from_utf8_lossy(&output.stdout).into_owned());
        texts.push(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    for text in texts {
        for secret in [token, password, "hunter2-hunter2", "s3cret"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[test]
fn bad_usage_is_told_in_one_line_and_ends_with_status_two() {
    let world = World::new();
    for (args, word) in [
        (&["--ip", "nonsense"][..], "--ip"),
        (&["--ip", "127.0.0.1"], "reach"),
        (&["--docker-host", "ssh://h"], "ssh://h"),
        (&["nonsense://h"], "registry"),
        (&["--max-removal", "101"], "--max-removal"),
        (&["https://h", "--consul-ca-file", "/nowhere"], "/nowhere"),
    ] {
        let output = world.output(args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(word), "{args:?}: {text}");
    }
}
