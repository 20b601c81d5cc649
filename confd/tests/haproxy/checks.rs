//! New servers prove themselves before they serve.

use std::path::Path;
use std::time::Duration;

use confd::haproxy::{CheckError, Event, check};
use testbed::haproxy::{Load, Web, get};

use crate::bed::{Bed, SOON, line, text, versions};

const CHECKED: &str = "check inter 200ms weight 7";
/// For who only serves meanwhile: checks that this process answers late, on a busy machine, would take it out.
const UNCHECKED: &str = "weight 7";

/// Has HAProxy ask for `/health`.
fn health(bed: &Bed, servers: &[String]) -> String {
    let text = text(bed.front, servers)
        .replace("balance roundrobin", "balance roundrobin\n    option httpchk GET /health");
    bed.real.write(&text).unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_server_serves_once_its_first_check_has_passed() {
    for program in versions() {
        let [old, new] = ["old", "new"].map(|name| Web::start(name).unwrap());
        let mut bed = Bed::start(program, &[]);
        let text = health(&bed, &[line("old", &old, UNCHECKED)]);
        bed.driver.reload(&text).await.unwrap();
        new.set_healthy(false);
        let text = health(&bed, &[line("old", &old, UNCHECKED), line("new", &new, CHECKED)]);
        let load = Load::start(bed.front);
        let applied = bed.driver.apply(&text).await.unwrap();
        assert_eq!((applied.reloaded, applied.joining), (None, 1));
        assert_eq!(bed.weight("new"), Some(0));

        let early = tokio::time::timeout(Duration::from_millis(700), bed.driver.work()).await;
        assert!(early.is_err(), "{}: a sick server serves: {early:?}", program.version);
        bed.until("it is checked", |_| new.checks() > 1).await;
        assert_eq!((bed.weight("new"), new.requests()), (Some(0), 0));

        new.set_healthy(true);
        let Event::Serving { backend, server, after } = bed.event().await else {
            panic!("it was not removed")
        };
        assert_eq!((backend.as_str(), server.as_str()), ("b", "new"));
        assert!(after > Duration::from_millis(700));
        assert_eq!(bed.weight("new"), Some(7));
        bed.until("the new server serves", |_| new.requests() > 0).await;
        let tally = load.stop();
        assert!(tally.failures.is_empty(), "{}: {tally:?}", program.version);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_server_gets_its_weight_at_once_where_nobody_else_serves() {
    for program in versions() {
        let web = Web::start("only").unwrap();
        let mut bed = Bed::start(program, &[]);
        let wanted = bed.write(&[line("only", &web, "check inter 5s")]);
        let applied = bed.driver.apply(&wanted).await.unwrap();
        assert_eq!((applied.reloaded, applied.joining), (None, 0));
        assert_eq!(get(bed.front, "/").unwrap(), "only", "{}", program.version);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn options_of_default_server_reach_new_servers_too() {
    for program in versions() {
        let [old, new] = ["old", "new"].map(|name| Web::start(name).unwrap());
        let mut bed = Bed::start(program, &[]);
        let with_default = |text: String| {
            text.replace("retries 3", "default-server check inter 150ms fall 100 weight 9")
        };
        let text = with_default(health(&bed, &[line("old", &old, "")]));
        bed.real.write(&text).unwrap();
        bed.driver.reload(&text).await.unwrap();
        let text = with_default(health(&bed, &[line("old", &old, ""), line("new", &new, "")]));
        bed.real.write(&text).unwrap();
        assert_eq!(bed.driver.apply(&text).await.unwrap().reloaded, None);
        assert!(matches!(bed.event().await, Event::Serving { .. }));
        assert_eq!((bed.weight("old"), bed.weight("new")), (Some(9), Some(9)));
        bed.until("checks go on", |_| new.checks() > 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_server_is_down_until_its_checks_pass_at_the_new_place() {
    for program in versions() {
        let [other, old, new] = ["other", "old", "new"].map(|name| Web::start(name).unwrap());
        let mut bed = Bed::start(program, &[]);
        let text = health(&bed, &[line("other", &other, UNCHECKED), line("s", &old, CHECKED)]);
        bed.driver.reload(&text).await.unwrap();
        new.set_healthy(false);
        let text = health(&bed, &[line("other", &other, UNCHECKED), line("s", &new, CHECKED)]);
        assert_eq!(bed.driver.apply(&text).await.unwrap().reloaded, None);
        let load = Load::start(bed.front);
        bed.until("it is checked", |_| new.checks() > 1).await;
        assert_eq!(new.requests(), 0, "{}", program.version);
        new.set_healthy(true);
        bed.until("it serves", |_| new.requests() > 0).await;
        let tally = load.stop();
        assert!(tally.failures.is_empty(), "{}: {tally:?}", program.version);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_file_is_rejected_with_haproxys_own_words() {
    for program in versions() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["base.cfg", "haproxy.cfg"].map(|name| folder.path().join(name));
        std::fs::write(&files[0], "global\n").unwrap();
        let good = text("127.0.0.1:1".parse().unwrap(), &["s 127.0.0.1:2".to_owned()]);
        std::fs::write(&files[1], &good).unwrap();
        check(&program.path, &files, SOON).await.unwrap();
        std::fs::write(&files[1], format!("{good}    frobnicate\n")).unwrap();
        let Err(CheckError::Rejected { lines }) = check(&program.path, &files, SOON).await else {
            panic!("accepted")
        };
        assert!(lines[0].contains("unknown keyword 'frobnicate'"), "{lines:?}");
        assert!(lines[0].contains("haproxy.cfg:14"), "{lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_missing_hangs_or_is_killed_is_no_rejection() {
    let missing = check(Path::new("/nowhere/haproxy"), &[], SOON).await;
    assert!(matches!(missing, Err(CheckError::Run { .. })), "{missing:?}");
    // To a shell, what would be HAProxy's file is the command.
    let killed = check(Path::new("/bin/sh"), &["kill -KILL $$".into()], SOON).await;
    assert!(matches!(killed, Err(CheckError::Killed { .. })), "{killed:?}");
    for program in versions() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("haproxy.cfg");
        // Nobody ever writes into it.
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let hangs = check(&program.path, &[pipe], Duration::from_millis(300)).await;
        assert!(
            matches!(hangs, Err(CheckError::TimedOut { .. })),
            "{}: {hangs:?}",
            program.version
        );
    }
}
