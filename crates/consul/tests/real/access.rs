//! Tokens and certificates.

use std::fs;
use std::path::Path;
use std::process::Command;

use consul::{Client, Config, Error, Query, Secret, Tls};
use tempfile::TempDir;
use testbed::consul::{Consul, free_port};

const TOKEN: &str = "2b778dd9-f5f1-6f29-b4b4-9a5fa948757a";
const STRANGER: &str = "00000000-f5f1-6f29-b4b4-9a5fa948757a";

#[tokio::test]
async fn a_token_opens_what_is_denied_without_one() {
    let agent = Consul::options().deny_all_but(TOKEN).start().unwrap();
    let mut config = Config::from_uri(&agent.url()).unwrap();
    let stranger = Client::new(&config).unwrap();
    let error = stranger.kv_put("a", b"1").await.unwrap_err();
    assert_eq!((error.status(), error.is_retryable()), (Some(403), true), "{error}");
    config.token = Some(Secret::new(TOKEN));
    Client::new(&config).unwrap().kv_put("a", b"1").await.unwrap();
}

#[tokio::test]
async fn a_changed_token_file_is_used_by_the_next_request() {
    let agent = Consul::options().deny_all_but(TOKEN).start().unwrap();
    let file = agent.folder().join("token");
    let mut config = Config::from_uri(&agent.url()).unwrap();
    config.token_file = Some(file.clone());
    let client = Client::new(&config).unwrap();
    assert_eq!(client.kv_put("a", b"1").await.unwrap_err().status(), Some(403), "no file yet");
    fs::write(&file, STRANGER).unwrap();
    let error = client.kv_put("a", b"1").await.unwrap_err();
    assert_eq!(error.status(), Some(403));
    assert!(!format!("{error} {error:?} {client:?} {config:?}").contains(STRANGER));
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    client.kv_put("a", b"1").await.unwrap();
}

/// An agent that speaks TLS on 127.0.0.2, for which its certificate is not made, and wants to
/// see a certificate of the same authority.
struct Secured {
    _agent: Consul,
    folder: TempDir,
    port: u16,
}

impl Secured {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for args in
            [&["ca", "create"][..], &["cert", "create", "-server"], &["cert", "create", "-client"]]
        {
            let output = Command::new("consul")
                .arg("tls")
                .args(args)
                .current_dir(folder.path())
                .output()
                .expect("consul is not installed: apt-get install consul");
            assert!(output.status.success(), "{output:?}");
        }
        let port = free_port().unwrap();
        let file = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            r#"{{"ca_file": "{}", "cert_file": "{}", "key_file": "{}", "verify_incoming": true,
                "addresses": {{"https": "127.0.0.2"}}, "ports": {{"https": {port}}}}}"#,
            file("consul-agent-ca.pem"),
            file("dc1-server-consul-0.pem"),
            file("dc1-server-consul-0-key.pem"),
        );
        let agent = Consul::options().config(&config).start().unwrap();
        Self { _agent: agent, folder, port }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns what is needed to be let in.
    fn tls(&self) -> Tls {
        Tls {
            ca_file: Some(self.path().join("consul-agent-ca.pem")),
            client_cert: Some(self.path().join("dc1-client-consul-0.pem")),
            client_key: Some(self.path().join("dc1-client-consul-0-key.pem")),
            server_name: Some("server.dc1.consul".into()),
            verify: true,
        }
    }

    async fn ask(&self, tls: Tls) -> Result<Option<String>, Error> {
        let uri = format!("https://127.0.0.2:{}", self.port);
        let config = Config { tls, ..Config::from_uri(&uri).unwrap() };
        Client::new(&config)?.leader().await
    }
}

#[tokio::test]
async fn certificates_are_shown_and_checked() {
    let secured = Secured::start();
    let leader = secured.ask(secured.tls()).await.unwrap();
    assert!(leader.is_some());

    let anonymous = Tls { client_cert: None, client_key: None, ..secured.tls() };
    let other_authorities = Tls { ca_file: None, ..secured.tls() };
    let other_name = Tls { server_name: Some("server.dc2.consul".into()), ..secured.tls() };
    let no_name = Tls { server_name: None, ..secured.tls() };
    for refused in [anonymous, other_authorities.clone(), other_name.clone(), no_name.clone()] {
        let error = secured.ask(refused.clone()).await.unwrap_err();
        assert!(matches!(error, Error::Request { .. }), "{refused:?}: {error:?}");
    }
    for unchecked in [other_authorities, other_name, no_name] {
        let unchecked = Tls { verify: false, ..unchecked };
        assert_eq!(secured.ask(unchecked.clone()).await.unwrap(), leader, "{unchecked:?}");
    }
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_told_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("empty.pem");
    fs::write(&file, "").unwrap();
    let missing = folder.path().join("missing.pem");
    let client = |tls| {
        Client::new(&Config { tls, ..Config::from_uri("https://localhost").unwrap() }).unwrap_err()
    };
    let error = client(Tls { ca_file: Some(missing.clone()), ..Tls::default() });
    assert!(error.is_usage() && error.to_string().contains("missing.pem"), "{error}");
    let error = client(Tls { ca_file: Some(file.clone()), ..Tls::default() });
    assert!(error.is_usage() && error.to_string().contains("empty.pem"), "{error}");
    let pair = Tls { client_cert: Some(file.clone()), client_key: Some(file), ..Tls::default() };
    assert!(client(pair).is_usage());
    let error = client(Tls { server_name: Some("127.0.0.1".into()), ..Tls::default() });
    assert!(error.to_string().starts_with("--consul-tls-server-name"), "{error}");
}

#[tokio::test]
async fn a_namespace_goes_with_every_request() {
    let agent = Consul::start().unwrap();
    let config =
        Config { namespace: Some("a b".into()), ..Config::from_uri(&agent.url()).unwrap() };
    let client = Client::new(&config).unwrap();
    // The free edition has no namespaces, and says so.
    let error = client.kv_get("a", &Query::default()).await.unwrap_err();
    assert!(error.status() == Some(400) && error.to_string().contains("ns"), "{error}");
}

#[tokio::test]
async fn services_that_a_token_does_not_show_are_known_to_be_hidden() {
    let agent = Consul::options().deny_all_but(TOKEN).start().unwrap();
    let mut config = Config::from_uri(&agent.url()).unwrap();
    assert!(Client::new(&config).unwrap().hides_services().await.unwrap());
    config.token = Some(Secret::new(TOKEN));
    assert!(!Client::new(&config).unwrap().hides_services().await.unwrap());
}
