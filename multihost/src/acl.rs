//! Consul's access rules: the first token, one policy per component, one token per component and node.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::bundle::{Bundle, COMPONENTS, secret};

/// How long a cluster may take to elect a leader and to answer.
const LIMIT: Duration = Duration::from_mins(1);
/// The accessor of the token that stands for requests without one, fixed by Consul.
const ANONYMOUS: &str = "00000000-0000-0000-0000-000000000002";

/// Consul's API, with the token that may do everything.
struct Api {
    client: reqwest::Client,
    url: String,
    token: String,
}

/// Puts policies and tokens in place; what is there already is brought up to date.
pub(crate) async fn bootstrap(bundle: &Bundle, url: &str) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
    let mut api = Api { client, url: url.to_owned(), token: String::new() };
    api.token = api.management(&bundle.management()).await?;
    for name in ["registrator", "confd", "anonymous"] {
        let rules = bundle.repository.join(format!("consul/policies/{name}.hcl"));
        let rules = fs::read_to_string(&rules)
            .with_context(|| format!("cannot read {}", rules.display()))?;
        api.policy(name, &rules).await?;
    }
    let policies = json!([{ "Name": "anonymous" }]);
    let anonymous =
        json!({ "AccessorID": ANONYMOUS, "Description": "Anonymous Token", "Policies": policies });
    api.put(&format!("acl/token/{ANONYMOUS}"), &anonymous).await?;
    for member in &bundle.members {
        for component in COMPONENTS {
            let secret = bundle.token(component, &member.name)?;
            if api.known(&secret).await? {
                continue;
            }
            let mut token = json!({ "SecretID": secret, "Description": format!("{component} on {}", member.name) });
            if component == "agent" {
                token["NodeIdentities"] = json!([{ "NodeName": member.name, "Datacenter": "dc1" }]);
            } else {
                token["Policies"] = json!([{ "Name": component }]);
            }
            api.put("acl/token", &token).await?;
        }
    }
    Ok(())
}

impl Api {
    /// Returns the token that may do everything: the one that is kept, or the first one ever.
    async fn management(&self, file: &Path) -> anyhow::Result<String> {
        if let Ok(token) = fs::read_to_string(file) {
            return Ok(token);
        }
        let end = Instant::now() + LIMIT;
        loop {
            let last = match self.send(Method::PUT, "acl/bootstrap", None).await {
                Ok((StatusCode::OK, text)) => {
                    let token: Value = serde_json::from_str(&text)?;
                    let token = token["SecretID"].as_str().context("no SecretID")?;
                    secret(file, token.as_bytes())?;
                    return Ok(token.to_owned());
                }
                Ok((StatusCode::FORBIDDEN, text)) => bail!(
                    "somebody has bootstrapped this cluster, and {} is not there: {text}",
                    file.display()
                ),
                Ok((status, text)) => format!("{status}: {text}"),
                Err(error) => format!("{error:#}"),
            };
            ensure!(
                Instant::now() < end,
                "Consul at {} is not ready within {LIMIT:?}: {last}",
                self.url
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn policy(&self, name: &str, rules: &str) -> anyhow::Result<()> {
        let policies: Vec<Value> = serde_json::from_str(&self.get("acl/policies").await?)?;
        let known = policies
            .iter()
            .find(|policy| policy["Name"] == name)
            .and_then(|policy| policy["ID"].as_str());
        let path = known.map_or("acl/policy".to_owned(), |id| format!("acl/policy/{id}"));
        self.put(&path, &json!({ "ID": known.unwrap_or_default(), "Name": name, "Rules": rules }))
            .await
    }

    /// Whether Consul knows this token.
    async fn known(&self, token: &str) -> anyhow::Result<bool> {
        let url = format!("{}/v1/acl/token/self", self.url);
        let answer = self.client.get(url).header("X-Consul-Token", token).send().await?;
        Ok(answer.status().is_success())
    }

    async fn get(&self, path: &str) -> anyhow::Result<String> {
        self.expect(Method::GET, path, None).await
    }

    async fn put(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        self.expect(Method::PUT, path, Some(body)).await.map(drop)
    }

    async fn expect(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<String> {
        let (status, text) = self.send(method, path, body).await?;
        ensure!(status.is_success(), "consul answers {status} to {path}: {text}");
        Ok(text)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(StatusCode, String)> {
        let mut request = self.client.request(method, format!("{}/v1/{path}", self.url));
        if !self.token.is_empty() {
            request = request.header("X-Consul-Token", &self.token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        Ok((answer.status(), answer.text().await?))
    }
}
