//! The ambassador as process 1 of a PID namespace, as in a container.

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Ambassador, eventually, haproxies};

/// The namespace's process 1, seen from outside: the only child of `unshare`.
fn first(unshare: i32) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children"));
    children.ok()?.split_whitespace().next()?.parse().ok()
}

fn inside(first: i32, command: &str) -> String {
    let target = first.to_string();
    let output = Command::new("nsenter")
        .args(["--target", &target, "--pid", "--mount", "--", "sh", "-c", command])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn process_1_collects_orphans_and_passes_signals_on() {
    for haproxy in haproxies() {
        let mut ambassador = Ambassador::new(&haproxy);
        let run = ambassador.command(&["run"]);
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        unshare.arg(run.get_program()).args(run.get_args());
        unshare.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
        ambassador.spawn(&unshare);
        ambassador.wait_until_healthy();

        let first = first(ambassador.process().pid()).unwrap();
        inside(first, "for n in 1 2 3 4 5; do (sleep 0.1 & true); done; (true & true)");
        eventually("no orphan and no zombie is left", || {
            let list = inside(first, "cat /proc/[0-9]*/stat 2>/dev/null || true");
            !list.contains("(sleep)") && !list.contains(") Z ")
        });

        kill(Pid::from_raw(first), Signal::SIGTERM).unwrap();
        assert_eq!(ambassador.end(), Some(0));
        assert!(ambassador.log().contains("stopping"), "{}", ambassador.log());
    }
}
