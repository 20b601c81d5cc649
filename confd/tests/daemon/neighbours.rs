//! Several confd at a time, and what an earlier one left.

use std::fs;

use testbed::haproxy::Web;

use crate::bed::Bed;

#[tokio::test(flavor = "multi_thread")]
async fn a_single_run_beside_the_daemon_leaves_it_its_ears() {
    let web = Web::start("a").unwrap();
    let mut bed = Bed::new();
    bed.register("web", "a", web.address(), &["http"]).await;
    bed.start();
    bed.until("it listens", |bed| bed.run(&["status"]).status.success()).await;
    let output = bed.run(&["--once"]);
    assert!(output.status.success(), "{output:?}");
    let output = bed.run(&["status"]);
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_do_not_share_a_state_folder() {
    let mut bed = Bed::new();
    bed.start();
    bed.until("it listens", |bed| bed.run(&["status"]).status.success()).await;
    let output = bed.run(&[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("another confd uses") && said.contains("--state-dir"), "{said}");
    assert!(bed.run(&["status"]).status.success());
    // One that has ended, however, is nobody.
    bed.confd().kill().unwrap();
    bed.start();
    bed.until("the next one listens", |bed| bed.run(&["status"]).status.success()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_had_begun_is_removed() {
    let mut bed = Bed::new();
    let left = bed.haproxy.folder().join(".haproxy.cfg.AbCdEf.staged");
    let other = bed.haproxy.folder().join(".other.cfg.AbCdEf.staged");
    for path in [&left, &other] {
        fs::write(path, "half of a te").unwrap();
    }
    bed.start();
    bed.until("it is removed", |_| !left.exists()).await;
    assert!(other.exists(), "that is somebody else's");
}
