//! Reads an HAProxy file as deep as its `server` lines. Pure: no I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use super::options::{self, Options};
use super::words::{self, Line, Word};

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Config {
    /// Every line that is not a server of a backend, in order; of those any change needs a reload.
    pub(crate) skeleton: Vec<Vec<Word>>,
    /// The backends by name (`listen` sections too).
    pub(crate) pools: BTreeMap<String, Pool>,
}

/// One backend's servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pool {
    /// Why no server can come or go at run time.
    pub(crate) obstacle: Option<String>,
    /// The servers by name.
    pub(crate) servers: BTreeMap<String, Server>,
    /// Whether there may be servers that no `server` line names.
    pub(crate) has_template: bool,
}

/// One `server` line, with the `default-server` options that apply to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// The address, if it is one that needs no name resolution.
    pub(crate) address: Option<SocketAddr>,
    /// The options; `None` if one of them is unknown. Servers share them with the one before if they have the same.
    pub(crate) options: Option<Arc<Options>>,
    /// The line as it is written.
    pub(crate) line: Line,
    /// Why it cannot be added at run time.
    pub(crate) obstacle: Option<String>,
}

impl Server {
    /// Returns the weight, 1 if the line says nothing; `None` if the line cannot be understood.
    pub(crate) fn weight(&self) -> Option<u16> {
        match self.options.as_ref()?.get("weight") {
            Some(weight) => weight.as_ref()?.parse().ok(),
            None => Some(1),
        }
    }

    /// Returns whether the line asks for health checks.
    pub(crate) fn is_checked(&self) -> bool {
        self.has("check")
    }

    /// Returns whether the line says `disabled`.
    pub(crate) fn is_disabled(&self) -> bool {
        self.has("disabled")
    }

    fn has(&self, option: &str) -> bool {
        self.options.as_ref().is_some_and(|options| options.contains_key(option))
    }
}

/// What the options of a server line mean.
#[derive(Debug)]
struct Understood {
    /// The words they were read from.
    from: Line,
    options: Result<Arc<Options>, String>,
    /// The option that keeps the server from being added at run time.
    obstacle: Option<&'static str>,
}

impl Understood {
    fn read(words: &[Word], defaults: &[Word]) -> Self {
        let mut options = Options::new();
        let understood =
            options::read(defaults, &mut options).and_then(|()| options::read(words, &mut options));
        let obstacle = options::obstacle(&options);
        Self { from: Line::of(words), options: understood.map(|()| Arc::new(options)), obstacle }
    }
}

/// What a proxy inherits from `defaults` and may say itself, as far as servers are concerned.
#[derive(Debug, Clone, Default)]
struct Defaults {
    balance: Option<String>,
    hash: Option<String>,
    cookie: bool,
    server: Vec<Word>,
}

/// The section being read.
#[derive(Debug)]
enum Section {
    Defaults(String),
    Pool(String, Defaults),
    Other,
}

impl Config {
    /// Reads a file; the error names the line that cannot be read, and then any change needs a reload.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader {
            config: Self::default(),
            defaults: BTreeMap::new(),
            last: String::new(),
            section: Section::Other,
            understood: None,
        };
        for (number, line) in text.lines().enumerate() {
            let words =
                words::split(line).map_err(|reason| format!("line {}: {reason}", number + 1))?;
            let Some(first) = words.first() else { continue };
            if first.text.starts_with('.') {
                return Err(format!(
                    "line {}: {} is only known to HAProxy itself",
                    number + 1,
                    first.text
                ));
            }
            reader.line(words);
        }
        reader.close();
        Ok(reader.config)
    }

    /// Returns the same, with some of its backends only.
    pub(crate) fn only(&self, backends: &BTreeSet<String>) -> Self {
        let pools = self.pools.iter().filter(|(name, _)| backends.contains(*name));
        let pools = pools.map(|(name, pool)| (name.clone(), pool.clone())).collect();
        Self { skeleton: Vec::new(), pools }
    }

    /// Returns all servers, by backend and name.
    pub(crate) fn servers(&self) -> impl Iterator<Item = ((String, String), &Server)> {
        let pools = self.pools.iter();
        pools.flat_map(|(backend, pool)| {
            pool.servers.iter().map(move |(name, server)| ((backend.clone(), name.clone()), server))
        })
    }
}

struct Reader {
    config: Config,
    /// The `defaults` sections by name.
    defaults: BTreeMap<String, Defaults>,
    /// The name of the last one: it applies where no `from` names another.
    last: String,
    section: Section,
    /// What the last server of this section says.
    understood: Option<Understood>,
}

