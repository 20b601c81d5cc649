//! `ambassador link`: turns the links of a Compose file into ambassadors.

mod build;
mod convert;
mod dockerfile;
mod error;
mod ports;
mod service;
mod whole;
pub(crate) mod yaml;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::docker::{Endpoint, Engine};
use build::Dockerfile;
use convert::{Unknown, collisions, convert, unknown};
pub(crate) use convert::{services, services_mut};
pub(crate) use error::Error;
use error::Ports;
pub(crate) use whole::{base, includes};

/// The files that Compose takes by itself: other people's work, as a rule.
pub(crate) const DEFAULTS: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];
/// Where ports may be named: `rng: 80`, or `web: [80, 443]`.
const PORTS: &str = "ports.yml";

/// Which files to read and to write.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct Link {
    /// The Compose file to convert; without one, the file that `$COMPOSE_FILE` names
    #[arg(value_name = "IN")]
    from: Option<PathBuf>,
    /// Where to write the result, `-` for standard output; without it, IN is overwritten
    #[arg(value_name = "OUT")]
    to: Option<PathBuf>,
    #[command(flatten)]
    docker: Endpoint,
}

/// Converts a Compose file.
pub(crate) async fn link(options: &Link) -> anyhow::Result<ExitCode> {
    let named = std::env::var_os("COMPOSE_FILE").filter(|name| !name.is_empty());
    let (from, to) = files(options, named.map(PathBuf::from))?;
    let text =
        fs::read_to_string(&from).with_context(|| format!("cannot read {}", from.display()))?;
    if let Some(why) = whole::whole(&text).with_context(|| format!("in {}", from.display()))? {
        tracing::warn!("{why}");
    }
    let folder = from.parent().unwrap_or(Path::new(""));
    let mut known = named_ports(&folder.join(PORTS))?;
    let silent = unknown(&text, &known).with_context(|| format!("in {}", from.display()))?;
    for service in silent {
        let ports = exposed(&options.docker, folder, &service).await?;
        if !ports.is_empty() {
            known.insert(service.service, ports);
        }
    }
    let converted = convert(&text, &known).with_context(|| format!("in {}", from.display()))?;
    for collision in collisions(&converted, &known)? {
        tracing::warn!("{collision}");
    }
    if to == Path::new("-") {
        print!("{converted}");
    } else if fs::read_to_string(&to).ok().as_deref() != Some(&converted) {
        write(&to, &converted).with_context(|| format!("cannot write {}", to.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the file to read and the file to write. Compose's own file is only written when the
/// command line names it.
fn files(options: &Link, named: Option<PathBuf>) -> anyhow::Result<(PathBuf, PathBuf)> {
    if let Some(from) = &options.from {
        return Ok((from.clone(), options.to.clone().unwrap_or_else(|| from.clone())));
    }
    let Some(named) = named else {
        bail!("which file? name one, or set COMPOSE_FILE");
    };
    let file = named.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if DEFAULTS.contains(&file) {
        bail!("{} is only overwritten when it is named on the command line", named.display());
    }
    if named.to_str().is_some_and(|name| name.contains(':')) && !named.exists() {
        bail!("COMPOSE_FILE names several files: name one on the command line");
    }
    Ok((named.clone(), named))
}

/// Reads the ports that people have named.
fn named_ports(path: &Path) -> anyhow::Result<Ports> {
    if !path.exists() {
        return Ok(Ports::new());
    }
    let text = fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    ports::named(&text).with_context(|| format!("in {}", path.display()))
}

/// Returns the ports that a service's image exposes: by its Dockerfile, else by the engine, which may have the image or the
/// one that it is built on.
async fn exposed(docker: &Endpoint, folder: &Path, service: &Unknown) -> anyhow::Result<Vec<u16>> {
    let built = service.build.as_ref().and_then(|build| {
        Some(match &build.dockerfile {
            Dockerfile::File(path) => build.image(&fs::read_to_string(folder.join(path)).ok()?),
            Dockerfile::Inline(text) => build.image(text),
        })
    });
    let built = built.unwrap_or_default();
    if !built.ports.is_empty() {
        return Ok(built.ports.into_iter().collect());
    }
    let mut unanswered = None;
    let images = service.image.iter().chain(&built.base);
    // What a variable holds is known to Compose only.
    for image in images.filter(|image| !image.contains('$')) {
        let ask = async { Engine::new(docker)?.exposed(image).await };
        match ask.await {
            Ok(ports) if ports.is_empty() => {}
            Ok(ports) => return Ok(ports),
            Err(error) => unanswered = unanswered.or(Some(error)),
        }
    }
    unanswered.map_or(Ok(Vec::new()), Err).with_context(|| {
        format!("the ports of {:?} are neither in the Compose file nor in {PORTS}", service.service)
    })
}

/// Puts a text in the place of a file in one step.
pub(crate) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    // A link stays one, and what it points to changes.
    let target = fs::canonicalize(path);
    let path = target.as_deref().unwrap_or(path);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    let permissions = match File::open(path) {
        Ok(old) => old.metadata()?.permissions(),
        Err(_) => std::os::unix::fs::PermissionsExt::from_mode(0o644),
    };
    file.as_file().set_permissions(permissions)?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(words: &[&str], named: Option<&str>) -> Option<(String, String)> {
        let mut words = words.iter().map(PathBuf::from);
        let options = Link { from: words.next(), to: words.next(), docker: Endpoint::default() };
        let (from, to) = files(&options, named.map(PathBuf::from)).ok()?;
        Some((from.display().to_string(), to.display().to_string()))
    }

    #[test]
    fn composes_own_file_is_only_overwritten_when_it_is_named() {
        let both = |name: &str| Some((name.to_owned(), name.to_owned()));
        assert_eq!(chosen(&[], None), None);
        assert_eq!(chosen(&[], Some("docker-compose.yml")), None);
        assert_eq!(chosen(&[], Some("/app/compose.yaml")), None);
        assert_eq!(chosen(&[], Some("a.yml:b.yml")), None);
        assert_eq!(chosen(&[], Some("docker-compose.yml-v2")), both("docker-compose.yml-v2"));
        assert_eq!(chosen(&["docker-compose.yml"], None), both("docker-compose.yml"));
        assert_eq!(chosen(&["a", "b"], Some("c")), Some(("a".into(), "b".into())));
    }
}
