//! The HAProxy versions that tests run against.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A version to be supported, and the Debian suite that has it.
const VERSIONS: [(&str, &str); 2] = [("2.6", "bookworm"), ("3.0", "trixie")];

/// An HAProxy program.
#[derive(Debug, Clone)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// Its version, such as `3.0`.
    pub version: &'static str,
}

/// Returns HAProxy 2.6 and 3.0: the machine's own where it is one of them, else Debian's, unpacked under `target`.
///
/// # Panics
/// If one of them is neither installed nor can be fetched: a test that runs against one version alone proves little.
#[must_use]
pub fn programs() -> &'static [Program] {
    static PROGRAMS: OnceLock<Vec<Program>> = OnceLock::new();
    PROGRAMS
        .get_or_init(|| VERSIONS.iter().map(|(version, suite)| program(version, suite)).collect())
}

fn program(version: &'static str, suite: &str) -> Program {
    let installed = PathBuf::from("haproxy");
    if is(&installed, version) {
        return Program { path: installed, version };
    }
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fetched = Command::new(crate_folder.join("haproxy.sh")).arg(suite).output();
    let path = crate_folder.join(format!("../../target/haproxy-{suite}/haproxy"));
    assert!(
        is(&path, version),
        "HAProxy {version} is not installed, and crates/testbed/haproxy.sh {suite} could not fetch it: {fetched:?}"
    );
    Program { path: path.canonicalize().expect("it was run just now"), version }
}

fn is(program: &Path, version: &str) -> bool {
    let output = Command::new(program).arg("-v").output();
    output.is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout).contains(&format!("version {version}."))
    })
}
