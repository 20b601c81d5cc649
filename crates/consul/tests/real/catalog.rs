//! What the servers know about everything registered anywhere.

use consul::{Consistency, Query, Registration, Status, TxnOp, TxnResult};
use serde_json::json;

use crate::agent;

#[tokio::test]
async fn services_are_found_with_their_nodes_and_checks() {
    let (agent, client) = agent();
    for (id, tag) in [("one", "http"), ("two", "tcp")] {
        let registration = Registration {
            id: id.into(),
            name: "web".into(),
            port: 80,
            tags: vec![tag.into()],
            ..Registration::default()
        };
        client.register(&registration).await.unwrap();
    }
    let all = client.health_service("web", &Query::default()).await.unwrap();
    assert!(all.index.is_some_and(|index| index > 0));
    assert_eq!(all.known_leader, Some(true));
    assert_eq!(all.value.len(), 2);
    let one = &all.value[0];
    assert_eq!((one.node.name.as_str(), one.address()), (agent.node(), "127.0.0.1"));
    assert_eq!(one.status(), Status::Passing);
    assert!(one.checks.iter().any(|check| check.id == "serfHealth"));

    let tagged = Query { tag: Some("tcp".into()), ..Query::default() };
    let tagged = client.health_service("web", &tagged).await.unwrap().value;
    assert_eq!(tagged.iter().map(|entry| &entry.service.id).collect::<Vec<_>>(), ["two"]);
    let filtered = Query { filter: Some("Service.ID == \"one\"".into()), ..Query::default() };
    let filtered = client.health_service("web", &filtered).await.unwrap().value;
    assert_eq!(filtered.iter().map(|entry| &entry.service.id).collect::<Vec<_>>(), ["one"]);

    let names = client.catalog_services(&Query::default()).await.unwrap().value;
    assert_eq!(names.keys().collect::<Vec<_>>(), ["consul", "web"]);
    let node = client.catalog_node(agent.node(), &Query::default()).await.unwrap().value.unwrap();
    assert_eq!(node.node.address, "127.0.0.1");
    assert!(node.services.contains_key("two"));
    let checks = client.health_node(agent.node(), &Query::default()).await.unwrap().value;
    assert!(checks.iter().any(|check| check.id == "serfHealth"), "{checks:?}");
    assert_eq!(client.catalog_nodes(&Query::default()).await.unwrap().value, [node.node]);
}

#[tokio::test]
async fn a_service_or_node_that_does_not_exist_is_an_empty_answer_with_an_index() {
    let (_agent, client) = agent();
    let services = client.health_service("no such", &Query::default()).await.unwrap();
    assert_eq!((services.value, services.index.is_some()), (vec![], true));
    let node = client.catalog_node("no such", &Query::default()).await.unwrap();
    assert_eq!((node.value, node.index.is_some()), (None, true));
    let checks = client.health_node("no such", &Query::default()).await.unwrap();
    assert_eq!((checks.value, checks.index.is_some()), (vec![], true));
}

#[tokio::test]
async fn an_answer_is_as_fresh_as_it_was_asked_to_be() {
    let (_agent, client) = agent();
    for consistency in [Consistency::Default, Consistency::Stale, Consistency::Consistent] {
        let query = Query { consistency, near: Some("_agent".into()), ..Query::default() };
        let answer = client.health_service("consul", &query).await.unwrap();
        assert_eq!(answer.value.len(), 1, "{consistency:?}");
        assert!(answer.last_contact.is_some(), "{consistency:?}");
    }
}

#[tokio::test]
async fn the_leader_and_the_datacenters_are_known() {
    let (_agent, client) = agent();
    assert!(client.leader().await.unwrap().is_some_and(|leader| leader.starts_with("127.0.0.1:")));
    assert_eq!(client.datacenters().await.unwrap(), ["dc1"]);
    let elsewhere = Query { dc: Some("elsewhere".into()), ..Query::default() };
    let error = client.health_service("web", &elsewhere).await.unwrap_err();
    assert_eq!((error.status(), error.is_retryable()), (Some(500), true), "{error}");
}

#[tokio::test]
async fn checks_are_found_by_status() {
    let (_agent, client) = agent();
    let passing = client.health_state("passing", &Query::default()).await.unwrap().value;
    assert_eq!(passing.iter().map(|check| &check.id).collect::<Vec<_>>(), ["serfHealth"]);
    let critical = client.health_state("critical", &Query::default()).await.unwrap();
    assert_eq!(critical.value, []);
}

#[tokio::test]
async fn nodes_and_services_of_other_hosts_are_written_by_transactions() {
    let (_agent, client) = agent();
    let node = json!({"Verb": "set", "Node": {"Node": "n2", "Address": "10.0.0.2"}});
    let service = json!({"Verb": "set", "Node": "n2", "Service":
        {"ID": "rng 1", "Service": "rng", "Address": "10.0.0.9", "Port": 80}});
    let operations =
        [TxnOp::Other(json!({ "Node": node })), TxnOp::Other(json!({ "Service": service }))];
    assert_eq!(client.txn(&operations).await.unwrap(), TxnResult::Done(vec![]));
    let found = client.health_service("rng", &Query::default()).await.unwrap().value;
    assert_eq!((found[0].address(), found[0].service.port), ("10.0.0.9", 80));
    assert_eq!(found[0].status(), Status::Passing, "no check is no objection");
}

#[tokio::test]
async fn an_impossible_port_does_not_hide_the_other_instances() {
    let (agent, client) = agent();
    for (id, port) in [("one", "70000"), ("two", "80")] {
        let port = format!("-port={port}");
        let args = ["services", "register", "-name=web", &format!("-id={id}"), &port];
        agent.command(&args).unwrap();
    }
    let found = client.health_service("web", &Query::default()).await.unwrap().value;
    let ports: Vec<_> = found.iter().map(|entry| entry.service.port).collect();
    assert_eq!(ports, [0, 80]);
    assert_eq!(client.agent_services(None).await.unwrap().len(), 2);
}
