//! `ambassador link` on files, as people run it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const TODAY: &str = include_str!("today.yml");
const TODAY_CONVERTED: &str = include_str!("today.converted.yml");
const FORMAT_2015: &str = include_str!("2015.yml");
const FORMAT_2015_CONVERTED: &str = include_str!("2015.converted.yml");

/// A folder with a `ports.yml` where one is given.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            let path = folder.path(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs `ambassador link` with an engine that is not there.
    fn link(&self, arguments: &[&str]) -> Output {
        self.command(arguments).env("DOCKER_HOST", "unix:///no/such.sock").output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ambassador"));
        command.arg("link").args(arguments).current_dir(self.0.path()).env_remove("COMPOSE_FILE");
        command
    }
}

#[track_caller]
fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn todays_format_and_that_of_2015_become_ambassadors_and_stay_so() {
    for (before, after) in [(TODAY, TODAY_CONVERTED), (FORMAT_2015, FORMAT_2015_CONVERTED)] {
        let folder = Folder::new(&[("in.yml", before), ("ports.yml", "redis: 6379\n")]);
        succeeded(&folder.link(&["in.yml", "out.yml"]));
        assert_eq!(folder.read("out.yml"), after);
        assert_eq!(folder.read("in.yml"), before);
        succeeded(&folder.link(&["out.yml"]));
        assert_eq!(folder.read("out.yml"), after, "a second time");
        let output = folder.command(&[]).env("COMPOSE_FILE", "in.yml").output().unwrap();
        succeeded(&output);
        assert_eq!(folder.read("in.yml"), after, "by $COMPOSE_FILE");
    }
}

#[test]
fn compose_understands_the_result() {
    let folder = Folder::new(&[("compose.yml", TODAY_CONVERTED)]);
    let config = |file: &Path| {
        let output = Command::new("docker")
            .args(["compose", "-f"])
            .arg(file)
            .arg("config")
            .output()
            .unwrap();
        succeeded(&output);
        String::from_utf8(output.stdout).unwrap()
    };
    let text = config(&folder.path("compose.yml"));
    assert!(text.contains("ambassador.upstreams: rng:80,hasher:80,redis:6379"), "{text}");
    assert!(text.contains("hasher=127.127.0.3"), "{text}");
}

#[test]
fn ports_come_from_the_dockerfile_of_what_is_built() {
    let file = "services:\n  web: {build: web}\n  app: {image: app, links: [web]}\n";
    let folder = Folder::new(&[("in.yml", file), ("web/Dockerfile", "FROM x\nEXPOSE 8080\n")]);
    succeeded(&folder.link(&["in.yml"]));
    assert!(folder.read("in.yml").contains("ambassador.upstreams: \"web:8080\""));
}

#[test]
fn the_stage_that_is_built_tells_the_ports() {
    let file = "services:\n  web: {build: {context: web, target: RUN}}\n  app: {image: app, links: [web]}\n";
    let dockerfile = "FROM x AS debug\nEXPOSE 9229\nFROM y AS run\nEXPOSE 8080\nFROM z\nEXPOSE 1\n";
    let folder = Folder::new(&[("in.yml", file), ("web/Dockerfile", dockerfile)]);
    succeeded(&folder.link(&["in.yml"]));
    let text = folder.read("in.yml");
    assert!(text.contains("ambassador.upstreams: \"web:8080\""), "{text}");
}

#[test]
fn a_dockerfile_of_another_name_counts_in_todays_format_and_in_that_of_2015() {
    let today = "services:\n  web: {build: {context: web, dockerfile: Other}}\n  app: {image: app, links: [web]}\n";
    let here =
        "services:\n  web: {build: {dockerfile: web/Other}}\n  app: {image: app, links: [web]}\n";
    let of_2015 = "web: {build: web, dockerfile: Other}\napp: {image: app, links: [web]}\n";
    for file in [today, here, of_2015] {
        let wrong = ("web/Dockerfile", "FROM x\nEXPOSE 1\n");
        let right = ("web/Other", "FROM x\nEXPOSE 8081\n");
        let folder = Folder::new(&[("in.yml", file), wrong, right]);
        succeeded(&folder.link(&["in.yml"]));
        let text = folder.read("in.yml");
        assert!(text.contains("ambassador.upstreams: \"web:8081\""), "{text}");
    }
}

#[test]
fn a_client_that_listens_on_the_port_of_its_upstream_is_named() {
    let file = |own: &str| {
        format!(
            "services:\n  api: {{image: api, expose: ['80']}}\n  web: {{image: web, links: [api], ports: ['{own}']}}\n"
        )
    };
    for (own, named) in [("8000:80", true), ("8000:8080", false), ("80:81", false)] {
        let folder = Folder::new(&[("in.yml", &file(own))]);
        let output = folder.link(&["in.yml"]);
        succeeded(&output);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.contains("web asks for api:80 and listens on port 80"), named, "{said}");
    }
}

