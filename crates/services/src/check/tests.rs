//! What labels about checks mean.

use super::*;
use crate::container::Container;
use crate::labels::Labels;

fn read(labels: &[(&str, &str)], target: &Target<'_>) -> (Vec<Check>, Vec<String>) {
    let labels =
        labels.iter().map(|(key, value)| (format!("SERVICE_CHECK_{key}"), (*value).into()));
    let container = Container { labels: labels.collect(), ..Container::default() };
    let (labels, mut warnings) = (Labels::of(&container, ""), Warnings::default());
    let checks = checks(&labels.at(None), target, &mut warnings);
    (checks, warnings.into_vec().iter().map(ToString::to_string).collect())
}

const FOUR: Target<'_> = Target { address: "192.0.2.1", port: 8080 };

fn kind(word: &str, value: &str, target: &Target<'_>) -> CheckKind {
    let (mut checks, warnings) = read(&[(word, value)], target);
    assert_eq!((checks.len(), warnings), (1, vec![]), "{word}={value}");
    checks.remove(0).kind
}

fn url(word: &str, value: &str) -> String {
    match kind(word, value, &FOUR) {
        CheckKind::Http { url, .. } => url,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_url_is_made_of_the_instance_and_the_path() {
    assert_eq!(url("HTTP", "/health?a=1"), "http://192.0.2.1:8080/health?a=1");
    assert_eq!(url("HTTPS", "health"), "https://192.0.2.1:8080/health");
    assert_eq!(url("HTTP", "true"), "http://192.0.2.1:8080/");
    assert_eq!(url("HTTP", ":9000/admin"), "http://192.0.2.1:9000/admin");
}

#[test]
fn an_ipv6_address_stands_in_brackets() {
    let six = Target { address: "fd00::1", port: 80 };
    assert_eq!(kind("TCP", "true", &six), CheckKind::Tcp { target: "[fd00::1]:80".into() });
    assert_eq!(kind("TCP", ":81", &six), CheckKind::Tcp { target: "[fd00::1]:81".into() });
}

#[test]
fn grpc_may_name_a_service_and_speak_tls() {
    let labels = [("GRPC", ":50051/users"), ("GRPC_USE_TLS", "1"), ("TLS_SKIP_VERIFY", "yes")];
    let (checks, _) = read(&labels, &FOUR);
    let target = "192.0.2.1:50051/users".into();
    assert_eq!(checks[0].kind, CheckKind::Grpc { target, tls: true, tls_skip_verify: true });
    let target = "192.0.2.1:8080".into();
    let plain = CheckKind::Grpc { target, tls: false, tls_skip_verify: false };
    assert_eq!(kind("GRPC", "true", &FOUR), plain);
}

// The ancestor's scripts were refused by the agent: one text instead of words.
#[test]
fn a_script_goes_to_a_shell_and_a_command_does_not() {
    let script = kind("SCRIPT", "nc $SERVICE_IP $SERVICE_PORT", &FOUR);
    let args = ["/bin/sh", "-c", "nc 192.0.2.1 8080"].map(Into::into).into();
    assert_eq!(script, CheckKind::Command { args });
    let command = kind("CMD", "nc -z '$SERVICE_IP' $SERVICE_PORT;", &FOUR);
    let args = ["nc", "-z", "192.0.2.1", "8080;"].map(Into::into).into();
    assert_eq!(command, CheckKind::Command { args });
}

#[test]
fn a_numbered_check_has_its_own_options_first() {
    let (checks, warnings) = read(
        &[
            ("HTTP", "/a"),
            ("INTERVAL", "5s"),
            ("TIMEOUT", "2s"),
            ("02_TTL", "30s"),
            ("3_HTTP", "/b"),
            ("3_INTERVAL", "1m"),
            ("3_METHOD", "head"),
            ("3_DEREGISTER_AFTER", "10m"),
            ("3_INITIAL_STATUS", "Passing"),
        ],
        &FOUR,
    );
    assert_eq!(warnings, [""; 0]);
    let names: Vec<_> =
        checks.iter().map(|check| (check.name.as_str(), check.interval.as_secs())).collect();
    assert_eq!(names, [("http", 5), ("2-ttl", 5), ("3-http", 60)]);
    assert_eq!(checks[2].deregister_after, Some(Duration::from_mins(10)));
    assert_eq!(
        (checks[2].timeout, checks[2].initial_status),
        (Some(Duration::from_secs(2)), Some(Status::Passing))
    );
    assert!(
        matches!(&checks[2].kind, CheckKind::Http { method: Some(method), .. } if method == "HEAD")
    );
}

#[test]
fn the_older_words_for_a_method_are_understood() {
    for word in ["HTTP", "HTTPS"] {
        let method = format!("{word}_METHOD");
        let (checks, _) = read(&[(word, "/"), (&method, "HEAD")], &FOUR);
        assert!(
            matches!(&checks[0].kind, CheckKind::Http { method: Some(method), .. } if method == "HEAD")
        );
    }
}

#[test]
fn headers_and_body_are_passed_on() {
    let labels = [("HTTP", "/"), ("HEADER", "Host: a.example|X-A: 1|X-A: b:c"), ("BODY", "{}")];
    let (checks, _) = read(&labels, &FOUR);
    let CheckKind::Http { headers, body, .. } = &checks[0].kind else { panic!("{checks:?}") };
    assert_eq!(headers["Host"], ["a.example"]);
    assert_eq!(
        (&headers["X-A"], body.as_deref()),
        (&vec!["1".to_owned(), "b:c".to_owned()], Some("{}"))
    );
}

#[test]
fn what_cannot_be_understood_costs_its_own_check_only() {
    for bad in [
        ("HTTP", "http://169.254.169.254/secrets"),
        ("HTTP", ":99999/"),
        ("HTTP", ":80@elsewhere/"),
        ("HTTP", "/a b"),
        ("TCP", "elsewhere:22"),
        ("TCP", ":0"),
        ("TTL", "soon"),
        ("TTL", "10ms"),
        ("TTL", "99999999h"),
        ("CMD", "'"),
    ] {
        let (checks, warnings) = read(&[bad, ("7_TCP", "true")], &FOUR);
        assert_eq!(checks.len(), 1, "{bad:?} {checks:?}");
        assert_eq!(warnings.len(), 1, "{bad:?} {warnings:?}");
        assert!(warnings[0].ends_with("; registered without this check"), "{warnings:?}");
    }
    for bad in [
        ("INTERVAL", "0s"),
        ("TIMEOUT", "-1s"),
        ("METHOD", "GET /"),
        ("HEADER", "none"),
        ("HEADER", "a b: c"),
        ("INITIAL_STATUS", "fine"),
        ("TLS_SKIP_VERIFY", "perhaps"),
    ] {
        let (checks, warnings) = read(&[("HTTP", "/"), bad], &FOUR);
        assert_eq!((checks.len(), warnings.len()), (0, 1), "{bad:?} {warnings:?}");
    }
}

#[test]
fn no_secret_of_a_check_is_repeated() {
    for bad in [
        ("HTTP", "http://user:s3cret@elsewhere/"),
        ("HTTP", "/x?token=s3cret y"),
        ("TCP", "user:s3cret@elsewhere:22"),
        ("GRPC", ":s3cret@elsewhere"),
        ("CMD", "curl -u user:s3cret '"),
    ] {
        let (checks, warnings) = read(&[bad], &FOUR);
        assert_eq!((checks.len(), warnings.len()), (0, 1), "{bad:?}");
        assert!(!warnings[0].contains("s3cret"), "{warnings:?}");
    }
    for header in ["Bearer s3cret", "Authorization: x|Bearer s3cret", "Bearer s3cret: x"] {
        let (checks, warnings) = read(&[("HTTP", "/"), ("HEADER", header)], &FOUR);
        assert_eq!((checks.len(), warnings.len()), (0, 1), "{header}");
        assert!(warnings[0].contains("Name: value") && !warnings[0].contains("s3cret"));
    }
}

#[test]
fn a_word_that_means_nothing_is_said() {
    let (checks, warnings) = read(&[("HTPT", "/"), ("TCP", "false")], &FOUR);
    assert_eq!(checks, []);
    assert_eq!(warnings, ["SERVICE_CHECK_HTPT: is no kind of check and no option of one"]);
}

#[test]
fn without_a_port_only_what_names_one_or_needs_none_is_checked() {
    let none = Target { address: "192.0.2.1", port: 0 };
    for word in ["HTTP", "TCP", "GRPC"] {
        assert_eq!(read(&[(word, "true")], &none).0, [], "{word}");
    }
    assert_eq!(kind("TTL", "30s", &none), CheckKind::Ttl { ttl: Duration::from_secs(30) });
    assert_eq!(kind("TCP", ":81", &none), CheckKind::Tcp { target: "192.0.2.1:81".into() });
}

#[test]
fn there_is_an_end_to_the_number_of_checks() {
    let keys: Vec<String> = (0..100).map(|number| format!("{number}_TCP")).collect();
    let labels: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "true")).collect();
    let (checks, warnings) = read(&labels, &FOUR);
    assert_eq!((checks.len(), warnings.len()), (LIMIT, 1));
}
