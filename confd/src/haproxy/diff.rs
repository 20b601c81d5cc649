//! Decides what turns a running HAProxy into what a file says. Pure: no I/O, no clock, no async.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use super::config::{Config, Pool, Server};
use super::options;
use super::state::{Actual, Health, State};

/// What brings a wanted text to life, as far as two texts can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// The texts say the same.
    Nothing,
    /// Commands on the runtime socket.
    Runtime(Vec<Op>),
    /// A reload, and why.
    Reload(String),
}

/// A server's full name: its backend's and its own.
pub(crate) type Key = (String, String);

/// One change to one server at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// The backend.
    pub backend: String,
    /// The server in it.
    pub server: String,
    /// What happens to it.
    pub change: Change,
}

/// What can happen to a server at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It comes in.
    Add {
        /// Where it is.
        address: SocketAddr,
        /// Its options but weight and state, as `add server` takes them.
        options: String,
        /// Its weight until its first check has passed, or for good.
        weight: u16,
        /// Whether it has health checks to be switched on.
        checked: bool,
        /// Whether it takes connections.
        ready: bool,
    },
    /// It moved to another address.
    Address {
        /// Where it is now.
        address: SocketAddr,
        /// Whether it counts as down until its checks pass there.
        unproven: bool,
    },
    /// It gets this weight.
    Weight(u16),
    /// It takes connections again.
    Ready,
    /// It takes no connections.
    Maintenance,
    /// It takes no new connections, and is deleted when it has none left.
    Drain,
    /// Its connections are cut.
    Kill,
    /// It goes; refused by HAProxy while it has connections.
    Delete,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backend, server, change } = self;
        match change {
            Change::Add { address, options, weight, .. } => {
                write!(f, "add {backend}/{server} {address} weight {weight}")?;
                if options.is_empty() { Ok(()) } else { write!(f, " {options}") }
            }
            Change::Address { address, .. } => write!(f, "move {backend}/{server} to {address}"),
            Change::Weight(weight) => write!(f, "weigh {backend}/{server} {weight}"),
            Change::Ready => write!(f, "enable {backend}/{server}"),
            Change::Maintenance => write!(f, "disable {backend}/{server}"),
            Change::Drain => write!(f, "drain {backend}/{server}, then delete it"),
            Change::Kill => write!(f, "cut the connections of {backend}/{server}"),
            Change::Delete => write!(f, "delete {backend}/{server}"),
        }
    }
}

/// What to do now, and what is left for later.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Steps {
    /// In this order: servers come before others go.
    pub(crate) ops: Vec<Op>,
    /// Servers whose weight waits for their first passed check.
    pub(crate) joining: BTreeSet<Key>,
    /// Servers that are not wanted and still there.
    pub(crate) leaving: BTreeSet<Key>,
    /// Why the state cannot be reached at run time.
    pub(crate) impossible: Option<String>,
}

/// Returns how `wanted` comes to life in an HAProxy that runs `accepted`.
#[must_use]
pub fn diff(accepted: &str, wanted: &str) -> Plan {
    if accepted == wanted {
        return Plan::Nothing;
    }
    match (Config::parse(accepted), Config::parse(wanted)) {
        (Ok(accepted), Ok(wanted)) => between(&accepted, &wanted),
        (Err(reason), _) | (_, Err(reason)) => Plan::Reload(reason),
    }
}

/// Returns how one file's state becomes another's.
pub(crate) fn between(accepted: &Config, wanted: &Config) -> Plan {
    if let Some(reason) = needs_reload(accepted, wanted) {
        return Plan::Reload(reason);
    }
    let Steps { ops, impossible, .. } = steps(wanted, &State::of(accepted), &BTreeSet::new());
    match impossible {
        Some(reason) => Plan::Reload(reason),
        None if ops.is_empty() => Plan::Nothing,
        None => Plan::Runtime(ops),
    }
}

/// Returns a line per step, for people.
#[must_use]
pub fn describe(plan: &Plan) -> Vec<String> {
    match plan {
        Plan::Nothing => vec!["nothing to do".to_owned()],
        Plan::Runtime(ops) => ops.iter().map(ToString::to_string).collect(),
        Plan::Reload(reason) => vec![format!("reload: {reason}")],
    }
}

/// Returns why no command can turn one file's state into another's.
pub(crate) fn needs_reload(accepted: &Config, wanted: &Config) -> Option<String> {
    if accepted.skeleton != wanted.skeleton {
        let pairs = accepted.skeleton.iter().zip(&wanted.skeleton);
        let same = pairs.take_while(|(old, new)| old == new).count();
        let line = wanted.skeleton.get(same).or(accepted.skeleton.get(same))?;
        let words: Vec<&str> = line.iter().map(|word| word.text.as_str()).collect();
        return Some(format!("the line {:?} is not a server's", words.join(" ")));
    }
    wanted.pools.iter().find_map(|(backend, pool)| {
        let old = accepted.pools.get(backend)?;
        let (name, reason) = obstacle_of_servers(pool, old, pool)?;
        Some(format!("server {backend}/{name}: {reason}"))
    })
}

/// Returns which server keeps those of `old` from becoming those of `new` at run time in `pool`, and why.
pub(super) fn obstacle_of_servers(pool: &Pool, old: &Pool, new: &Pool) -> Option<(String, String)> {
    let names: BTreeSet<&String> = old.servers.keys().chain(new.servers.keys()).collect();
    names.into_iter().find_map(|name| {
        let reason = obstacle(pool, old.servers.get(name), new.servers.get(name))?;
        Some((name.clone(), reason))
    })
}

