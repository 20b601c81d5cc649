//! A Consul, an HAProxy and a confd between them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use consul::{Client, Config, Registration};
use tempfile::TempDir;
use testbed::consul::Consul;
use testbed::docker::Docker;
use testbed::haproxy::{Haproxy, programs};
use testbed::port::free_port;
use testbed::process::Process;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long anything may take that is measured.
const LIMIT: Duration = Duration::from_mins(2);
/// How often the runtime socket is asked: it bounds the error of what is measured.
const POLL: Duration = Duration::from_micros(250);
/// Servers have no check here: what is measured is confd, not the interval of a check.
const TEMPLATE: &str = "defaults
    mode http
    timeout connect 1s
    timeout client 1s
    timeout server 1s
backend web
    balance BALANCE
{% for i in service(name=\"web\") %}    server {{ i.id | haproxy_name }} {{ i | sockaddr }}
{% endfor %}";

/// The three, and their files; all end when it is dropped.
pub(super) struct Node {
    confd: Process,
    client: Client,
    haproxy: Haproxy,
    consul: Consul,
    listen: SocketAddr,
    _folder: TempDir,
}

impl Node {
    /// Starts all three; returns when the first text is live.
    pub(super) async fn start(program: &Path, balance: &str) -> Result<Self> {
        Self::with(program, Consul::start()?, &TEMPLATE.replace("BALANCE", balance)).await
    }

    /// The same with a Consul and a template; only the template is waited for, not its servers.
    pub(super) async fn with(program: &Path, consul: Consul, template: &str) -> Result<Self> {
        let haproxy = programs().last().context("there is one")?;
        let nothing =
            "defaults\n    timeout connect 1s\n    timeout client 1s\n    timeout server 1s\n";
        let haproxy = Haproxy::start(haproxy, nothing)?;
        let (folder, own) = (TempDir::new()?, haproxy.folder().display().to_string());
        for part in ["conf.d", "templates"] {
            fs::create_dir(folder.path().join(part))?;
        }
        let resource = format!(
            "[template]\nsrc = \"t.tera\"\ndest = \"{own}/haproxy.cfg\"\ncheck = \"haproxy\"\napply = \"haproxy\"\nreload_min_interval = \"0s\"\n\
             [template.haproxy]\nruntime = \"{own}/runtime.sock\"\nmaster = \"{own}/master.sock\"\ndrain_timeout = \"0s\"\n"
        );
        fs::write(folder.path().join("conf.d/haproxy.toml"), resource)?;
        fs::write(folder.path().join("templates/t.tera"), template)?;
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let mut command = Command::new(program);
        command.arg("--confdir").arg(folder.path());
        command.arg("--state-dir").arg(folder.path().join("state"));
        command.args(["--listen", &listen.to_string(), "--log", "warn"]);
        // As in the image.
        command.env("CONSUL_HTTP_ADDR", consul.url()).env("MALLOC_ARENA_MAX", "1");
        command.env("MALLOC_MMAP_THRESHOLD_", "131072");
        let confd = Process::spawn(&command, Some(&File::create(folder.path().join("log"))?))?;
        let client = Client::new(&Config::from_uri(&consul.url())?)?;
        let node = Self { confd, client, haproxy, consul, listen, _folder: folder };
        node.until("the first text is live", || {
            Ok(node.haproxy.command("show backend")?.contains("\nweb"))
        })
        .await?;
        Ok(node)
    }

    pub(super) fn pid(&self) -> Result<i32> {
        ensure!(self.confd.exited()?.is_none(), "confd has ended");
        Ok(self.confd.pid())
    }

    async fn until(&self, what: &str, so: impl Fn() -> Result<bool>) -> Result<()> {
        let started = Instant::now();
        // The socket is away for a moment when HAProxy reloads.
        while !so().unwrap_or_default() {
            ensure!(started.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Tells whether a server of the backend `web` gets traffic.
    fn serves(&self, server: &str) -> Result<bool> {
        // Columns: … 3 name, 4 address, 5 operational state, 6 administrative state, 7 weight.
        let state = self.haproxy.command("show servers state web")?;
        let row = state.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mut row = row.filter(|row| row.get(3) == Some(&server));
        Ok(row.next().is_some_and(|row| row[5] == "2" && row[6] == "0" && row[7] != "0"))
    }

    async fn register(&self, id: &str, port: u16) -> Result<()> {
        let registration = Registration {
            id: id.to_owned(),
            name: "web".into(),
            address: "127.0.0.1".into(),
            port,
            meta: BTreeMap::from([("managed-by".into(), "registrator".into())]),
            ..Registration::default()
        };
        Ok(self.client.register(&registration).await?)
    }

    /// Registers and removes instances, one after the other; returns how long each took to be served.
    pub(super) async fn changes(&mut self, count: usize) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        self.register("always", 80).await?;
        self.until("the first is served", || self.serves("always")).await?;
        for number in 0..count {
            let id = format!("i{number}");
            let started = Instant::now();
            self.register(&id, 81).await?;
            self.until("it is served", || self.serves(&id)).await?;
            times.push(started.elapsed());
            self.client.deregister(&id).await?;
            self.until("it is gone", || Ok(!self.serves(&id)?)).await?;
            // The file follows; the next one is to find everything at rest.
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        Ok(times)
    }

    /// Starts containers beside a registrator; returns how long after the engine's time each was served.
    pub(super) async fn containers(
        &mut self,
        registrator: &Path,
        count: usize,
    ) -> Result<Vec<Duration>> {
        let engine = Docker::start()?;
        let mut command = Command::new(registrator);
        command.arg("--internal").env("DOCKER_HOST", engine.url()).env("LISTEN", "");
        command.env("CONSUL_HTTP_ADDR", self.consul.url());
        let log = File::create(engine.folder().join("registrator.log"))?;
        let _registrator = Process::spawn(&command, Some(&log))?;
        // It looks around first.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut times = Vec::new();
        for number in 0..count {
            let name = format!("web{number}");
            let id = format!("{}:{name}:80", self.consul.node());
            let wanted = id.clone();
            let label = ["--expose", "80", "--label", "SERVICE_NAME=web"];
            let (engine, name) = (&engine, &name);
            // `docker run` returns long after the event: whoever serves is watched meanwhile.
            let served = std::thread::scope(|scope| -> Result<SystemTime> {
                let running = scope.spawn(move || engine.run(name, &label));
                let started = Instant::now();
                while !self.serves_id(&wanted).unwrap_or_default() {
                    ensure!(started.elapsed() < LIMIT, "{wanted} is not served");
                    std::thread::sleep(POLL);
                }
                let served = SystemTime::now();
                running.join().map_err(|_| anyhow::anyhow!("docker run panicked"))??;
                Ok(served)
            })?;
            let services = self.client.agent_services(None).await?;
            let service = services.get(&id).context("it is registered")?;
            let event = service.meta.get("event-time").context("it has a time")?.parse()?;
            let event = UNIX_EPOCH + Duration::from_nanos(event);
            times.push(served.duration_since(event).unwrap_or_default());
        }
        Ok(times)
    }

    /// The same as [`Node::serves`] for an instance, whose server has a name of its own.
    fn serves_id(&self, id: &str) -> Result<bool> {
        self.serves(&confd::text::haproxy_name(id))
    }

    /// Registers instances until there are `count` more, all served.
    pub(super) async fn fill(&mut self, count: usize) -> Result<()> {
        for number in 0..count {
            self.register(&format!("many{number}"), u16::try_from(1000 + number)?).await?;
        }
        let last = format!("many{}", count - 1);
        self.until("all are served", || self.serves(&last)).await?;
        // Their drains, files and generations are done then.
        tokio::time::sleep(Duration::from_secs(3)).await;
        Ok(())
    }

    /// Returns one of confd's numbers; 0 where it does not count yet.
    pub(super) async fn metric(&self, name: &str) -> Result<f64> {
        let mut stream = tokio::net::TcpStream::connect(self.listen).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let line = text.lines().find(|line| line.split(['{', ' ']).next() == Some(name));
        Ok(line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default())
    }

    /// Returns the answer of HAProxy's runtime socket.
    pub(super) fn haproxy(&self, command: &str) -> Result<String> {
        self.haproxy.command(command)
    }
}
