//! What a pass does when a text is refused: back to the last good one, and on without whoever is to blame.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use crate::bisect::Search;
use crate::board::Phase;
use crate::dependency::Dependency;
use crate::haproxy::Applied;
use crate::template;
use crate::worker::{LeftOut, Wanted, Worker};

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
            // It may have taken a part of the text before it refused the next.
            Some(live) if *live == **good => haproxy.drift().await,
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

    /// If one service alone makes the text wrong, goes on without it.
    pub(crate) async fn leave_out_culprit(&mut self) {
        // A second one at a time is a mistake of the template's, most likely.
        if self.left_out.is_some() {
            return;
        }
        let (Some(wanted), Some(templates)) =
            (self.wanted.clone(), self.templates.borrow().clone())
        else {
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
        while let Some(without) = search.question() {
            let rest = wanted.snapshot.without(without);
            let rendered = templates.render(rest, SystemTime::now()).map(|r| r.outcome);
            let passes = match rendered {
                Ok(template::Outcome::Rendered(text)) => {
                    self.destination.judge(&text).await.is_ok()
                }
                _ => false,
            };
            search.answer(passes);
        }
        let Some(name) = search.found().map(ToOwned::to_owned) else { return };
        tracing::error!(
            resource = self.resource.name,
            service = name,
            "left out: with it the text is refused"
        );
        let asked: BTreeSet<Dependency> = about(&name, &wanted.asked);
        let known = wanted.snapshot.known(&name, &asked);
        self.left_out = Some(LeftOut { name, asked, known });
        self.render();
    }

    /// Tells whether the service `name` may be why `wanted` is refused although an earlier text was accepted.
    ///
    /// Whoever is as it was then is not to blame: a mistake in a template must cost nobody their traffic.
    fn is_suspect(&self, name: &str, wanted: &Wanted) -> bool {
        let Some(proven) = &self.proven else { return true };
        if proven.template != wanted.template {
            return proven.left_out.as_deref() == Some(name);
        }
        let asked = about(name, &wanted.asked);
        proven.snapshot.known(name, &asked) != wanted.snapshot.known(name, &asked)
    }

    /// A text that HAProxy refused to load must not be what it finds when it starts again.
    pub(crate) async fn restore_file(&mut self) {
        let accepted = self.haproxy.as_ref().and_then(|h| h.accepted()).map(ToOwned::to_owned);
        let Some(accepted) = accepted else { return };
        let text: Arc<str> = accepted.into();
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
