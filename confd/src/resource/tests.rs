//! What a resource file may say, and how its mistakes are named.

use super::*;

const SMALL: &str = "[template]\nsrc = \"a.tera\"\ndest = \"/tmp/a\"\n";

fn parse(text: &str) -> Result<Resource, String> {
    Resource::parse(Path::new("/etc/confd/conf.d/web.toml"), text)
        .map_err(|error| error.to_string())
}

#[test]
fn a_small_resource_has_the_documented_defaults() {
    let resource = parse(SMALL).unwrap();
    assert_eq!(resource.name, "web");
    assert_eq!(resource.reload_min_interval.0, Duration::from_secs(1));
    assert_eq!(resource.timeout.0, Duration::from_secs(30));
    assert_eq!(resource.guard.hold.0, Duration::from_mins(5));
    assert_eq!(resource.guard.max_removal.of(10), 5);
    assert_eq!(resource.actions(), []);
}

#[test]
fn the_keys_of_kelseyhightowers_confd_are_understood() {
    let text = r#"
        [template]
        prefix = "/app"
        src = "nginx.tera"
        dest = "/etc/nginx/app.conf"
        owner = "nginx"
        gid = 7
        mode = "0640"
        keys = ["/subdomain", "/upstream"]
        check_cmd = "/usr/sbin/nginx -t -c {{ src }}"
        reload_cmd = "/usr/sbin/service nginx reload"
    "#;
    let resource = parse(text).unwrap();
    assert_eq!(resource.mode.map(|mode| mode.0), Some(0o640));
    assert_eq!(resource.actions(), [Action::ReloadCmd]);
}

#[test]
fn everything_new_is_understood() {
    let text = r#"
        [template]
        src = "haproxy.cfg.tera"
        dest = "/run/ambassador/haproxy.cfg"
        check = "haproxy"
        apply = "haproxy"
        wait = { min = "50ms", max = "1s" }
        reload_min_interval = "2s"
        timeout = "1m"
        [template.haproxy]
        runtime = "/run/ambassador/runtime.sock"
        master = "/run/ambassador/master.sock"
        drain_timeout = "30s"
        [template.guard]
        min_instances = 1
        max_removal = "30%"
        hold = "10m"
    "#;
    let resource = parse(text).unwrap();
    assert_eq!(resource.actions(), [Action::HaProxy]);
    assert_eq!(resource.wait.min.0, Duration::from_millis(50));
    assert_eq!(resource.guard.max_removal.of(10), 3);
}

#[test]
fn an_unknown_key_is_refused_with_file_line_and_key() {
    for (text, line, key) in [
        (format!("{SMALL}reload_command = \"x\"\n"), "line 4", "reload_command"),
        (format!("[tempalte]\n{SMALL}"), "line 1", "tempalte"),
        (format!("{SMALL}[template.guard]\nmax = 1\n"), "line 5", "max"),
        (format!("{SMALL}wait = {{ mni = \"1s\" }}\n"), "line 4", "mni"),
    ] {
        let error = parse(&text).unwrap_err();
        for part in ["/etc/confd/conf.d/web.toml", line, key] {
            assert!(error.contains(part), "{part} is not in: {error}");
        }
    }
}

#[test]
fn a_bad_value_is_refused_with_its_line() {
    for line in [
        "mode = \"9999\"",
        "mode = 644",
        "timeout = \"soon\"",
        "timeout = 5",
        "apply = \"nginx\"",
        "check = \"nginx\"",
        "guard = { max_removal = \"200%\" }",
        "signal = { pid_file = \"/run/x.pid\", signal = \"SIGNOTHING\" }",
    ] {
        let error = parse(&format!("{SMALL}{line}\n")).unwrap_err();
        assert!(error.contains("line 4"), "{line}: {error}");
    }
}

#[test]
fn contradictions_are_refused() {
    for (lines, words) in [
        ("apply = \"haproxy\"", "[template.haproxy]"),
        ("apply = [\"reload_cmd\"]", "reload_cmd"),
        ("apply = [\"signal\"]", "[template.signal]"),
        ("check = \"haproxy\"\ncheck_cmd = \"true\"", "exclude each other"),
        ("uid = 1\nowner = \"root\"", "exclude each other"),
    ] {
        let error = parse(&format!("{SMALL}{lines}\n")).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    assert!(parse(&SMALL.replace("a.tera", "../a")).unwrap_err().contains("templates/"));
    assert!(parse(&SMALL.replace("/tmp/a", "a")).unwrap_err().contains("absolute"));
}

#[test]
fn one_bad_file_does_not_hide_the_good_ones() {
    let confdir = tempfile::tempdir().unwrap();
    let folder = confdir.path().join("conf.d");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("b.toml"), SMALL).unwrap();
    std::fs::write(folder.join("a.toml"), "nonsense").unwrap();
    std::fs::write(folder.join("c.toml"), SMALL).unwrap();
    std::fs::write(folder.join("notes.txt"), "nonsense").unwrap();
    let (resources, errors) = load(confdir.path());
    assert_eq!(resources.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[1].to_string().contains("same as that of b"), "{}", errors[1]);
}
