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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_and_not_yet_accepted_by_all_costs_no_reload_after_a_crash() {
    let webs: Vec<Web> = ["a", "b"].map(|name| Web::start(name).unwrap()).into();
    let mut bed = Bed::new();
    let fails = bed.folder.path().join("fails");
    let path = bed.confdir().join("conf.d/haproxy.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let both = format!(
        "apply = [\"haproxy\", \"reload_cmd\"]\nreload_cmd = \"test ! -e {}\"\n",
        fails.display()
    );
    let text = text.replace("apply = \"haproxy\"\n", &both);
    assert!(text.contains("reload_cmd"), "{text}");
    bed.write("conf.d/haproxy.toml", &text);
    bed.register("web", "a", webs[0].address(), &["http"]).await;
    bed.start();
    bed.until("it is accepted", |bed| bed.log().contains("accepted")).await;
    std::fs::write(&fails, "").unwrap();
    bed.register("web", "b", webs[1].address(), &["http"]).await;
    bed.until_serving("http_web", &["a", "b"]).await;
    bed.until("it is written", |bed| bed.written().len() == 2).await;
    bed.confd().kill().unwrap();
    let reloads = bed.reloads();
    std::fs::remove_file(&fails).unwrap();
    bed.start();
    bed.until("all have accepted it", |bed| bed.log().matches("accepted").count() == 2).await;
    assert_eq!(bed.serving("http_web"), ["a".to_owned(), "b".to_owned()].into());
    assert_eq!(bed.reloads(), reloads, "{}", bed.log());
}