fn obstacle(pool: &Pool, old: Option<&Server>, new: Option<&Server>) -> Option<String> {
    let fixed = |server: &Server| pool.obstacle.clone().or_else(|| server.obstacle.clone());
    match (old, new) {
        (Some(old), Some(new)) if old.line == new.line => None,
        (Some(old), Some(new)) => match (&old.options, &new.options) {
            // The third word is the address; a name may be the same only if it is written the same.
            (Some(before), Some(after))
                if options::same(before, after) && old.line.word(2) == new.line.word(2) =>
            {
                pool.obstacle.clone()
            }
            (Some(before), Some(after)) if options::same(before, after) => fixed(new),
            _ => Some("its options changed".to_owned()),
        },
        (None, Some(new)) => fixed(new),
        (Some(_), None) => pool.obstacle.clone(),
        (None, None) => None,
    }
}

/// Returns what turns `actual` into `wanted`; `expired` are leaving servers whose time to drain is over.
///
/// A server with checks comes in without weight, and gets it when its first check has passed: for HAProxy a new
/// server is up before that. Where nobody else serves, it gets its weight at once: an unproven server is better
/// than a certain refusal.
pub(crate) fn steps(wanted: &Config, actual: &State, expired: &BTreeSet<Key>) -> Steps {
    let mut steps = Steps::default();
    for (backend, pool) in &wanted.pools {
        let running = actual.0.get(backend);
        let covered = pool.servers.iter().any(|(name, server)| {
            let actual = running.and_then(|servers| servers.get(name));
            !server.is_disabled() && server.weight() != Some(0) && serves(server, actual)
        });
        for (name, server) in &pool.servers {
            let mut on = On { steps: &mut steps, key: (backend.clone(), name.clone()) };
            match running.and_then(|servers| servers.get(name)) {
                Some(actual) => on.keep(pool, server, actual, covered),
                None => on.add(pool, server, covered),
            }
        }
    }
    for (backend, pool) in &wanted.pools {
        let Some(running) = actual.0.get(backend).filter(|_| !pool.has_template) else { continue };
        for (name, actual) in running.iter().filter(|(name, _)| !pool.servers.contains_key(*name)) {
            let key = (backend.clone(), name.clone());
            let is_expired = expired.contains(&key);
            let mut on = On { steps: &mut steps, key };
            match &pool.obstacle {
                Some(reason) => on.impossible(&format!("is not wanted, and {reason}")),
                None => on.remove(actual, is_expired),
            }
        }
    }
    steps
}

/// Returns whether a server takes connections now, or will as soon as it is added.
fn serves(server: &Server, actual: Option<&Actual>) -> bool {
    actual.map_or(!server.is_checked(), |actual| {
        actual.up
            && actual.weight > 0
            && (server.address.is_none() || actual.address == server.address)
    })
}

/// The steps for one server; `covered` says whether anybody serves in its backend.
struct On<'a> {
    steps: &'a mut Steps,
    key: Key,
}

impl On<'_> {
    fn push(&mut self, change: Change) {
        let (backend, server) = self.key.clone();
        self.steps.ops.push(Op { backend, server, change });
    }

    fn impossible(&mut self, reason: &str) {
        let (backend, server) = &self.key;
        self.steps.impossible.get_or_insert_with(|| format!("server {backend}/{server} {reason}"));
    }

    fn add(&mut self, pool: &Pool, server: &Server, covered: bool) {
        let obstacle = pool.obstacle.as_ref().or(server.obstacle.as_ref());
        let (None, Some(address), Some(options), Some(weight)) =
            (obstacle, server.address, &server.options, server.weight())
        else {
            let reason = obstacle.map_or("its weight is no number", String::as_str);
            return self.impossible(&format!("cannot come in at run time: {reason}"));
        };
        let (checked, ready) = (server.is_checked(), !server.is_disabled());
        let waits = checked && ready && covered && weight > 0;
        if waits {
            self.steps.joining.insert(self.key.clone());
        }
        let options = options::arguments(options);
        let weight = if waits { 0 } else { weight };
        self.push(Change::Add { address, options, weight, checked, ready });
    }

    fn keep(&mut self, pool: &Pool, server: &Server, actual: &Actual, covered: bool) {
        // A line that is not understood, or an agent's weight, is HAProxy's own affair.
        let (Some(_), Some(weight)) = (&server.options, server.weight()) else { return };
        if let Some(address) = server.address.filter(|address| actual.address != Some(*address)) {
            if let Some(reason) = &pool.obstacle {
                return self.impossible(&format!("moved, and {reason}"));
            }
            let unproven = server.is_checked() && covered;
            self.push(Change::Address { address, unproven });
        }
        match (server.is_disabled(), actual.maintenance, actual.draining) {
            (true, false, _) => self.push(Change::Maintenance),
            (false, true, _) | (false, _, true) => self.push(Change::Ready),
            (true, true, _) | (false, false, false) => {}
        }
        let unproven = server.is_checked() && actual.health != Health::Passed;
        match (actual.weight, weight) {
            (old, new) if old == new => {}
            (0, _) if unproven && covered && !server.is_disabled() => {
                self.steps.joining.insert(self.key.clone());
            }
            (_, new) => self.push(Change::Weight(new)),
        }
    }

    fn remove(&mut self, actual: &Actual, expired: bool) {
        self.steps.leaving.insert(self.key.clone());
        match (actual.maintenance, actual.draining, actual.sessions) {
            _ if expired => {
                self.push(Change::Kill);
                self.push(Change::Maintenance);
                self.push(Change::Delete);
            }
            (true, ..) => self.push(Change::Delete),
            (_, true, Some(0)) => {
                self.push(Change::Maintenance);
                self.push(Change::Delete);
            }
            (_, true, _) => {}
            (_, false, _) => self.push(Change::Drain),
        }
    }
}

#[cfg(test)]
mod tests;
