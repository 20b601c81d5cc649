//! Flags that are environment variables, too, as Compose files leave them: booleans in any spelling, empty ones unset.

use clap::Command;
use clap::builder::Resettable;

/// Reads a boolean in any usual spelling.
///
/// # Errors
/// Names the spellings to use.
pub fn switch(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "yes" | "on" => Ok(true),
        "0" | "f" | "false" | "no" | "off" => Ok(false),
        _ => Err("use true or false".to_owned()),
    }
}

/// Lets environment variables whose names begin with `prefix` count as not set where they are empty, except that of
/// the flag `may_be_empty`.
#[must_use]
pub fn without_empty(command: Command, prefix: &str, may_be_empty: &str) -> Command {
    command.mut_args(|arg| {
        let ours = arg.get_env().filter(|name| name.to_string_lossy().starts_with(prefix));
        let is_empty = ours.and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        if is_empty && arg.get_id() != may_be_empty { arg.env(Resettable::Reset) } else { arg }
    })
}
