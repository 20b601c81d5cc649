//! Keys, the sessions that hold them, and transactions.

use consulrs::api::kv::requests::{
    DeleteKeyRequest, ReadKeyRequest, ReadKeysRequest, SetKeyRequest,
};
use consulrs::api::session::requests::{
    CreateSessionRequest, DeleteSessionRequest, ListNodeSessionsRequest, RenewSessionRequest,
};
use rustify::endpoint::Endpoint;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::error::Error;
use crate::model::KvPair;
use crate::query::{Answer, Query};
use crate::requests::Txn;
use crate::session::{Session, SessionRequest};
use crate::txn::{TxnAnswer, TxnOp, TxnResult};

/// The statuses of an answered transaction: carried out, refused.
const TXN_ANSWERS: [u16; 2] = [200, 409];

impl Client {
    /// Returns a key, `None` if there is no such key.
    pub async fn kv_get(&self, key: &str, query: &Query) -> Result<Answer<Option<KvPair>>, Error> {
        let request = ReadKeyRequest { key: key.to_owned(), ..Default::default() };
        let found: Answer<Vec<KvPair>> = self.list(request, query).await?;
        Ok(found.map(|pairs| pairs.into_iter().next()))
    }

    /// Returns all keys that start with `prefix`, in order; none is an empty list.
    pub async fn kv_list(&self, prefix: &str, query: &Query) -> Result<Answer<Vec<KvPair>>, Error> {
        let key = prefix.to_owned();
        self.list(ReadKeyRequest { key, recurse: Some(true), ..Default::default() }, query).await
    }

    /// Returns the names of all keys that start with `prefix`, in order.
    pub async fn kv_keys(&self, prefix: &str, query: &Query) -> Result<Answer<Vec<String>>, Error> {
        let key = prefix.to_owned();
        self.list(ReadKeysRequest { key, keys: true, ..Default::default() }, query).await
    }

    /// Writes a key.
    pub async fn kv_put(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.kv_set(SetKeyRequest::default(), key, value).await.map(drop)
    }

    /// Writes a key and has a session hold it; `false` if another session does. Fails with
    /// [`Error::is_session_gone`] if the session ended.
    pub async fn kv_acquire(&self, key: &str, value: &[u8], session: &str) -> Result<bool, Error> {
        let request = SetKeyRequest { acquire: Some(session.to_owned()), ..Default::default() };
        self.kv_set(request, key, value).await
    }

    /// Deletes a key, if it is there.
    pub async fn kv_delete(&self, key: &str) -> Result<(), Error> {
        self.tell(DeleteKeyRequest { key: key.to_owned(), ..Default::default() }).await
    }

    /// Carries out up to [`crate::TXN_LIMIT`] operations together, or none of them.
    pub async fn txn(&self, operations: &[TxnOp]) -> Result<TxnResult, Error> {
        let operations: Vec<_> = operations.iter().map(TxnOp::spelled).collect();
        let body = serde_json::to_vec(&operations).expect("plain fields make JSON");
        let raw = self.send(Txn { body }, &Query::default()).await?;
        let raw = if TXN_ANSWERS.contains(&raw.status()) { raw } else { raw.success()? };
        Ok(raw.json::<TxnAnswer>()?.value.into())
    }

    /// Creates a session and returns its ID.
    pub async fn session_create(&self, session: &SessionRequest) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Created {
            #[serde(rename = "ID")]
            id: String,
        }
        let request = CreateSessionRequest::from(session);
        Ok(self.ask::<Created>(request, &Query::default()).await?.value.id)
    }

    /// Returns the sessions of a node that live.
    pub async fn node_sessions(&self, node: &str) -> Result<Vec<Session>, Error> {
        let request = ListNodeSessionsRequest { node: node.to_owned(), ..Default::default() };
        let found: Answer<Option<Vec<Session>>> = self.ask(request, &Query::default()).await?;
        Ok(found.value.unwrap_or_default())
    }

    /// Renews a session; `false` if it ended.
    pub async fn session_renew(&self, id: &str) -> Result<bool, Error> {
        let request = RenewSessionRequest { uuid: id.to_owned(), ..Default::default() };
        match self.tell(request).await {
            Ok(()) => Ok(true),
            Err(error) if error.status() == Some(404) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Ends a session, if it is there.
    pub async fn session_destroy(&self, id: &str) -> Result<(), Error> {
        self.tell(DeleteSessionRequest { uuid: id.to_owned(), ..Default::default() }).await
    }

    /// Asks for keys: "not found" is an empty list, and has an index to wait with.
    async fn list<T>(&self, request: impl Endpoint, query: &Query) -> Result<Answer<Vec<T>>, Error>
    where
        T: DeserializeOwned,
    {
        let raw = self.send(request, query).await?;
        if raw.status() == 404 { Ok(raw.answer(Vec::new())) } else { raw.success()?.json() }
    }

    async fn kv_set(&self, request: SetKeyRequest, key: &str, value: &[u8]) -> Result<bool, Error> {
        let request = SetKeyRequest { key: key.to_owned(), value: value.to_owned(), ..request };
        Ok(self.ask(request, &Query::default()).await?.value)
    }
}
