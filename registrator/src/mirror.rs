//! The copy of the catalog in Consul's key-value store, held by a session that dies with this node.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use consul::{AgentService, Client, Query, SessionRequest, TXN_LIMIT, TxnOp, TxnResult};
use serde_json::{Value, json};

use crate::args::KvFormat;
use crate::model::{Desired, REGISTERED_TIME};

/// Keys and their values.
pub(crate) type Keys = BTreeMap<String, Vec<u8>>;

/// Whose keys they are. Nodes may share a host's name by mistake, and hosts a node on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The name of Consul's node.
    pub(crate) node: String,
    /// The name of this host in IDs.
    pub(crate) host: String,
}

impl Owner {
    /// Returns the key of the journal.
    #[must_use]
    pub(crate) fn journal(&self, prefix: &str) -> String {
        let Self { node, host } = self;
        let name = if node == host { node.clone() } else { format!("{node}:{host}") };
        format!("{prefix}-events/{name}")
    }
}

/// How far what we know of the keys may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Doubt {
    /// Not at all.
    No,
    /// Somebody may have touched those we hold: they are read again, which costs the same however many other nodes
    /// there are.
    Ours,
    /// We may hold some that we do not know of: all nodes' keys are listed.
    All,
}

/// The mirror, and what is known of it.
#[derive(Debug)]
pub(crate) struct Mirror {
    client: Client,
    prefix: String,
    format: KvFormat,
    owner: Owner,
    ttl: Duration,
    session: Option<String>,
    /// What our session holds.
    held: Keys,
    /// Whether `held` is no longer what Consul has.
    doubt: Doubt,
}

impl Mirror {
    /// Makes a mirror of `owner`'s instances under `prefix`; nothing is written before [`Mirror::refresh`].
    #[must_use]
    pub(crate) fn new(
        client: Client,
        prefix: String,
        format: KvFormat,
        owner: Owner,
        ttl: Duration,
    ) -> Self {
        let held = Keys::new();
        Self { client, prefix, format, owner, ttl, session: None, held, doubt: Doubt::All }
    }

    /// Returns an instance's key.
    #[must_use]
    pub(crate) fn key(&self, desired: &Desired) -> String {
        format!("{}/{}/{}", self.prefix, desired.registration.name, desired.registration.id)
    }

