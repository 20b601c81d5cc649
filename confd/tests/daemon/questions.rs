//! What templates ask, as it changes.

use consul::{CheckDefinition, Registration, Status};

use crate::bed::Bed;

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_instances_are_as_well_as_their_checks_and_the_nodes() {
    let mut bed = Bed::new();
    std::fs::remove_file(bed.confdir().join("conf.d/haproxy.toml")).unwrap();
    let dest = bed.folder.path().join("out");
    bed.write(
        "templates/t.tera",
        "{% set n = node(name=\"node1\") %}{% for i in n.services %}{% if i.name != \"consul\" %}{{ i.id }}={{ i.status }} {% endif %}{% endfor %}",
    );
    let text = format!("[template]\nsrc = \"t.tera\"\ndest = \"{}\"\n", dest.display());
    bed.write("conf.d/t.toml", &text);
    let register = async |bed: &Bed, id: &str| {
        let check = CheckDefinition {
            id: format!("ttl-{id}"),
            ttl: "10m".to_owned(),
            status: Some(Status::Passing),
            ..CheckDefinition::default()
        };
        let registration = Registration {
            id: id.to_owned(),
            name: "web".to_owned(),
            port: 80,
            checks: vec![check],
            ..Registration::default()
        };
        bed.client.register(&registration).await.unwrap();
    };
    register(&bed, "a").await;
    bed.start();
    let read = || std::fs::read_to_string(&dest).unwrap_or_default();
    bed.until("it is written", |_| read() == "a=passing ").await;
    bed.client.ttl("ttl-a", Status::Critical, "ill").await.unwrap();
    bed.until("its check counts", |_| read() == "a=critical ").await;
    register(&bed, "b").await;
    bed.until("another one comes", |_| read() == "a=critical b=passing ").await;
    bed.client.node_maintenance(Some("repair")).await.unwrap();
    bed.until("its node counts", |_| read() == "a=maintenance b=maintenance ").await;
    bed.client.node_maintenance(None).await.unwrap();
    bed.client.ttl("ttl-a", Status::Passing, "well").await.unwrap();
    bed.client.deregister("b").await.unwrap();
    bed.until("all is well", |_| read() == "a=passing ").await;
}
