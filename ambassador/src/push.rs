//! `ambassador push`: builds the images of a Compose file, pushes them to a registry, and writes a
//! Compose file that names them there.

mod images;
mod whole;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, bail, ensure};
use futures_util::StreamExt;
use tokio::process::Command;

use crate::link::{DEFAULTS, write};
use images::{Images, Naming, images, registry, version};

/// Pushes at once; each of them sends several layers at once.
const AT_ONCE: usize = 8;

/// What to build and where to push it.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct Push {
    /// The Compose file; without one, the file that `$COMPOSE_FILE` names, or Compose's own
    #[arg(value_name = "IN")]
    from: Option<PathBuf>,
    /// Where to write the Compose file with references, `-` for standard output [default: IN-VERSION]
    #[arg(value_name = "OUT")]
    to: Option<PathBuf>,
    /// Where to push: HOST[:PORT][/PATH]
    #[arg(long, value_name = "REGISTRY", env = "DOCKER_REGISTRY", value_parser = registry)]
    registry: String,
    /// The tag of all images
    #[arg(long, value_name = "VERSION", env = "VERSION", value_parser = version)]
    version: String,
    /// The Compose project, after which images without a name are called [default: as Compose does]
    #[arg(long, value_name = "PROJECT", env = "COMPOSE_PROJECT_NAME")]
    project: Option<String>,
}

/// Builds, pushes and writes; nothing is written if anything fails.
pub(crate) async fn push(options: &Push) -> anyhow::Result<ExitCode> {
    let named = std::env::var_os("COMPOSE_FILE").filter(|name| !name.is_empty());
    let from = from(options.from.as_ref(), named.map(PathBuf::from))?;
    let file = std::fs::read_to_string(&from)
        .with_context(|| format!("cannot read {}", from.display()))?;
    let folder = from.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).canonicalize()?;
    let project = match &options.project {
        Some(project) => project.clone(),
        None => project(&file, &folder),
    };
    let naming =
        Naming { registry: &options.registry, version: &options.version, project: &project };
    let images = images(&file, &naming).with_context(|| format!("in {}", from.display()))?;
    build(&images, &folder).await?;
    push_all(&images.references).await?;
    let to = options.to.clone().unwrap_or_else(|| {
        let mut name = from.clone().into_os_string();
        name.push(format!("-{}", options.version));
        name.into()
    });
    if to == Path::new("-") {
        print!("{}", images.written);
    } else {
        write(&to, &images.written).with_context(|| format!("cannot write {}", to.display()))?;
        println!("{}", to.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn from(given: Option<&PathBuf>, named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(path) = given.cloned().or(named) {
        return Ok(path);
    }
    let default = DEFAULTS.iter().map(PathBuf::from).find(|path| path.exists());
    default.context("which file? name one, or set COMPOSE_FILE")
}

/// Returns the project's name as Compose finds it: what the file says, else its folder's name.
fn project(file: &str, folder: &Path) -> String {
    use crate::link::yaml::{get, load, words};
    let tree = load(file).ok();
    let said = tree.as_ref().and_then(|tree| get(tree, "name")).and_then(words);
    let folder = folder.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let plain = |name: &&str| !name.contains('$');
    let name = said.filter(plain).unwrap_or(&folder);
    let kept = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let name: String = name.chars().filter(kept).collect();
    let name = name.trim_start_matches(['-', '_']);
    if name.is_empty() { "default" } else { name }.to_owned()
}

/// Builds all images, as many at once as Compose thinks fit.
async fn build(images: &Images, folder: &Path) -> anyhow::Result<()> {
    let mut file = tempfile::Builder::new().suffix(".yml").tempfile()?;
    file.write_all(images.builds.as_bytes())?;
    let status = Command::new("docker")
        .args(["compose", "--project-name", "push", "--project-directory"])
        .arg(folder)
        .arg("--file")
        .arg(file.path())
        .arg("build")
        .env_remove("COMPOSE_FILE")
        .env_remove("COMPOSE_PROFILES")
        .stdin(Stdio::null())
        // What is written is the result; this is only for people.
        .stdout(std::io::stderr())
        .kill_on_drop(true)
        .status()
        .await
        .context("cannot run docker")?;
    ensure!(status.success(), "not all images were built");
    Ok(())
}

/// Pushes all images and says what became of each.
async fn push_all(references: &[String]) -> anyhow::Result<()> {
    let mut pushes = futures_util::stream::iter(references)
        .map(|reference| async move { (reference, push_one(reference).await) })
        .buffer_unordered(AT_ONCE);
    let mut failures = 0;
    while let Some((reference, pushed)) = pushes.next().await {
        match pushed {
            Ok(()) => eprintln!("pushed {reference}"),
            Err(error) => {
                failures += 1;
                eprintln!("not pushed: {reference}: {error:#}");
            }
        }
    }
    ensure!(failures == 0, "{failures} of {} images were not pushed", references.len());
    Ok(())
}

/// Pushes an image by Docker's own command, which knows the passwords of registries.
async fn push_one(reference: &str) -> anyhow::Result<()> {
    let output = Command::new("docker")
        .args(["push", "--quiet", reference])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot run docker")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_called_as_compose_calls_it() {
        for (file, folder, name) in [
            ("name: coins\nservices: {}\n", "/x", "coins"),
            ("services: {}\n", "/srv/My.Coins", "mycoins"),
            ("name: ${NAME}\n", "/srv/_x-1", "x-1"),
            ("a: 1\n", "/", "default"),
        ] {
            assert_eq!(project(file, Path::new(folder)), name, "{file} {folder}");
        }
    }
}
