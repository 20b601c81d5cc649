//! The stock template's rules: who is reached by which host, path and port.

use consul::Registration;
use testbed::haproxy::Web;

use crate::bed::Bed;
use crate::edge::{judged, register, who};

#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_every_hosts_only_where_no_host_is_named() {
    let mut bed = Bed::new();
    let (cart, rng, all) =
        (Web::start("cart").unwrap(), Web::start("rng").unwrap(), Web::start("all").unwrap());
    // That name is another service's.
    register(&bed, "cart-1", &cart, ("", &[("http_host", "rng"), ("http_path", "/cart")])).await;
    register(&bed, "rng-1", &rng, ("", &[])).await;
    register(&bed, "all-1", &all, ("", &[("http_path", "/all")])).await;
    bed.start();
    for name in ["cart", "rng", "all"] {
        bed.until_serving(&format!("http_{name}"), &[&format!("{name}-1")]).await;
    }
    for (host, path, name) in [
        ("rng", "/cart", "rng"),
        ("elsewhere.example", "/cart", "no such service"),
        ("cart", "/cart", "cart"),
        ("elsewhere.example", "/all", "all"),
    ] {
        assert_eq!(who(bed.front, host, path).await, name, "{host}{path}");
    }
    judged(&bed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_capital_letters_in_its_name_is_reached_and_owns_that_name() {
    let mut bed = Bed::new();
    let (shop, cart) = (Web::start("shop").unwrap(), Web::start("cart").unwrap());
    register(&bed, "Shop-1", &shop, ("", &[])).await;
    register(&bed, "cart-1", &cart, ("", &[("http_host", "shop")])).await;
    bed.start();
    bed.until_serving("http_Shop", &["Shop-1"]).await;
    bed.until_serving("http_cart", &["cart-1"]).await;
    for host in ["Shop", "shop", "SHOP:80"] {
        assert_eq!(who(bed.front, host, "/").await, "shop", "{host}");
    }
    judged(&bed);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_service_gets_the_port_of_the_settings_and_each_may_have_another() {
    let bed = Bed::new();
    let web = Web::start("web").unwrap();
    for (name, port) in [("one", bed.front.port()), ("two", bed.stats.port()), ("three", 80)] {
        let registration = Registration {
            id: name.to_owned(),
            name: name.to_owned(),
            address: web.address().ip().to_string(),
            port: web.address().port(),
            meta: [("container-port".to_owned(), port.to_string())].into(),
            ..Registration::default()
        };
        bed.client.register(&registration).await.unwrap();
    }
    let text = bed.run(&["render", "haproxy"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for (name, port) in [("one", bed.front.port()), ("two", bed.stats.port())] {
        assert!(text.contains(&format!("# {name}: port {port} is taken.")), "{text}");
    }
    assert!(text.contains("frontend tcp_three\n    mode tcp\n    bind :80\n"), "{text}");
}
