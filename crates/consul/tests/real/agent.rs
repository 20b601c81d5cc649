//! The agent's own services and checks.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use consul::{CheckDefinition, Query, Registration, ServiceAddress, Status, Weights};
use testbed::process::Process;

use crate::agent;

/// IDs that break clients which encode a path not at all, or twice.
const ODD_IDS: [&str; 9] = [
    "host:web 1:80",
    "host:100%:80",
    "host:%41%2F:80",
    "host:a?b=c:80",
    "host:a#b:80",
    "host:\u{fc}\u{1f980}:80",
    "host:a/b:80",
    "host:a+b&c;d:80",
    "host:\"quoted\"<>[]{}|\\^`:80",
];

fn web(id: &str) -> Registration {
    Registration {
        id: id.into(),
        name: "web".into(),
        address: "10.1.2.3".into(),
        port: 80,
        ..Registration::default()
    }
}

#[tokio::test]
async fn an_agent_says_who_it_is() {
    let (agent, client) = agent();
    let me = client.agent_self().await.unwrap();
    assert_eq!((me.node.as_str(), me.datacenter.as_str()), (agent.node(), "dc1"));
    assert_eq!((me.address.as_str(), me.server), ("127.0.0.1", true));
    assert!(me.version.starts_with(|first: char| first.is_ascii_digit()), "{}", me.version);
}

#[tokio::test]
async fn what_was_registered_is_listed_as_it_was() {
    let (_agent, client) = agent();
    let registration = Registration {
        tags: vec!["b".into(), "a".into()],
        meta: BTreeMap::from([("managed-by".into(), "registrator".into())]),
        tagged_addresses: BTreeMap::from([(
            "lan_ipv6".into(),
            ServiceAddress { address: "fd00::1".into(), port: 80 },
        )]),
        weights: Weights { passing: 10, warning: 2 },
        enable_tag_override: true,
        ..web("host:web:80")
    };
    client.register(&registration).await.unwrap();
    let listed = client.agent_services(None).await.unwrap().remove("host:web:80").unwrap();
    assert_eq!((listed.id, listed.name), (registration.id, registration.name));
    assert_eq!((listed.address, listed.port), (registration.address, registration.port));
    assert_eq!((listed.tags, listed.meta), (registration.tags, registration.meta));
    assert_eq!(listed.weights, registration.weights);
    assert!(listed.enable_tag_override);
    assert_eq!(listed.tagged_addresses["lan_ipv6"], registration.tagged_addresses["lan_ipv6"]);
}

#[tokio::test]
async fn an_id_of_any_characters_can_be_registered_put_into_maintenance_and_removed() {
    let (_agent, client) = agent();
    for id in ODD_IDS {
        client.register(&web(id)).await.unwrap();
        assert!(client.agent_services(None).await.unwrap().contains_key(id), "{id}");
        client.maintenance(id, Some("because & so?")).await.unwrap();
        let check =
            &client.agent_checks(None).await.unwrap()[&format!("_service_maintenance:{id}")];
        assert_eq!((check.notes.as_str(), check.service_id.as_str()), ("because & so?", id));
        client.maintenance(id, None).await.unwrap();
        assert!(client.agent_checks(None).await.unwrap().is_empty(), "{id}");
        client.deregister(id).await.unwrap();
        assert!(!client.agent_services(None).await.unwrap().contains_key(id), "{id}");
    }
}

#[tokio::test]
async fn removing_what_is_not_there_is_no_error() {
    let (_agent, client) = agent();
    client.deregister("host:gone:80").await.unwrap();
}

#[tokio::test]
async fn a_filter_selects_services_and_checks() {
    let (_agent, client) = agent();
    let ttl = CheckDefinition { ttl: "1m".into(), ..CheckDefinition::default() };
    client.register(&Registration { checks: vec![ttl], ..web("one") }).await.unwrap();
    client.register(&Registration { name: "other".into(), ..web("two") }).await.unwrap();
    let found = client.agent_services(Some("Service == \"other\"")).await.unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), ["two"]);
    let found = client.agent_checks(Some("ServiceID == \"one\"")).await.unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), ["service:one"]);
}