#[test]
fn who_has_the_hosts_network_publishes_nothing() {
    let file = "services:\n  db: {image: db, network_mode: host, expose: ['6379']}\n  app: {image: app, links: [db]}\n";
    let folder = Folder::new(&[("in.yml", file)]);
    succeeded(&folder.link(&["in.yml"]));
    let text = folder.read("in.yml");
    assert!(text.contains("ambassador.upstreams: \"db:6379\""), "{text}");
    assert!(!text.contains("ports"), "{text}");
}

#[test]
fn a_symbolic_link_stays_one() {
    let folder = Folder::new(&[("real/in.yml", TODAY), ("ports.yml", "redis: 6379\n")]);
    std::os::unix::fs::symlink("real/in.yml", folder.path("in.yml")).unwrap();
    succeeded(&folder.link(&["in.yml"]));
    assert!(folder.path("in.yml").is_symlink());
    assert_eq!(folder.read("real/in.yml"), TODAY_CONVERTED);
}

#[test]
fn ports_come_from_the_image_that_the_engine_has() {
    let docker = testbed::docker::shared();
    let build = Folder::new(&[("Dockerfile", "FROM busybox\nEXPOSE 6379 53/udp\n")]);
    let import = docker.command(&["build", "-q", "-t", "exposing"]).arg(build.0.path()).output();
    succeeded(&import.unwrap());
    let file = "services:\n  db: {image: exposing}\n  app: {image: app, links: [\"db:redis\"]}\n";
    let folder = Folder::new(&[("in.yml", file)]);
    succeeded(&folder.command(&["in.yml"]).env("DOCKER_HOST", docker.url()).output().unwrap());
    let text = folder.read("in.yml");
    assert!(text.contains("ambassador.upstreams: \"db:6379\""), "{text}");
    assert!(text.contains("\"redis:127.127.0.2\""), "{text}");

    let based =
        "services:\n  db: {build: ., image: no-such-image}\n  app: {image: app, links: [db]}\n";
    let dockerfile = ("Dockerfile", "FROM exposing AS base\nFROM base\n");
    let folder = Folder::new(&[("in.yml", based), dockerfile]);
    let absent = folder.link(&["in.yml"]);
    assert_eq!(absent.status.code(), Some(1));
    let said = String::from_utf8(absent.stderr).unwrap();
    assert!(said.contains("the ports of \"db\" are neither in"), "{said}");
    succeeded(&folder.command(&["in.yml"]).env("DOCKER_HOST", docker.url()).output().unwrap());
    let text = folder.read("in.yml");
    assert!(text.contains("ambassador.upstreams: \"db:6379\""), "{text}");

    let missing = Folder::new(&[("in.yml", &file.replace("exposing", "no-such-image"))]);
    let output = missing.command(&["in.yml"]).env("DOCKER_HOST", docker.url()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("the ports of \"db\" are not known"), "{said}");
}

#[test]
fn what_cannot_be_converted_is_left_alone_and_the_reason_is_named() {
    for (file, reason) in [
        ("services:\n  a: {image: a, links: [b]}\n", "\"b\""),
        ("services:\n  a: 1\n", "\"a\""),
        ("services: {}\n", "no services"),
        ("version: \"3\"\n", "no services"),
        ("services:\n  a: {image: a, links: {b: c}}\n  b: {image: b}\n", "links of service \"a\""),
        (
            "services:\n  a: {image: a, links: [b], network_mode: host}\n  b: {image: b, expose: [80]}\n",
            "no addresses of its own",
        ),
        (
            "services:\n  a: {extends: b, links: [b]}\n  b: {image: b, expose: [80]}\n",
            "service \"a\" has links or is linked to, and extends",
        ),
        ("a: [\n", "no YAML"),
        ("services:\n  a: {image: a, links: [b]}\n  b: {image: b}\n", "ports of \"b\""),
    ] {
        let folder = Folder::new(&[("in.yml", file)]);
        let output = folder.link(&["in.yml"]);
        assert_eq!(output.status.code(), Some(1), "{file}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(reason), "{said}");
        assert_eq!(folder.read("in.yml"), file);
    }
}

#[test]
fn composes_own_file_is_not_overwritten_by_chance() {
    let folder = Folder::new(&[("docker-compose.yml", TODAY), ("ports.yml", "redis: 6379")]);
    let output = folder.command(&[]).env("COMPOSE_FILE", "docker-compose.yml").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(folder.read("docker-compose.yml"), TODAY);
    let printed = folder.link(&["docker-compose.yml", "-"]);
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), TODAY_CONVERTED);
    succeeded(&folder.link(&["docker-compose.yml"]));
    assert_eq!(folder.read("docker-compose.yml"), TODAY_CONVERTED);
}
