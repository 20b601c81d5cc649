//! A host of one's own, as a machine of namespaces: Consul without a container, by its unit, and the operator's commands.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use multihost::space::{self, Space};
use tempfile::TempDir;

/// Where Consul's API is.
const API: &str = "http://10.97.0.1:8500/v1";

/// The host alpha; everything that runs there ends when it is dropped.
struct Host {
    folder: TempDir,
    space: Space,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-KILL", &self.space.pid.to_string()]).status();
    }
}

impl Host {
    /// Returns a host with the folder that `bundle` wrote for it, brought over as the documentation says.
    async fn new() -> Self {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        // Consul runs there as a user of its own.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let space = space::make(folder.path(), "alpha").await.unwrap();
        for command in
            ["link add own type bridge", "addr add 10.97.0.1/24 dev own", "link set own up"]
        {
            space.ip(command).await.unwrap();
        }
        let host = Self { folder, space };
        let out = host.path("cluster");
        host.multihost(&["bundle", "alpha=10.97.0.1", "beta=10.97.0.2", "--servers=1"]);
        let line = format!(
            "tar -C {out}/alpha -c . | (mkdir {etc} && tar -C {etc} -xp --numeric-owner)
             mkdir {data} && chown -R consul: {data} {etc}/consul && echo 1 >{pid}",
            out = out.display(),
            etc = host.path("etc").display(),
            data = host.path("data").display(),
            pid = host.path("docker.pid").display()
        );
        host.shell(&line);
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `multihost ARGS… --out …/cluster` there, in the project's folder.
    fn try_multihost(&self, args: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.space.pid.to_string(), "--net", "--"]);
        command.arg(env!("CARGO_BIN_EXE_multihost")).args(args);
        command.arg("--out").arg(self.path("cluster"));
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
        command.output().unwrap()
    }

    fn multihost(&self, args: &[&str]) {
        let output = self.try_multihost(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs a line of shell there, and returns what it prints.
    fn try_shell(&self, line: &str) -> Result<String, String> {
        let mut command = self.space.inside("bash").into_std();
        let output = command.args(["-c", &format!("set -e; {line}")]).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    fn shell(&self, line: &str) -> String {
        self.try_shell(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// Asks Consul, with a token of those that are kept.
    fn ask(&self, token: &str, rest: &str) -> Result<String, String> {
        let token = fs::read_to_string(self.path("cluster/secrets").join(token)).unwrap();
        self.try_shell(&format!(
            "curl --noproxy '*' --silent --show-error --fail --header 'X-Consul-Token: {token}' {rest}"
        ))
    }

    /// Starts Consul as `deploy/systemd/consul.service` says, with this host's places.
    fn start(&self) {
        let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd/consul.service");
        let mut unit = fs::read_to_string(unit).unwrap();
        for (there, here) in [
            ("/etc/ambassador", "etc"),
            ("/var/lib/consul", "data"),
            ("/run/docker.pid", "docker.pid"),
        ] {
            unit = unit.replace(there, self.path(here).to_str().unwrap());
        }
        let setting = |name: &str| {
            let line = unit.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
            line.unwrap_or_else(|| panic!("no {name}")).to_owned()
        };
        let line = format!(
            "set -a; . {}; exec setpriv --reuid={} --regid={} --clear-groups env {} {} -pid-file={}",
            setting("EnvironmentFile"),
            setting("User"),
            setting("Group"),
            setting("Environment"),
            setting("ExecStart"),
            self.path("data/pid").display()
        );
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.space.inside("bash");
        command.args(["-c", &line]).stdin(Stdio::null());
        drop(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        self.eventually("a leader", || {
            self.try_shell(&format!("curl --noproxy '*' -fs {API}/status/leader"))
                .is_ok_and(|at| at.len() > 4)
        });
    }

    fn stop(&self) {
        let pid = self.path("data/pid");
        self.shell(&format!("p=$(cat {}); kill $p; while [ -e /proc/$p ] && ! grep -q '^State:.Z' /proc/$p/status; do sleep .1; done", pid.display()));
    }

    fn eventually(&self, what: &str, found: impl Fn() -> bool) {
        let started = Instant::now();
        while !found() {
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "not within 30 s: {what}\n{}",
                fs::read_to_string(self.path("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Whether Consul lists the service printer.
    fn listed(&self) -> bool {
        let list = format!("{API}/health/service/printer");
        self.ask("management.token", &list).is_ok_and(|list| list.contains("631"))
    }
}

#[tokio::test]
async fn what_ran_before_the_engine_was_started_stays_in_registrators_hands_when_no_server_answers()
{
    let host = Host::new().await;
    host.start();
    host.multihost(&["bootstrap", "alpha=10.97.0.1", "beta=10.97.0.2"]);
    let registrator =
        |rest: &str| host.ask("registrator-alpha.token", &format!("--request PUT {rest}")).is_ok();
    let service =
        format!("--data '{{\"Name\": \"printer\", \"Port\": 631}}' {API}/agent/service/register");
    host.eventually("the service is taken", || registrator(&service));
    host.eventually("it is listed", || host.listed());
    host.stop();
    host.shell(&format!("touch -d '+1 minute' {}", host.path("docker.pid").display()));
    host.start();
    // The only server is this one: an agent that had forgotten the service could not take it off the list.
    let gone = format!("{API}/agent/service/deregister/printer");
    host.eventually("the agent remembers it", || registrator(&gone));
    host.eventually("it is off the list", || !host.listed());
}

#[tokio::test]
async fn a_snapshot_is_restored_into_an_empty_cluster_with_the_same_tokens() {
    let host = Host::new().await;
    host.start();
    let hosts = ["bootstrap", "alpha=10.97.0.1", "beta=10.97.0.2"];
    host.multihost(&hosts);
    let token = fs::read_to_string(host.path("cluster/secrets/management.token")).unwrap();
    let (key, backup) = (format!("{API}/kv/kept"), host.path("backup.snap"));
    let everything = "management.token";
    host.ask(everything, &format!("--request PUT --data yes {key}")).unwrap();
    let save = format!("{API}/snapshot --output {}", backup.display());
    host.ask(everything, &save).unwrap();
    host.stop();
    host.shell(&format!("rm -rf {}/*", host.path("data").display()));
    host.start();
    assert!(host.ask(everything, &key).is_err(), "the cluster is not empty");
    host.multihost(&hosts);
    assert_eq!(fs::read_to_string(host.path("cluster/secrets/management.token")).unwrap(), token);
    let restore = format!("--request PUT --data-binary @{} {API}/snapshot", backup.display());
    host.ask(everything, &restore).unwrap();
    host.eventually("what was kept is back", || {
        host.ask(everything, &format!("{key}?raw")).is_ok_and(|value| value == "yes")
    });
    host.ask("confd-alpha.token", &format!("{API}/acl/token/self")).unwrap();
}

#[tokio::test]
async fn a_host_that_is_gone_loses_its_tokens_and_one_that_lives_does_not() {
    let host = Host::new().await;
    host.start();
    host.multihost(&["bootstrap", "alpha=10.97.0.1", "beta=10.97.0.2"]);
    let own = format!("{API}/acl/token/self");
    let stolen = host.path("cluster/secrets/stolen");
    fs::copy(host.path("cluster/secrets/confd-beta.token"), &stolen).unwrap();
    host.ask("stolen", &own).expect("beta's token is good while it is there");
    let at = ["--consul", "http://10.97.0.1:8500"];
    let refused = host.try_multihost(&[&["forget", "alpha"][..], &at].concat());
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(why.contains("alpha is alive"), "{why}");
    host.multihost(&[&["forget", "beta"][..], &at].concat());
    assert!(host.ask("stolen", &own).is_err(), "beta's token is still good");
    assert!(!host.path("cluster/secrets/agent-beta.token").exists());
    host.ask("confd-alpha.token", &own).expect("alpha's token");
}
