//! The commands for operators: what is served, by whom, and why not; all of it read from Consul.

mod drain_node;
mod explain;
mod gone;
mod ports;
mod reasons;
mod report;
mod sight;
mod status;
mod stop;
mod subject;
mod table;
mod wait;
mod weight;

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use consul::{Answer, Client, Query};
use tokio::time::Instant;

use report::{Document, PREFIX};

/// How long a change of what ambassadors report is waited for, before everything is looked at again.
const LOOK: Duration = Duration::from_secs(1);

/// How long instances must have been taken out before what is not reported is not there: a report
/// is written at most once a second, so an instance or an ambassador that has just come may still
/// be missing, and the report itself takes a moment.
const UNSEEN: Duration = Duration::from_millis(2500);

/// What an operator asks for.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Operation {
    /// Exit with 0 when every ambassador serves a service or a container, with 1 after the timeout
    Wait(wait::Wait),
    /// Tell of every instance of a service why it is served or why not
    Explain(explain::Explain),
    /// Show nodes, services, ambassadors, how old their data is and how fast it came
    Status(status::Status),
    /// Stop containers without losing a request: first no ambassador serves them any more
    Stop(stop::Stop),
    /// Share a service's traffic out by tag: `--tag v2=50 --tag v1=50`
    Weight(weight::Weight),
    /// Take a node's instances out of all ambassadors, or (--back) in again
    DrainNode(drain_node::DrainNode),
}

/// Where Consul is, and in which form to answer.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Common {
    #[command(flatten)]
    consul: consul::Args,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
}

/// How long to wait.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Timeout {
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = services::parse_duration)]
    timeout: Duration,
}

/// Why nothing can be waited for.
const NOBODY_REPORTS: &str = "no ambassador reports what it serves, so none can be waited for";

/// Carries an operation out.
pub(crate) async fn operate(operation: &Operation) -> anyhow::Result<ExitCode> {
    match operation {
        Operation::Wait(options) => wait::wait(options).await,
        Operation::Explain(options) => explain::explain(options).await,
        Operation::Status(options) => status::status(options).await,
        Operation::Stop(options) => stop::stop(options).await,
        Operation::Weight(options) => weight::weight(options).await,
        Operation::DrainNode(options) => drain_node::drain_node(options).await,
    }
}

impl Common {
    fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&self.consul.config()?)?)
    }
}

/// Returns what the ambassadors report, by key.
async fn documents(
    client: &Client,
    index: Option<u64>,
) -> Result<Answer<Vec<Document>>, consul::Error> {
    let query = Query { index, wait: LOOK, ..Query::default() };
    let answer = client.kv_list(PREFIX, &query).await?;
    Ok(answer.map(|pairs| pairs.iter().filter_map(Document::read).collect()))
}

/// Looks whenever an ambassador reports something, and every second, until `judge` finds nothing
/// to wait for any more; returns what it found last if there is no time left.
async fn until<E>(
    client: &Client,
    limit: Duration,
    mut judge: impl AsyncFnMut(&[Document]) -> Result<Option<E>, consul::Error>,
) -> Result<Option<E>, consul::Error> {
    let end = Instant::now() + limit;
    let mut index = None;
    let mut delays = daemon::backoff::delays();
    loop {
        let looked = async {
            let answer = documents(client, index).await?;
            let missing = judge(&answer.value).await?;
            Ok::<_, consul::Error>((answer.index, missing))
        };
        match looked.await {
            Ok((_, None)) => return Ok(None),
            Ok((_, Some(missing))) if Instant::now() >= end => return Ok(Some(missing)),
            Ok((newest, Some(_))) => {
                index = consul::index::next(index, newest);
                delays.reset();
            }
            // Consul is between two leaders, or restarts. A token is not given more rights meanwhile.
            Err(error)
                if error.is_retryable() && error.status() != Some(403) && Instant::now() < end =>
            {
                tracing::debug!(%error, "consul is asked again");
                index = None;
                tokio::time::sleep(delays.next_delay().min(LOOK)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Waits until no ambassador can have a connection to instances that were just taken out, each
/// given as a service and a key; returns where one may be left if there is no time left.
async fn until_gone(
    client: &Client,
    limit: Duration,
    instances: &[(String, String)],
) -> Result<Option<String>, consul::Error> {
    let sure = Instant::now() + UNSEEN;
    until(client, limit.max(UNSEEN), async |documents| {
        let young = || Some("the reports are not new enough".to_owned());
        Ok(kept(instances, documents).or_else(|| young().filter(|_| Instant::now() < sure)))
    })
    .await
}

/// Returns an ambassador that may still have one of the instances.
fn kept(instances: &[(String, String)], documents: &[Document]) -> Option<String> {
    documents
        .iter()
        .find_map(|document| instances.iter().find_map(|(service, id)| document.keeps(service, id)))
}

#[cfg(test)]
mod tests {
    use super::report::{Backend, State};
    use super::*;

    fn document(backends: impl IntoIterator<Item = (&'static str, Backend)>) -> Document {
        let backends = backends.into_iter().map(|(name, backend)| (name.to_owned(), backend));
        Document { backends: backends.collect(), ..Document::default() }
    }

    fn kept(documents: &[Document]) -> bool {
        super::kept(&[("rng".to_owned(), "a".to_owned())], documents).is_some()
    }

    #[test]
    fn an_instance_is_gone_when_no_ambassador_can_have_a_connection_to_it() {
        let states = |state: Option<State>| {
            Backend::States(state.map(|state| ("a".to_owned(), state)).into_iter().collect())
        };
        for (state, there) in [
            (Some(State::Serving), true),
            (Some(State::Joining), true),
            (Some(State::Draining), true),
            (Some(State::Weightless), true),
            (Some(State::Held), true),
            (Some(State::Other("resting".into())), true),
            (Some(State::Down), true),
            (Some(State::Maintenance), false),
            (Some(State::LeftOut), false),
            (None, false),
        ] {
            let document = document([("http_rng", states(state.clone()))]);
            assert_eq!(kept(&[document]), there, "{state:?}");
        }
        let both = [
            ("http_a", states(Some(State::Maintenance))),
            ("http_rng", states(Some(State::Draining))),
        ];
        assert!(kept(&[document(both)]), "one of two backends has it");
    }

    #[test]
    fn an_ambassador_that_tells_numbers_only_may_have_any_instance_of_the_service() {
        let counts = || Backend::Counts([(State::Serving, 8000)].into());
        assert!(kept(&[document([("http_rng", counts())])]));
        assert!(!kept(&[document([("http_web", counts())])]));
    }
}
