//! Calls to the agent: what runs on this node.

use std::collections::BTreeMap;

use consulrs::api::check::requests::ListChecksRequest;
use consulrs::api::service::requests::{DeregisterServiceRequest, ListServicesRequest};

use crate::client::Client;
use crate::error::Error;
use crate::model::{AgentSelf, AgentService, Check, Status};
use crate::query::Query;
use crate::registration::Registration;
use crate::requests::{Maintenance, NodeMaintenance, ReadSelf, Register, TtlUpdate};

impl Client {
    /// Asks the agent who it is.
    pub async fn agent_self(&self) -> Result<AgentSelf, Error> {
        Ok(self.ask(ReadSelf {}, &Query::default()).await?.value)
    }

    /// Returns the instances registered with the agent, by ID; `filter` is an expression in
    /// Consul's filter language.
    pub async fn agent_services(
        &self,
        filter: Option<&str>,
    ) -> Result<BTreeMap<String, AgentService>, Error> {
        let query = Query { filter: filter.map(str::to_owned), ..Query::default() };
        Ok(self.ask(ListServicesRequest::default(), &query).await?.value)
    }

    /// Returns the checks registered with the agent, by ID; `filter` as above.
    pub async fn agent_checks(
        &self,
        filter: Option<&str>,
    ) -> Result<BTreeMap<String, Check>, Error> {
        let query = Query { filter: filter.map(str::to_owned), ..Query::default() };
        Ok(self.ask(ListChecksRequest::default(), &query).await?.value)
    }

    /// Registers an instance, or replaces the one with the same ID together with its checks.
    pub async fn register(&self, registration: &Registration) -> Result<(), Error> {
        let body = serde_json::to_vec(registration).expect("plain fields make JSON");
        self.tell(Register { body, replace_existing_checks: true }).await
    }

    /// Removes an instance; one that is not there is as good as removed.
    pub async fn deregister(&self, id: &str) -> Result<(), Error> {
        let request = DeregisterServiceRequest { id: id.to_owned(), ..Default::default() };
        match self.tell(request).await {
            Err(error) if error.status() == Some(404) => Ok(()),
            other => other,
        }
    }

    /// Begins the maintenance of an instance, with its reason, or (`None`) ends it.
    pub async fn maintenance(&self, id: &str, reason: Option<&str>) -> Result<(), Error> {
        let reason = reason.map(str::to_owned);
        self.tell(Maintenance { id: id.to_owned(), enable: reason.is_some(), reason }).await
    }

    /// Begins the maintenance of the agent's whole node, with its reason, or (`None`) ends it.
    pub async fn node_maintenance(&self, reason: Option<&str>) -> Result<(), Error> {
        let reason = reason.map(str::to_owned);
        self.tell(NodeMaintenance { enable: reason.is_some(), reason }).await
    }

    /// Sets the status of a TTL check, with a note for people, and starts its clock again.
    pub async fn ttl(&self, check_id: &str, status: Status, note: &str) -> Result<(), Error> {
        let status = status.as_str().to_owned();
        self.tell(TtlUpdate { id: check_id.to_owned(), status, output: note.to_owned() }).await
    }
}
