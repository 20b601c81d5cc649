//! A Consul, an HAProxy and a confd between them, in folders of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use consul::{Client, Config, Registration};
use testbed::consul::Consul;
use testbed::haproxy::{Haproxy, Program, Web, programs};
use testbed::port::free_port;
use testbed::process::Process;

/// How long anything may take that is said to happen soon, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The parts, and where clients connect.
pub(crate) struct Bed {
    pub(crate) consul: Consul,
    pub(crate) client: Client,
    pub(crate) haproxy: Haproxy,
    pub(crate) confd: Option<Process>,
    pub(crate) front: SocketAddr,
    pub(crate) listen: SocketAddr,
    pub(crate) folder: tempfile::TempDir,
    /// Further variables for confd.
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) stats: SocketAddr,
}

/// Returns an instance's ID by its server's name, which has the node between colons before it.
fn id_of(server: &str) -> String {
    let id = server.strip_prefix(':').and_then(|rest| rest.split_once(':'));
    id.map_or(server, |(_, id)| id).to_owned()
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()))
}

impl Bed {
    /// Starts Consul and HAProxy, and writes the stock resource for them; confd is not started yet.
    pub(crate) fn new() -> Self {
        Self::with(Consul::start().unwrap())
    }

    /// The same with an HAProxy of a certain version.
    pub(crate) fn on(program: &Program) -> Self {
        Self::of(Consul::start().unwrap(), program)
    }

    /// The same with a Consul that is not the usual one.
    pub(crate) fn with(consul: Consul) -> Self {
        Self::of(consul, &programs()[0])
    }

    /// The same with confd, which has brought in the instance `a` of the service `web`.
    pub(crate) async fn serving_web() -> (Self, Web) {
        let web = Web::start("a").unwrap();
        let mut bed = Self::new();
        bed.register("web", "a", web.address(), &["http"]).await;
        bed.start();
        bed.until_serving("http_web", &["a"]).await;
        (bed, web)
    }

    /// Brings Consul's index ahead of where a Consul without data begins: what counts as "newer" must be behind it.
    pub(crate) async fn age_consul(&self) {
        for n in 0..50_u8 {
            self.client.kv_put("count", &[n]).await.unwrap();
        }
    }

