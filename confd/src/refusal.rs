//! What a pass does when a text is refused: back to the last good one, and on without whoever is to blame.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use crate::bisect::Search;
use crate::board::Phase;
use crate::check;
use crate::dependency::Dependency;
use crate::haproxy::{self, Applied};
use crate::persist;
use crate::template::{self, Templates};
use crate::wanted::{LeftOut, Wanted};
use crate::worker::Worker;

/// How it is tried whether a text is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trial {
    /// By the resource's check, which touches nothing.
    Check,
    /// By reloads: what was refused had passed the check.
    Reload,
}

impl Worker {
    /// Gives up a text that is wrong, and goes back to the last one that was right.
    pub(crate) async fn reject(&mut self, text: Arc<str>, why: &str) {
        self.shared.metrics.rejections.get_or_create(&self.label).inc();
        self.report(Phase::Failing(why.to_owned()));
        let (Some(haproxy), Some(good)) = (&mut self.haproxy, &self.on_disk) else {
            self.refused = Some(text);
            return;
        };
        let undone = match haproxy.accepted() {
            Some(live) if *live == *text => haproxy.apply(good).await,
            // It may have taken a part of the text before it refused the next. One that is away has taken nothing.
            Some(live) if *live == **good => match haproxy.drift().await {
                Err(haproxy::Error::Unreachable { .. }) => Ok(Applied::default()),
                undone => undone,
            },
            _ => Ok(Applied::default()),
        };
        self.refused = Some(text);
        match undone {
            Ok(applied) if applied.operations > 0 || applied.reloaded.is_some() => {
                self.applied(&applied);
            }
            Ok(_) => {}
            Err(error) => self.fail(&error),
        }
    }

    /// If some services make the text wrong, goes on without them; else without the template, if that is new.
    pub(crate) async fn leave_out_culprits(&mut self, trial: Trial) {
        // No template, and none of what is known now, has given a generation that somebody went back to.
        if self.fixed.is_some() {
            return;
        }
        let (Some(wanted), Some(templates)) = (self.wanted.clone(), self.templates_in_use()) else {
            return;
        };
        let names: BTreeSet<String> = wanted
            .asked
            .iter()
            .filter_map(|dependency| match dependency {
                Dependency::Service(service) => Some(service.name.clone()),
                _ => None,
            })
            .collect();
        let suspects = names.into_iter().filter(|name| self.is_suspect(name, &wanted)).collect();
        let mut search = Search::new(suspects);
        let mut undecided = false;
        while let Some(without) = search.question() {
            let text = if without.is_empty() {
                Some(Arc::clone(&wanted.text))
            } else {
                let rest = wanted.snapshot.without(&without);
                match templates.render(rest, SystemTime::now()).map(|r| r.outcome) {
                    Ok(template::Outcome::Rendered(text)) => Some(text.into()),
                    _ => None,
                }
            };
            let passes = match text {
                Some(text) => self.passes(text, trial).await,
                None => Some(false),
            };
            // Whoever is to blame is not found out now; the next refusal is another chance.
            let Some(passes) = passes else {
                undecided = trial == Trial::Check;
                break;
            };
            search.answer(passes);
        }
        if trial == Trial::Reload {
            self.restore_file().await;
        }
        let culprits: Vec<String> = search.found().map(ToOwned::to_owned).collect();
        for name in &culprits {
            self.leave_out(name, &wanted, trial);
        }
        if search.is_right() || undecided && culprits.is_empty() {
            // What makes it fail, such as a want of memory, passes. Not at once, lest it fail and pass for ever.
            self.refused = None;
            self.retry = Some(Instant::now() + self.delays.next_delay());
        } else if culprits.is_empty() {
            self.distrust(&templates);
        } else {
            self.render();
        }
    }

    fn leave_out(&mut self, name: &str, wanted: &Wanted, trial: Trial) {
        tracing::error!(
            resource = self.resource.name,
            service = name,
            "left out: with it the text is refused"
        );
        let asked = about(name, &wanted.asked);
        let known = wanted.snapshot.known(name, &asked);
        let for_now = trial == Trial::Reload;
        self.left_out.push(LeftOut { name: name.to_owned(), asked, known, for_now });
    }

