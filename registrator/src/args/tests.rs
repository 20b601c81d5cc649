//! What command lines mean.

use super::*;
use std::time::Duration;

fn parse(words: &[&str]) -> Args {
    read(words).unwrap()
}

fn read(words: &[&str]) -> Result<Args, clap::Error> {
    Args::read(["registrator"].iter().chain(words).map(ToString::to_string))
}

/// Returns what is said about a command line that is refused.
fn refused(words: &[&str]) -> String {
    let error = read(words).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{words:?}");
    error.to_string()
}

#[test]
fn the_flags_do_not_contradict_each_other() {
    grammar().debug_assert();
}

#[test]
fn every_flag_has_an_environment_variable_of_its_name() {
    let command = Args::command();
    let flags = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let with_names: Vec<_> = flags.filter_map(|arg| Some((arg, arg.get_long()?))).collect();
    assert!(with_names.len() > 30, "{}", with_names.len());
    for (arg, flag) in with_names {
        let name = flag.to_ascii_uppercase().replace('-', "_");
        let ours = format!("REGISTRATOR_{name}");
        let env = arg.get_env().and_then(|env| env.to_str()).unwrap_or_default();
        // Docker's and Consul's own tools have names for theirs, and all our daemons share two.
        let shared = ["DOCKER_", "CONSUL_", "LOG", "LISTEN"].iter().any(|it| env.starts_with(it));
        assert!(env == ours || shared, "--{flag} is not {ours} but {env:?}");
    }
}

#[test]
fn the_flags_of_older_registrators_mean_what_they_meant() {
    let args = parse(&[
        "-cleanup=true",
        "-deregister",
        "on-success",
        "-explicit",
        "-internal",
        "-ip",
        "10.0.0.1",
        "-resync",
        "30",
        "-retry-attempts=-1",
        "-retry-interval",
        "2000",
        "-tags",
        "a,b",
        "-ttl",
        "30",
        "-ttl-refresh",
        "10",
        "-useIpFromLabel",
        "ip",
        "consulkv://h:1/old/prefix",
    ]);
    assert!(args.derive.internal && args.derive.explicit && args.keep.cleanup);
    assert_eq!(args.derive.ip.as_deref(), Some("10.0.0.1"));
    assert_eq!(args.derive.tags.as_deref(), Some("a,b"));
    assert_eq!(args.derive.use_ip_from_label.as_deref(), Some("ip"));
    assert_eq!(args.keep.deregister, Deregister::OnSuccess);
    assert_eq!(args.keep.resync, Duration::from_secs(30));
    assert_eq!(args.mirror.ttl, Duration::from_secs(30));
    let config = args.consul_config().unwrap();
    let prefix = config.kv_prefix.as_deref();
    assert_eq!(args.mirror.prefix(prefix).as_deref(), Some("old/prefix"));
    assert_eq!(args.mirror.format(prefix), KvFormat::Addr);
}

#[test]
fn a_boolean_flag_can_be_refused() {
    assert!(!parse(&["--cleanup=false"]).keep.cleanup);
    assert!(!parse(&["-internal=0"]).derive.internal);
    assert!(parse(&["--internal"]).derive.internal);
}

#[test]
fn the_value_of_a_switch_is_not_mistaken_for_an_address() {
    let error = refused(&["--cleanup", "false"]);
    assert!(error.contains("--cleanup=false"), "{error}");
}

#[test]
fn an_empty_prefix_means_no_keys() {
    assert_eq!(parse(&["--kv-prefix="]).mirror.prefix(None), None);
    assert_eq!(parse(&["--kv-prefix="]).mirror.prefix(Some("old")), None);
    assert_eq!(parse(&[]).mirror.prefix(None).as_deref(), Some("services"));
}

#[test]
fn without_a_path_keys_are_where_they_usually_are() {
    for address in ["consulkv://h", "consulkv://h:1/", "consulkv-unix:///c.sock"] {
        let args = parse(&[address]);
        let config = args.consul_config().unwrap();
        let prefix = config.kv_prefix.as_deref();
        assert_eq!(args.mirror.prefix(prefix).as_deref(), Some("services"), "{address}");
        assert_eq!(args.mirror.format(prefix), KvFormat::Addr, "{address}");
    }
}

#[test]
fn a_password_in_the_registrys_address_is_not_shown() {
    let args = parse(&["consul://user:sesame@h"]);
    assert!(!format!("{args:?}").contains("sesame"));
}

#[test]
fn a_command_is_not_mistaken_for_an_address() {
    assert!(matches!(parse(&["list", "--json"]).command, Some(Command::List { json: true })));
    for address in ["consul://h", "h:8500", "/run/consul.sock", "10.0.0.1", "://"] {
        assert!(parse(&[address]).command.is_none(), "{address}");
    }
}

#[test]
fn a_mistyped_command_is_refused_and_the_right_ones_are_named() {
    for bad in [&["lsit"][..], &["--internal", "acl"], &["lsit", "--json"]] {
        let error = refused(bad);
        assert!(error.contains("list") || error.contains("--json"), "{error}");
    }
    assert!(refused(&["lsit"]).contains("acl-policy"));
}

#[test]
fn flags_count_before_a_command_and_behind_it() {
    let before = ["-internal", "--ip", "10.0.0.1", "--consul-addr=h:1", "list", "--json"];
    let behind = ["list", "--json", "-internal", "--ip", "10.0.0.1", "--consul-addr=h:1"];
    for words in [&before[..], &behind] {
        let args = parse(words);
        assert!(args.derive.internal && matches!(args.command, Some(Command::List { json: true })));
        assert_eq!(args.derive.ip.as_deref(), Some("10.0.0.1"));
        let config = args.consul_config().unwrap();
        assert_eq!(config, parse(&["h:1"]).consul_config().unwrap());
    }
    // Who says both means the latter.
    assert!(!parse(&["--internal", "list", "--internal=false"]).derive.internal);
}

#[test]
fn the_help_of_a_command_is_about_it_and_that_of_the_daemon_about_everything() {
    let help = |words: &[&str]| read(words).unwrap_err().to_string();
    let list = help(&["list", "--help"]);
    assert!(list.contains("--json") && list.contains("registrator --help"), "{list}");
    assert!(list.lines().count() < 25, "{list}");
    let all = help(&["--help"]);
    assert!(all.contains("--kv-prefix") && all.contains("acl-policy"), "{all}");
}

#[test]
fn the_times_of_the_session_are_those_that_consul_takes() {
    let times = |words: &[&str]| {
        let mirror = parse(words).mirror;
        (mirror.ttl.as_secs(), mirror.ttl_refresh.map(|time| time.as_secs()))
    };
    assert_eq!(times(&[]), (30, None));
    // The old default meant that keys have no end; now a session always holds them.
    assert_eq!(times(&["-ttl", "0", "-ttl-refresh", "0"]), (30, None));
    assert_eq!(times(&["-ttl=60", "-ttl-refresh=20"]), (60, Some(20)));
    for bad in ["9s", "9", "25h", "1ms"] {
        let error = refused(&["--ttl", bad]);
        assert!(error.contains("--ttl") && error.contains("10s to 24h"), "{error}");
    }
    for bad in [&["--ttl-refresh", "30s"][..], &["--ttl", "10s", "-ttl-refresh", "1m"]] {
        let error = refused(bad);
        assert!(error.contains("--ttl-refresh"), "{error}");
    }
}
