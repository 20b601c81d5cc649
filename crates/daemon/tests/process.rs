//! A daemon as a process: its signals, its logs, and what it does as process 1.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getuid};
use testbed::process::Process;

/// How long anything here may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// Returns the example daemon, which `cargo test` builds beside this test.
fn minimal() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("examples/minimal");
    assert!(path.exists(), "{} is not built: run `cargo test -p daemon`", path.display());
    path
}

/// Returns a command that runs a program as process 1 of a namespace of its own.
fn first_process() -> Command {
    let mut command = Command::new("unshare");
    if !getuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child", "--"]).arg(minimal());
    command.args(["--listen="]);
    command
}

/// A running daemon whose log is read.
struct Running {
    process: Process,
    log: tempfile::NamedTempFile,
}

impl Running {
    fn start(command: &Command) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let process = Process::spawn(command, Some(&log.reopen().unwrap())).unwrap();
        let running = Self { process, log };
        running.until("started");
        running
    }

    /// Waits until the log has this word.
    fn until(&self, word: &str) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            let log = fs::read_to_string(self.log.path()).unwrap();
            if log.contains(word) {
                return log;
            }
            assert!(Instant::now() < end, "no {word:?} in the log: {log}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn ended(&self) -> ExitStatus {
        self.process.wait(LIMIT).unwrap().expect("the daemon does not end")
    }
}

#[test]
fn a_signal_ends_a_daemon_with_success() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let daemon = Running::start(Command::new(minimal()).arg("--listen="));
        daemon.process.signal(signal).unwrap();
        assert!(daemon.ended().success());
        assert!(daemon.until("stopping").contains(signal.as_str()));
    }
}

#[test]
fn a_second_signal_ends_a_daemon_that_does_not_listen_to_the_first() {
    let daemon = Running::start(Command::new(minimal()).args(["--listen=", "--stubborn"]));
    daemon.process.signal(Signal::SIGTERM).unwrap();
    daemon.until("stopping");
    assert_eq!(daemon.process.exited().unwrap(), None);
    daemon.process.signal(Signal::SIGINT).unwrap();
    assert_eq!(daemon.ended().code(), Some(130));
}

#[test]
fn json_logs_are_one_object_per_line() {
    let mut command = Command::new(minimal());
    let daemon = Running::start(command.args(["--listen=", "--log-format=json"]));
    daemon.process.signal(Signal::SIGTERM).unwrap();
    daemon.ended();
    let log = daemon.until("stopping");
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["message"], "started");
    assert_eq!(lines[0]["args.stubborn"], false);
    assert_eq!(lines[1]["signal"], "SIGTERM");
}

#[test]
fn a_bad_flag_ends_a_daemon_with_status_2() {
    for flag in ["--log=loud", "--listen=here", "--log-format=xml"] {
        let Output { status, stderr, .. } = Command::new(minimal()).arg(flag).output().unwrap();
        assert_eq!(status.code(), Some(2), "{flag}");
        assert!(String::from_utf8_lossy(&stderr).contains(flag.split('=').next().unwrap()));
    }
}

#[test]
fn process_1_collects_orphans_and_leaves_the_daemons_own_children_to_it() {
    // The subshell ends at once, so its `sleep`s become process 1's children.
    let script = "for _ in 1 2 3 4 5; do (sleep 0.05 &); done; sleep 0.5
                  for _ in $(seq 100); do
                      zombies=$(grep -l '^State:.*Z' /proc/[0-9]*/status)
                      [ -n \"$zombies\" ] || break
                      sleep 0.1
                  done
                  printf %s \"$zombies\"; exit 7";
    let Output { status, stdout, stderr } =
        first_process().args(["--", "sh", "-c", script]).output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(7), "the daemon saw its child's status: {stderr}");
    assert_eq!(String::from_utf8_lossy(&stdout), "", "no zombie is left: {stderr}");
}

#[test]
fn process_1_passes_signals_on() {
    let daemon = Running::start(&first_process());
    let unshare = daemon.process.pid();
    let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
    let first: i32 = children.trim().parse().unwrap();
    kill(Pid::from_raw(first), Signal::SIGTERM).unwrap();
    assert!(daemon.ended().success());
    daemon.until("SIGTERM");
}

#[test]
fn process_1_tells_which_signal_ended_the_daemon() {
    let output = first_process().args(["--", "sh", "-c", "kill -KILL $PPID"]).output().unwrap();
    assert_eq!(output.status.code(), Some(128 + 9), "{output:?}");
}

#[test]
fn a_daemon_says_why_it_cannot_listen_and_goes_on() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("--listen={}", taken.local_addr().unwrap());
    let daemon = Running::start(Command::new(minimal()).arg(listen));
    daemon.until("cannot listen");
    daemon.process.signal(Signal::SIGTERM).unwrap();
    assert!(daemon.ended().success());
}
