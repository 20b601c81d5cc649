//! Calls to the servers about everything registered anywhere.

use std::collections::BTreeMap;

use consulrs::api::catalog::requests::{
    ListDatacentersRequest, ListNodesRequest, ListServicesRequest,
};

use crate::client::{Client, Raw};
use crate::error::Error;
use crate::model::{Check, Node, NodeServices, ServiceEntry};
use crate::query::{Answer, Query};
use crate::requests::{HealthNode, HealthService, HealthState, Leader, ReadNode};

/// The service that the servers are, in every datacenter.
const SERVERS: &str = "consul";

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

    /// Tells whether services are hidden from the token: Consul leaves out what it may not read, and answers all the same.
    ///
    /// Of Consul before 1.11 it is only known whether the token may see the servers' own service; in a namespace, not even
    /// that.
    pub async fn hides_services(&self) -> Result<bool, Error> {
        let answer = self.send(ListServicesRequest::default(), &Query::default()).await?;
        hides(answer.success()?, self.0.namespace.is_none())
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

/// Tells whether a list of services is not whole. With `servers`, theirs must be in it.
fn hides(answer: Raw, servers: bool) -> Result<bool, Error> {
    let told = answer.header("x-consul-results-filtered-by-acls") == Some(true);
    let services: BTreeMap<String, Vec<String>> = answer.json()?.value;
    // Whoever has no token is never told.
    Ok(told || servers && !services.contains_key(SERVERS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_hidden_where_consul_says_so_or_does_not_even_show_its_own() {
        for (told, services, servers, hidden) in [
            (None, r#"{"consul": []}"#, true, false),
            (None, r#"{"consul": [], "web": ["v1"]}"#, true, false),
            (None, r#"{"web": []}"#, true, true),
            (None, "{}", true, true),
            (None, "{}", false, false),
            (Some("true"), r#"{"consul": []}"#, true, true),
            (Some("true"), "{}", false, true),
            (Some("false"), r#"{"consul": []}"#, true, false),
        ] {
            let mut response = http::Response::builder();
            if let Some(told) = told {
                response = response.header("X-Consul-Results-Filtered-By-ACLs", told);
            }
            let response = response.body(services.as_bytes().to_vec()).unwrap();
            let raw = Raw { path: "catalog/services".into(), response, token: None };
            assert_eq!(hides(raw, servers).unwrap(), hidden, "{told:?} {services} {servers}");
        }
    }
}
