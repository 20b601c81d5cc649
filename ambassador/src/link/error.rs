//! Why a Compose file cannot be converted, and what is known of its ports.

use std::collections::BTreeMap;

use super::yaml;
use crate::upstreams;

/// Why a Compose file cannot be converted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Yaml(#[from] yaml::Error),
    #[error("there are no services")]
    NoServices,
    #[error("service {0:?} is no mapping")]
    Service(String),
    #[error("service {service:?} links to {link:?}, which is no service of this file")]
    Link { service: String, link: String },
    #[error("the ports of {0:?} are not known: name them in ports.yml, as in `{0}: 80`")]
    Ports(String),
    #[error("the links of service {0:?} are no list")]
    Links(String),
    #[error(
        "service {service:?} has links, and no addresses of its own: its network is {network:?}"
    )]
    Network { service: String, network: String },
    #[error(
        "service {0:?} has links or is linked to, and extends another one, of which only Compose knows what it adds: \
         `docker compose config` prints the whole file, convert that"
    )]
    Extends(String),
    #[error(
        "service {service:?} links to {link:?}, which is not in this file but may be in one that it includes: \
         `docker compose config` prints the whole file, convert that"
    )]
    Included { service: String, link: String },
    #[error(
        "all services are in included files: `docker compose config` prints the whole file, convert that"
    )]
    AllIncluded,
    #[error("in service {service:?}")]
    Upstreams { service: String, source: upstreams::Error },
}

/// The ports of services, by name.
pub(crate) type Ports = BTreeMap<String, Vec<u16>>;
