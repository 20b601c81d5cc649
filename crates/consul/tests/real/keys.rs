//! Keys, sessions and transactions.

use std::time::Duration;

use consul::{Error, Query, SessionRequest, TxnOp, TxnResult};

use crate::agent;

const ODD_KEYS: [&str; 8] = [
    "a b/c",
    "a%41/%2F",
    "a?b=c",
    "a#b",
    "\u{fc}/\u{1f980}",
    "a+b&c;d=e",
    "\"a\"<>[]{}|\\^`",
    "folder/",
];

#[tokio::test]
async fn a_key_of_any_characters_holds_any_bytes() {
    let (_agent, client) = agent();
    let bytes: Vec<u8> = (0..=255).collect();
    for key in ODD_KEYS {
        client.kv_put(key, &bytes).await.unwrap();
        let pair = client.kv_get(key, &Query::default()).await.unwrap().value.unwrap();
        assert_eq!((pair.key.as_str(), &pair.value), (key, &bytes));
    }
    let mut keys = client.kv_keys("", &Query::default()).await.unwrap().value;
    let mut expected = ODD_KEYS;
    keys.sort();
    expected.sort_unstable();
    assert_eq!(keys, expected);
    for key in ODD_KEYS {
        client.kv_delete(key).await.unwrap();
    }
    assert_eq!(client.kv_list("", &Query::default()).await.unwrap().value, []);
}

#[tokio::test]
async fn a_key_that_no_path_can_carry_is_refused_and_a_transaction_carries_it() {
    let (_agent, client) = agent();
    for key in ["/a", "a//b", "a/../b", "a/./b"] {
        let error = client.kv_put(key, b"1").await.unwrap_err();
        assert!(matches!(error, Error::Unaddressable { .. }), "{key}: {error}");
        let set = TxnOp::Set { key: key.into(), value: b"1".to_vec() };
        assert!(matches!(client.txn(&[set]).await.unwrap(), TxnResult::Done(_)));
    }
    assert_eq!(client.kv_keys("", &Query::default()).await.unwrap().value.len(), 4);
}

#[tokio::test]
async fn a_missing_key_is_no_error_and_has_an_index_to_wait_with() {
    let (_agent, client) = agent();
    let key = client.kv_get("none", &Query::default()).await.unwrap();
    assert_eq!((key.value, key.index.is_some()), (None, true));
    let list = client.kv_list("none/", &Query::default()).await.unwrap();
    assert_eq!((list.value, list.index.is_some()), (vec![], true));
    let keys = client.kv_keys("none/", &Query::default()).await.unwrap();
    assert_eq!((keys.value, keys.index.is_some()), (vec![], true));
    client.kv_delete("none").await.unwrap();
}

#[tokio::test]
async fn a_prefix_selects_keys_to_list_and_to_delete() {
    let (_agent, client) = agent();
    for key in ["a/1", "a/2", "b/1"] {
        client.kv_put(key, b"").await.unwrap();
    }
    let pairs = client.kv_list("a/", &Query::default()).await.unwrap().value;
    assert_eq!(pairs.iter().map(|pair| pair.key.as_str()).collect::<Vec<_>>(), ["a/1", "a/2"]);
    assert!(pairs.iter().all(|pair| pair.value.is_empty() && pair.session.is_none()));
    client.kv_delete("a/1").await.unwrap();
    assert_eq!(client.kv_keys("", &Query::default()).await.unwrap().value, ["a/2", "b/1"]);
}

#[tokio::test]
async fn a_sessions_keys_vanish_with_it_and_are_free_at_once() {
    let (_agent, client) = agent();
    let request = SessionRequest { name: "registrator".into(), ..SessionRequest::default() };
    let first = client.session_create(&request).await.unwrap();
    let second = client.session_create(&request).await.unwrap();
    assert!(client.kv_acquire("a", b"1", &first).await.unwrap());
    assert!(!client.kv_acquire("a", b"2", &second).await.unwrap());
    let pair = client.kv_get("a", &Query::default()).await.unwrap().value.unwrap();
    assert_eq!(pair.session.as_deref(), Some(first.as_str()));
    assert!(client.session_renew(&first).await.unwrap());

    client.session_destroy(&first).await.unwrap();
    assert_eq!(client.kv_get("a", &Query::default()).await.unwrap().value, None);
    assert!(client.kv_acquire("a", b"2", &second).await.unwrap(), "no lock delay");
    assert!(!client.session_renew(&first).await.unwrap());
    client.session_destroy(&first).await.unwrap();
    let error = client.kv_acquire("b", b"", &first).await.unwrap_err();
    assert!(error.is_session_gone(), "{error}");
}

#[tokio::test]
async fn a_session_that_releases_leaves_its_keys_locked_for_its_delay() {
    let (_agent, client) = agent();
    let request = SessionRequest {
        delete: false,
        lock_delay: Duration::from_mins(1),
        ttl: Duration::ZERO,
        node_checks: Some(vec![]),
        ..SessionRequest::default()
    };
    let first = client.session_create(&request).await.unwrap();
    let second = client.session_create(&request).await.unwrap();
    assert!(client.kv_acquire("a", b"1", &first).await.unwrap());
    client.session_destroy(&first).await.unwrap();
    let pair = client.kv_get("a", &Query::default()).await.unwrap().value.unwrap();
    assert_eq!((pair.session, pair.value), (None, b"1".to_vec()));
    assert!(!client.kv_acquire("a", b"2", &second).await.unwrap());
}

#[tokio::test]
async fn a_transaction_happens_as_a_whole_or_not_at_all() {
    let (_agent, client) = agent();
    let session = client.session_create(&SessionRequest::default()).await.unwrap();
    let text = |text: &str| (text.to_owned(), text.as_bytes().to_vec());
    let (a, value) = text("a b");
    let operations = [
        TxnOp::Lock { key: a.clone(), value: value.clone(), session: session.clone() },
        TxnOp::CheckSession { key: a.clone(), session },
        TxnOp::Get { key: a.clone() },
    ];
    let TxnResult::Done(pairs) = client.txn(&operations).await.unwrap() else { panic!("refused") };
    assert_eq!(pairs.last().unwrap().value, value);

    let (b, value) = text("b");
    let operations = [
        TxnOp::Set { key: b.clone(), value: value.clone() },
        TxnOp::CompareAndSet { key: a.clone(), value, index: 1 },
    ];
    let TxnResult::Refused(why) = client.txn(&operations).await.unwrap() else { panic!("done") };
    assert_eq!(why.iter().map(|(operation, _)| *operation).collect::<Vec<_>>(), [1]);
    assert_eq!(client.kv_get(&b, &Query::default()).await.unwrap().value, None);

    let operations = [TxnOp::Delete { key: a }, TxnOp::DeleteTree { prefix: b }];
    assert_eq!(client.txn(&operations).await.unwrap(), TxnResult::Done(vec![]));
    assert_eq!(client.kv_keys("", &Query::default()).await.unwrap().value, [] as [&str; 0]);
}

#[tokio::test]
async fn a_transaction_of_too_many_operations_is_an_error() {
    let (_agent, client) = agent();
    let operation = |n: usize| TxnOp::Set { key: format!("k{n}"), value: vec![] };
    let operations: Vec<_> = (0..=consul::TXN_LIMIT).map(operation).collect();
    assert!(client.txn(&operations[1..]).await.is_ok());
    let error = client.txn(&operations).await.unwrap_err();
    assert_eq!((error.status(), error.is_retryable()), (Some(413), false), "{error}");
}
