//! Reads what HAProxy says of its servers. Pure: no I/O, no clock, no async.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::config::Config;

/// The servers that a running HAProxy has, by backend and name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State(pub(crate) BTreeMap<String, BTreeMap<String, Actual>>);

/// One running server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Actual {
    /// Its number in its backend.
    pub(crate) id: u32,
    /// Where it is; `None` if its name was not resolved.
    pub(crate) address: Option<SocketAddr>,
    /// The weight now in use.
    pub(crate) weight: u16,
    /// In maintenance by command or by its line.
    pub(crate) maintenance: bool,
    /// Draining by command.
    pub(crate) draining: bool,
    /// What its last health check said.
    pub(crate) health: Health,
    /// Whether HAProxy counts it as up.
    pub(crate) up: bool,
    /// Sessions it has or that wait for it; `None` if not asked.
    pub(crate) sessions: Option<u64>,
}

/// The result of the last health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// No check has ended yet, or there are none.
    Unknown,
    /// It failed.
    Failed,
    /// It passed.
    Passed,
}

/// An answer that does not look like HAProxy's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("haproxy's answer cannot be understood: {0:?}")]
pub struct Unexpected(pub(crate) String);

/// The columns of `show servers state`, format 1.
const BACKEND: usize = 1;
const ID: usize = 2;
const NAME: usize = 3;
const IP: usize = 4;
const OPERATION: usize = 5;
const ADMIN: usize = 6;
const WEIGHT: usize = 7;
const CHECK_RESULT: usize = 11;
const PORT: usize = 18;

/// Bits of the administrative state (`SRV_ADMF_FMAINT` and `SRV_ADMF_FDRAIN`).
const FORCED_MAINTENANCE: u32 = 0x01;
const FORCED_DRAIN: u32 = 0x08;

/// The columns of `show stat`.
const QUEUE: usize = 2;
const SESSIONS: usize = 4;

impl State {
    /// Adds what `show servers state` answered.
    pub(crate) fn read_servers(&mut self, answer: &str) -> Result<(), Unexpected> {
        let mut lines = answer.lines().filter(|line| !line.is_empty());
        if lines.next() != Some("1") {
            return Err(Unexpected(answer.chars().take(200).collect()));
        }
        for line in lines.filter(|line| !line.starts_with('#')) {
            let (backend, name, actual) =
                server(line).ok_or_else(|| Unexpected(line.to_owned()))?;
            self.0.entry(backend.to_owned()).or_default().insert(name.to_owned(), actual);
        }
        Ok(())
    }

    /// Adds the sessions that `show stat` counts.
    pub(crate) fn read_sessions(&mut self, answer: &str) -> Result<(), Unexpected> {
        for line in answer.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let fields: Vec<&str> = line.split(',').take(SESSIONS + 1).collect();
            let [backend, name, ..] = fields[..] else { return Err(Unexpected(line.to_owned())) };
            let count =
                |field: usize| fields.get(field).and_then(|count| count.parse::<u64>().ok());
            let sessions =
                count(QUEUE).zip(count(SESSIONS)).ok_or_else(|| Unexpected(line.to_owned()))?;
            if let Some(actual) = self.0.get_mut(backend).and_then(|pool| pool.get_mut(name)) {
                actual.sessions = Some(sessions.0 + sessions.1);
            }
        }
        Ok(())
    }

    /// Returns the state of an HAProxy that has just read a file and checked every server.
    pub(crate) fn of(config: &Config) -> Self {
        let pools = config.pools.iter().map(|(backend, pool)| {
            let servers = pool.servers.iter().map(|(name, server)| {
                let actual = Actual {
                    id: 0,
                    address: server.address,
                    weight: server.weight().unwrap_or(1),
                    maintenance: server.is_disabled(),
                    draining: false,
                    health: if server.is_checked() { Health::Passed } else { Health::Unknown },
                    up: true,
                    sessions: None,
                };
                (name.clone(), actual)
            });
            (backend.clone(), servers.collect())
        });
        Self(pools.collect())
    }

    /// Returns a server.
    pub(crate) fn get(&self, backend: &str, name: &str) -> Option<&Actual> {
        self.0.get(backend)?.get(name)
    }
}

fn server(line: &str) -> Option<(&str, &str, Actual)> {
    let fields: Vec<&str> = line.split(' ').collect();
    let number = |field: usize| fields.get(field)?.parse::<u32>().ok();
    let ip = fields.get(IP)?.parse().ok();
    let port = u16::try_from(number(PORT)?).ok()?;
    let admin = number(ADMIN)?;
    let actual = Actual {
        id: number(ID)?,
        address: ip.map(|ip| SocketAddr::new(ip, port)),
        weight: u16::try_from(number(WEIGHT)?).ok()?,
        maintenance: admin & FORCED_MAINTENANCE != 0,
        draining: admin & FORCED_DRAIN != 0,
        // CHK_RES_UNKNOWN, NEUTRAL, FAILED, PASSED, CONDPASS.
        health: match number(CHECK_RESULT)? {
            0 | 1 => Health::Unknown,
            2 => Health::Failed,
            3 | 4 => Health::Passed,
            _ => return None,
        },
        up: number(OPERATION)? != 0,
        sessions: None,
    };
    Some((fields.get(BACKEND)?, fields.get(NAME)?, actual))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVERS: &str = "1\n# be_id be_name srv_id srv_name\n\
        3 b 1 s1 127.0.0.1 0 0 10 10 2 8 2 0 6 0 0 0 - 1 - 0 0 - - 0\n\
        3 b 2 s2 ::1 2 9 0 10 2 1 3 0 14 0 0 0 - 8080 - 0 0 - - 0\n\
        3 b 5 d2 - 0 1 1 1 0 1 0 0 0 0 0 0 nohost 80 - 0 0 - - 0\n";

    #[test]
    fn servers_and_their_sessions_are_read() {
        let mut state = State::default();
        state.read_servers(SERVERS).unwrap();
        state.read_sessions("# pxname,svname\nb,s1,1,0,3,0,,0\nb,s2,0,0,0,0,,0\n").unwrap();
        let s1 = state.get("b", "s1").unwrap();
        assert_eq!(
            (s1.weight, s1.up, s1.health, s1.sessions),
            (10, false, Health::Failed, Some(4))
        );
        let s2 = state.get("b", "s2").unwrap();
        assert_eq!(s2.address, Some("[::1]:8080".parse().unwrap()));
        assert!(s2.maintenance && s2.draining && s2.health == Health::Passed);
        assert_eq!(state.get("b", "d2").unwrap().address, None);
    }

    #[test]
    fn an_unknown_answer_is_refused() {
        assert!(State::default().read_servers("2\n# new format\n").is_err());
        assert!(State::default().read_servers("Permission denied\n").is_err());
        assert!(State::default().read_servers("1\n3 b 1 s1\n").is_err());
        assert!(State::default().read_sessions("Permission denied\n").is_err());
    }
}
