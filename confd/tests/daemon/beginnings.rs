//! How it begins: with templates that ask nothing, without a load balancer, without a place to remember things.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, Instant};

use testbed::haproxy::Web;
use testbed::process::Process;

use crate::bed::Bed;

/// Has the stock resource look for its HAProxy below a folder that is not there yet, and returns that folder.
fn absent(bed: &Bed) -> std::path::PathBuf {
    let later = bed.folder.path().join("later");
    let path = bed.confdir().join("conf.d/haproxy.toml");
    let text = fs::read_to_string(&path).unwrap();
    let now = bed.haproxy.folder().display().to_string();
    bed.write("conf.d/haproxy.toml", &text.replace(&now, &later.display().to_string()));
    later
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_asks_nothing_is_live_like_any_other() {
    let mut bed = Bed::new();
    fs::remove_file(bed.confdir().join("conf.d/haproxy.toml")).unwrap();
    let dest = bed.folder.path().join("motd");
    bed.write("templates/t", "hello {{ env(name=\"NO_SUCH\", default=\"you\") }}\n");
    bed.write(
        "conf.d/t.toml",
        &format!("[template]\nsrc = \"t\"\ndest = \"{}\"\n", dest.display()),
    );
    let output = bed.run(&["--once"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_to_string(&dest).unwrap(), "hello you\n");
    bed.start();
    bed.until("it is live", |bed| {
        String::from_utf8_lossy(&bed.run(&["status"]).stdout).starts_with("t: live")
    })
    .await;
    assert_eq!(bed.get("/readyz").await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_run_waits_for_a_load_balancer_that_is_about_to_be_there() {
    let web = Web::start("a").unwrap();
    let bed = Bed::new();
    bed.register("web", "a", web.address(), &["http"]).await;
    let later = absent(&bed);
    let output = bed.run(&["--once", "--once-timeout", "300ms"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let log = File::create(bed.folder.path().join("log")).unwrap();
    let mut once =
        bed.command(&["--once"]).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    bed.until("it waits", |bed| bed.log().contains("waiting")).await;
    symlink(bed.haproxy.folder(), &later).unwrap();
    let status = tokio::task::spawn_blocking(move || once.wait().unwrap()).await.unwrap();
    assert!(status.success(), "{}", bed.log());
    assert_eq!(bed.serving("http_web"), ["a".to_owned()].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_that_comes_a_little_later_is_configured_at_once_and_that_is_no_failure() {
    comes_after(Duration::from_secs(4), "INFO").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_comes_much_later_is_configured_at_once_too() {
    // With pauses that only grew, the next look would be up to 16 seconds away by then.
    comes_after(Duration::from_secs(25), "ERROR").await;
}

/// Lets an HAProxy come after a while; until then what is missing is said as loud as `level`, and once.
async fn comes_after(pause: Duration, level: &str) {
    let web = Web::start("a").unwrap();
    let mut bed = Bed::new();
    bed.register("web", "a", web.address(), &["http"]).await;
    let later = absent(&bed);
    bed.start();
    bed.until("it is waited for", |bed| bed.log().contains("waiting")).await;
    tokio::time::sleep(pause).await;
    let started = Instant::now();
    symlink(bed.haproxy.folder(), &later).unwrap();
    bed.until_serving("http_web", &["a"]).await;
    println!("configured {:?} after it was there", started.elapsed());
    // It is looked for twice a second; a busy machine adds its own.
    assert!(started.elapsed() < Duration::from_secs(6), "{}", bed.log());
    assert_eq!(bed.log().matches("ERROR").count(), usize::from(level == "ERROR"), "{}", bed.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_remembered_is_served_all_the_same() {
    let web = Web::start("a").unwrap();
    let mut bed = Bed::new();
    bed.register("web", "a", web.address(), &["http"]).await;
    // A state folder on a file system that takes nothing, in a mount namespace that ends with confd.
    let plain = bed.command(&[]);
    let state = bed.folder.path().join("state");
    fs::create_dir(&state).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount -t tmpfs -o ro none \"$0\" && exec \"$@\""]);
    command.arg(&state).arg(plain.get_program()).args(plain.get_args());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let log = File::create(bed.folder.path().join("log")).unwrap();
    bed.confd = Some(Process::spawn(&command, Some(&log)).unwrap());
    bed.until_serving("http_web", &["a"]).await;
    bed.until("it is said", |bed| bed.log().contains("cannot be remembered")).await;
    bed.register("web", "b", web.address(), &["http"]).await;
    bed.until_serving("http_web", &["a", "b"]).await;
    let (status, why) = bed.get("/readyz").await.unwrap();
    assert!(status == 503 && why.contains("cannot be remembered"), "{why}");
}
