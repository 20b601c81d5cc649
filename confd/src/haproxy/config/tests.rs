//! What is read from HAProxy files, quotes, defaults and obstacles included.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Config {
    Config::parse(text).unwrap()
}

fn server<'a>(config: &'a Config, pool: &str, name: &str) -> &'a Server {
    &config.pools[pool].servers[name]
}

#[test]
fn servers_inherit_from_the_defaults_that_apply_and_from_lines_above() {
    let config = parse(
        "defaults base\n default-server check inter 1s\n\
         defaults other from base\n default-server inter 3s\n\
         defaults\n default-server backup\n\
         backend a from other\n default-server weight 7\n server s 10.0.0.1:80 fall 2\n\
         backend b\n server s 10.0.0.1:80\n default-server check\n server t 10.0.0.2:80\n\
         listen c from base\n bind :1\n server s 10.0.0.1:80 no-check\n",
    );
    let arguments = |pool: &str, name: &str| {
        options::arguments(server(&config, pool, name).options.as_ref().unwrap())
    };
    assert_eq!(arguments("a", "s"), "check fall 2 inter 3s");
    assert_eq!(server(&config, "a", "s").weight(), Some(7));
    assert_eq!(arguments("b", "s"), "backup");
    assert_eq!(arguments("b", "t"), "backup check");
    assert_eq!(arguments("c", "s"), "inter 1s");
    assert_eq!(server(&config, "c", "s").weight(), Some(1));
}

#[test]
fn backends_whose_servers_are_fixed_say_why() {
    let obstacle = |lines: &str| parse(&format!("defaults\n{lines}")).pools["b"].obstacle.clone();
    assert_eq!(obstacle("backend b"), None);
    assert_eq!(obstacle("balance leastconn\nbackend b"), None);
    assert_eq!(obstacle("balance random(2)\nbackend b"), None);
    assert_eq!(obstacle("backend b\nbalance source\nhash-type consistent sdbm"), None);
    assert!(obstacle("balance static-rr\nbackend b").is_some());
    assert_eq!(obstacle("balance static-rr\nbackend b\nbalance roundrobin"), None);
    assert!(obstacle("backend b\nbalance uri").is_some());
    assert!(obstacle("backend b\nhash-type map-based\nbalance hdr(host)").is_some());
    assert!(obstacle("cookie SRV insert\nbackend b").is_some());
    assert!(obstacle("backend b\nserver-template s 3 10.0.0.1:80").is_some());
    assert!(obstacle("backend b\nserver s 10.0.0.1:80\nserver s 10.0.0.2:80").is_some());
}

#[test]
fn servers_that_cannot_be_added_at_run_time_say_why() {
    let obstacle = |line: &str| {
        server(&parse(&format!("backend b\n server {line}")), "b", "s").obstacle.clone()
    };
    assert_eq!(obstacle("s 10.0.0.1:80 check weight 3"), None);
    assert_eq!(obstacle("s [::1]:80"), None);
    assert_eq!(obstacle("s ::1:80"), None);
    assert!(obstacle("s web.example:80").is_some());
    assert!(obstacle("s 10.0.0.1").is_some());
    assert!(obstacle("s 10.0.0.1:+80").is_some());
    assert!(obstacle("s 10.0.0.1:80 cookie a").is_some());
    assert!(obstacle("s 10.0.0.1:80 frobnicate").is_some());
    assert!(obstacle("s \"${HOST}:80\"").is_some());
}

#[test]
fn only_backends_have_servers() {
    let config = parse(
        "peers p\n server a 127.0.0.1:1\nbackend b\n server s 127.0.0.1:2\nring r\n server x 127.0.0.1:3\n",
    );
    assert_eq!(config.pools.keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(config.skeleton.len(), 5);
}

#[test]
fn conditions_and_broken_lines_are_not_guessed() {
    assert!(Config::parse(".if defined(X)\n.endif").is_err());
    assert!(Config::parse("global\n log 'open").is_err());
}

proptest! {
    #[test]
    fn comments_blank_lines_and_indentation_change_nothing(
        lines in prop::collection::vec(("[ \t]{0,4}", "( #.{0,10})?"), 4),
    ) {
        let text = ["backend b", "balance roundrobin", "server 's' 10.0.0.1:80 check weight 3", "option httpchk"];
        let dressed = text.iter().zip(&lines).map(|(line, (before, after))| format!("{before}{line}{after}\n\n"));
        prop_assert_eq!(parse(&dressed.collect::<String>()), parse(&text.join("\n")));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "((backend|server|defaults|from|balance|default-server|b|s|10.0.0.1:80|check|weight|[ \n\"'\\\\#.$]|\\PC){1,3} ?){0,30}") {
        let _ = Config::parse(&text);
    }
}
