//! `ambassador wait`: until every ambassador serves a service, or a container.

use std::borrow::Cow;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use consul::{ServiceEntry, Status};
use tokio::time::Instant;

use super::reasons::is_udp;
use super::report::{Backend, Document};
use super::subject::Subject;
use super::{Common, Timeout, UNSEEN, until};

/// What to wait for.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Wait {
    /// A service, or a container's name or ID
    #[arg(value_name = "SERVICE|CONTAINER")]
    what: String,
    #[command(flatten)]
    timeout: Timeout,
    #[command(flatten)]
    common: Common,
}

/// Waits, and says what is missing if it was in vain.
pub(crate) async fn wait(options: &Wait) -> anyhow::Result<ExitCode> {
    let client = options.common.client()?;
    let sure = Instant::now() + UNSEEN;
    let missing = until(&client, options.timeout.timeout.max(UNSEEN), async |documents| {
        let subject = Subject::find(&client, &options.what).await?;
        let missing = missing(&subject, &options.what, documents);
        let old = || older(&subject, documents).filter(|_| Instant::now() < sure);
        Ok(missing.or_else(old))
    })
    .await?;
    if options.common.json {
        println!("{}", serde_json::json!({ "served": missing.is_none(), "missing": missing }));
    } else if let Some(missing) = &missing {
        eprintln!("{missing}");
    }
    Ok(if missing.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns what is still missing.
fn missing(subject: &Subject, word: &str, documents: &[Document]) -> Option<String> {
    let healthy: Vec<_> = subject.instances.iter().filter(|one| able(one)).collect();
    if healthy.is_empty() {
        return Some(format!("{word:?} has no instance that is registered and healthy"));
    }
    let carried = subject.instances.iter().filter(|one| !is_udp(one)).count();
    if subject.service.is_none() && healthy.len() < carried {
        return Some(format!("not every instance of {word:?} is healthy"));
    }
    let services: std::collections::BTreeSet<_> =
        healthy.iter().map(|one| one.service.name.as_str()).collect();
    for service in services {
        let own: Vec<_> = healthy.iter().filter(|one| one.service.name == service).collect();
        let keys: Vec<_> = own.iter().map(|one| one.key()).collect();
        let keys: Vec<_> = keys.iter().map(AsRef::as_ref).collect();
        let mut ambassadors = 0;
        for document in documents {
            if let Some(missing) = document.lacks(service, &keys) {
                return Some(missing);
            }
            for (name, backend) in document.backends_of(service, &keys) {
                let wanted = own.iter().filter(|one| subject.ports.belongs(one, name));
                let wanted: Vec<_> = wanted.map(|one| one.key()).collect();
                if wanted.is_empty() {
                    continue;
                }
                ambassadors += 1;
                if let Some(missing) = missing_there(backend, &wanted) {
                    return Some(format!("{}: {missing}", document.name()));
                }
            }
        }
        if ambassadors == 0 {
            return Some(format!("no ambassador reports that it knows {service:?}"));
        }
    }
    None
}

/// Returns an ambassador that may mean the instance that was registered under the same ID before: it has not reported
/// since. One to which nothing has changed reports nothing, so this counts for a moment only.
fn older(subject: &Subject, documents: &[Document]) -> Option<String> {
    subject.instances.iter().find_map(|one| {
        let registered = registered(one)?;
        let old = documents.iter().find(|document| {
            document.published().is_some_and(|published| published < registered)
                && document.backends_of(&one.service.name, &[one.key().as_ref()]).next().is_some()
        })?;
        Some(format!("{} has not reported since {} came", old.name(), one.service.id))
    })
}

/// Returns when an instance was registered, if registrator did.
fn registered(entry: &ServiceEntry) -> Option<SystemTime> {
    let nanoseconds = entry.service.meta.get("registered-time")?.parse().ok()?;
    UNIX_EPOCH.checked_add(Duration::from_nanos(nanoseconds))
}

fn missing_there(backend: &Backend, keys: &[Cow<'_, str>]) -> Option<String> {
    match backend {
        Backend::States(states) => keys.iter().find_map(|id| match states.get(id.as_ref()) {
            Some(state) if state.as_wanted() => None,
            Some(state) => Some(format!("{id} is {}", state.as_str())),
            None => Some(format!("{id} is not there yet")),
        }),
        Backend::Counts(counts) => {
            let serving =
                counts.iter().filter(|(state, _)| state.as_wanted()).map(|(_, count)| count);
            let serving: u64 = serving.sum();
            let wanted = keys.len() as u64;
            (serving < wanted).then(|| format!("serves {serving} of {wanted} instances"))
        }
    }
}

/// Tells whether an instance can be served at all: the stock templates give traffic to those that pass, by TCP.
fn able(entry: &ServiceEntry) -> bool {
    let passes = entry.status() == Status::Passing && !entry.in_maintenance();
    passes && entry.service.port > 0 && !is_udp(entry)
}

#[cfg(test)]
mod tests {
    use consul::Check;

    use super::super::report::State;
    use super::*;

    fn subject(ids: &[&str]) -> Subject {
        let entry = |id: &&str| {
            let mut entry = ServiceEntry::default();
            (entry.service.id, entry.service.name, entry.service.port) =
                ((*id).to_owned(), "rng".into(), 80);
            entry
        };
        Subject::of("rng", ids.iter().map(entry).collect())
    }

    fn document(node: &str, states: &[(&str, State)]) -> Document {
        let states = states.iter().map(|(id, state)| ((*id).to_owned(), state.clone())).collect();
        Document {
            node: node.into(),
            id: "haproxy".into(),
            backends: [("http_rng".to_owned(), Backend::States(states))].into(),
            ..Document::default()
        }
    }

    #[test]
    fn every_ambassador_must_serve_every_healthy_instance() {
        let both = subject(&["a", "b"]);
        let good = document("n1", &[("a", State::Serving), ("b", State::Serving)]);
        let half = document("n2", &[("a", State::Serving), ("b", State::Joining)]);
        let other = Document { backends: [].into(), ..good.clone() };
        assert_eq!(missing(&both, "rng", &[good.clone(), other.clone()]), None);
        let empty = document("n2", &[]);
        let said = missing(&both, "rng", &[good.clone(), empty]).unwrap();
        assert!(said.contains("a is not there yet"), "{said}");
        let dead =
            Document { error: Some("no answer".into()), load_balancer: true, ..other.clone() };
        assert_eq!(missing(&both, "rng", &[good.clone(), dead]).unwrap(), "n1/haproxy: no answer");
        let mut warned = subject(&["a", "b"]);
        let check = Check { status: Status::Warning, ..Check::default() };
        warned.instances[1].checks.push(check);
        warned.instances[1].node.name = "n9".into();
        let one = document("n1", &[("a", State::Serving)]);
        assert_eq!(missing(&warned, "rng", &[one]), None, "whoever warns gets nothing");
        let mut udp = subject(&["a", "b"]);
        udp.service = None;
        udp.instances[1].service.tags.push("udp".into());
        let one = document("n1", &[("a", State::Serving)]);
        assert_eq!(missing(&udp, "dns", &[one]), None, "nobody is to carry UDP");
        let mut twins = subject(&["a", "a"]);
        twins.instances[1].node.name = "n9".into();
        let one = document("n1", &[("a", State::Serving)]);
        assert_eq!(missing(&twins, "rng", &[one]).unwrap(), "n1/haproxy: :n9:a is not there yet");
        let blue = document("n1", &[("a", State::Serving), ("b", State::Weightless)]);
        assert_eq!(missing(&both, "rng", &[blue]), None, "a share of 0 is what is wanted");
        let said = missing(&both, "rng", &[good.clone(), half]).unwrap();
        assert_eq!(said, "n2/haproxy: b is joining");
        let said = missing(&both, "rng", &[document("n3", &[("a", State::Serving)])]).unwrap();
        assert!(said.contains("b is not there yet"), "{said}");
        assert!(missing(&both, "rng", &[other]).unwrap().contains("no ambassador"));
        assert!(missing(&subject(&[]), "rng", &[good]).unwrap().contains("no instance"));
    }

    #[test]
    fn a_backend_that_is_for_a_port_needs_the_instances_at_it_only() {
        let mut both = subject(&["a", "b"]);
        for (entry, port) in both.instances.iter_mut().zip(["80", "443"]) {
            entry.service.meta.insert("container-port".into(), port.into());
        }
        let both = Subject::of("rng", both.instances);
        let document = |backends: &[(&str, &str)]| {
            let states = |id: &str| Backend::States([(id.to_owned(), State::Serving)].into());
            let backends = backends.iter().map(|(name, id)| ((*name).to_owned(), states(id)));
            Document { backends: backends.collect(), ..document("n1", &[]) }
        };
        assert_eq!(missing(&both, "rng", &[document(&[("rng_80", "a"), ("rng_443", "b")])]), None);
        let said = missing(&both, "rng", &[document(&[("rng_80", "b")])]).unwrap();
        assert!(said.contains("a is not there yet"), "{said}");
        let said = missing(&both, "rng", &[document(&[("rng", "a")])]).unwrap();
        assert!(said.contains("b is not there yet"), "{said}");
    }

    #[test]
    fn a_report_from_before_the_registration_may_mean_the_instance_before() {
        let mut restarted = subject(&["a"]);
        let at = |second: u64| UNIX_EPOCH + Duration::from_secs(1_700_000_000 + second);
        let meta = &mut restarted.instances[0].service.meta;
        meta.insert("registered-time".into(), "1700000005000000000".into());
        let published = |second| Document {
            published_at: Some(humantime::format_rfc3339_millis(at(second)).to_string()),
            ..document("n1", &[("a", State::Serving)])
        };
        assert!(older(&restarted, &[published(4)]).unwrap().contains("n1/haproxy"));
        assert_eq!(older(&restarted, &[published(6)]), None);
        // One that has nothing to do with it does not count.
        let other = Document { backends: [].into(), ..published(4) };
        assert_eq!(older(&restarted, &[other]), None);
        // Whom somebody else registered, nobody knows the time of.
        assert_eq!(older(&subject(&["a"]), &[published(4)]), None);
    }
}
