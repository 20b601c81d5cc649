//! How soon a new server serves.

use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use confd::haproxy::Event;
use testbed::haproxy::{Program, Web, get};

use crate::bed::{Bed, line, versions};

fn report(version: &str, what: &str, times: &mut [Duration]) -> Duration {
    times.sort();
    let (half, most) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("{version}: {what}: p50 {half:?}, p99 {most:?} of {}", times.len());
    half
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_check_serves_as_soon_as_it_is_applied() {
    for program in versions() {
        let web = Web::start("new").unwrap();
        let mut bed = Bed::start(program, &[]);
        let (mut applied, mut served) = (Vec::new(), Vec::new());
        for _ in 0..100 {
            let wanted = bed.write(&[line("new", &web, "")]);
            let start = Instant::now();
            let change = bed.driver.apply(&wanted).await.unwrap();
            assert_eq!((change.reloaded, change.operations), (None, 1));
            applied.push(start.elapsed());
            assert_eq!(get(bed.front, "/").unwrap(), "new");
            served.push(start.elapsed());
            let wanted = bed.write(&[]);
            bed.driver.apply(&wanted).await.unwrap();
            assert!(matches!(bed.event().await, Event::Removed { .. }));
        }
        report(program.version, "applied", &mut applied);
        report(program.version, "first answer", &mut served);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_check_serves_after_its_first_interval() {
    for program in versions() {
        let mut halves = Vec::new();
        for options in ["check inter 1s", "check inter 1s downinter 20ms"] {
            let [old, new] = ["old", "new"].map(|name| Web::start(name).unwrap());
            let mut bed = Bed::start(program, &[line("old", &old, options)]);
            let mut times = Vec::new();
            for _ in 0..5 {
                let wanted = bed.write(&[line("old", &old, options), line("new", &new, options)]);
                let start = Instant::now();
                assert_eq!(bed.driver.apply(&wanted).await.unwrap().joining, 1);
                assert!(matches!(bed.event().await, Event::Serving { .. }));
                times.push(start.elapsed());
                let wanted = bed.write(&[line("old", &old, options)]);
                bed.driver.apply(&wanted).await.unwrap();
                assert!(matches!(bed.event().await, Event::Removed { .. }));
            }
            halves.push(report(program.version, options, &mut times));
        }
        // 1 s to 20 ms, were there nothing but the checks.
        assert!(halves[1] * 3 < halves[0], "{}: {halves:?}", program.version);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_the_first_check_that_is_interrupted_is_made_up_for_at_once() {
    for program in versions() {
        let mut times = Vec::new();
        for _ in 0..3 {
            times.push(interrupted(program).await);
        }
        report(program.version, "after an interrupted look", &mut times);
        // A check takes 20 ms; before the next look of its own accord a second passes. A busy machine is late once.
        assert!(times[0] < Duration::from_millis(900), "{}: {times:?}", program.version);
    }
}

/// Returns how long a server with a check takes to serve when the look at it was interrupted.
async fn interrupted(program: &Program) -> Duration {
    let [old, new] = ["old", "new"].map(|name| Web::start(name).unwrap());
    let options = "check inter 20ms";
    let mut bed = Bed::start(program, &[line("old", &old, options)]);
    // What an earlier process might have left is looked for first.
    let _ = tokio::time::timeout(Duration::from_millis(100), bed.driver.work()).await;
    let wanted = bed.write(&[line("old", &old, options), line("new", &new, options)]);
    assert_eq!(bed.driver.apply(&wanted).await.unwrap().joining, 1);
    let start = Instant::now();
    tokio::time::sleep(Duration::from_millis(5)).await;
    {
        let mut look = pin!(bed.driver.work());
        std::future::poll_fn(|context| Poll::Ready(look.as_mut().poll(context).is_ready())).await;
    }
    assert!(matches!(bed.event().await, Event::Serving { .. }));
    start.elapsed()
}
