//! Refusals, meddling, crashes: the wanted state is reached all the same.

use std::time::Duration;

use confd::haproxy::{Error, Haproxy, Outcome, Settings};
use testbed::haproxy::{Load, Web, get};

use crate::bed::{Bed, line, text, versions};

#[tokio::test(flavor = "multi_thread")]
async fn what_haproxy_refuses_at_run_time_is_reloaded() {
    for program in versions() {
        let [one, two] = ["one", "two"].map(|name| Web::start(name).unwrap());
        let mut bed = Bed::start(program, &[]);
        // A rule that names a server keeps it from being deleted, which HAProxy alone knows.
        let rule = |text: String| {
            text.replace(
                "balance roundrobin",
                "balance roundrobin\n    use-server one if { path /one }",
            )
        };
        let before = rule(bed.write(&[line("one", &one, ""), line("two", &two, "")]));
        bed.real.write(&before).unwrap();
        bed.driver.reload(&before).await.unwrap();
        let load = Load::start(bed.front);
        // Without the server the file would be wrong, so only its options are out of reach: too many connections asked for.
        let after = rule(bed.write(&[
            line("one", &one, ""),
            line("two", &two, ""),
            line("three", &two, "proto nonsense"),
        ]));
        bed.real.write(&after).unwrap();
        let Outcome::NeedsReload(reason) = bed.driver.apply_runtime(&after).await.unwrap() else {
            panic!("taken")
        };
        assert!(reason.starts_with("haproxy refused to add b/three"), "{reason}");
        let Err(Error::Reload { lines }) = bed.driver.apply(&after).await else { panic!("taken") };
        assert!(
            lines.iter().any(|line| line.contains("nonsense")),
            "{}: {lines:?}",
            program.version
        );
        assert_eq!(bed.driver.accepted(), Some(before.as_str()));

        bed.real.write(&before).unwrap();
        assert_eq!(bed.driver.drift().await.unwrap().reloaded, None);
        let tally = load.stop();
        assert!(tally.failures.is_empty(), "{}: {tally:?}", program.version);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_deletion_is_repaired_by_a_reload() {
    for program in versions() {
        let [one, two] = ["one", "two"].map(|name| Web::start(name).unwrap());
        let mut bed = Bed::start(program, &[]);
        let tracked = format!("backend t\n    server s {} track b/two\n", two.address());
        let before = bed.write(&[line("one", &one, ""), line("two", &two, "check")]) + &tracked;
        bed.real.write(&before).unwrap();
        bed.driver.reload(&before).await.unwrap();
        // Another backend's server tracks it: HAProxy does not let it go, and the file without it is wrong as well.
        let after = bed.write(&[line("one", &one, "")]) + &tracked;
        bed.real.write(&after).unwrap();
        assert_eq!(bed.driver.apply(&after).await.unwrap().reloaded, None);
        let refused = bed.driver.work().await;
        assert!(matches!(&refused, Err(Error::Refused { .. })), "{}: {refused:?}", program.version);
        // The caller restores the file; then nothing is lost but time.
        bed.real.write(&before).unwrap();
        bed.driver.apply(&before).await.unwrap();
        assert_eq!(bed.weight("two"), Some(1));
        assert_eq!(bed.field("two", "srv_admin_state").as_deref(), Some("0"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_did_with_the_socket_is_undone() {
    for program in versions() {
        let [one, two, three] = ["one", "two", "three"].map(|name| Web::start(name).unwrap());
        let servers =
            [line("one", &one, ""), line("two", &two, "weight 5"), line("three", &three, "")];
        let mut bed = Bed::start(program, &servers);
        assert_eq!(bed.driver.drift().await.unwrap(), confd::haproxy::Applied::default());
        for command in [
            "set server b/one state maint".to_owned(),
            "set server b/two weight 1".to_owned(),
            "set server b/three state maint; del server b/three".to_owned(),
            format!("add server b/four {}; enable server b/four", two.address()),
        ] {
            bed.real.command(&command).unwrap();
        }
        assert_eq!((bed.weight("three"), bed.weight("four")), (None, Some(1)));
        let applied = bed.driver.drift().await.unwrap();
        assert_eq!(applied.reloaded, None, "{}", program.version);
        assert!(
            matches!(bed.event().await, confd::haproxy::Event::Removed { server, .. } if server == "four")
        );
        assert_eq!(
            (bed.weight("two"), bed.weight("three"), bed.weight("four")),
            (Some(5), Some(1), None)
        );
        assert_eq!(bed.field("one", "srv_admin_state").as_deref(), Some("0"));
        assert_eq!(bed.driver.drift().await.unwrap(), confd::haproxy::Applied::default());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_comes_back_with_what_was_accepted() {
    for program in versions() {
        let [one, two] = ["one", "two"].map(|name| Web::start(name).unwrap());
        let mut bed = Bed::start(program, &[line("one", &one, "")]);
        let wanted = bed.write(&[line("one", &one, ""), line("two", &two, "")]);
        assert_eq!(bed.driver.apply(&wanted).await.unwrap().reloaded, None);
        bed.real.kill_worker().unwrap();
        assert!(matches!(bed.driver.drift().await, Err(Error::Unreachable { .. })));
        bed.real.restart().unwrap();
        // The file was in step with the commands: nothing is left to repair.
        assert_eq!(bed.driver.drift().await.unwrap().operations, 0);
        assert_eq!((bed.weight("one"), bed.weight("two")), (Some(1), Some(1)));
        let mut names = [get(bed.front, "/").unwrap(), get(bed.front, "/").unwrap()];
        names.sort();
        assert_eq!(names, ["one", "two"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_came_back_with_an_older_file_is_repaired() {
    for program in versions() {
        let [one, two] = ["one", "two"].map(|name| Web::start(name).unwrap());
        let mut bed = Bed::start(program, &[line("one", &one, "")]);
        // The commands arrive, the file does not.
        let wanted = text(bed.front, &[line("one", &one, ""), line("two", &two, "weight 6")]);
        bed.driver.apply(&wanted).await.unwrap();
        bed.real.kill_worker().unwrap();
        bed.real.restart().unwrap();
        assert_eq!(bed.weight("two"), None);
        assert_eq!(bed.driver.drift().await.unwrap().operations, 1);
        assert_eq!(bed.weight("two"), Some(6));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_reload_says_why_and_changes_nothing() {
    for program in versions() {
        let web = Web::start("one").unwrap();
        let mut bed = Bed::start(program, &[line("one", &web, "")]);
        let good = bed.driver.accepted().unwrap().to_owned();
        let load = Load::start(bed.front);
        for _ in 0..2 {
            let bad = format!("{good}    frobnicate\n");
            bed.real.write(&bad).unwrap();
            let Err(Error::Reload { lines }) = bed.driver.apply(&bad).await else {
                panic!("taken")
            };
            assert!(
                lines.iter().any(|line| line.contains("unknown keyword 'frobnicate'")),
                "{lines:?}"
            );
            assert_eq!(bed.driver.accepted(), Some(good.as_str()));
        }
        let better = good.replace("retries 3", "retries 2");
        bed.real.write(&better).unwrap();
        assert!(bed.driver.apply(&better).await.unwrap().reloaded.is_some());
        let tally = load.stop();
        assert!(tally.failures.is_empty(), "{}: {tally:?}", program.version);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_at_the_same_time_are_all_confirmed() {
    for program in versions() {
        let web = Web::start("one").unwrap();
        let bed = Bed::start(program, &[line("one", &web, "")]);
        let text = bed.driver.accepted().unwrap().to_owned();
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let settings = Settings::new(bed.real.runtime(), bed.real.master());
            let text = text.clone();
            all.spawn(async move { Haproxy::new(settings, None).apply(&text).await });
        }
        while let Some(applied) = all.join_next().await {
            assert!(applied.unwrap().unwrap().reloaded.is_some());
        }
        let processes = bed.real.log().unwrap().matches("Loading success").count();
        assert_eq!(processes, 5, "{}", program.version);
        assert_eq!(get(bed.front, "/").unwrap(), "one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn work_dropped_at_any_moment_is_taken_up_again() {
    for program in versions() {
        let [one, two, three] = ["one", "two", "three"].map(|name| Web::start(name).unwrap());
        let mut bed = Bed::start(program, &[line("one", &one, ""), line("two", &two, "")]);
        let wanted =
            bed.write(&[line("one", &one, ""), line("three", &three, "check inter 100ms")]);
        bed.driver.apply(&wanted).await.unwrap();
        // A new process knows no more than the text.
        let settings = Settings::new(bed.real.runtime(), bed.real.master());
        bed.driver = Haproxy::new(settings, Some(wanted));
        let mut events = Vec::new();
        let mut pause = Duration::from_micros(50);
        while bed.weight("two").is_some() || bed.weight("three") != Some(1) {
            // The longer it takes, the longer a turn: dropped early at first, left alone at last.
            if let Ok(done) = tokio::time::timeout(pause, bed.driver.work()).await {
                events.extend(done.unwrap());
            }
            pause = pause.mul_f32(1.3).min(Duration::from_secs(2));
        }
        assert!(events.len() <= 2, "{}: {events:?}", program.version);
    }
}
