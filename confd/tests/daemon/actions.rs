//! Whom confd tells about a new file, besides HAProxy: containers, and a program that it runs itself.

use std::fs;
use std::path::PathBuf;

use testbed::docker::Docker;

use crate::bed::Bed;

/// Makes one resource the only one: a file with a key's value; returns where it goes.
fn one_key(bed: &Bed, more: &str) -> PathBuf {
    let dest = bed.folder.path().join("out");
    let _ = fs::remove_file(bed.confdir().join("conf.d/haproxy.toml"));
    bed.write("templates/t.tera", "{{ key_or(path=\"color\", default=\"none\") }}\n");
    let text = format!(
        "[template]\nsrc = \"t.tera\"\ndest = \"{}\"\nreload_min_interval = \"0s\"\n{more}",
        dest.display()
    );
    bed.write("conf.d/t.toml", &text);
    dest
}

/// A program that notes what happens to it; `also` is more of its script.
fn script(bed: &Bed, also: &str) -> String {
    let (notes, dest) = (bed.folder.path().join("notes"), bed.folder.path().join("out"));
    format!(
        "note() {{ echo $1 $(cat {dest}) $$ >>{notes}; }}; trap 'note hup' HUP; {also}; note start; while :; do sleep 0.02; done",
        dest = dest.display(),
        notes = notes.display()
    )
}

fn notes(bed: &Bed) -> Vec<String> {
    let text = fs::read_to_string(bed.folder.path().join("notes")).unwrap_or_default();
    text.lines().map(ToOwned::to_owned).collect()
}

fn noted(bed: &Bed, what: &str) -> usize {
    notes(bed).iter().filter(|line| line.starts_with(what)).count()
}

/// Returns the number of the program that started last.
fn program(bed: &Bed) -> i32 {
    let notes = notes(bed);
    let start = notes.iter().rfind(|line| line.starts_with("start")).expect("started");
    start.rsplit(' ').next().unwrap().parse().unwrap()
}

