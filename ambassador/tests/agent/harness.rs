//! An engine with an image of the ambassador, and agents on it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use testbed::docker::{Docker, shared};
use testbed::process::Process;

/// The image of ambassadors in these tests.
pub(crate) const IMAGE: &str = "ambassador-under-test";
/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(20);

/// An engine that has the image, for one test alone.
pub(crate) struct Node {
    pub(crate) docker: MutexGuard<'static, Docker>,
}

/// What an ambassador is for and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ambassador {
    pub(crate) id: String,
    pub(crate) network: String,
    pub(crate) started_at: String,
    pub(crate) upstreams: String,
    pub(crate) running: bool,
}

impl Node {
    pub(crate) fn new() -> Self {
        let docker = shared();
        if docker.cli(&["image", "inspect", IMAGE]).is_err() {
            build(&docker);
        }
        Self { docker }
    }

    /// Runs `ambassador agent` until the value is dropped.
    pub(crate) fn agent(&self) -> Process {
        self.agent_with(&[], &self.docker.url())
    }

    /// The same with further flags, and with its engine at another address.
    pub(crate) fn agent_with(&self, flags: &[&str], engine: &str) -> Process {
        let log =
            File::options().create(true).append(true).open(self.docker.folder().join("agent.log"));
        let mut command = self.command(&["agent", "--listen", ""]);
        Process::spawn(command.args(flags).env("DOCKER_HOST", engine), Some(&log.unwrap())).unwrap()
    }

    /// Makes a volume for ambassadors, owned by their user as by the first container that has it; returns its folder.
    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        let mount = format!("{name}:/run/ambassador");
        let first = self.docker.cli(&["create", "--volume", &mount, IMAGE]).unwrap();
        self.docker.cli(&["rm", &first]).unwrap();
        self.docker.cli(&["volume", "inspect", "-f", "{{.Mountpoint}}", name]).unwrap().into()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ambassador"));
        command.args(arguments).env("DOCKER_HOST", self.docker.url());
        command.env("AMBASSADOR_IMAGE", IMAGE).env_remove("COMPOSE_PROJECT_NAME");
        command
    }

    pub(crate) fn ask(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Runs a container that asks for upstreams; returns its ID.
    pub(crate) fn client(&self, name: &str, upstreams: &str, more: &[&str]) -> String {
        let label = format!("ambassador.upstreams={upstreams}");
        self.docker.run(name, &[&["--label", &label], more].concat()).unwrap()
    }

    pub(crate) fn started_at(&self, id: &str) -> String {
        self.docker.cli(&["inspect", "-f", "{{.State.StartedAt}}", id]).unwrap()
    }

    /// Returns all ambassadors by their clients' IDs; there are never two for one, even stopped.
    pub(crate) fn ambassadors(&self) -> BTreeMap<String, Ambassador> {
        let ids =
            self.docker.cli(&["ps", "-aq", "--no-trunc", "--filter", "label=ambassador.container"]);
        let mut all = BTreeMap::new();
        for id in ids.unwrap().lines() {
            let format = r#"{{index .Config.Labels "ambassador.container"}}|{{index .Config.Labels "ambassador.started-at"}}|{{index .Config.Labels "ambassador.upstreams"}}|{{.HostConfig.NetworkMode}}|{{.State.Running}}"#;
            // It may be removed between the list and the look.
            let Ok(line) = self.docker.cli(&["inspect", "-f", format, id]) else { continue };
            let words: Vec<_> = line.split('|').map(str::to_owned).collect();
            let [client, started_at, upstreams, network, running] =
                <[String; 5]>::try_from(words).unwrap();
            let ambassador = Ambassador {
                id: id.to_owned(),
                network,
                started_at,
                upstreams,
                running: running == "true",
            };
            assert!(all.insert(client.clone(), ambassador).is_none(), "two for {client}");
        }
        all
    }

    /// Whether each running client has its ambassador, as it is now, and nobody else has one.
    pub(crate) fn settled(&self) -> bool {
        let clients =
            self.docker.cli(&["ps", "-q", "--no-trunc", "--filter", "label=ambassador.upstreams"]);
        let mut ambassadors = self.ambassadors();
        let clients = clients.unwrap();
        let clients = clients.lines().filter(|id| !ambassadors.values().any(|one| one.id == **id));
        let clients: Vec<_> = clients.map(str::to_owned).collect();
        for client in clients {
            let Some(ambassador) = ambassadors.remove(&client) else { return false };
            let Ok(started_at) =
                self.docker.cli(&["inspect", "-f", "{{.State.StartedAt}}", &client])
            else {
                return false;
            };
            let right = ambassador.running
                && ambassador.network == format!("container:{client}")
                && ambassador.started_at == started_at;
            if !right {
                return false;
            }
        }
        ambassadors.is_empty()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.docker.folder().join("agent.log")).unwrap_or_default()
    }
}

/// Waits until something holds, and returns how long that took.
#[track_caller]
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) -> Duration {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        std::thread::sleep(POLL);
    }
    started.elapsed()
}

/// Makes an image of the ambassador and HAProxy as they are on this machine.
fn build(docker: &Docker) {
    let script = r#"set -e
        haproxy=$(command -v haproxy)
        files=$(ldd "$1" "$haproxy" | grep -o '/[^ ]*' | grep -v ':$' | sort -u)
        mkdir -p "$2/run/ambassador" "$2/usr/local/bin"
        for file in $files "$haproxy"; do
            mkdir -p "$2$(dirname "$file")"
            cp -L "$file" "$2$file"
        done
        cp -L "$1" "$2/usr/local/bin/ambassador"
        # As in the real image: an ordinary user, who owns that folder.
        chown 1234:1234 "$2/run/ambassador"
        tar -C "$2" -cf - . | docker -H "$3" import --change 'ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin' \
            --change 'ENTRYPOINT ["/usr/local/bin/ambassador"]' --change 'USER 1234:1234' --change 'CMD ["run"]' - "$4""#;
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_ambassador")])
        .arg(folder.path())
        .args([&docker.url(), IMAGE])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}
