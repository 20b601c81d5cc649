use consul::Config;
use testbed::consul::Consul;

use super::*;
use crate::args::KvFormat;

#[tokio::test]
async fn a_key_whose_value_has_become_too_large_does_not_keep_its_old_one() {
    let limits = r#"{"limits": {"kv_max_value_size": 2000, "txn_max_req_len": 2000}}"#;
    let consul = Consul::options().config(limits).start().unwrap();
    let client = Client::new(&Config::from_uri(&consul.url()).unwrap()).unwrap();
    let owner = Owner { node: consul.node().to_owned(), host: "host".to_owned() };
    let layout = Layout { prefix: "services".to_owned(), format: KvFormat::Addr, owner };
    let mut mirror = Mirror::new(client.clone(), layout, Duration::from_secs(30));
    for (size, kept) in [(10, true), (5_000, false), (5_001, false), (20, true)] {
        let value: Arc<[u8]> = vec![b'x'; size].into();
        let want = Want::Is("services/web/a".to_owned(), Arc::clone(&value));
        let wants = [("a".to_owned(), Some(want))].into();
        mirror.bring_about(&Order { round: 1, doubt: Doubt::No, wants }).await.unwrap();
        let now = client.kv_get("services/web/a", &Query::default()).await.unwrap().value;
        assert_eq!(now.map(|pair| pair.value), kept.then(|| value.to_vec()), "{size}");
        assert_eq!(mirror.held(), usize::from(kept));
    }
}