impl Reader {
    fn line(&mut self, words: Vec<Word>) {
        match words[0].text.as_str() {
            "defaults" => {
                self.close();
                // One without a name must differ from all others; its number is no valid name.
                let name = argument(&words, 1)
                    .map_or_else(|| format!("#{}", self.defaults.len()), str::to_owned);
                let inherited =
                    after_from(&words).and_then(|from| self.defaults.get(from)).cloned();
                self.defaults.insert(name.clone(), inherited.unwrap_or_default());
                self.last.clone_from(&name);
                self.section = Section::Defaults(name);
            }
            "backend" | "listen" => {
                self.close();
                let from = after_from(&words).unwrap_or(&self.last);
                let inherited = self.defaults.get(from).cloned().unwrap_or_default();
                let name = words.get(1).map(|word| word.text.clone()).unwrap_or_default();
                let pool = self.config.pools.entry(name.clone()).or_default();
                if !options::is_plain(&name) || words[1].expands {
                    pool.obstacle =
                        Some("its name cannot be written on the command line".to_owned());
                }
                self.section = Section::Pool(name, inherited);
            }
            first if SECTIONS.contains(&first) => {
                self.close();
                self.section = Section::Other;
            }
            "server" => {
                if let Section::Pool(name, defaults) = &self.section {
                    let pool = self.config.pools.entry(name.clone()).or_default();
                    return pool.add(&words, &defaults.server, &mut self.understood);
                }
            }
            "server-template" => {
                if let Section::Pool(name, _) = &self.section {
                    self.config.pools.entry(name.clone()).or_default().has_template = true;
                }
            }
            _ => match &mut self.section {
                Section::Defaults(name) => {
                    if let Some(defaults) = self.defaults.get_mut(name) {
                        defaults.read(&words);
                    }
                }
                Section::Pool(_, defaults) => {
                    self.understood = None;
                    defaults.read(&words);
                }
                Section::Other => {}
            },
        }
        self.config.skeleton.push(words);
    }

    /// Judges the section that ends here.
    fn close(&mut self) {
        self.understood = None;
        let Section::Pool(name, defaults) = &self.section else { return };
        let Some(pool) = self.config.pools.get_mut(name) else { return };
        if pool.obstacle.is_none() {
            pool.obstacle = defaults.obstacle();
        }
        if pool.has_template {
            pool.obstacle = Some("it has a server-template".to_owned());
        }
        self.section = Section::Other;
    }
}

/// The words that open a section, `defaults`, `backend` and `listen` aside.
pub(super) const SECTIONS: &[&str] = &[
    "global",
    "frontend",
    "peers",
    "resolvers",
    "userlist",
    "mailers",
    "program",
    "cache",
    "http-errors",
    "ring",
    "log-forward",
    "log-profile",
    "fcgi-app",
    "crt-store",
    "traces",
    "acme",
];

impl Defaults {
    fn read(&mut self, words: &[Word]) {
        match words[0].text.as_str() {
            "balance" => self.balance = words.get(1).map(|word| word.text.clone()),
            "hash-type" => self.hash = words.get(1).map(|word| word.text.clone()),
            "cookie" => self.cookie = true,
            "default-server" => self.server.extend_from_slice(&words[1..]),
            _ => {}
        }
    }

    /// Returns why a backend's servers cannot come and go at run time.
    fn obstacle(&self) -> Option<String> {
        if self.cookie {
            return Some("it uses cookies".to_owned());
        }
        let balance = self.balance.as_deref().unwrap_or("roundrobin");
        match balance.split('(').next().unwrap_or_default() {
            "roundrobin" | "leastconn" | "first" | "random" => None,
            "source" | "uri" | "url_param" | "hdr" | "hash"
                if self.hash.as_deref() == Some("consistent") =>
            {
                None
            }
            _ => Some(format!("balance {balance} has a fixed set of servers")),
        }
    }
}

impl Pool {
    fn add(&mut self, words: &[Word], defaults: &[Word], last: &mut Option<Understood>) {
        let name = words.get(1).map(|word| word.text.clone()).unwrap_or_default();
        let server = server(words, defaults, last);
        if self.servers.insert(name.clone(), server).is_some() {
            self.obstacle = Some(format!("it names {name} twice"));
        }
    }
}

/// Reads a line; `last` is what the one before it said, which most repeat.
fn server(words: &[Word], defaults: &[Word], last: &mut Option<Understood>) -> Server {
    let named = words.get(1).is_some_and(|name| !name.expands && options::is_plain(&name.text));
    let address = words.get(2).filter(|word| !word.expands).and_then(|word| address(&word.text));
    let rest = words.get(3..).unwrap_or_default();
    if last.as_ref().is_none_or(|last| last.from != Line::of(rest)) {
        *last = None;
    }
    let read = last.get_or_insert_with(|| Understood::read(rest, defaults));
    let obstacle = match (named, address, &read.options) {
        (false, ..) => Some("its name cannot be written on the command line".to_owned()),
        (_, None, _) => Some("its address is not an IP address with a port".to_owned()),
        (.., Err(reason)) => Some(reason.clone()),
        _ => read.obstacle.map(|name| format!("option {name:?}")),
    };
    Server { address, options: read.options.clone().ok(), line: Line::of(words), obstacle }
}

/// Reads `IP:PORT`, `[IP]:PORT`, or an IPv6 address with the port after the last colon.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.rsplit_once(':')?;
    let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port: u16 = port.parse().ok().filter(|port| digits && *port > 0)?;
    Some(SocketAddr::new(ip.parse().ok()?, port))
}

fn argument(words: &[Word], position: usize) -> Option<&str> {
    words.get(position).map(|word| word.text.as_str()).filter(|word| *word != "from")
}

fn after_from(words: &[Word]) -> Option<&str> {
    let from = words.iter().skip(1).position(|word| word.text == "from")?;
    argument(words, from + 2)
}

#[cfg(test)]
mod tests;
