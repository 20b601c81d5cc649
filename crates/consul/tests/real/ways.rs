//! The ways to reach Consul: sockets, and proxies before it.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use consul::{Query, Registration};
use testbed::consul::{Consul, free_port};
use testbed::process::Process;

use crate::{agent, client};

#[tokio::test]
async fn a_unix_socket_serves_like_an_address() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("consul.sock");
    let config = format!(r#"{{"addresses": {{"http": "127.0.0.1 unix://{}"}}}}"#, socket.display());
    let _agent = Consul::options().config(&config).start().unwrap();
    for uri in
        [format!("unix://{}", socket.display()), format!("consul-unix://{}", socket.display())]
    {
        let client = client(&uri);
        client.kv_put("a b", uri.as_bytes()).await.unwrap();
        let first = client.kv_get("a b", &Query::default()).await.unwrap();
        assert_eq!(first.value.unwrap().value, uri.as_bytes());
        let query = Query { index: first.index, ..Query::default() };
        let (second, ()) = tokio::join!(client.kv_get("a b", &query), async {
            client.kv_put("a b", b"changed").await.unwrap();
        });
        assert_eq!(second.unwrap().value.unwrap().value, b"changed");
    }
}

#[tokio::test]
async fn a_proxy_may_want_a_path_before_and_a_password() {
    let (agent, _) = agent();
    let port = free_port().unwrap();
    let config = agent.folder().join("haproxy.cfg");
    let text = format!(
        "userlist people\n  user ambassador insecure-password open@sesame\n\
         defaults\n  mode http\n  timeout client 5s\n  timeout server 5s\n  timeout connect 5s\n\
         frontend proxy\n  bind 127.0.0.1:{port}\n  \
         http-request auth unless {{ http_auth(people) }}\n  \
         http-request deny unless {{ path_beg /behind/it/ }}\n  \
         http-request replace-path /behind/it(/.*) \\1\n  default_backend consul\n\
         backend consul\n  server consul 127.0.0.1:{}\n",
        agent.http_port()
    );
    fs::write(&config, text).unwrap();
    let _haproxy =
        Process::spawn(Command::new("haproxy").arg("-db").arg("-f").arg(&config), None).unwrap();
    let uri = format!("http://ambassador:open%40sesame@127.0.0.1:{port}/behind/it");
    let behind = client(&uri);
    let end = Instant::now() + Duration::from_secs(10);
    while behind.leader().await.is_err() && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let registration =
        Registration { id: "a b%41".into(), name: "web".into(), ..Registration::default() };
    behind.register(&registration).await.unwrap();
    behind.deregister("a b%41").await.unwrap();
    assert!(behind.agent_services(None).await.unwrap().is_empty());

    let stranger = client(&format!("http://127.0.0.1:{port}/behind/it"));
    assert_eq!(stranger.leader().await.unwrap_err().status(), Some(401));
}

#[tokio::test]
async fn old_registry_addresses_reach_consul() {
    let (agent, _) = agent();
    let port = agent.http_port();
    for uri in [
        format!("consul://127.0.0.1:{port}"),
        format!("consulkv://127.0.0.1:{port}/services"),
        format!("127.0.0.1:{port}"),
        format!("tcp://localhost:{port}"),
    ] {
        assert!(client(&uri).leader().await.unwrap().is_some(), "{uri}");
    }
}
