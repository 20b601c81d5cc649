//! The disk is full or read-only, a check or a command hangs: what was there stays, and it heals by itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use testbed::haproxy::Web;
use testbed::process::Process;

use crate::bed::Bed;

/// Writes a resource: a file with a key's value.
fn resource(bed: &Bed, name: &str, dest: &Path, more: &str) {
    bed.write("templates/t.tera", "{{ key_or(path=\"color\", default=\"none\") }}\n");
    let text = format!(
        "[template]\nsrc = \"t.tera\"\ndest = \"{}\"\nreload_min_interval = \"0s\"\n{more}",
        dest.display()
    );
    bed.write(&format!("conf.d/{name}.toml"), &text);
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_or_read_only_disk_keeps_the_old_file_until_there_is_room() {
    let mut bed = Bed::new();
    fs::remove_file(bed.confdir().join("conf.d/haproxy.toml")).unwrap();
    let disk = bed.folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    resource(&bed, "t", &disk.join("out"), "");
    // A small disk of its own, in a mount namespace that ends with confd.
    let plain = bed.command(&[]);
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs -o size=64k none \"$0\" && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script]).arg(&disk);
    command.arg(plain.get_program()).args(plain.get_args());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let log = fs::File::create(bed.folder.path().join("log")).unwrap();
    bed.confd = Some(Process::spawn(&command, Some(&log)).unwrap());
    let pid = bed.confd().pid();
    let inside = |path: &Path| PathBuf::from(format!("/proc/{pid}/root{}", path.display()));
    let (out, fill) = (inside(&disk.join("out")), inside(&disk.join("fill")));
    bed.until("it is written", |_| read(&out) == "none\n").await;

    // As much as fits; the rest is refused.
    assert!(fs::write(&fill, vec![0; 1 << 20]).is_err());
    bed.client.kv_put("color", b"red").await.unwrap();
    bed.until("the full disk is reported", |bed| bed.log().contains("No space left")).await;
    assert_eq!(read(&out), "none\n");
    fs::remove_file(&fill).unwrap();
    bed.until("it is written", |_| read(&out) == "red\n").await;

    let remount = |options: &str| {
        let mut mount = Command::new("nsenter");
        mount.args(["--mount", "--target", &pid.to_string(), "mount", "-o", options]).arg(&disk);
        assert!(mount.status().unwrap().success());
    };
    remount("remount,ro");
    bed.client.kv_put("color", b"blue").await.unwrap();
    bed.until("the read-only disk is reported", |bed| bed.log().contains("Read-only")).await;
    assert_eq!(read(&out), "red\n");
    remount("remount,rw");
    bed.until("it is written", |_| read(&out) == "blue\n").await;
    let left = fs::read_dir(inside(&disk)).unwrap().count();
    assert_eq!(left, 1, "nothing is left beside the file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_or_a_command_that_hangs_is_killed_and_stops_no_other_resource() {
    let mut bed = Bed::new();
    fs::remove_file(bed.confdir().join("conf.d/haproxy.toml")).unwrap();
    let [check, reload, other] =
        ["check", "reload", "other"].map(|name| bed.folder.path().join(name));
    let well = bed.folder.path().join("well");
    let hangs = format!("test -e {} || sleep 4567.8", well.display());
    resource(&bed, "check", &check, &format!("timeout = \"200ms\"\ncheck_cmd = {hangs:?}\n"));
    resource(&bed, "reload", &reload, &format!("timeout = \"200ms\"\nreload_cmd = {hangs:?}\n"));
    resource(&bed, "other", &other, "");
    bed.start();
    bed.until("both are reported", |bed| bed.log().matches("was killed after").count() > 1).await;
    bed.client.kv_put("color", b"red").await.unwrap();
    bed.until("the other one goes on", |_| read(&other) == "red\n").await;
    assert_eq!(read(&check), "", "what nobody has checked is not written");
    let running = Command::new("ps").args(["-eo", "args"]).output().unwrap();
    let running = String::from_utf8_lossy(&running.stdout).matches("sleep 4567.8").count();
    // Each is tried again and again, in a shell: two processes at most for each.
    assert!(running <= 4, "{running} are left behind");
    fs::write(&well, "").unwrap();
    bed.until("the check passes", |_| read(&check) == "red\n").await;
    bed.until("the command succeeds", |bed| bed.log().contains("action=\"reload_cmd\"")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_fails_once_costs_no_service_its_traffic() {
    let web = Web::start("a").unwrap();
    let mut bed = Bed::new();
    let once = bed.folder.path().join("once");
    let line = format!("test -e {0} || {{ touch {0}; echo busy; false; }}", once.display());
    bed.write("conf.d/haproxy.toml", &{
        let stock = fs::read_to_string(bed.confdir().join("conf.d/haproxy.toml")).unwrap();
        stock.replace("check = \"haproxy\"", &format!("check_cmd = {line:?}"))
    });
    bed.register("web", "a", web.address(), &["http"]).await;
    bed.start();
    bed.until_serving("http_web", &["a"]).await;
    assert!(bed.log().contains("busy"), "{}", bed.log());
    assert!(!bed.log().contains("left out"), "{}", bed.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_fails_its_check_when_another_has_replaced_it_costs_nobody_anything() {
    let web = Web::start("a").unwrap();
    let mut bed = Bed::new();
    let line = "if grep -q 'weight 13' {{ src }}; then sleep 2; echo unlucky; exit 1; fi";
    let stock = fs::read_to_string(bed.confdir().join("conf.d/haproxy.toml")).unwrap();
    let stock = stock.replace("check = \"haproxy\"", &format!("check_cmd = {line:?}"));
    bed.write("conf.d/haproxy.toml", &stock);
    let weight = "{{ key_or(path=\"weight\", default=\"1\") }}";
    bed.write(
        "templates/haproxy.cfg.tera",
        &bed.template().replace("{{ instance.weight }}", weight),
    );
    bed.register("web", "a", web.address(), &["http"]).await;
    bed.start();
    bed.until_serving("http_web", &["a"]).await;
    bed.until("it is remembered", |bed| bed.log().contains("generation=1")).await;
    // Live at once, while the file's check takes its time; and it has a new instance.
    bed.client.kv_put("weight", b"13").await.unwrap();
    let runs_with = |bed: &Bed, weight: &str| {
        bed.haproxy.command("get weight http_web/:node1:a").is_ok_and(|now| now.starts_with(weight))
    };
    bed.until("it is live", |bed| runs_with(bed, "13 ")).await;
    bed.register("web", "b", web.address(), &["http"]).await;
    bed.client.kv_put("weight", b"2").await.unwrap();
    bed.until("the check fails", |bed| bed.log().contains("unlucky")).await;
    bed.until("the next one is remembered", |bed| bed.log().contains("generation=2")).await;
    bed.until("it is live", |bed| runs_with(bed, "2 ")).await;
    bed.until_serving("http_web", &["a", "b"]).await;
    assert!(!bed.log().contains("left out"), "{}", bed.log());
}