    fn of(consul: Consul, program: &Program) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let client = Client::new(&Config::from_uri(&consul.url()).unwrap()).unwrap();
        let nothing = "defaults\n    mode http\n    timeout connect 1s\n    timeout client 1s\n    timeout server 1s\n";
        let haproxy = Haproxy::start(program, nothing).unwrap();
        let bed = Self {
            client,
            confd: None,
            front: loopback(),
            listen: loopback(),
            stats: loopback(),
            consul,
            haproxy,
            folder,
            environment: Vec::new(),
        };
        let stock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../templates");
        for part in ["conf.d/haproxy.toml", "templates/haproxy.cfg.tera"] {
            let text = fs::read_to_string(stock.join(part)).unwrap();
            let own = bed.haproxy.folder().display().to_string();
            bed.write(part, &text.replace("/run/ambassador", &own));
        }
        bed
    }

    pub(crate) fn confdir(&self) -> PathBuf {
        self.folder.path().join("etc")
    }

    pub(crate) fn template(&self) -> String {
        fs::read_to_string(self.confdir().join("templates/haproxy.cfg.tera")).unwrap()
    }

    /// Writes a file below the configuration folder.
    pub(crate) fn write(&self, part: &str, text: &str) {
        let path = self.confdir().join(part);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Adds to a file below the configuration folder.
    pub(crate) fn append(&self, part: &str, text: &str) {
        let old = fs::read_to_string(self.confdir().join(part)).unwrap();
        self.write(part, &(old + text));
    }

    /// Returns confd with what every run here needs.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confd"));
        command
            .arg("--confdir")
            .arg(self.confdir())
            .arg("--state-dir")
            .arg(self.folder.path().join("state"))
            .args(["--listen", &self.listen.to_string()])
            .args(args)
            .env("CONSUL_HTTP_ADDR", self.consul.url())
            .env("HTTP_BIND", self.front.to_string())
            .env("STATS_BIND", self.stats.to_string())
            .env("LOG", "info,confd=debug,consulrs=warn,rustify=off")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs confd to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Starts the daemon; what it says goes to the log.
    pub(crate) fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        self.confd = Some(Process::spawn(&self.command(&[]), Some(&log)).unwrap());
    }

    pub(crate) fn confd(&self) -> &Process {
        self.confd.as_ref().expect("started")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Returns all that the daemon has said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Registers an instance of `service` at `address`.
    pub(crate) async fn register(
        &self,
        service: &str,
        id: &str,
        address: SocketAddr,
        tags: &[&str],
    ) {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
        let meta = BTreeMap::from([
            ("container-port".to_owned(), address.port().to_string()),
            ("event-time".to_owned(), now.to_string()),
            ("registered-time".to_owned(), (now + 1).to_string()),
        ]);
        let registration = Registration {
            id: id.to_owned(),
            name: service.to_owned(),
            address: address.ip().to_string(),
            port: address.port(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            meta,
            ..Registration::default()
        };
        self.client.register(&registration).await.unwrap();
    }

    /// Returns the IDs of the servers of `backend` that get traffic.
    pub(crate) fn serving(&self, backend: &str) -> BTreeSet<String> {
        let Ok(state) = self.haproxy.command(&format!("show servers state {backend}")) else {
            return BTreeSet::new();
        };
        let header: Vec<&str> = state
            .lines()
            .find_map(|line| line.strip_prefix("# "))
            .map(|header| header.split(' ').collect())
            .unwrap_or_default();
        let column = |name| header.iter().position(|h| *h == name);
        let (Some(name), Some(up), Some(weight), Some(admin)) = (
            column("srv_name"),
            column("srv_op_state"),
            column("srv_uweight"),
            column("srv_admin_state"),
        ) else {
            return BTreeSet::new();
        };
        let rows = state.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        rows.filter(|row| row.len() == header.len() && row[0] != "#")
            .filter(|row| row[up] == "2" && row[weight] != "0" && row[admin] == "0")
            .map(|row| id_of(row[name]))
            .collect()
    }

    /// Returns the IDs of the servers that the file lists.
    pub(crate) fn written(&self) -> BTreeSet<String> {
        let text = fs::read_to_string(self.haproxy.folder().join("haproxy.cfg")).unwrap();
        let servers = text.lines().filter_map(|line| line.trim_start().strip_prefix("server "));
        servers.map(|line| id_of(line.split(' ').next().unwrap())).collect()
    }

    /// Returns how often HAProxy was reloaded.
    pub(crate) fn reloads(&self) -> u64 {
        let started = Instant::now();
        loop {
            // While it reloads, the master answers nobody.
            match self.master() {
                Some(reloads) => return reloads,
                None => assert!(started.elapsed() < SOON, "the master does not answer"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Has HAProxy read its files again, as somebody does by hand.
    pub(crate) fn reload(&self) {
        // 2.6 starts itself again without an answer.
        let _ = self.ask_master("reload");
    }

    fn ask_master(&self, command: &str) -> std::io::Result<String> {
        use std::io::{Read, Write};
        let mut stream = std::os::unix::net::UnixStream::connect(self.haproxy.master())?;
        stream.write_all(format!("{command}\n").as_bytes())?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn master(&self) -> Option<u64> {
        let answer = self.ask_master("show proc").ok()?;
        let master = answer.lines().find(|line| line.contains(" master "))?;
        master.split_whitespace().nth(2)?.parse().ok()
    }

    /// Asks the daemon's listener.
    pub(crate) async fn get(&self, path: &str) -> Option<(u16, String)> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(self.listen).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
    }

    /// Returns one of the daemon's numbers, summed over its labels.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics").await.expect("the daemon listens");
        let values = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// Waits until something is so, and returns how long that took.
    pub(crate) async fn until(&self, what: &str, mut so: impl FnMut(&Self) -> bool) -> Duration {
        let started = Instant::now();
        while !so(self) {
            assert!(started.elapsed() < SOON, "not soon enough: {what}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        started.elapsed()
    }

    /// Waits until exactly these servers of `backend` get traffic.
    pub(crate) async fn until_serving(&self, backend: &str, servers: &[&str]) -> Duration {
        let wanted: BTreeSet<String> = servers.iter().map(|name| (*name).to_owned()).collect();
        let what = format!("{backend} serves {servers:?}");
        self.until(&what, |bed| bed.serving(backend) == wanted).await
    }
}

/// Asks for the service `host`, and returns the whole answer; `None` if nobody answers.
pub(crate) async fn request(front: SocketAddr, host: &str) -> Option<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(front).await.ok()?;
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer.trim_end().to_owned())
}
