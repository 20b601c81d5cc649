//! Asks about one node. What is registered there and how it is doing are two questions to Consul.

use std::time::Duration;

use consul::{Answer, Check, Client, Error, NodeServices, Query};

/// How often one of the two is asked again because of the other.
const ROUNDS: usize = 4;

/// How long it then rests.
const PAUSE: Duration = Duration::from_secs(1);

/// What is registered on a node, if there is such a node, and all checks there.
pub(super) type Found = Option<(NodeServices, Vec<Check>)>;

/// Returns the answer to both; news of either ends the wait.
pub(super) async fn ask(
    client: &Client,
    name: &str,
    query: &Query,
) -> Result<Answer<Found>, Error> {
    let now = Query { index: None, ..query.clone() };
    let (mut services, mut checks, mut services_are_older);
    tokio::select! {
        answer = client.catalog_node(name, query) => {
            services = answer?;
            checks = client.health_node(name, &now).await?;
            services_are_older = true;
        }
        answer = client.health_node(name, query), if query.index.is_some() => {
            checks = answer?;
            services = client.catalog_node(name, &now).await?;
            services_are_older = false;
        }
    }
    let mut index = services.index.max(checks.index);
    // The older answer may lack what came before the newer one: whoever waits for more than that would miss it.
    for _ in 0..ROUNDS {
        let (older, newer) = if services_are_older {
            (services.index, checks.index)
        } else {
            (checks.index, services.index)
        };
        if older >= newer {
            let found = services.map(|found| found.map(|found| (found, checks.value)));
            return Ok(Answer { index, ..found });
        }
        if services_are_older {
            services = client.catalog_node(name, &now).await?;
        } else {
            checks = client.health_node(name, &now).await?;
        }
        services_are_older = !services_are_older;
        index = services.index.max(checks.index);
    }
    // Both change all the time: the next wait ends at once, and may do so for as long as they go on.
    tokio::time::sleep(PAUSE).await;
    let index = services.index.min(checks.index).max(query.index);
    let found = services.map(|found| found.map(|found| (found, checks.value)));
    Ok(Answer { index, ..found })
}
