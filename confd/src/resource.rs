//! Template resources: what to render from what, whom to ask whether it is right, and whom to tell.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::ambassadors::Ambassador;
use crate::units::{Mode, Share, Span};

mod actions;
mod each;
mod flap;
mod load;

pub use actions::{Containers, Exec, Line};
pub use each::{ForEach, parts};
pub use flap::Flap;
pub use load::{Error, load};
pub(crate) use load::{load_beside, taken};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    template: Resource,
}

/// One template resource, as its `[template]` table says.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// The file's name without `.toml`.
    #[serde(skip)]
    pub name: String,
    /// The ambassador that it is for, if it is one of several.
    #[serde(skip)]
    pub ambassador: Option<Ambassador>,
    /// What it is rendered for, one by one.
    pub for_each: Option<ForEach>,
    /// The template, relative to `templates/`.
    pub src: PathBuf,
    /// Where the result goes.
    pub dest: PathBuf,
    /// The destination's permissions; default: those it has, or 0644.
    pub mode: Option<Mode>,
    /// The destination's owner by number.
    pub uid: Option<u32>,
    /// The destination's group by number.
    pub gid: Option<u32>,
    /// The destination's owner by name.
    pub owner: Option<String>,
    /// The destination's group by name.
    pub group: Option<String>,
    /// Keys and prefixes that must have answered before the first render, whatever the template asks for.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Put before every path of a key.
    #[serde(default)]
    pub prefix: String,
    /// A built-in check of the staged file.
    pub check: Option<Check>,
    /// A shell command that checks the staged file `{{ src }}`, meant for `{{ dest }}`.
    pub check_cmd: Option<String>,
    /// A shell command that makes the load balancer read the destination.
    pub reload_cmd: Option<String>,
    /// How long further changes are collected after one was acted upon.
    #[serde(default)]
    pub wait: Wait,
    /// The shortest time between two reloads; runtime updates do not wait for it.
    #[serde(default = "second")]
    pub reload_min_interval: Span,
    /// How long a check or a command may run.
    #[serde(default = "half_a_minute")]
    pub timeout: Span,
    /// The apply actions, in order; default: all that are configured.
    pub apply: Option<OneOrMore>,
    /// Where the HAProxy of this resource is reached.
    pub haproxy: Option<HaProxy>,
    /// The process to signal.
    pub signal: Option<Signal>,
    /// The containers to signal or restart.
    pub containers: Option<Containers>,
    /// The program to run.
    pub exec: Option<Exec>,
    /// Limits for how much may disappear at once.
    #[serde(default)]
    pub guard: Guard,
    /// When an instance that comes and goes is left out.
    #[serde(default)]
    pub flap: Flap,
}

/// How long further changes are collected after one was acted upon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// Quiet time that ends the collecting.
    #[serde(default)]
    pub min: Span,
    /// The longest collecting, however busy it is; default: four times `min`.
    pub max: Option<Span>,
}

/// A check that confd brings along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// `haproxy -c`.
    HaProxy,
}

/// An apply action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// HAProxy's runtime socket, else a reload through its master socket.
    #[serde(rename = "haproxy")]
    HaProxy,
    /// The resource's `reload_cmd`.
    ReloadCmd,
    /// A signal to the process of a pid file.
    Signal,
    /// A signal to containers, or their restart.
    Containers,
    /// A program that confd runs.
    Exec,
}

impl Action {
    /// All, in the order in which a resource has them that does not say otherwise.
    const ALL: [Self; 5] =
        [Self::HaProxy, Self::Signal, Self::Containers, Self::ReloadCmd, Self::Exec];

    /// Returns its name in `apply`, and where its settings are.
    #[must_use]
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::HaProxy => ("haproxy", "[template.haproxy]"),
            Self::ReloadCmd => ("reload_cmd", "`reload_cmd`"),
            Self::Signal => ("signal", "[template.signal]"),
            Self::Containers => ("containers", "[template.containers]"),
            Self::Exec => ("exec", "[template.exec]"),
        }
    }
}

