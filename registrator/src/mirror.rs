//! The copy of the catalog in Consul's key-value store, held by a session that dies with this node.

mod batch;
mod layout;
mod task;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use consul::{Client, Query, SessionRequest, TXN_LIMIT, TxnOp, TxnResult};

pub(crate) use layout::{Layout, Owner};
pub(crate) use task::keep;
pub(crate) use wanted::{Want, Wanted, Wants};

use wanted::Order;

/// What Consul says of an operation that the token may not do; it does so for each operation, too.
const DENIED: &str = "Permission denied";

/// The status of an agent's answer to what is too much for it.
const TOO_LARGE: u16 = 413;

/// Keys and their values.
type Keys = BTreeMap<String, Arc<[u8]>>;

/// How far what we know of the keys may be wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Doubt {
    /// Not at all.
    #[default]
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
    layout: Layout,
    ttl: Duration,
    session: Option<String>,
    /// What our session holds.
    held: Keys,
    /// Whether `held` is no longer what Consul has.
    doubt: Doubt,
    /// The keys that were said to be too large.
    too_large: BTreeSet<String>,
}

impl Mirror {
    /// Makes a mirror that holds nothing yet.
    #[must_use]
    pub(crate) fn new(client: Client, layout: Layout, ttl: Duration) -> Self {
        let (held, too_large) = (Keys::new(), BTreeSet::new());
        Self { client, layout, ttl, session: None, held, doubt: Doubt::All, too_large }
    }

    /// Returns where the keys are, and what they hold.
    #[must_use]
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns how many keys are held.
    #[must_use]
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Has what is known of the keys confirmed before they are written again.
    pub(crate) fn doubt(&mut self, doubt: Doubt) {
        self.doubt = self.doubt.max(doubt);
    }

    /// Returns what is to be confirmed.
    #[must_use]
    pub(crate) fn doubted(&self) -> Doubt {
        self.doubt
    }

    /// Makes the keys what is wanted of them, all of them if what is known was in doubt; returns how many another
    /// session holds: another node registers the same ID.
    pub(crate) async fn bring_about(&mut self, order: &Order) -> Result<usize, consul::Error> {
        let everything = self.doubt != Doubt::No;
        match self.doubt {
            Doubt::No => {}
            Doubt::Ours => self.read_held().await?,
            Doubt::All => self.list().await?,
        }
        self.doubt = Doubt::No;
        self.delete(&self.surplus(&order.wants, everything)).await?;
        let wanted = order.wants.values().flatten().filter_map(|want| match want {
            Want::Is(key, value) if self.held.get(key) != Some(value) => {
                Some((key.clone(), value.clone()))
            }
            _ => None,
        });
        self.write(wanted.collect()).await
    }

