use std::path::Path;

use consul::{Client, Config};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::*;
use crate::metrics::Metrics;
use crate::watch::Watches;
use crate::worker::Shared;

/// Returns a worker that writes to `out` in a folder and runs a command then, with a source that nobody asks.
fn worker(folder: &Path) -> Worker {
    let client = Client::new(&Config::from_uri("http://127.0.0.1:9").unwrap()).unwrap();
    let metrics = Metrics::new(&mut Registry::default());
    let shared = Shared {
        watches: Watches::new(client, metrics.clone()),
        metrics,
        board: crate::board::Board::default(),
        workers: crate::control::Workers::default(),
        reports: crate::publish::Reports::default(),
        state_dir: folder.join("state"),
        docker: engine::Endpoint::default(),
        programs: None,
        patience: Duration::ZERO,
    };
    let out = folder.join("out");
    let text = format!("[template]\nsrc = \"t\"\ndest = {out:?}\nreload_cmd = \"true\"\n");
    let resource = Resource::parse(Path::new("t.toml"), &text).unwrap();
    Worker::new(resource, watch::channel(None).1, shared).unwrap()
}

fn wanted(text: &str) -> Arc<Wanted> {
    Arc::new(Wanted {
        text: text.into(),
        asked: std::collections::BTreeSet::new(),
        snapshot: crate::snapshot::Snapshot::default(),
        template: None,
        left_out: std::collections::BTreeSet::new(),
    })
}

#[tokio::test]
async fn what_a_job_is_just_writing_is_nobody_elses() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    std::fs::write(&out, "one").unwrap();
    let mut worker = worker(folder.path());
    worker.others[0].1 = worker.on_disk.clone();
    worker.start_replacing(&wanted("two"));
    // Its end is not heard of yet, and the source has said more meanwhile.
    worker.wanted = Some(wanted("three"));
    while std::fs::read_to_string(&out).unwrap() != "two" {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    worker.compare().await;
    assert_eq!(worker.others[0].1.as_deref(), Some("one"), "it was taken for a stranger's");
    // So it is with a part of it, but with nothing else.
    std::fs::write(&out, "tw").unwrap();
    worker.compare().await;
    assert_eq!(worker.others[0].1.as_deref(), Some("one"), "it was taken for a stranger's");
    std::fs::write(&out, "spoilt").unwrap();
    worker.compare().await;
    assert_eq!(worker.others[0].1, None);
    let job = worker.job.take().unwrap();
    worker.finished(job.await.ok()).await;
    worker.others[0].1 = worker.on_disk.clone();
    std::fs::write(&out, "tw").unwrap();
    worker.compare().await;
    assert_eq!(worker.others[0].1, None, "the job is done");
}