    /// Tells whether `text` is accepted; `None` if that cannot be found out.
    async fn passes(&mut self, text: Arc<str>, trial: Trial) -> Option<bool> {
        if trial == Trial::Check {
            return match self.destination.judge(&text).await {
                Ok(()) => Some(true),
                Err(check::Error::Rejected(_)) => Some(false),
                Err(check::Error::Undecided(_)) => None,
            };
        }
        if self.haproxy.as_ref()?.accepted() == Some(&text) {
            return Some(true);
        }
        match self.destination.clone().replace(Arc::clone(&text)).await {
            Ok(()) => self.on_disk = Some(Arc::clone(&text)),
            Err(persist::Error::Rejected { .. }) => return Some(false),
            Err(_) => return None,
        }
        let reloading = self.haproxy.as_mut()?.reload(&text);
        match tokio::time::timeout(self.resource.timeout.0, reloading).await.ok()? {
            Ok(applied) => {
                self.applied(&applied);
                Some(true)
            }
            Err(haproxy::Error::Reload { .. }) => Some(false),
            Err(_) => None,
        }
    }

    /// Goes on with the template that gave the last good text, if `templates` are newer: servers come and go meanwhile.
    pub(crate) fn distrust(&mut self, templates: &Templates) {
        let digest = templates.digest();
        if self.good.as_ref().is_some_and(|good| good.digest() != digest) {
            self.distrusted =
                Some((digest.to_owned(), self.last_problem.clone().unwrap_or_default()));
            self.render();
        }
    }

    /// Returns the templates that are rendered: the latest, unless these are known to be wrong.
    pub(crate) fn templates_in_use(&self) -> Option<Arc<Templates>> {
        let latest = self.templates.borrow().clone();
        match (&self.distrusted, &latest) {
            (Some((digest, _)), Some(latest)) if latest.digest() == digest => self.good.clone(),
            _ => latest,
        }
    }

    /// Gives whom was found guilty by circumstances that may have changed another chance; tells whether there was any.
    pub(crate) fn forgive(&mut self) -> bool {
        let before = self.left_out.len();
        self.left_out.retain(|left_out| !left_out.for_now);
        self.distrusted.take().is_some() || self.left_out.len() < before
    }

    /// Tells whether the service `name` may be why `wanted` is refused although an earlier text was accepted.
    ///
    /// Whoever is as it was then is not to blame: a mistake in a template must cost nobody their traffic.
    fn is_suspect(&self, name: &str, wanted: &Wanted) -> bool {
        let Some(proven) = &self.proven else { return true };
        if proven.template != wanted.template {
            return proven.left_out.contains(name);
        }
        let asked = about(name, &wanted.asked);
        proven.snapshot.known(name, &asked) != wanted.snapshot.known(name, &asked)
    }

    /// Returns the text that was right last: the one that HAProxy is known to run, or, if anything may have been loaded
    /// since, the one that it ran before.
    fn last_good(&self) -> Option<Arc<str>> {
        let runs = self.haproxy.as_ref().and_then(|haproxy| haproxy.accepted()).map(Arc::from);
        let proven = || self.proven.as_ref().map(|proven| Arc::clone(&proven.text));
        runs.or_else(proven).or_else(|| self.remembered.clone())
    }

    /// A text that HAProxy refused to load must not be what it finds when it starts again.
    pub(crate) async fn restore_file(&mut self) {
        let good = self.last_good().filter(|text| self.on_disk.as_ref() != Some(text));
        let Some(text) = good else { return };
        match self.destination.clone().replace(Arc::clone(&text)).await {
            Ok(()) => self.on_disk = Some(text),
            Err(error) => self.fail(&error),
        }
    }
}

/// Returns those of `asked` that are about the instances of one service.
fn about(name: &str, asked: &BTreeSet<Dependency>) -> BTreeSet<Dependency> {
    let about = |d: &&Dependency| matches!(d, Dependency::Service(service) if service.name == name);
    asked.iter().filter(about).cloned().collect()
}
