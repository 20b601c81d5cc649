//! What a test works with: an engine, an agent, and a registrator between them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::ops::Deref;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use consul::{AgentService, Check, Client, Config, KvPair, Query};
use testbed::consul::Consul;
use testbed::docker::Docker;
use testbed::process::Process;
use tokio::runtime::Runtime;

/// How long until what is registered is what runs, whatever happened before: five seconds, and what a busy machine adds.
pub(crate) const SOON: Duration = Duration::from_secs(15);
/// How often it is looked at meanwhile.
const POLL: Duration = Duration::from_millis(20);

/// How long it must stay so.
const AGAIN: Duration = Duration::from_millis(50);

/// The engines that tests share, each test one of them for itself.
const ENGINES: usize = 2;

/// The engine of a test.
pub(crate) enum Bed {
    /// One that the next test takes over.
    Shared(MutexGuard<'static, Docker>),
    /// One that goes with the test.
    Own(Docker),
}

impl Deref for Bed {
    type Target = Docker;

    fn deref(&self) -> &Docker {
        match self {
            Self::Shared(engine) => engine,
            Self::Own(engine) => engine,
        }
    }
}

/// Returns a shared engine that no other test uses, without containers.
fn engine() -> MutexGuard<'static, Docker> {
    static ALL: [OnceLock<Mutex<Docker>>; ENGINES] = [const { OnceLock::new() }; ENGINES];
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed) % ENGINES;
        let engine = ALL[number].get_or_init(|| Mutex::new(Docker::start().unwrap()));
        let engine = match engine.try_lock() {
            Ok(engine) => engine,
            // What a failed test left behind is cleared away like anything else.
            Err(TryLockError::Poisoned(engine)) => PoisonError::into_inner(engine),
            Err(TryLockError::WouldBlock) => {
                std::thread::sleep(POLL);
                continue;
            }
        };
        engine.clear().unwrap();
        return engine;
    }
}

/// An engine without containers, an agent without services, and a registrator if started.
pub(crate) struct World {
    pub(crate) docker: Bed,
    pub(crate) consul: Consul,
    pub(crate) registrator: RefCell<Option<Process>>,
    client: Client,
    runtime: Runtime,
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl World {
    /// Prepares an engine and an agent.
    pub(crate) fn new() -> Self {
        Self::with(Consul::start().unwrap())
    }

    /// Prepares an engine, and takes this agent.
    pub(crate) fn with(consul: Consul) -> Self {
        Self::on(Bed::Shared(engine()), consul)
    }

    /// Takes this engine and this agent.
    pub(crate) fn on(docker: Bed, consul: Consul) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = Client::new(&Config::from_uri(&consul.url()).unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let environment = vec![
            ("DOCKER_HOST".to_owned(), docker.url()),
            ("CONSUL_HTTP_ADDR".to_owned(), consul.url()),
            ("LISTEN".to_owned(), String::new()),
        ];
        Self {
            docker,
            consul,
            registrator: RefCell::new(None),
            client,
            runtime,
            folder,
            environment,
        }
    }

    /// Sets an environment variable of the registrators started from now on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Looks at Consul with this token from now on.
    pub(crate) fn look_with(&mut self, token: &str) {
        let mut config = Config::from_uri(&self.consul.url()).unwrap();
        config.token = Some(consul::Secret::new(token));
        self.client = Client::new(&config).unwrap();
    }

    /// Starts a registrator for exposed ports, with further arguments.
    pub(crate) fn start(&self, args: &[&str]) -> &Self {
        let command = self.command(&[&["--internal"], args].concat());
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        self.registrator.replace(Some(Process::spawn(&command, Some(&log)).unwrap()));
        self
    }

    /// Returns a registrator command to be run.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_registrator"));
        command.args(args).envs(self.environment.iter().cloned());
        command
    }

    /// Runs a registrator command to its end.
    pub(crate) fn output(&self, args: &[&str]) -> Output {
        let command = self.command(args);
        let mut limited = Command::new("timeout");
        limited.arg("40").arg(command.get_program()).args(command.get_args());
        limited.envs(self.environment.iter().cloned()).output().unwrap()
    }

