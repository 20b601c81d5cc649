//! Certificates made for a test, and a Docker Engine that is spoken to with them.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::docker::Docker;
use crate::port::free_port;
use crate::process::Process;

/// Where the engine listens, in its own network.
const INSIDE: &str = "127.0.0.1:2376";
/// How long until a way there is open, on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);
/// How often that is tried.
const POLL: Duration = Duration::from_millis(10);

/// A folder with `ca.pem`, and with `cert.pem` and `key.pem` for a server and a client on this machine.
#[derive(Debug)]
pub struct Certificates(TempDir);

impl Certificates {
    /// Makes an authority and what it signs, all good for two days.
    pub fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let names =
            "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n";
        fs::write(folder.path().join("names"), names)?;
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        for line in [
            format!("req -x509 {key} -keyout ca-key.pem -out ca.pem -days 2 -subj /CN=tests"),
            format!("req {key} -keyout key.pem -out request.pem -subj /CN=localhost"),
            "x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile names -out cert.pem"
                .to_owned(),
        ] {
            let words = line.split_whitespace();
            let output = Command::new("openssl").args(words).current_dir(folder.path()).output();
            let output = output.context("openssl is not installed: apt-get install openssl")?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "openssl {line}: {said}");
        }
        Ok(Self(folder))
    }

    /// Returns the folder, as `DOCKER_CERT_PATH` has it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    /// Returns the path of one of its files.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
}

/// An engine that also takes connections over TLS, from who has a certificate; gone when dropped.
#[derive(Debug)]
pub struct SecureDocker {
    docker: Docker,
    certificates: Certificates,
    port: u16,
    /// Leads into the engine's network.
    _way: Process,
}

impl SecureDocker {
    /// Starts it.
    pub fn start() -> anyhow::Result<Self> {
        let certificates = Certificates::new()?;
        let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| certificates.file(name));
        let tls = ["--tlsverify", "--tlscacert", &ca, "--tlscert", &cert, "--tlskey", &key];
        let host = format!("tcp://{INSIDE}");
        let docker = Docker::start_with(&[&["--host", &host][..], &tls].concat())?;
        let mut inside = docker.inside("socat");
        let inside = inside.args(["STDIO", &format!("TCP:{INSIDE}")]);
        let words: Vec<_> = inside.get_args().map(|word| word.to_string_lossy()).collect();
        let script = certificates.folder().join("inside");
        fs::write(&script, format!("#!/bin/sh\nexec nsenter {}\n", words.join(" ")))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        let (port, way) = forward(&format!("EXEC:{}", script.display()))?;
        Ok(Self { docker, certificates, port, _way: way })
    }

    /// Returns its address for who speaks TLS.
    #[must_use]
    pub fn secure_url(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// Returns what its clients need.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }
}

impl Deref for SecureDocker {
    type Target = Docker;

    fn deref(&self) -> &Docker {
        &self.docker
    }
}

/// Opens a port on this machine's loopback address that leads `to` one of socat's addresses, as long as the process
/// lives. It is open when this returns.
pub fn forward(to: &str) -> anyhow::Result<(u16, Process)> {
    let port = free_port()?;
    let mut socat = Command::new("socat");
    socat.arg(format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork")).arg(to);
    let way = Process::spawn(socat.stderr(Stdio::null()), None)?;
    let end = Instant::now() + LIMIT;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        ensure!(Instant::now() < end, "socat does not listen");
        std::thread::sleep(POLL);
    }
    Ok((port, way))
}
