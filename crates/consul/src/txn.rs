//! Transactions: several changes that happen together, or not at all.

use base64::Engine;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::model::KvPair;

/// How many operations Consul takes in one transaction.
pub const TXN_LIMIT: usize = 64;

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOp {
    /// Writes a key.
    Set {
        /// The key.
        key: String,
        /// Its value.
        value: Vec<u8>,
    },
    /// Writes a key if it was last written at `index` (0 = if it does not exist).
    CompareAndSet {
        /// The key.
        key: String,
        /// Its value.
        value: Vec<u8>,
        /// The `modify_index` it must have.
        index: u64,
    },
    /// Writes a key and has a session hold it.
    Lock {
        /// The key.
        key: String,
        /// Its value.
        value: Vec<u8>,
        /// The session's ID.
        session: String,
    },
    /// Reads a key, which must exist.
    Get {
        /// The key.
        key: String,
    },
    /// Deletes a key.
    Delete {
        /// The key.
        key: String,
    },
    /// Deletes all keys that start with a prefix.
    DeleteTree {
        /// The prefix.
        prefix: String,
    },
    /// Fails the transaction unless this session holds the key.
    CheckSession {
        /// The key.
        key: String,
        /// The session's ID.
        session: String,
    },
    /// Any other operation, such as `{"Node": {…}}`, as Consul's API spells it.
    Other(Value),
}

impl TxnOp {
    /// Returns the operation as Consul's API spells it.
    pub(crate) fn spelled(&self) -> Value {
        let code = |value: &[u8]| base64::prelude::BASE64_STANDARD.encode(value);
        let kv = match self {
            Self::Set { key, value } => json!({"Verb": "set", "Key": key, "Value": code(value)}),
            Self::CompareAndSet { key, value, index } => {
                json!({"Verb": "cas", "Key": key, "Value": code(value), "Index": index})
            }
            Self::Lock { key, value, session } => {
                json!({"Verb": "lock", "Key": key, "Value": code(value), "Session": session})
            }
            Self::Get { key } => json!({"Verb": "get", "Key": key}),
            Self::Delete { key } => json!({"Verb": "delete", "Key": key}),
            Self::DeleteTree { prefix } => json!({"Verb": "delete-tree", "Key": prefix}),
            Self::CheckSession { key, session } => {
                json!({"Verb": "check-session", "Key": key, "Session": session})
            }
            Self::Other(operation) => return operation.clone(),
        };
        json!({ "KV": kv })
    }
}

/// What came of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnResult {
    /// All of it happened; the pairs it read or wrote (written values are not sent back).
    Done(Vec<KvPair>),
    /// Nothing happened: for each operation that failed, its place and the reason.
    Refused(Vec<(usize, String)>),
}

/// Consul's answer to a transaction.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct TxnAnswer {
    results: Option<Vec<TxnPart>>,
    errors: Option<Vec<TxnRefusal>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TxnPart {
    #[serde(rename = "KV")]
    kv: Option<KvPair>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TxnRefusal {
    op_index: usize,
    what: String,
}

impl From<TxnAnswer> for TxnResult {
    fn from(answer: TxnAnswer) -> Self {
        let errors = answer.errors.unwrap_or_default();
        if errors.is_empty() {
            let results = answer.results.unwrap_or_default();
            Self::Done(results.into_iter().filter_map(|part| part.kv).collect())
        } else {
            Self::Refused(errors.into_iter().map(|error| (error.op_index, error.what)).collect())
        }
    }
}
