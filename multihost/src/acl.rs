//! Consul's access rules: the first token, one policy per component, one token per component and node.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::bundle::{Bundle, COMPONENTS};
use crate::files::secret;

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
    let mut api = Api::new(url)?;
    api.enter(&bundle.management()).await?;
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
            if api.accessor(&secret).await?.is_some() {
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

/// Revokes the tokens of a host that is gone for good, and takes it off every list: Consul alone would keep it there,
/// without traffic, for eight hours.
pub(crate) async fn forget(bundle: &Bundle, name: &str, url: &str) -> anyhow::Result<()> {
    let mut api = Api::new(url)?;
    let file = bundle.management();
    api.token = fs::read_to_string(&file)
        .with_context(|| format!("no token for everything in {}", file.display()))?;
    let checks: Value = serde_json::from_str(&api.get(&format!("health/node/{name}")).await?)?;
    let alive = |check: &Value| check["CheckID"] == "serfHealth" && check["Status"] == "passing";
    ensure!(
        !checks.as_array().is_some_and(|checks| checks.iter().any(alive)),
        "Consul says that {name} is alive: shut it down first"
    );
    for component in COMPONENTS {
        let file = bundle.token_file(component, name);
        let Ok(token) = fs::read_to_string(&file) else { continue };
        if let Some(accessor) = api.accessor(&token).await? {
            api.expect(Method::DELETE, &format!("acl/token/{accessor}"), None).await?;
        }
        // One that is found here would be given to the next host of that name.
        fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    let path = format!("agent/force-leave/{name}?prune");
    let (status, text) = api.send(Method::PUT, &path, None).await?;
    // Off the lists already is as good.
    ensure!(
        status.is_success() || text.contains("No node found"),
        "consul answers {status} to {path}: {text}"
    );
    Ok(())
}

impl Api {
    fn new(url: &str) -> anyhow::Result<Self> {
        let client =
            reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        Ok(Self { client, url: url.to_owned(), token: String::new() })
    }

    /// Goes on with the token that may do everything: the one that is kept in `file`, or the first one ever.
    ///
    /// A cluster that is empty although one is kept is there to take over a snapshot of another: it is given that one.
    async fn enter(&mut self, file: &Path) -> anyhow::Result<()> {
        let kept = fs::read_to_string(file).ok();
        let end = Instant::now() + LIMIT;
        loop {
            let known = match &kept {
                Some(token) => self.accessor(token).await.map(|accessor| accessor.is_some()),
                None => Ok(false),
            };
            let last = match known {
                Ok(true) => {
                    self.token = kept.unwrap_or_default();
                    return Ok(());
                }
                Ok(false) => match self.send(Method::PUT, "acl/bootstrap", None).await {
                    Ok((StatusCode::OK, text)) => {
                        return self.keep(file, kept, &serde_json::from_str(&text)?).await;
                    }
                    Ok((StatusCode::FORBIDDEN, text)) => bail!(
                        "somebody has bootstrapped this cluster, and the token for that is not in {}: {text}",
                        file.display()
                    ),
                    Ok((status, text)) => format!("{status}: {text}"),
                    Err(error) => format!("{error:#}"),
                },
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

    /// Writes the first token down; or, if there is one of before, has that take its place.
    async fn keep(
        &mut self,
        file: &Path,
        kept: Option<String>,
        first: &Value,
    ) -> anyhow::Result<()> {
        first["SecretID"].as_str().context("no SecretID")?.clone_into(&mut self.token);
        let Some(kept) = kept else { return secret(file, self.token.as_bytes()) };
        let policies = json!([{ "Name": "global-management" }]);
        let token = json!({ "SecretID": kept, "Description": "kept", "Policies": policies });
        self.put("acl/token", &token).await?;
        self.token = kept;
        let first = first["AccessorID"].as_str().context("no AccessorID")?;
        self.expect(Method::DELETE, &format!("acl/token/{first}"), None).await.map(drop)
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

    /// Returns the name under which Consul knows this token, if it does.
    async fn accessor(&self, token: &str) -> anyhow::Result<Option<String>> {
        let url = format!("{}/v1/acl/token/self", self.url);
        let answer = self.client.get(url).header("X-Consul-Token", token).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        if [StatusCode::FORBIDDEN, StatusCode::NOT_FOUND].contains(&status) {
            return Ok(None);
        }
        ensure!(status.is_success(), "consul answers {status} to acl/token/self: {text}");
        let token: Value = serde_json::from_str(&text)?;
        Ok(Some(token["AccessorID"].as_str().context("no AccessorID")?.to_owned()))
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
