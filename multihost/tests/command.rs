//! The program itself, where no engine is needed: what it writes for real hosts, and what it refuses.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use multihost::space;
use tempfile::TempDir;

/// Not in memory, as /tmp may be, and not below /run.
fn folder() -> TempDir {
    tempfile::tempdir_in("/var/tmp").unwrap()
}

/// Runs `PREFIX… multihost ARGS…` in the project's folder.
fn run(prefix: &[&str], args: &[&str]) -> Output {
    let words = [prefix, &[env!("CARGO_BIN_EXE_multihost")], args].concat();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Command::new(words[0]).args(&words[1..]).current_dir(repository).output().unwrap()
}

/// Runs it, and returns what it complains about.
fn refused(prefix: &[&str], args: &[&str]) -> String {
    let output = run(prefix, args);
    assert!(!output.status.success(), "{args:?} is not refused");
    String::from_utf8(output.stderr).unwrap()
}

fn accepted(prefix: &[&str], args: &[&str]) {
    let output = run(prefix, args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Returns everything below a folder.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| {
        let inner = if path.is_dir() { tree(&path) } else { Vec::new() };
        [vec![path], inner].concat()
    };
    entries.flat_map(below).collect()
}

#[test]
fn what_a_host_needs_can_be_read_there_whatever_the_umask_is() {
    let out = folder();
    let out = out.path().to_str().unwrap();
    let careful = ["sh", "-c", "umask 077; exec \"$0\" \"$@\""];
    accepted(&careful, &["bundle", "alpha=10.0.0.1", "--servers", "1", "--out", out]);
    let secrets = [".env", "agent.token", "secrets.json", "tokens/registrator", "tokens/confd"];
    let host = Path::new(out).join("alpha");
    let all = tree(&host);
    assert!(all.iter().any(|path| path.ends_with("templates/conf.d/haproxy.toml")), "{all:?}");
    for path in [&[host][..], &all].concat() {
        let secret = secrets.iter().any(|name| path.ends_with(name));
        let wanted = if path.is_dir() {
            0o755
        } else if secret {
            0o600
        } else {
            0o644
        };
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, wanted, "{} has {mode:o}", path.display());
    }
    for path in [Path::new(out), &Path::new(out).join("secrets")] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
    }
}

#[test]
fn a_host_more_changes_nobodys_role() {
    let out = folder();
    let out = out.path().to_str().unwrap();
    let hosts = ["alpha=10.0.0.1", "beta=10.0.0.2", "gamma=10.0.0.3"];
    accepted(&[], &["bundle", hosts[0], hosts[1], "--servers", "1", "--out", out]);
    let roles = || {
        ["alpha", "beta", "gamma"].map(|name| {
            let file = Path::new(out).join(name).join("consul/agent/node.json");
            let node: serde_json::Value = serde_json::from_slice(&fs::read(file).ok()?).unwrap();
            node["server"].as_bool()
        })
    };
    accepted(&[], &["bundle", hosts[0], hosts[1], hosts[2], "--out", out]);
    assert_eq!(roles(), [Some(true), Some(false), Some(false)]);
    let why = refused(&[], &["bundle", hosts[1], hosts[2], "--out", out]);
    assert!(why.contains("0 of these hosts would be servers"), "{why}");
    accepted(&[], &["bundle", hosts[0], hosts[1], hosts[2], "--servers", "3", "--out", out]);
    assert_eq!(roles(), [Some(true); 3]);
}

#[tokio::test]
async fn a_network_that_is_in_use_here_is_refused_before_anything_is_made() {
    let inside = folder();
    let machine = space::make(inside.path(), "machine").await.unwrap();
    for command in ["link add own type bridge", "addr add 10.97.0.64/26 dev own", "link set own up"]
    {
        machine.ip(command).await.unwrap();
    }
    let pid = machine.pid.to_string();
    let there = ["nsenter", "--target", &pid, "--net", "--"];
    let nodes = inside.path().join("nodes");
    let up = ["--folder", nodes.to_str().unwrap(), "up", "--network", "10.97.0.0"];
    let why = refused(&there, &up);
    let untouched = !nodes.exists();
    // It is their own network that is in use, where there are nodes.
    fs::create_dir(&nodes).unwrap();
    fs::write(nodes.join("multihost.json"), "{}").unwrap();
    let again = refused(&there, &up);
    machine.kill().await.unwrap();
    assert!(why.contains("10.97.0.0/24 is in use here (10.97.0.64/26 dev own"), "{why}");
    assert!(untouched, "something was made");
    assert!(again.contains("take them down first: multihost down"), "{again}");
}

#[tokio::test]
async fn nodes_whose_folder_was_removed_by_hand_are_found_and_ended() {
    let inside = folder();
    let nodes = inside.path().join("nodes");
    let node = space::make(&nodes, "node1").await.unwrap();
    fs::remove_dir_all(&nodes).unwrap();
    let folder = nodes.to_str().unwrap();
    let why = refused(&[], &["up", "--folder", folder, "--network", "10.97.0.0"]);
    let there = Path::new("/proc").join(node.pid.to_string());
    let named = why.contains("something left of other nodes") && why.contains("multihost down");
    // With a slash too many, which changes nothing.
    accepted(&[], &["down", "--folder", &format!("{folder}/")]);
    assert!(named, "{why}");
    assert!(!there.exists(), "it is not ended");
}

#[test]
fn a_folder_with_something_else_in_it_is_neither_used_nor_removed() {
    let other = folder();
    let letter = other.path().join("letter");
    fs::write(&letter, "dear").unwrap();
    let folder = other.path().to_str().unwrap();
    for (command, why) in [("up", "holds something else"), ("down", "it stays")] {
        let said = refused(&[], &[command, "--folder", folder]);
        assert!(said.contains(why), "{command}: {said}");
        assert!(letter.exists());
    }
    assert!(refused(&[], &["status", "--folder", folder]).contains("no nodes in"));
}
