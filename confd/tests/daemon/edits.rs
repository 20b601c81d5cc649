//! Resources and templates are edited while the daemon runs, well and badly.

use std::io::{Seek as _, Write as _};

use nix::sys::signal::Signal;
use testbed::haproxy::Web;

use crate::bed::Bed;

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_template_is_reported_and_what_runs_goes_on() {
    let (bed, _web) = Bed::serving_web().await;
    let (good, reloads) = (bed.template(), bed.reloads());
    let file = std::fs::read_to_string(bed.haproxy.folder().join("haproxy.cfg")).unwrap();
    for (broken, words) in [
        (format!("{good}\n{{{{ nonsense }}}}\n"), "nonsense"),
        (format!("{good}\nbackend broken\n    no-such-keyword\n"), "no-such-keyword"),
    ] {
        bed.write("templates/haproxy.cfg.tera", &broken);
        bed.until("the mistake is reported", |bed| bed.log().contains(words)).await;
        bed.until("it is named", |bed| bed.log().contains("haproxy.cfg")).await;
    }
    let rejected = bed.haproxy.folder().join("haproxy.cfg.rejected");
    bed.until("the rejected text is kept", |_| rejected.exists()).await;
    assert_eq!(std::fs::read_to_string(bed.haproxy.folder().join("haproxy.cfg")).unwrap(), file);
    assert_eq!(bed.get("/readyz").await.unwrap().0, 503);
    bed.write("templates/haproxy.cfg.tera", &good);
    let b = Web::start("b").unwrap();
    bed.register("web", "b", b.address(), &["http"]).await;
    bed.until_serving("http_web", &["a", "b"]).await;
    assert_eq!(bed.reloads(), reloads);
    assert!(bed.metric("confd_rejections_total").await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_is_written_in_place_is_read_when_it_is_whole() {
    let (bed, web) = Bed::serving_web().await;
    let (good, reloads) = (bed.template(), bed.reloads());
    let path = bed.confdir().join("templates/haproxy.cfg.tera");
    // Empty, then the half of it, as whoever writes it is held up.
    let mut file = std::fs::File::create(&path).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    file.write_all(good.split_at(good.find("frontend").unwrap()).0.as_bytes()).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(bed.reloads(), reloads, "{}", bed.log());
    file.rewind().unwrap();
    file.write_all(format!("{good}\nbackend edited\n    mode http\n").as_bytes()).unwrap();
    drop(file);
    bed.until("the whole is live", |bed| {
        bed.haproxy.command("show backend").unwrap().contains("edited")
    })
    .await;
    // Nor is one live that stays empty, which is somebody's accident.
    std::fs::write(&path, "").unwrap();
    bed.until("it is named", |bed| bed.log().contains("haproxy.cfg.tera is empty")).await;
    bed.register("web", "b", web.address(), &["http"]).await;
    bed.until_serving("http_web", &["a", "b"]).await;
    assert_eq!(bed.reloads(), reloads + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_edit_is_live_by_itself_and_a_resource_may_come_and_go() {
    let mut bed = Bed::new();
    bed.start();
    bed.until("the first text is live", |bed| bed.reloads() == 1).await;
    bed.write(
        "templates/haproxy.cfg.tera",
        &format!("{}\nbackend edited\n    mode http\n", bed.template()),
    );
    bed.until("the edit is live", |bed| {
        bed.haproxy.command("show backend").unwrap().contains("edited")
    })
    .await;
    let dest = bed.folder.path().join("hello");
    bed.write("templates/hello.tera", "hello {{ datacenters() | first }}\n");
    let resource = format!("[template]\nsrc = \"hello.tera\"\ndest = \"{}\"\n", dest.display());
    bed.write("conf.d/hello.toml", &resource);
    let read = || std::fs::read_to_string(&dest).unwrap_or_default();
    bed.until("the new resource is written", |_| read() == "hello dc1\n").await;
    // A mistake in its file keeps it as it was; so does its end.
    bed.write("conf.d/hello.toml", &format!("{resource}soure = 1\n"));
    bed.until("the key is named", |bed| {
        bed.log().contains("soure") && bed.log().contains("line 4")
    })
    .await;
    std::fs::remove_file(bed.confdir().join("conf.d/hello.toml")).unwrap();
    bed.until("its end is noticed", |bed| bed.log().contains("is gone")).await;
    assert_eq!(read(), "hello dc1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn hangup_reads_everything_again() {
    let mut bed = Bed::new();
    bed.start();
    bed.until("the first text is live", |bed| bed.reloads() == 1).await;
    bed.confd().signal(Signal::SIGHUP).unwrap();
    bed.until("it says so", |bed| bed.log().contains("read again")).await;
    assert_eq!(bed.reloads(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_command_that_fails_is_tried_until_it_succeeds() {
    let mut bed = Bed::new();
    std::fs::remove_file(bed.confdir().join("conf.d/haproxy.toml")).unwrap();
    let (dest, marker) = (bed.folder.path().join("out"), bed.folder.path().join("marker"));
    bed.write("templates/t.tera", "{{ key_or(path=\"color\", default=\"none\") }}\n");
    let text = format!(
        "[template]\nsrc = \"t.tera\"\ndest = \"{}\"\ncheck_cmd = \"! grep -q bad {{{{ src }}}}\"\nreload_cmd = \"cat {} && grep -q . {{{{ dest }}}} {{{{.src}}}}\"\nreload_min_interval = \"0s\"\n",
        dest.display(),
        marker.display()
    );
    bed.write("conf.d/t.toml", &text);
    bed.start();
    bed.until("the command has failed", |bed| bed.log().contains("No such file")).await;
    assert_eq!(std::fs::read_to_string(&dest).unwrap(), "none\n");
    // By then up to 16 seconds pass between two tries; a hangup does not wait for the next.
    tokio::time::sleep(std::time::Duration::from_secs(14)).await;
    std::fs::write(&marker, "").unwrap();
    bed.confd().signal(Signal::SIGHUP).unwrap();
    let succeeded = |bed: &Bed| bed.log().contains("action=\"reload_cmd\"");
    let took = bed.until("the command has succeeded", succeeded).await;
    assert!(took.as_secs() < 4, "{took:?}");
    bed.client.kv_put("color", b"bad").await.unwrap();
    bed.until("the check refuses", |bed| bed.log().contains("rejected by its check")).await;
    assert_eq!(std::fs::read_to_string(&dest).unwrap(), "none\n");
    bed.client.kv_put("color", b"good").await.unwrap();
    bed.until("the good one is written", |_| std::fs::read_to_string(&dest).unwrap() == "good\n")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_one_service_that_breaks_the_configuration_is_left_out_and_named() {
    let web = Web::start("a").unwrap();
    let mut bed = Bed::new();
    // A template that trusts a tag to be a keyword, as users' templates do.
    let template = bed.template();
    let trusting = template.replace("    timeout queue 2m\n", "    timeout queue 2m\n{%- for tag in service.tags %}{% if tag is starting_with(pat=\"raw=\") %}\n    {{ tag | replace(from=\"raw=\", to=\"\") }}{% endif %}{% endfor %}\n");
    assert_ne!(template, trusting);
    bed.write("templates/haproxy.cfg.tera", &trusting);
    for n in 0..8 {
        let name = format!("good{n}");
        bed.register(&name, &name, web.address(), &["http"]).await;
    }
    bed.start();
    bed.until("all serve", |bed| (0..8).all(|n| bed.serving(&format!("http_good{n}")).len() == 1))
        .await;
    bed.register("bad", "bad", web.address(), &["http", "raw=no-such-keyword"]).await;
    bed.until("it is named", |bed| bed.log().contains("service=\"bad\"")).await;
    // So are others, at the same time.
    for name in ["bad2", "bad3"] {
        bed.register(name, name, web.address(), &["http", "raw=no-such-keyword"]).await;
    }
    for name in ["bad2", "bad3"] {
        let named = format!("service=\"{name}\"");
        bed.until("it is named", |bed| bed.log().contains(&named)).await;
    }
    // The rest goes on, and changes.
    bed.register("good3", "second", web.address(), &["http"]).await;
    bed.until_serving("http_good3", &["good3", "second"]).await;
    assert!(bed.serving("http_bad").is_empty());
    // When the service is mended it is served.
    bed.register("bad", "bad", web.address(), &["http"]).await;
    bed.until_serving("http_bad", &["bad"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_a_template_costs_no_service_its_traffic() {
    let (mut bed, web) = Bed::serving_web().await;
    bed.until("it is remembered", |bed| bed.log().contains("generation=1")).await;
    // Only where there is a service, so that the text is right without it.
    let good = bed.template();
    let broken =
        good.replace("    timeout queue 2m\n", "    timeout queue 2m\n    no-such-keyword\n");
    assert_ne!(good, broken);
    let rejections = |bed: &Bed| bed.log().matches("no-such-keyword").count();
    bed.write("templates/haproxy.cfg.tera", &broken);
    bed.until("the mistake is reported", |bed| rejections(bed) > 0).await;
    // Neither reading it again, nor a restart, nor news of the service changes who is to blame.
    bed.confd().signal(Signal::SIGHUP).unwrap();
    bed.until("it is read again", |bed| bed.log().contains("read again")).await;
    bed.register("web", "b", web.address(), &["http"]).await;
    // It is served by what the last good template gives, and the mistake is said all the same.
    bed.until_serving("http_web", &["a", "b"]).await;
    assert_eq!(bed.get("/readyz").await.unwrap().0, 503);
    bed.until("it is remembered", |bed| bed.log().contains("generation=2")).await;
    bed.confd().kill().unwrap();
    let seen = rejections(&bed);
    bed.start();
    bed.until("it is reported again", |bed| rejections(bed) > seen).await;
    bed.until_serving("http_web", &["a", "b"]).await;
    assert!(!bed.log().contains("left out:"), "{}", bed.log());
    bed.write("templates/haproxy.cfg.tera", &good);
    bed.register("web", "c", web.address(), &["http"]).await;
    bed.until_serving("http_web", &["a", "b", "c"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_has_only_those_read_again_whom_it_concerns_and_a_hangup_all() {
    let mut bed = Bed::new();
    std::fs::remove_file(bed.confdir().join("conf.d/haproxy.toml")).unwrap();
    let out = |name: &str| bed.folder.path().join(name);
    let (a, b) = (out("a"), out("b"));
    for (name, dest, text) in [
        ("a", &a, "{% include \"part.tera\" %}{{ file(path=\"motd\") }}"),
        ("b", &b, "{{ key_or(path=\"color\", default=\"none\") }}"),
    ] {
        bed.write(&format!("templates/{name}.tera"), text);
        let resource =
            format!("[template]\nsrc = \"{name}.tera\"\ndest = \"{}\"\n", dest.display());
        bed.write(&format!("conf.d/{name}.toml"), &resource);
    }
    bed.write("templates/part.tera", "one ");
    bed.write("files/motd", "hello");
    bed.start();
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    bed.until("both are written", |_| read(&a) == "one hello" && read(&b) == "none").await;
    let again = |bed: &Bed, name: &str| {
        let log = bed.log();
        let lines = log.lines().filter(|line| line.contains("read again"));
        lines.filter(|line| line.contains(&format!("\"{name}\""))).count()
    };
    bed.write("templates/part.tera", "two ");
    bed.until("the part counts", |_| read(&a) == "two hello").await;
    bed.write("files/motd", "bye");
    bed.until("the file counts", |_| read(&a) == "two bye").await;
    bed.write("conf.d/a.toml", &(read(&bed.confdir().join("conf.d/a.toml")) + "mode = \"0600\"\n"));
    bed.until("its own file counts", |bed| bed.log().contains("stopped")).await;
    assert!(again(&bed, "a") >= 2, "{}", bed.log());
    assert_eq!(again(&bed, "b"), 0, "{}", bed.log());
    // By hand all are asked for, and what somebody did to them is put right.
    std::fs::write(&b, "spoilt").unwrap();
    bed.confd().signal(Signal::SIGHUP).unwrap();
    bed.until("it is put right", |_| read(&b) == "none").await;
    assert_eq!(again(&bed, "b"), 1, "{}", bed.log());
}
