//! How soon a new server serves.

use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use confd::haproxy::Event;
use testbed::haproxy::{Web, get};

use crate::bed::{Bed, line, versions};

fn report(version: &str, what: &str, times: &mut [Duration]) -> Duration {
    times.sort();
    let (half, most) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("{version}: {what}: p50 {half:?}, p99 {most:?} of {}", times.len());
    half
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_check_serves_within_milliseconds() {
    for program in versions() {
        let web = Web::start("new").unwrap();
        let mut bed = Bed::start(program, &[]);
        let (mut applied, mut served) = (Vec::new(), Vec::new());
        for _ in 0..100 {
            let wanted = bed.write(&[line("new", &web, "")]);
            let start = Instant::now();
            assert_eq!(bed.driver.apply(&wanted).await.unwrap().operations, 1);
            applied.push(start.elapsed());
            assert_eq!(get(bed.front, "/").unwrap(), "new");
            served.push(start.elapsed());
            let wanted = bed.write(&[]);
            bed.driver.apply(&wanted).await.unwrap();
            assert!(matches!(bed.event().await, Event::Removed { .. }));
        }
        report(program.version, "applied", &mut applied);
        let half = report(program.version, "first answer", &mut served);
        // Ten times what a quiet machine needs: this catches a reload, which takes 100 ms, not a busy machine.
        assert!(half < Duration::from_millis(20), "{}: {half:?}", program.version);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_check_serves_after_its_first_interval() {
    for program in versions() {
        for (options, limit) in [("check inter 1s", 1300), ("check inter 1s downinter 20ms", 300)] {
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
            let half = report(program.version, options, &mut times);
            assert!(
                half < Duration::from_millis(limit),
                "{}: {options}: {half:?}",
                program.version
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_the_first_check_that_is_interrupted_is_made_up_for_at_once() {
    for program in versions() {
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
            std::future::poll_fn(|context| Poll::Ready(look.as_mut().poll(context).is_ready()))
                .await;
        }
        assert!(matches!(bed.event().await, Event::Serving { .. }));
        let took = start.elapsed();
        // A check takes 20 ms; before the next look of its own accord a second passes.
        assert!(took < Duration::from_millis(900), "{}: {took:?}", program.version);
    }
}