/// One action, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum OneOrMore {
    /// `apply = "haproxy"`
    One(Action),
    /// `apply = ["haproxy", "reload_cmd"]`
    More(Vec<Action>),
}

/// Where an ambassador's HAProxy is reached.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HaProxy {
    /// The runtime socket, of level admin.
    pub runtime: PathBuf,
    /// The master process's socket.
    pub master: PathBuf,
    /// How long a removed server's connections may take to end.
    #[serde(default = "half_a_minute")]
    pub drain_timeout: Span,
}

/// Whom to signal, and how.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    /// The file that holds the number of the process.
    pub pid_file: PathBuf,
    /// The signal's name, with or without `SIG`; default HUP.
    #[serde(default)]
    pub signal: crate::units::SignalName,
}

/// How much may disappear at once.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guard {
    /// A service that had instances is not brought below this number while it is in doubt that they are gone.
    pub min_instances: usize,
    /// The largest part of a service's instances that may go within 30 s; three may always go.
    pub max_removal: Share,
    /// How long the old set is held when more go and nothing explains it.
    pub hold: Span,
}

impl Default for Guard {
    fn default() -> Self {
        Self { min_instances: 1, max_removal: Share::HALF, hold: Span(Duration::from_mins(5)) }
    }
}

fn second() -> Span {
    Span(Duration::from_secs(1))
}

fn half_a_minute() -> Span {
    Span(Duration::from_secs(30))
}

impl Resource {
    /// Parses the text of a resource file; `path` names it in errors, and names the resource.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let File { template: mut resource } =
            toml::from_str(text).map_err(|error| Error::Syntax {
                path: path.to_owned(),
                message: error.to_string().trim_end().to_owned(),
            })?;
        resource.name =
            path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        match resource.contradiction() {
            Some(reason) => Err(Error::Contradiction { path: path.to_owned(), reason }),
            None => Ok(resource),
        }
    }

    /// Returns the apply actions, in order.
    #[must_use]
    pub fn actions(&self) -> Vec<Action> {
        match &self.apply {
            Some(OneOrMore::One(action)) => vec![*action],
            Some(OneOrMore::More(actions)) => actions.clone(),
            None => Action::ALL.into_iter().filter(|action| self.configured(*action)).collect(),
        }
    }

    fn configured(&self, action: Action) -> bool {
        match action {
            Action::HaProxy => self.haproxy.is_some(),
            Action::ReloadCmd => self.reload_cmd.is_some(),
            Action::Signal => self.signal.is_some(),
            Action::Containers => self.containers.is_some(),
            Action::Exec => self.exec.is_some(),
        }
    }

    fn contradiction(&self) -> Option<String> {
        let missing = self.actions().into_iter().find(|action| !self.configured(*action));
        if let Some(action) = missing {
            let (name, table) = action.names();
            return Some(format!("`apply` says {name}, but there is no {table}"));
        }
        if let Some(reason) = self.containers.as_ref().and_then(Containers::contradiction) {
            return Some(reason.into());
        }
        if self.exec.as_ref().is_some_and(|exec| exec.command.words().is_none()) {
            return Some("[template.exec] needs a `command`".into());
        }
        if self.check.is_some() && self.check_cmd.is_some() {
            return Some("`check` and `check_cmd` exclude each other".into());
        }
        if self.uid.is_some() && self.owner.is_some() {
            return Some("`uid` and `owner` exclude each other".into());
        }
        if self.gid.is_some() && self.group.is_some() {
            return Some("`gid` and `group` exclude each other".into());
        }
        if let Some(reason) = self.each_contradiction() {
            return Some(reason);
        }
        if self.src.is_absolute() || self.src.components().any(|part| part.as_os_str() == "..") {
            return Some("`src` must stay inside the folder templates/".into());
        }
        if !self.dest.is_absolute() {
            return Some("`dest` must be an absolute path".into());
        }
        None
    }
}

#[cfg(test)]
mod tests;
