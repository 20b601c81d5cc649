//! `ambassador push` with a real engine and a real registry.

use std::path::Path;
use std::process::{Command, Output};

use testbed::process::Process;

use crate::harness::{Node, eventually};

/// The registry's address in the engine's own network, which nobody else uses.
const REGISTRY: &str = "localhost:5000";
const FILE: &str = "services:
  web: {build: web, command: [cat, /which]}
  other:
    image: team/other
    build: {context: ., dockerfile: other.Dockerfile}
  plain: {image: busybox}
";

/// Starts Debian's registry beside the engine.
fn registry(node: &Node, folder: &Path) -> Process {
    let installed = Command::new("sh").args(["-c", "command -v docker-registry"]).output().unwrap();
    assert!(
        installed.status.success(),
        "docker-registry is missing: apt-get install docker-registry"
    );
    let config = folder.join("registry.yml");
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
         http: {{addr: 'localhost:5000'}}\n",
        folder.join("registry").display()
    );
    std::fs::write(&config, text).unwrap();
    let mut command = node.docker.inside("docker-registry");
    command.arg("serve").arg(&config);
    let log = std::fs::File::create(folder.join("registry.log")).unwrap();
    let process = Process::spawn(&command, Some(&log)).unwrap();
    eventually("the registry answers", || {
        let mut ask = node.docker.inside("bash");
        ask.args(["-c", ": </dev/tcp/127.0.0.1/5000"]).stderr(std::process::Stdio::null());
        ask.status().unwrap().success()
    });
    process
}

fn push(node: &Node, folder: &Path, version: &str) -> Output {
    let mut command = node.command(&["push", "app.yml"]);
    command.current_dir(folder).env("DOCKER_REGISTRY", REGISTRY).env("VERSION", version);
    command.env_remove("COMPOSE_FILE").output().unwrap()
}

#[test]
fn push_writes_a_file_that_runs_elsewhere_and_none_if_anything_fails() {
    let node = Node::new();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("web")).unwrap();
    std::fs::write(path("web/Dockerfile"), "FROM busybox\nRUN echo web >/which\n").unwrap();
    std::fs::write(path("other.Dockerfile"), "FROM busybox\nRUN echo other >/which\n").unwrap();
    std::fs::write(path("app.yml"), FILE).unwrap();
    let project = folder.path().file_name().unwrap().to_string_lossy().to_lowercase();
    let project: String = project.chars().filter(char::is_ascii_alphanumeric).collect();
    let reference = format!("{REGISTRY}/{project}-web:1");

    let refused = push(&node, folder.path(), "1");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("not pushed: {reference}")), "{said}");
    assert!(!path("app.yml-1").exists(), "no registry, no file");

    let registry = registry(&node, folder.path());
    let pushed = push(&node, folder.path(), "1");
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    assert_eq!(String::from_utf8_lossy(&pushed.stdout).trim(), "app.yml-1");
    let written = std::fs::read_to_string(path("app.yml-1")).unwrap();
    assert!(!written.contains("build"), "{written}");
    assert!(written.contains(&reference) && written.contains("localhost:5000/team/other:1"));

    // Another node has none of the images.
    let others = [reference.as_str(), "localhost:5000/team/other:1"];
    node.docker.cli(&[&["image", "rm", "-f"], &others[..]].concat()).unwrap();
    let file = path("app.yml-1").display().to_string();
    let ran = node.docker.cli(&["compose", "-p", "elsewhere", "-f", &file, "run", "--rm", "web"]);
    assert_eq!(ran.unwrap(), "web");

    std::fs::write(path("other.Dockerfile"), "FROM busybox\nRUN false\n").unwrap();
    let refused = push(&node, folder.path(), "2");
    assert_eq!(refused.status.code(), Some(1), "what is not built is not pushed");
    assert!(!path("app.yml-2").exists());
    let usage = push(&node, folder.path(), "not a tag");
    assert_eq!(usage.status.code(), Some(2));
    drop(registry);
}

#[test]
fn push_of_a_file_that_takes_builds_from_others_is_refused_before_anything_is_built() {
    let folder = tempfile::tempdir().unwrap();
    let base = "services:\n  base: {build: .}\n";
    std::fs::write(folder.path().join("common.yml"), base).unwrap();
    for (more, named) in [
        ("  web: {extends: {file: common.yml, service: base}}\n", "service \"web\""),
        ("  web: {extends: app, image: team/web}\n", "service \"web\""),
        ("include: [common.yml]\n", "includes others"),
    ] {
        let file = format!("services:\n  app: {{build: .}}\n{more}");
        std::fs::write(folder.path().join("app.yml"), file).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ambassador"));
        command.args(["push", "app.yml"]).current_dir(folder.path()).env_remove("COMPOSE_FILE");
        // There is nothing to build with.
        command.env("DOCKER_REGISTRY", REGISTRY).env("VERSION", "1").env("PATH", folder.path());
        let refused = command.output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains(named) && said.contains("`docker compose config`"), "{said}");
        assert!(!folder.path().join("app.yml-1").exists());
    }
}
