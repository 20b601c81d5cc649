//! Typed access to Consul: consulrs' requests over a transport of our own.
//!
//! ```text
//! Args ──► Config ──► Client ── request type (consulrs' or ours) ──► Envelope ──► Transport ──► Consul
//! flags,    address,   one method   what to ask, and where           /v1, token,   reqwest,
//! env       TLS, token per call                                      query         time limit
//! ```
//! Blocking queries are [`Query`] with an index; [`index::next`] tells with which index to ask
//! next. Dropping the future of a call closes its socket.
//!
//! ```no_run
//! # async fn example() -> Result<(), consul::Error> {
//! let client = consul::Client::new(&consul::Config::from_uri("127.0.0.1:8500")?)?;
//! let mut query = consul::Query { passing: true, ..Default::default() };
//! loop {
//!     let answer = client.health_service("rng", &query).await?;
//!     println!("{} instances", answer.value.len());
//!     query.index = consul::index::next(query.index, answer.index);
//! }
//! # }
//! ```

mod address;
mod args;
mod client;
mod config;
mod error;
pub mod index;
mod middleware;
mod model;
mod nullable;
mod path;
mod query;
mod registration;
mod requests;
mod secret;
mod session;
mod token;
mod transport;
mod txn;

pub use address::Address;
pub use args::Args;
pub use client::Client;
pub use config::{Config, Tls};
pub use error::Error;
pub use model::{
    AgentSelf, AgentService, Check, KvPair, Node, NodeServices, ServiceAddress, ServiceEntry,
    Status, Weights, instance_key,
};
pub use path::is_addressable;
pub use query::{Answer, Consistency, Query};
pub use registration::{CheckDefinition, Registration};
pub use secret::Secret;
pub use session::{Session, SessionRequest};
pub use txn::{TXN_LIMIT, TxnOp, TxnResult};
