//! Calls to the servers about everything registered anywhere.

use std::collections::BTreeMap;

use consulrs::api::catalog::requests::{
    ListDatacentersRequest, ListNodesRequest, ListServicesRequest,
};

use crate::client::Client;
use crate::error::Error;
use crate::model::{Check, Node, NodeServices, ServiceEntry};
use crate::query::{Answer, Query};
use crate::requests::{HealthNode, HealthService, HealthState, Leader, ReadNode};

impl Client {
    /// Returns the instances of a service, with their nodes and checks.
    pub async fn health_service(
        &self,
        name: &str,
        query: &Query,
    ) -> Result<Answer<Vec<ServiceEntry>>, Error> {
        self.ask(HealthService { name: name.to_owned() }, query).await
    }

    /// Returns the checks with a status: `passing`, `warning`, `critical` or `any`.
    pub async fn health_state(
        &self,
        state: &str,
        query: &Query,
    ) -> Result<Answer<Vec<Check>>, Error> {
        self.ask(HealthState { state: state.to_owned() }, query).await
    }

    /// Returns the checks of a node and of what is registered on it; none if there is no such node.
    pub async fn health_node(
        &self,
        name: &str,
        query: &Query,
    ) -> Result<Answer<Vec<Check>>, Error> {
        self.ask(HealthNode { name: name.to_owned() }, query).await
    }

    /// Returns the names of all services, each with the tags of its instances. Dead nodes'
    /// services are among them.
    pub async fn catalog_services(
        &self,
        query: &Query,
    ) -> Result<Answer<BTreeMap<String, Vec<String>>>, Error> {
        self.ask(ListServicesRequest::default(), query).await
    }

    /// Returns all nodes.
    pub async fn catalog_nodes(&self, query: &Query) -> Result<Answer<Vec<Node>>, Error> {
        self.ask(ListNodesRequest::default(), query).await
    }

    /// Returns a node and what is registered on it, `None` if there is no such node.
    pub async fn catalog_node(
        &self,
        name: &str,
        query: &Query,
    ) -> Result<Answer<Option<NodeServices>>, Error> {
        self.ask(ReadNode { name: name.to_owned() }, query).await
    }

    /// Returns the names of all datacenters, nearest first.
    pub async fn datacenters(&self) -> Result<Vec<String>, Error> {
        Ok(self.ask(ListDatacentersRequest::default(), &Query::default()).await?.value)
    }

    /// Returns the address of the server that leads, `None` while there is none.
    pub async fn leader(&self) -> Result<Option<String>, Error> {
        let leader: String = self.ask(Leader {}, &Query::default()).await?.value;
        Ok(Some(leader).filter(|address| !address.is_empty()))
    }
}
