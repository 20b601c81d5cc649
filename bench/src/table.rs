//! What tables have in common: their lines, and the machine that they were measured on.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Returns a time in milliseconds.
pub(crate) fn ms(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}

/// Prints a line of a table of times: how many, the median, the 90th and 99th of a hundred, the worst.
pub(crate) fn row(name: &str, mut samples: Vec<Duration>) {
    samples.sort();
    let at = |percent: usize| samples.get((samples.len() * percent / 100).min(samples.len() - 1));
    let [p50, p90, p99, worst] =
        [50, 90, 99, 100].map(|percent| at(percent).copied().unwrap_or_default());
    println!(
        "| {name} | {} | {} | {} | {} | {} |",
        samples.len(),
        ms(p50),
        ms(p90),
        ms(p99),
        ms(worst)
    );
}

/// Returns how busy the machine is.
pub(crate) fn load() -> Result<String> {
    let load = fs::read_to_string("/proc/loadavg")?;
    let minutes: Vec<&str> = load.split_whitespace().take(3).collect();
    Ok(format!("Load of the machine (1, 5, 15 minutes): {}.", minutes.join(", ")))
}

/// Returns what the machine is, and how busy.
pub(crate) fn machine() -> Result<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let value = |line: &str| line.split_once(": ").map(|(_, value)| value.to_owned());
    let model = cpu.lines().find(|line| line.starts_with("model name")).and_then(value);
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    Ok(format!("{cores} cores of {}. {}", model.unwrap_or_default(), load()?))
}

/// Returns a number of a process's memory in MiB: `VmRSS` is what it has, `VmHWM` the most it ever had.
pub(crate) fn memory(pid: i32, field: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with(field)).context("no such field")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse::<f64>()? / 1024.0)
}

/// Clock ticks a second in `/proc/PID/stat`, Linux' `USER_HZ`.
const TICKS: u64 = 100;

/// Returns how long all threads of a process, also those that have ended, have had a processor so far; in steps of 10 ms.
pub(crate) fn processor_time(pid: i32) -> Result<Duration> {
    // User and system time are the fields 14 and 15; the name before them is in brackets and may hold anything.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit(')').next().context("no fields")?.split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 1000 / TICKS))
}