    /// Returns all that the registrators said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> std::path::PathBuf {
        self.folder.path().join("registrator.log")
    }

    /// Sends the registrator a signal.
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        self.registrator.borrow().as_ref().unwrap().signal(signal).unwrap();
    }

    /// Ends the registrator as a crash would.
    pub(crate) fn kill_registrator(&self) {
        self.registrator.take().unwrap().kill().unwrap();
    }

    /// Ends the registrator in good order.
    pub(crate) fn stop_registrator(&self) {
        let registrator = self.registrator.take().unwrap();
        registrator.signal(nix::sys::signal::Signal::SIGTERM).unwrap();
        let status = registrator.wait(SOON).unwrap();
        assert!(status.is_some_and(|status| status.success()), "{status:?}\n{}", self.log());
    }

    /// Starts a container that exposes port 80, with further arguments of `docker run`.
    pub(crate) fn run(&self, name: &str, args: &[&str]) -> String {
        self.docker.run(name, &[&["--expose", "80"], args].concat()).unwrap()
    }

    /// Returns the agent's services that carry our mark, by ID.
    pub(crate) fn services(&self) -> BTreeMap<String, AgentService> {
        let all = self.runtime.block_on(self.client.agent_services(None)).unwrap_or_default();
        let ours = |service: &AgentService| service.meta.contains_key("managed-by");
        all.into_iter().filter(|(_, service)| ours(service)).collect()
    }

    /// Returns the agent's checks, by ID.
    pub(crate) fn checks(&self) -> BTreeMap<String, Check> {
        self.runtime.block_on(self.client.agent_checks(None)).unwrap_or_default()
    }

    /// Returns the keys below a prefix.
    pub(crate) fn keys(&self, prefix: &str) -> BTreeMap<String, KvPair> {
        let pairs = self.runtime.block_on(self.client.kv_list(prefix, &Query::default()));
        let pairs = pairs.map(|answer| answer.value).unwrap_or_default();
        pairs.into_iter().map(|pair| (pair.key.clone(), pair)).collect()
    }

    /// Returns the journal's entries: what happened, and the name of the container.
    pub(crate) fn journal(&self) -> Vec<String> {
        let pair = self.keys("services-events/").remove("services-events/node1");
        let entries: Vec<serde_json::Value> =
            serde_json::from_slice(&pair.unwrap_or_default().value).unwrap_or_default();
        let text = |entry: &serde_json::Value, key: &str| entry[key].as_str().unwrap().to_owned();
        let name = |id: &str| id.split(':').nth(1).unwrap_or_default().to_owned();
        let line = |entry| format!("{} {}", text(entry, "event"), name(&text(entry, "id")));
        entries.iter().map(line).collect()
    }

    /// Does something with the client.
    pub(crate) fn ask<T>(&self, question: impl AsyncFnOnce(&Client) -> T) -> T {
        self.runtime.block_on(question(&self.client))
    }

    /// Waits until what is registered is what runs, each container with one exposed port, and the
    /// keys say the same. Once is not enough: an engine lists a container for a moment after it said that it stopped,
    /// and until the next look at it its instance is right.
    pub(crate) fn settle(&self) {
        self.within(SOON, || {
            self.difference()?;
            std::thread::sleep(AGAIN);
            self.difference()
        });
    }

    /// Returns how what is registered differs from what runs, or from the keys.
    pub(crate) fn difference(&self) -> Result<(), String> {
        let listed = self.docker.cli(&["ps", "--format", "{{.ID}} {{.Names}}"]).unwrap();
        let running: BTreeSet<(String, String)> = listed
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(id, name)| (id.to_owned(), format!("{}:{name}:80", self.consul.node())))
            .collect();
        let services = self.services();
        let registered: BTreeSet<(String, String)> = services
            .iter()
            .map(|(id, service)| (service.meta["container"].clone(), id.clone()))
            .collect();
        let keys: BTreeSet<String> = self.keys("services/").into_keys().collect();
        let mirrored: BTreeSet<String> =
            services.iter().map(|(id, one)| format!("services/{}/{id}", one.name)).collect();
        if registered != running {
            let missing: Vec<_> = running.difference(&registered).collect();
            let ghosts: Vec<_> = registered.difference(&running).collect();
            return Err(format!("not registered: {missing:?}\nghosts: {ghosts:?}"));
        }
        if keys != mirrored {
            return Err(format!("keys: {keys:?}\nservices: {mirrored:?}"));
        }
        Ok(())
    }

    /// Waits until something holds that has to soon.
    pub(crate) fn until(&self, what: &str, holds: impl Fn() -> bool) {
        self.within(SOON, || if holds() { Ok(()) } else { Err(what.to_owned()) });
    }

    /// Waits until something holds, for as long as given.
    pub(crate) fn within(&self, limit: Duration, check: impl Fn() -> Result<(), String>) {
        let end = Instant::now() + limit;
        while let Err(difference) = check() {
            assert!(
                Instant::now() < end,
                "after {limit:?}: {difference}\n--- services: {:#?}\n--- log:\n{}",
                self.services().keys(),
                self.log()
            );
            std::thread::sleep(POLL);
        }
    }
}
