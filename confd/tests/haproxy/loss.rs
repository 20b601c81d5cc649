//! Changes under load: clients lose nothing.

use std::time::{Duration, Instant};

use confd::haproxy::{Plan, diff};
use testbed::haproxy::{Load, Tally, Web, get};

use crate::bed::{Bed, line, text, versions};

fn lossless(tally: &Tally, version: &str) {
    let asked: usize = tally.answers.values().sum();
    assert!(
        tally.failures.is_empty(),
        "{version}: of {asked} lost {}: {:?}",
        tally.failures.len(),
        tally.failures.first()
    );
}

/// Waits until the load has met the state as it is now.
async fn met(load: &Load) {
    let enough = load.asked() + 50;
    while load.asked() < enough {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_come_go_and_change_weight_without_a_reload_or_a_lost_request() {
    for program in versions() {
        let [one, two, three] = ["one", "two", "three"].map(|name| Web::start(name).unwrap());
        let mut bed = Bed::start(program, &[line("one", &one, ""), line("two", &two, "weight 10")]);
        let worker = bed.real.worker().unwrap();
        let load = Load::start(bed.front);
        met(&load).await;

        let wanted = bed.write(&[
            line("one", &one, ""),
            line("two", &two, "weight 30"),
            line("three", &three, "weight 5"),
        ]);
        let applied = bed.driver.apply(&wanted).await.unwrap();
        assert_eq!((applied.reloaded, applied.operations), (None, 2));
        met(&load).await;
        let wanted = bed.write(&[line("three", &three, "weight 5")]);
        let applied = bed.driver.apply(&wanted).await.unwrap();
        assert_eq!((applied.reloaded, applied.leaving), (None, 2));
        let mut gone = 0;
        while gone < 2 {
            gone += bed.driver.work().await.unwrap().len();
        }
        met(&load).await;

        let tally = load.stop();
        lossless(&tally, program.version);
        assert!(tally.answers.keys().eq(["one", "three", "two"]), "{tally:?}");
        assert_eq!(
            (bed.weight("one"), bed.weight("two"), bed.weight("three")),
            (None, None, Some(5))
        );
        assert_eq!(bed.real.worker().unwrap(), worker, "{}: there was a reload", program.version);
        assert_eq!(bed.driver.drift().await.unwrap().operations, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_frontend_is_reloaded_without_a_lost_request() {
    for program in versions() {
        let web = Web::start("one").unwrap();
        let mut bed = Bed::start(program, &[line("one", &web, "")]);
        let worker = bed.real.worker().unwrap();
        let load = Load::start(bed.front);
        met(&load).await;
        for round in 0..3 {
            let wanted = text(bed.front, &[line("one", &web, "")]).replace(
                "default_backend b",
                &format!("http-request set-header x {round}\n    default_backend b"),
            );
            bed.real.write(&wanted).unwrap();
            let applied = bed.driver.apply(&wanted).await.unwrap();
            assert!(
                applied.reloaded.unwrap().contains("http-request set-header"),
                "{}",
                program.version
            );
            assert_eq!(bed.driver.accepted(), Some(wanted.as_str()));
        }
        met(&load).await;
        lossless(&load.stop(), program.version);
        assert_ne!(bed.real.worker().unwrap(), worker);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_server_keeps_its_name_and_needs_no_reload() {
    for program in versions() {
        let [old, new] = ["old", "new"].map(|name| Web::start(name).unwrap());
        let mut bed = Bed::start(program, &[line("s", &old, "")]);
        assert_eq!(get(bed.front, "/").unwrap(), "old");
        let wanted = bed.write(&[line("s", &new, "")]);
        let applied = bed.driver.apply(&wanted).await.unwrap();
        assert_eq!((applied.reloaded, applied.operations), (None, 1));
        // 3.0 moves a server in a task of its own, after its answer.
        bed.until("the server moves", |bed| get(bed.front, "/").unwrap() == "new").await;
        assert_eq!(bed.driver.drift().await.unwrap().operations, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_servers_come_in_one_go() {
    for program in versions() {
        let web = Web::start("one").unwrap();
        let mut bed = Bed::start(program, &[line("first", &web, "")]);
        let mut servers = vec![line("first", &web, "")];
        servers.extend(
            (0..200).map(|number| line(&format!("s{number}"), &web, "check inter 5s weight 10")),
        );
        let wanted = bed.write(&servers);
        let accepted = bed.driver.accepted().unwrap();
        assert!(matches!(diff(accepted, &wanted), Plan::Runtime(ops) if ops.len() == 200));
        let start = Instant::now();
        let applied = bed.driver.apply(&wanted).await.unwrap();
        println!("{}: 200 servers added in {:?}", program.version, start.elapsed());
        assert_eq!((applied.reloaded, applied.operations, applied.joining), (None, 200, 200));
        let mut serving = 0;
        while serving < 200 {
            serving += bed.driver.work().await.unwrap().len();
        }
        println!("{}: 200 servers checked and serving in {:?}", program.version, start.elapsed());
        let wanted = bed.write(&servers[..1]);
        let start = Instant::now();
        assert_eq!(bed.driver.apply(&wanted).await.unwrap().leaving, 200);
        let mut gone = 0;
        while gone < 200 {
            gone += bed.driver.work().await.unwrap().len();
        }
        println!("{}: 200 servers removed in {:?}", program.version, start.elapsed());
        assert_eq!(get(bed.front, "/").unwrap(), "one");
        assert_eq!(diff(bed.driver.accepted().unwrap(), &wanted), Plan::Nothing);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_quick_changes_end_as_the_last_one_says() {
    for program in versions() {
        let [one, two, three] = ["one", "two", "three"].map(|name| Web::start(name).unwrap());
        let mut bed = Bed::start(program, &[line("one", &one, "check inter 1s")]);
        let load = Load::start(bed.front);
        met(&load).await;
        let first =
            bed.write(&[line("one", &one, "check inter 1s"), line("two", &two, "check inter 1s")]);
        bed.driver.apply(&first).await.unwrap();
        let second = bed
            .write(&[line("one", &one, "check inter 1s"), line("three", &three, "check inter 1s")]);
        let applied = bed.driver.apply(&second).await.unwrap();
        assert_eq!((applied.reloaded, applied.joining, applied.leaving), (None, 1, 1));
        let mut events = 0;
        while events < 2 {
            events += bed.driver.work().await.unwrap().len();
        }
        met(&load).await;
        let tally = load.stop();
        lossless(&tally, program.version);
        assert!(tally.answers.keys().eq(["one", "three"]), "{tally:?}");
        assert_eq!((bed.weight("two"), bed.weight("three")), (None, Some(1)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_right_after_a_reload_reach_the_new_worker() {
    for program in versions() {
        let [one, two] = ["one", "two"].map(|name| Web::start(name).unwrap());
        let mut bed = Bed::start(program, &[line("one", &one, "")]);
        let load = Load::start(bed.front);
        for round in 1..=10 {
            let old = bed.write(&[line("one", &one, "")]);
            assert!(bed.driver.reload(&old).await.unwrap().reloaded.is_some());
            let wanted =
                bed.write(&[line("one", &one, ""), line("two", &two, &format!("weight {round}"))]);
            assert_eq!(bed.driver.apply(&wanted).await.unwrap().reloaded, None);
            assert_eq!(bed.weight("two"), Some(round), "{}", program.version);
        }
        lossless(&load.stop(), program.version);
    }
}
