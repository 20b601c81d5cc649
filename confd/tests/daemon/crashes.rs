//! confd is killed at random moments: after its next start file, HAProxy and Consul agree.

use std::time::Duration;

use testbed::haproxy::{Web, programs};

use crate::bed::Bed;

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_at_any_moment_everything_agrees_again() {
    for program in programs() {
        crash(Bed::on(program)).await;
    }
}

async fn crash(mut bed: Bed) {
    let webs: Vec<Web> = (0..3).map(|n| Web::start(&n.to_string()).unwrap()).collect();
    bed.register("web", "stays", webs[0].address(), &["http"]).await;
    bed.start();
    bed.until_serving("http_web", &["stays"]).await;
    for round in 0..12_u64 {
        let id = format!("r{round}");
        bed.register("web", &id, webs[1].address(), &["http"]).await;
        if round > 0 {
            bed.client.deregister(&format!("r{}", round - 1)).await.unwrap();
        }
        // From before the change is seen until after the file is written.
        tokio::time::sleep(Duration::from_millis(round * 7 % 60)).await;
        bed.confd().kill().unwrap();
        // What is on the disk would start.
        let file = bed.haproxy.folder().join("haproxy.cfg");
        let check = std::process::Command::new(bed.haproxy.program())
            .arg("-c")
            .arg("-f")
            .arg(file)
            .output();
        assert!(check.unwrap().status.success());
        bed.start();
        bed.until_serving("http_web", &["stays", &id]).await;
        let wanted = ["stays".to_owned(), id.clone()].into();
        bed.until("the file agrees", |bed| bed.written() == wanted).await;
    }
}