fn runs(pid: i32) -> bool {
    // A process that nobody has collected yet is no longer running, either.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_started_told_of_changes_kept_running_and_ended() {
    let mut bed = Bed::new();
    let text = script(&bed, "trap 'note term; exit' TERM");
    one_key(
        &bed,
        &format!(
            "[template.exec]\ncommand = [\"sh\", \"-c\", {text:?}]\nreload_signal = \"HUP\"\nsplay = \"10ms\"\n"
        ),
    );
    bed.start();
    bed.until("it is started with the file there", |bed| noted(bed, "start none") == 1).await;
    let first = program(&bed);
    bed.client.kv_put("color", b"red").await.unwrap();
    bed.until("it is told", |bed| noted(bed, "hup red") == 1).await;
    assert_eq!(program(&bed), first, "the same program");
    // Whoever ends it, it comes back.
    let pid = nix::unistd::Pid::from_raw(first);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    bed.until("it is started again", |bed| noted(bed, "start red") == 1).await;
    assert!(!runs(first));
    let second = program(&bed);
    bed.confd().stop().unwrap();
    assert_eq!(noted(&bed, "term red"), 1, "{:?}", notes(&bed));
    assert!(!runs(second));
    // What an earlier confd had loaded is no reason not to start it.
    bed.start();
    bed.until("it is started again", |bed| noted(bed, "start red") == 2).await;
    // Killed, confd would leave it behind.
    bed.confd().stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_without_a_reload_signal_is_restarted_and_one_that_stays_is_killed() {
    let mut bed = Bed::new();
    let text = script(&bed, "trap 'note term' TERM");
    // A line for a shell; what it starts is ended with it.
    let text = format!("sleep 3456.7 & {text}");
    one_key(&bed, &format!("[template.exec]\ncommand = {text:?}\nkill_timeout = \"3s\"\n"));
    bed.start();
    bed.until("it is started", |bed| noted(bed, "start none") == 1).await;
    let first = program(&bed);
    bed.client.kv_put("color", b"red").await.unwrap();
    bed.until("it is started again", |bed| noted(bed, "start red") == 1).await;
    assert_eq!((noted(&bed, "term"), runs(first)), (1, false));
    let second = program(&bed);
    bed.confd().stop().unwrap();
    assert!(!runs(second));
    let processes = || std::process::Command::new("ps").args(["-eo", "args"]).output().unwrap();
    bed.until("what it started is gone", |_| {
        !String::from_utf8_lossy(&processes().stdout).contains("sleep 3456.7")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_a_line_for_a_shell_runs_gets_the_signals_and_its_time_to_end() {
    let mut bed = Bed::new();
    let inner = bed.folder.path().join("inner.sh");
    fs::write(&inner, script(&bed, "trap 'sleep 0.5; note term; exit' TERM")).unwrap();
    // The outer shell ends at once, the inner one takes its time.
    let line = format!("sh {} | (trap : HUP; cat)", inner.display());
    one_key(
        &bed,
        &format!(
            "[template.exec]\ncommand = \"trap : HUP; {line}\"\nreload_signal = \"HUP\"\nkill_timeout = \"20s\"\n"
        ),
    );
    bed.start();
    bed.until("it is started", |bed| noted(bed, "start none") == 1).await;
    let pid = program(&bed);
    bed.client.kv_put("color", b"red").await.unwrap();
    bed.until("it is told", |bed| noted(bed, "hup red") == 1).await;
    assert!(runs(pid), "{:?}", notes(&bed));
    bed.confd().stop().unwrap();
    assert_eq!((noted(&bed, "term red"), runs(pid)), (1, false), "{:?}", notes(&bed));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_of_a_line_for_a_shell_is_told_of_changes_and_its_workers_are_not() {
    for line in ["sh", "cd / && sh", "exec sh", "trap : HUP; sh"] {
        let mut bed = Bed::new();
        let [inner, worker] = ["inner.sh", "worker"].map(|name| bed.folder.path().join(name));
        // Its worker knows no such signal, and would die of it.
        let also = format!("(trap - HUP; exec sleep 5678.9) & echo $! >{}", worker.display());
        fs::write(&inner, script(&bed, &also)).unwrap();
        let command = format!("{line} {}", inner.display());
        let table = format!("[template.exec]\ncommand = {command:?}\nreload_signal = \"HUP\"\n");
        one_key(&bed, &table);
        bed.start();
        bed.until("it is started", |bed| noted(bed, "start none") == 1).await;
        let worker: i32 = fs::read_to_string(&worker).unwrap().trim().parse().unwrap();
        let pid = program(&bed);
        bed.client.kv_put("color", b"red").await.unwrap();
        bed.until("it is told", |bed| noted(bed, "hup red") == 1).await;
        assert!(runs(pid) && runs(worker), "{line}: {:?}", notes(&bed));
        bed.confd().stop().unwrap();
        assert!(!runs(pid) && !runs(worker), "{line}: {:?}", notes(&bed));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn once_runs_the_program_to_its_end_and_has_its_exit_code() {
    let bed = Bed::new();
    for (line, code) in [("exit 7", 7), ("exit 0", 0), ("kill -9 $$", 137)] {
        one_key(&bed, &format!("[template.exec]\ncommand = {line:?}\n"));
        let output = bed.run(&["--once"]);
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    }
    one_key(&bed, "[template.exec]\ncommand = [\"/no/such/program\"]\n");
    let output = bed.run(&["--once"]);
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(err.contains("cannot start the program") && err.contains("No such file"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_with_a_label_are_signalled_or_restarted() {
    let docker = Docker::start().unwrap();
    let mut bed = Bed::new();
    bed.environment.push(("DOCKER_HOST".to_owned(), docker.url()));
    let script = "trap 'echo told' HUP; echo start; while :; do sleep 0.1; done";
    let run = |name: &str, label: &str| {
        docker
            .cli(&[
                "run",
                "-d",
                "--name",
                name,
                "--stop-timeout",
                "0",
                "--label",
                label,
                testbed::docker::IMAGE,
                "sh",
                "-c",
                script,
            ])
            .unwrap();
    };
    run("one", "role=web");
    run("two", "role=web");
    run("other", "role=db");
    let said = |name: &str, what: &str| {
        docker.cli(&["logs", name]).unwrap().lines().filter(|line| *line == what).count()
    };
    bed.until("they run", |_| ["one", "two", "other"].iter().all(|name| said(name, "start") == 1))
        .await;
    one_key(&bed, "[template.containers]\nlabel = \"role=web\"\nsignal = \"HUP\"\n");
    bed.start();
    bed.until("both are told", |_| ["one", "two"].iter().all(|name| said(name, "told") == 1)).await;
    // One that is gone is no reason to fail.
    docker.cli(&["rm", "-f", "two"]).unwrap();
    bed.client.kv_put("color", b"red").await.unwrap();
    bed.until("the one left is told", |_| said("one", "told") == 2).await;
    one_key(&bed, "[template.containers]\nlabel = \"role=web\"\nrestart = true\n");
    bed.until("the new table counts", |bed| bed.log().contains("stopped")).await;
    bed.client.kv_put("color", b"blue").await.unwrap();
    bed.until("it is restarted", |_| said("one", "start") == 2).await;
    // An engine that is away is told when it is back.
    docker.stop().unwrap();
    bed.client.kv_put("color", b"green").await.unwrap();
    bed.until("the failure is reported", |bed| bed.log().contains("docker at unix")).await;
    docker.launch().unwrap();
    docker.cli(&["start", "one"]).unwrap();
    bed.until("it is restarted", |_| said("one", "start") >= 3).await;
    bed.until("all is well", |bed| {
        String::from_utf8_lossy(&bed.run(&["status"]).stdout).starts_with("t: live")
    })
    .await;
    assert_eq!((said("other", "start"), said("other", "told")), (1, 0));
}
