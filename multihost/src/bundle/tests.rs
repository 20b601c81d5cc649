//! What a node is given, and what a second run keeps.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;

#[test]
fn a_second_run_renews_what_it_wrote_and_keeps_what_the_operator_added() {
    let before =
        format!("{HEAD}\nNODE_ADDRESS=10.0.0.1\nSERVERS=\"10.0.0.1\"\n# ours\nNEAR=alpha\n");
    let generated = format!("{HEAD}\nNODE_ADDRESS=10.0.0.9\nSERVERS=\"10.0.0.9\"\n");
    let renewed = with_own(&generated, &before);
    assert_eq!(renewed, format!("{generated}# ours\nNEAR=alpha\n"));
    assert_eq!(with_own(&generated, &renewed), renewed);
}

fn bundle(out: &Path) -> Bundle {
    let member = |n: u8| Member {
        name: format!("node{n}"),
        address: Ipv4Addr::new(10, 0, 0, n),
        server: n == 1,
    };
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Bundle { members: vec![member(1), member(2)], tls: false, out: out.to_owned(), repository }
}

#[test]
fn identifiers_are_version_four_and_differ() {
    let (one, two) = (uuid(), uuid());
    assert_ne!(one, two);
    assert_eq!((one.len(), &one[14..15]), (36, "4"));
    assert!("89ab".contains(&one[19..20]));
}

#[tokio::test]
async fn secrets_are_readable_by_their_owner_only_and_written_once() {
    let out = tempfile::tempdir().unwrap();
    let bundle = bundle(out.path());
    bundle.write().await.unwrap();
    let before = fs::read(out.path().join("node2/consul/agent/secrets.json")).unwrap();
    bundle.write().await.unwrap();
    assert_eq!(fs::read(out.path().join("node2/consul/agent/secrets.json")).unwrap(), before);
    for file in [
        "secrets/gossip.key",
        "secrets/confd-node1.token",
        "node1/tokens/confd",
        "node1/tokens/registrator",
        "node1/consul/agent/secrets.json",
    ] {
        let mode = fs::metadata(out.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn hosts_that_would_be_mixed_up_are_refused() {
    let out = tempfile::tempdir().unwrap();
    let refused = |change: fn(&mut Member)| {
        let mut bundle = bundle(out.path());
        change(&mut bundle.members[1]);
        async move { bundle.write().await.unwrap_err().to_string() }
    };
    for (change, why) in [
        (|host: &mut Member| host.name = "node1".to_owned()) as fn(&mut Member),
        |host| host.name = "secrets".to_owned(),
        |host| host.name = "../alpha".to_owned(),
        |host| host.address = Ipv4Addr::new(10, 0, 0, 1),
    ]
    .into_iter()
    .zip(["two hosts are named node1", "cannot be named secrets", "no name", "the address"])
    {
        let error = refused(change).await;
        assert!(error.contains(why), "{error}");
    }
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0, "nothing is written");
}

#[tokio::test]
async fn every_node_joins_the_servers_and_only_they_elect() {
    let out = tempfile::tempdir().unwrap();
    bundle(out.path()).write().await.unwrap();
    let read = |node: &str| -> serde_json::Value {
        serde_json::from_slice(
            &fs::read(out.path().join(node).join("consul/agent/node.json")).unwrap(),
        )
        .unwrap()
    };
    assert_eq!(read("node2")["retry_join"], json!(["10.0.0.1"]));
    assert_eq!(
        (&read("node1")["server"], &read("node1")["bootstrap_expect"]),
        (&json!(true), &json!(1))
    );
    assert_eq!(
        (&read("node2")["server"], &read("node2")["bootstrap_expect"]),
        (&json!(false), &json!(null))
    );
}
