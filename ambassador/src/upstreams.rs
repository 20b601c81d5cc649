//! What a client asks for: services and their ports, each service on a loopback address of its
//! own. Pure: no I/O, no clock, no async.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// The label that a client asks with: `rng:80,hasher:80,redis:6379`.
pub(crate) const LABEL: &str = "ambassador.upstreams";

/// Addresses 127.127.0.2 to 127.127.0.254.
const MOST: usize = 253;

/// Services and ports, in the order given; none is given twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Upstreams(Vec<(String, u16)>);

/// Why a text is no list of upstreams.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0:?} is no upstream: it must be SERVICE:PORT")]
    Upstream(String),
    #[error("there are more than {MOST} services")]
    TooMany,
}

impl Upstreams {
    /// Adds an upstream at the end, unless it is there.
    pub(crate) fn add(&mut self, service: &str, port: u16) -> Result<(), Error> {
        let wrong = || Error::Upstream(format!("{service}:{port}"));
        let ordinary = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if service.is_empty() || !service.chars().all(ordinary) || port == 0 {
            return Err(wrong());
        }
        if !self.0.iter().any(|(name, other)| name == service && *other == port) {
            self.0.push((service.to_owned(), port));
        }
        if self.addresses().len() > MOST { Err(Error::TooMany) } else { Ok(()) }
    }

    /// Returns the services and their ports, in the order given.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u16)> {
        self.0.iter().map(|(service, port)| (service.as_str(), *port))
    }

    /// Returns the address of each service: 127.127.0.2 for the first one, and so on.
    pub(crate) fn addresses(&self) -> BTreeMap<&str, Ipv4Addr> {
        let mut addresses = BTreeMap::new();
        for (service, _) in &self.0 {
            let next = u8::try_from(addresses.len() + 2).unwrap_or(u8::MAX);
            addresses.entry(service.as_str()).or_insert(Ipv4Addr::new(127, 127, 0, next));
        }
        addresses
    }

    /// Returns the services as they are written and as registrator calls them, each with its port and the address that
    /// its written name has. Of two that are called the same, the first has each port: HAProxy would refuse a backend
    /// that is there twice.
    pub(crate) fn registered(&self) -> Vec<(&str, String, u16, Ipv4Addr)> {
        let addresses = self.addresses();
        let mut all: Vec<(&str, String, u16, Ipv4Addr)> = Vec::new();
        for (service, port) in self.iter() {
            let Some(label) = services::dns_label(service) else { continue };
            if !all.iter().any(|(_, name, other, _)| *name == label && *other == port) {
                all.push((service, label, port, addresses[service]));
            }
        }
        all
    }
}

impl FromStr for Upstreams {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut upstreams = Self::default();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let wrong = || Error::Upstream(word.to_owned());
            let (service, port) = word.rsplit_once(':').ok_or_else(wrong)?;
            upstreams
                .add(service, port.parse().map_err(|_| wrong())?)
                .map_err(|error| if error == Error::TooMany { error } else { wrong() })?;
        }
        Ok(upstreams)
    }
}

impl fmt::Display for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (service, port)) in self.0.iter().enumerate() {
            write!(f, "{}{service}:{port}", if position > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn services_have_addresses_by_position() {
        let upstreams: Upstreams = "rng:80, hasher:80,rng:443,redis:6379,rng:80".parse().unwrap();
        assert_eq!(upstreams.to_string(), "rng:80,hasher:80,rng:443,redis:6379");
        let addresses = upstreams.addresses();
        for (service, address) in
            [("rng", "127.127.0.2"), ("hasher", "127.127.0.3"), ("redis", "127.127.0.4")]
        {
            assert_eq!(addresses[service].to_string(), address);
        }
    }

    #[test]
    fn services_are_asked_for_as_they_are_registered_and_keep_the_addresses_of_their_written_names()
    {
        let upstreams: Upstreams = "my_db:1,my-db:1,web.api:80,my-db:2,_:3".parse().unwrap();
        let all = upstreams.registered().into_iter();
        let all: Vec<_> =
            all.map(|(word, name, port, at)| format!("{word}: {name}:{port} {at}")).collect();
        assert_eq!(
            all,
            [
                "my_db: my-db:1 127.127.0.2",
                "web.api: web-api:80 127.127.0.4",
                "my-db: my-db:2 127.127.0.3"
            ]
        );
    }

    #[test]
    fn what_is_no_upstream_is_named() {
        for text in ["rng", "rng:", ":80", "rng:0", "rng:http", "r ng:80", "a:80,b\n:80"] {
            assert!(matches!(text.parse::<Upstreams>(), Err(Error::Upstream(_))), "{text:?}");
        }
        let many: Vec<_> = (0..254).map(|n| format!("s{n}:80")).collect();
        assert_eq!(many.join(",").parse::<Upstreams>(), Err(Error::TooMany));
        assert!(many[1..].join(",").parse::<Upstreams>().is_ok());
    }

    proptest! {
        #[test]
        fn a_printed_list_is_read_back(
            all in proptest::collection::vec(("[a-z][a-zA-Z0-9_.-]{0,8}", 1..=u16::MAX), 0..9),
        ) {
            let mut upstreams = Upstreams::default();
            for (service, port) in &all {
                upstreams.add(service, *port).unwrap();
            }
            prop_assert_eq!(upstreams.to_string().parse(), Ok(upstreams));
        }
    }
}