#[tokio::test]
async fn an_instance_in_maintenance_is_not_among_the_passing() {
    let (_agent, client) = agent();
    client.register(&web("one")).await.unwrap();
    client.maintenance("one", Some("stopping")).await.unwrap();
    let all = client.health_service("web", &Query::default()).await.unwrap().value;
    assert!(all[0].in_maintenance());
    assert_eq!(all[0].status(), Status::Critical);
    let passing = Query { passing: true, ..Query::default() };
    assert_eq!(client.health_service("web", &passing).await.unwrap().value, []);
}

#[tokio::test]
async fn a_heartbeat_carries_its_note() {
    let (_agent, client) = agent();
    let check = CheckDefinition {
        id: "docker-health:one 1".into(),
        ttl: "1m".into(),
        status: Some(Status::Warning),
        ..CheckDefinition::default()
    };
    client.register(&Registration { checks: vec![check], ..web("one") }).await.unwrap();
    let checks = client.agent_checks(None).await.unwrap();
    assert_eq!(checks["docker-health:one 1"].status, Status::Warning);
    for status in [Status::Passing, Status::Critical] {
        client.ttl("docker-health:one 1", status, "probe: 100% \"ok\"").await.unwrap();
        let checks = client.agent_checks(None).await.unwrap();
        let check = &checks["docker-health:one 1"];
        assert_eq!((check.status, check.output.as_str()), (status, "probe: 100% \"ok\""));
    }
}

#[tokio::test]
async fn registering_again_replaces_the_checks() {
    let (_agent, client) = agent();
    let ttl = |id: &str| CheckDefinition { id: id.into(), ttl: "1m".into(), ..Default::default() };
    let checks = vec![ttl("a"), ttl("b")];
    client.register(&Registration { checks, ..web("one") }).await.unwrap();
    client.ttl("b", Status::Passing, "").await.unwrap();
    client.register(&Registration { checks: vec![ttl("b")], ..web("one") }).await.unwrap();
    let checks = client.agent_checks(None).await.unwrap();
    assert_eq!(checks.keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(checks["b"].status, Status::Passing, "the result of a kept check is kept");
}

#[tokio::test]
async fn a_check_sends_the_headers_and_method_it_was_given() {
    let (agent, client) = agent();
    let port = testbed::consul::free_port().unwrap();
    let config = agent.folder().join("haproxy.cfg");
    let text = format!(
        "defaults\n  mode http\n  timeout client 5s\n  timeout server 5s\n  timeout connect 5s\n\
         frontend probed\n  bind 127.0.0.1:{port}\n  \
         http-request return status 200 if {{ req.hdr(X-Probe) -m str yes }} {{ method HEAD }}\n  \
         http-request return status 500\n"
    );
    std::fs::write(&config, text).unwrap();
    let _haproxy =
        Process::spawn(Command::new("haproxy").arg("-db").arg("-f").arg(&config), None).unwrap();
    let check = CheckDefinition {
        id: "probe".into(),
        http: format!("http://127.0.0.1:{port}/"),
        method: "HEAD".into(),
        header: BTreeMap::from([("X-Probe".into(), vec!["yes".into()])]),
        interval: "100ms".into(),
        ..CheckDefinition::default()
    };
    client.register(&Registration { checks: vec![check], ..web("one") }).await.unwrap();
    let passes = async {
        while client.agent_checks(None).await.unwrap()["probe"].status != Status::Passing {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), passes).await.unwrap();
}

#[tokio::test]
async fn a_registration_that_consul_refuses_is_an_error_with_consuls_reason() {
    let (_agent, client) = agent();
    let meta = BTreeMap::from([("a.b".to_owned(), String::new())]);
    let error = client.register(&Registration { meta, ..web("one") }).await.unwrap_err();
    assert_eq!((error.status(), error.is_retryable()), (Some(400), false));
    assert!(error.to_string().contains("a.b"), "{error}");
}
