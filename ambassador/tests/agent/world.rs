//! A Consul, an engine, and what an ambassador reports, as confd would report it.

use std::process::Output;

use serde_json::{Value, json};
use testbed::consul::Consul;

use crate::harness::Node;

/// A Consul with a service of two instances, which one ambassador serves.
pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) consul: Consul,
    pub(crate) container: String,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Consul::start().unwrap())
    }

    pub(crate) fn with(consul: Consul) -> Self {
        let node = Node::new();
        let container = node.docker.run("rng-1", &[]).unwrap();
        let world = Self { node, consul, container };
        for (id, container, tag) in
            [("n1:rng-1:80", &world.container[..12], "v1"), ("n1:rng-2:80", "ffffffffffff", "v2")]
        {
            world.register(id, container, tag);
        }
        world
    }

    pub(crate) fn register(&self, id: &str, container: &str, tag: &str) {
        let registration = json!({
            "ID": id, "Name": "rng", "Address": "10.0.0.1", "Port": 80, "Tags": [tag],
            "Meta": {"container": container},
        });
        let path = self.consul.folder().join("registration.json");
        std::fs::write(&path, json!({ "service": registration }).to_string()).unwrap();
        self.consul.command(&["services", "register", &path.display().to_string()]).unwrap();
    }

    /// Reports these states of instances, by ID; reports name each of them with its node.
    pub(crate) fn report(&self, states: &Value) {
        let node = self.consul.node();
        let states: serde_json::Map<_, _> = states
            .as_object()
            .unwrap()
            .iter()
            .map(|(id, state)| (format!(":{node}:{id}"), state.clone()))
            .collect();
        let document = json!({
            "node": self.consul.node(), "id": "haproxy", "resource": "haproxy", "client": null,
            "project": null, "generation": 3, "hash": "0", "applied_at": "2026-01-01T00:00:00Z",
            "published_at": "2026-01-01T00:00:00Z", "data_age_seconds": 0.25, "event_to_serving_ms": 12,
            "error": null, "backends": {"http_rng": states},
        });
        self.consul
            .command(&["kv", "put", "ambassadors/n1/haproxy", &document.to_string()])
            .unwrap();
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.node.command(arguments);
        command.env("CONSUL_HTTP_ADDR", self.consul.url()).output().unwrap()
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }

    pub(crate) fn maintenance(&self) -> bool {
        let url = format!("{}/v1/agent/checks", self.consul.url());
        let asked = std::process::Command::new("curl").args(["-fsS", &url]).output().unwrap();
        String::from_utf8_lossy(&asked.stdout).contains("_service_maintenance")
    }
}