    /// Returns the ID in a key; it may hold slashes itself, the service's name does not.
    #[must_use]
    pub(crate) fn id<'a>(&self, key: &'a str) -> &'a str {
        let rest = key.strip_prefix(&self.prefix).unwrap_or(key).trim_start_matches('/');
        rest.split_once('/').map_or("", |(_, id)| id)
    }

    /// Returns what an instance's key holds; `registered` is the instance as the agent has it.
    #[must_use]
    pub(crate) fn value(&self, desired: &Desired, registered: &AgentService) -> Vec<u8> {
        // Not when: a registration that is repeated changes nothing, and so writes no key.
        let meta: BTreeMap<_, _> =
            registered.meta.iter().filter(|(key, _)| *key != REGISTERED_TIME).collect();
        match self.format {
            KvFormat::Addr => format!("{}:{}", registered.address, registered.port).into_bytes(),
            KvFormat::Json => json!({
                "id": registered.id,
                "name": registered.name,
                "address": registered.address,
                "port": registered.port,
                "tags": registered.tags,
                "meta": meta,
                "node": self.owner.node,
                "container": desired.container,
                "since": desired.since,
                "health": desired.health(),
            })
            .to_string()
            .into_bytes(),
        }
    }

    /// Returns the keys that are written now.
    #[must_use]
    pub(crate) fn held(&self) -> &Keys {
        &self.held
    }

    /// Has what is known of the keys confirmed before they are written again.
    pub(crate) fn doubt(&mut self, doubt: Doubt) {
        self.doubt = self.doubt.max(doubt);
    }

    /// Tells whether something is to be confirmed.
    #[must_use]
    pub(crate) fn is_doubted(&self) -> bool {
        self.doubt != Doubt::No
    }

    /// Makes sure of a session, and learns what it holds. `ours` tells of a key's last part
    /// whether it is an instance of ours: so the session of a run before this one is found, and
    /// taken over rather than waited for.
    pub(crate) async fn refresh(
        &mut self,
        ours: impl Fn(&str) -> bool,
    ) -> Result<(), consul::Error> {
        match self.doubt {
            Doubt::No => {}
            Doubt::Ours => self.read_held().await?,
            Doubt::All => self.list(ours).await?,
        }
        self.doubt = Doubt::No;
        Ok(())
    }

    /// Reads again what we hold, as it is now.
    async fn read_held(&mut self) -> Result<(), consul::Error> {
        let mut keys: Vec<_> = self.held.keys().cloned().collect();
        let mut held = Keys::new();
        while !keys.is_empty() {
            let rest = keys.split_off(keys.len().min(TXN_LIMIT));
            let reads: Vec<_> = keys.iter().map(|key| TxnOp::Get { key: key.clone() }).collect();
            match self.client.txn(&reads).await? {
                TxnResult::Done(pairs) => {
                    let pairs = pairs.into_iter().filter(|pair| pair.session == self.session);
                    held.extend(pairs.map(|pair| (pair.key, pair.value)));
                    keys = rest;
                }
                // One that is missing has none of them read.
                TxnResult::Refused(reasons) => {
                    let missing: BTreeSet<_> = reasons.iter().map(|(place, _)| *place).collect();
                    let mut place = 0..;
                    keys.retain(|_| !place.next().is_some_and(|place| missing.contains(&place)));
                    if missing.is_empty() {
                        keys.clear();
                    }
                    keys.extend(rest);
                }
            }
        }
        self.held = held;
        Ok(())
    }

    /// Lists the keys of all nodes for those that are ours, and makes sure of a session.
    async fn list(&mut self, ours: impl Fn(&str) -> bool) -> Result<(), consul::Error> {
        let prefix = format!("{}/", self.prefix);
        let pairs = self.client.kv_list(&prefix, &Query::default()).await?.value;
        if self.session.is_none() {
            let mut sessions: Vec<_> = pairs
                .iter()
                .filter(|pair| self.is_ours(pair, &ours))
                .filter_map(|pair| pair.session.clone())
                .collect();
            sessions.sort();
            sessions.dedup();
            for session in sessions {
                if self.session.is_none() && self.client.session_renew(&session).await? {
                    self.session = Some(session);
                } else {
                    self.client.session_destroy(&session).await?;
                }
            }
        }
        if self.session.is_none() {
            let name = format!("registrator {}", self.owner.host);
            let request = SessionRequest { name, ttl: self.ttl, ..SessionRequest::default() };
            self.session = Some(self.client.session_create(&request).await?);
        }
        self.held = pairs
            .into_iter()
            .filter(|pair| pair.session == self.session)
            .map(|pair| (pair.key, pair.value))
            .collect();
        Ok(())
    }

    fn is_ours(&self, pair: &consul::KvPair, ours: impl Fn(&str) -> bool) -> bool {
        match serde_json::from_slice::<Value>(&pair.value) {
            Ok(value @ Value::Object(_)) => {
                let is =
                    |at: &str, name: &str| value.pointer(at).and_then(Value::as_str) == Some(name);
                is("/node", &self.owner.node) && is("/meta/registrator-host", &self.owner.host)
            }
            _ => ours(self.id(&pair.key)),
        }
    }

    /// Says that we live; `false` if the session ended all the same, and everything must be
    /// written again.
    pub(crate) async fn renew(&mut self) -> Result<bool, consul::Error> {
        let Some(session) = &self.session else { return Ok(true) };
        let lives = self.client.session_renew(session).await?;
        if !lives {
            self.forget();
        }
        Ok(lives)
    }

    /// Ends the session, and with it the keys.
    pub(crate) async fn end(&mut self) -> Result<(), consul::Error> {
        match self.session.take() {
            Some(session) => self.client.session_destroy(&session).await,
            None => Ok(()),
        }
    }

    /// Deletes keys.
    pub(crate) async fn delete(&mut self, keys: &[String]) -> Result<(), consul::Error> {
        for keys in keys.chunks(TXN_LIMIT) {
            let operations: Vec<_> =
                keys.iter().map(|key| TxnOp::Delete { key: key.clone() }).collect();
            self.client.txn(&operations).await?;
            for key in keys {
                self.held.remove(key);
            }
        }
        Ok(())
    }

    /// Writes those of `keys` that are not yet written so, and returns how many another session
    /// holds: another node registers the same ID.
    pub(crate) async fn write(&mut self, keys: Keys) -> Result<usize, consul::Error> {
        let Some(session) = self.session.clone() else { return Ok(0) };
        let mut wanted: Vec<_> =
            keys.into_iter().filter(|(key, value)| self.held.get(key) != Some(value)).collect();
        let mut refused = 0;
        while !wanted.is_empty() {
            let rest = wanted.split_off(wanted.len().min(TXN_LIMIT));
            let operations: Vec<_> = wanted
                .iter()
                .map(|(key, value)| TxnOp::Lock {
                    key: key.clone(),
                    value: value.clone(),
                    session: session.clone(),
                })
                .collect();
            match self.client.txn(&operations).await {
                Ok(TxnResult::Done(_)) => self.held.extend(std::mem::replace(&mut wanted, rest)),
                Ok(TxnResult::Refused(reasons)) => {
                    if reasons.iter().any(|(_, reason)| reason.contains("invalid session")) {
                        self.forget();
                        return Ok(refused);
                    }
                    let before = wanted.len();
                    let mut place = 0;
                    wanted.retain(|_| {
                        place += 1;
                        !reasons.iter().any(|(refused, _)| *refused == place - 1)
                    });
                    // Nothing would change by trying again what was refused for no reason.
                    if wanted.len() == before {
                        wanted.clear();
                    }
                    refused += before - wanted.len();
                    wanted.extend(rest);
                }
                Err(error) if error.is_session_gone() => {
                    self.forget();
                    return Ok(refused);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(refused)
    }

    fn forget(&mut self) {
        self.session = None;
        self.doubt = Doubt::All;
    }
}