    /// Returns the keys that are held, and must not be.
    fn surplus(&self, wants: &Wants, everything: bool) -> Vec<String> {
        let stays = |key: &String| match wants.get(self.layout.id(key)) {
            Some(Some(Want::Is(wanted, _))) => wanted == key,
            Some(Some(Want::Any)) => true,
            Some(None) => false,
            None => !everything,
        };
        self.held.keys().filter(|key| !stays(key)).cloned().collect()
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
                    held.extend(pairs.map(|pair| (pair.key, pair.value.into())));
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
    async fn list(&mut self) -> Result<(), consul::Error> {
        let prefix = format!("{}/", self.layout.prefix);
        let pairs = self.client.kv_list(&prefix, &Query::default()).await?.value;
        if self.session.is_none() {
            self.take_over(pairs.iter().filter_map(|pair| pair.session.as_ref()).collect()).await?;
        }
        if self.session.is_none() {
            let name = self.layout.owner.session();
            let request = SessionRequest { name, ttl: self.ttl, ..SessionRequest::default() };
            self.session = Some(self.client.session_create(&request).await?);
        }
        self.held = pairs
            .into_iter()
            .filter(|pair| pair.session == self.session)
            .map(|pair| (pair.key, pair.value.into()))
            .collect();
        Ok(())
    }

    /// Takes over the session of a run before this one rather than wait for its end. Whose a session is, Consul tells;
    /// what its keys hold does not, as hosts may name their instances alike.
    async fn take_over(&mut self, holders: BTreeSet<&String>) -> Result<(), consul::Error> {
        if holders.is_empty() {
            return Ok(());
        }
        for session in self.sessions().await? {
            if !holders.contains(&session) {
                continue;
            }
            if self.session.is_none() && self.client.session_renew(&session).await? {
                self.session = Some(session);
            } else {
                self.client.session_destroy(&session).await?;
            }
        }
        Ok(())
    }

    /// Returns the sessions under our name.
    async fn sessions(&self) -> Result<Vec<String>, consul::Error> {
        let owner = &self.layout.owner;
        let mut sessions = self.client.node_sessions(&owner.node).await?;
        sessions.retain(|session| session.node == owner.node && session.name == owner.session());
        Ok(sessions.into_iter().map(|session| session.id).collect())
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

    /// Ends the session, and with it the keys; also one that was not taken over yet, or whose making we did not live to
    /// see.
    pub(crate) async fn end(&mut self) -> Result<(), consul::Error> {
        let sessions = match self.session.take() {
            Some(session) => vec![session],
            None => self.sessions().await?,
        };
        for session in sessions {
            self.client.session_destroy(&session).await?;
        }
        Ok(())
    }

    async fn delete(&mut self, keys: &[String]) -> Result<(), consul::Error> {
        for keys in keys.chunks(TXN_LIMIT) {
            let operations: Vec<_> =
                keys.iter().map(|key| TxnOp::Delete { key: key.clone() }).collect();
            if let TxnResult::Refused(reasons) = self.client.txn(&operations).await? {
                return Err(refusal(&reasons));
            }
            for key in keys {
                self.held.remove(key);
            }
        }
        Ok(())
    }

    /// Writes keys, and returns how many another session holds.
    async fn write(&mut self, keys: Keys) -> Result<usize, consul::Error> {
        let Some(session) = self.session.clone() else { return Ok(0) };
        let mut wanted: Vec<_> = keys.into_iter().collect();
        let mut refused = 0;
        let mut most = TXN_LIMIT;
        while !wanted.is_empty() {
            let mut rest = wanted.split_off(batch::fitting(&wanted).min(most));
            let operations: Vec<_> = wanted
                .iter()
                .map(|(key, value)| TxnOp::Lock {
                    key: key.clone(),
                    value: value.to_vec(),
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
                    if reasons.iter().any(|(_, reason)| reason.contains(DENIED)) {
                        return Err(refusal(&reasons));
                    }
                    let places: BTreeSet<_> = reasons.iter().map(|(place, _)| *place).collect();
                    let before = wanted.len();
                    let mut place = 0..;
                    wanted.retain(|_| !place.next().is_some_and(|place| places.contains(&place)));
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
                // The agent is set up to take less at a time than agents usually do.
                Err(error) if error.status() == Some(TOO_LARGE) => {
                    if wanted.len() > 1 {
                        most = wanted.len() / 2;
                        wanted.append(&mut rest);
                        continue;
                    }
                    for (key, _) in std::mem::replace(&mut wanted, rest) {
                        // What it held before is no longer so.
                        if self.held.contains_key(&key) {
                            self.delete(std::slice::from_ref(&key)).await?;
                        }
                        if self.too_large.insert(key.clone()) {
                            tracing::warn!(
                                key,
                                "consul takes no value of this size, the key is left out"
                            );
                        }
                    }
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

/// Returns the error of a transaction that was refused.
fn refusal(reasons: &[(usize, String)]) -> consul::Error {
    let message = reasons.first().map_or("it was refused", |(_, reason)| reason).to_owned();
    let status = if message.contains(DENIED) { 403 } else { 409 };
    consul::Error::Status { status, path: "txn".into(), message }
}

#[cfg(test)]
mod tests;
