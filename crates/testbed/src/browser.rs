//! A real browser, headless: opens pages, runs scripts in them, tells what went wrong, takes pictures.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use base64::Engine;
use serde_json::{Value, json};

use crate::process::Process;

/// How long ChromeDriver may take to start, on a machine with other things to do.
const START: Duration = Duration::from_secs(20);
/// How long one command may take; opening the browser is the longest.
const COMMAND: Duration = Duration::from_mins(1);
/// How often something that is waited for is looked at.
const POLL: Duration = Duration::from_millis(100);

/// What Chromium is told: no window, no sandbox (tests may run as root), no talking to anybody else.
/// Through the pipe it notices when ChromeDriver is gone, and ends with it.
const ARGUMENTS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--window-size=1280,800",
    "--remote-debugging-pipe",
];

/// Chromium with one empty page and a profile of its own, driven through ChromeDriver.
///
/// Closed when dropped. Commands run on a thread of their own, so the page may come from the test's own runtime.
#[derive(Debug)]
pub struct Browser {
    port: u16,
    /// The path below which the page is driven.
    session: String,
    // Dropped in this order: the driver ends before its folder is removed.
    _driver: Process,
    _folder: tempfile::TempDir,
}

impl Browser {
    /// Starts ChromeDriver on a free port, and Chromium.
    pub async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("chromedriver.log");
        let mut command = Command::new("chromedriver");
        // Lock files and the like belong into the folder that is removed, too.
        command.arg("--port=0").env("TMPDIR", folder.path()).env("HOME", folder.path());
        let driver = Process::spawn(&command, Some(&File::create(&log)?))?;
        let port = port(&driver, &log).await?;

        let mut arguments = ARGUMENTS.map(ToOwned::to_owned).to_vec();
        arguments.push(format!("--user-data-dir={}", folder.path().join("profile").display()));
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        }}});
        let opened = command_of(port, "POST", "/session".to_owned(), wanted).await?;
        let id = opened["sessionId"].as_str().context("ChromeDriver opened no session")?;
        Ok(Self { port, session: format!("/session/{id}"), _driver: driver, _folder: folder })
    }

    /// Opens `url` and waits until it is loaded.
    pub async fn open(&self, url: &str) -> anyhow::Result<()> {
        self.post("/url", json!({ "url": url })).await.map(drop)
    }

    /// Returns what the JavaScript expression `expression` is worth in the page.
    pub async fn evaluate(&self, expression: &str) -> anyhow::Result<Value> {
        let script = format!("return ({expression});");
        self.post("/execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// Waits until `expression` is true in the page.
    pub async fn wait_until(&self, expression: &str, limit: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + limit;
        while self.evaluate(expression).await? != Value::Bool(true) {
            anyhow::ensure!(Instant::now() < end, "not true within {limit:?}: {expression}");
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Returns the errors and warnings that reached the browser's console since the last call:
    /// scripts that failed, and parts of the page that could not be loaded.
    pub async fn complaints(&self) -> anyhow::Result<Vec<String>> {
        let entries = self.post("/se/log", json!({ "type": "browser" })).await?;
        let entries = entries.as_array().context("the browser's log is no list")?;
        Ok(entries
            .iter()
            .filter(|entry| matches!(entry["level"].as_str(), Some("SEVERE" | "WARNING")))
            .map(|entry| entry["message"].as_str().unwrap_or_default().to_owned())
            .collect())
    }

    /// Writes a picture of the page to `path`, as PNG.
    pub async fn screenshot(&self, path: &Path) -> anyhow::Result<()> {
        let path_in_session = format!("{}/screenshot", self.session);
        let picture = command_of(self.port, "GET", path_in_session, Value::Null).await?;
        let picture = picture.as_str().context("the picture is no text")?;
        let picture = base64::prelude::BASE64_STANDARD.decode(picture)?;
        std::fs::write(path, picture).with_context(|| format!("cannot write {}", path.display()))
    }

    async fn post(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        command_of(self.port, "POST", format!("{}{path}", self.session), body).await
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // An orderly end; without it the browser would still be writing to its folder.
        let _ = exchange(self.port, "DELETE", &self.session, &Value::Null);
    }
}

/// Waits until ChromeDriver says on which port it listens.
async fn port(driver: &Process, log: &Path) -> anyhow::Result<u16> {
    let end = Instant::now() + START;
    loop {
        let text = std::fs::read_to_string(log)?;
        let port = text.split_once("started successfully on port ").and_then(|(_, rest)| {
            rest.split_once(|c: char| !c.is_ascii_digit()).and_then(|(port, _)| port.parse().ok())
        });
        match port {
            Some(port) => return Ok(port),
            None if driver.exited()?.is_some() => {
                anyhow::bail!("chromedriver ended (is chromium-driver installed?): {text}")
            }
            None => anyhow::ensure!(Instant::now() < end, "chromedriver did not start: {text}"),
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Sends one command to ChromeDriver and returns the value that it answers with.
async fn command_of(
    port: u16,
    method: &'static str,
    path: String,
    body: Value,
) -> anyhow::Result<Value> {
    let answer = move || {
        exchange(port, method, &path, &body).with_context(|| format!("ChromeDriver: {path}"))
    };
    tokio::task::spawn_blocking(answer).await?
}

/// WebDriver is JSON over HTTP, one short exchange per command.
fn exchange(port: u16, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(COMMAND))?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;

    let mut answer = BufReader::new(stream);
    let mut status = String::new();
    answer.read_line(&mut status)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        answer.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse()?;
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut text = vec![0; length];
    answer.read_exact(&mut text)?;
    let answer: Value = serde_json::from_slice(&text)?;
    let value = &answer["value"];
    anyhow::ensure!(status.contains(" 200 "), "{}: {}", status.trim_end(), value["message"]);
    Ok(value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_browser_runs_a_page_reports_its_errors_and_takes_its_picture() {
        let browser = Browser::start().await.unwrap();
        let page =
            "data:text/html,<p id=p>hello</p><script>document.title='x';undefined.y</script>";
        browser.open(page).await.unwrap();
        assert_eq!(browser.evaluate("document.title").await.unwrap(), "x");
        let shown = "document.getElementById('p').textContent === 'hello'";
        browser.wait_until(shown, Duration::from_secs(5)).await.unwrap();
        let complaints = browser.complaints().await.unwrap();
        assert!(complaints.iter().any(|text| text.contains("undefined")), "{complaints:?}");

        let folder = tempfile::tempdir().unwrap();
        let picture = folder.path().join("page.png");
        browser.screenshot(&picture).await.unwrap();
        assert!(std::fs::read(&picture).unwrap().starts_with(b"\x89PNG"));
    }

    #[tokio::test]
    #[allow(
        clippy::used_underscore_binding,
        reason = "the field is kept for its end, which is tested"
    )]
    async fn nothing_is_left_of_a_closed_browser() {
        let browser = Browser::start().await.unwrap();
        let folder = browser._folder.path().to_owned();
        drop(browser);
        assert!(!folder.exists());
    }
}
