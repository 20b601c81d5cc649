//! `ambassador weight`: a service's shares by tag, as the templates read them.

use std::collections::BTreeMap;
use std::process::ExitCode;

use consul::Query;

use super::Common;

/// Where shares are: `weights/<service>`, a JSON object of percents by tag.
pub(crate) const PREFIX: &str = "weights/";

/// Which tag gets how much.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Weight {
    /// The service
    service: String,
    /// A tag's share of the traffic in percent; what is left goes to instances with none of the tags
    #[arg(long = "tag", value_name = "TAG=PERCENT", value_parser = share)]
    tags: Vec<(String, u8)>,
    /// Every instance gets its own weight again
    #[arg(long, conflicts_with = "tags")]
    clear: bool,
    #[command(flatten)]
    common: Common,
}

/// Sets or clears the shares, or shows them.
pub(crate) async fn weight(options: &Weight) -> anyhow::Result<ExitCode> {
    let client = options.common.client()?;
    let key = format!("{PREFIX}{}", options.service);
    if options.clear {
        client.kv_delete(&key).await?;
    } else if !options.tags.is_empty() {
        let shares: BTreeMap<_, _> = options.tags.iter().cloned().collect();
        let sum: u32 = shares.values().map(|share| u32::from(*share)).sum();
        anyhow::ensure!(sum <= 100, "the shares are {sum} % together, which is more than 100");
        anyhow::ensure!(shares.len() == options.tags.len(), "a tag is given twice");
        client.kv_put(&key, &serde_json::to_vec(&shares)?).await?;
        // Shares may be set before the first instance comes, so this is no more than a hint, and does not fail them.
        if let Ok(registered) = client.catalog_services(&Query::default()).await {
            let registered: Vec<_> = registered.value.keys().map(String::as_str).collect();
            if let Some(hint) = unknown(&options.service, &registered) {
                tracing::warn!("{hint}");
            }
        }
    }
    let found = client.kv_get(&key, &Query::default()).await?.value;
    let shares: BTreeMap<String, f64> = match found {
        Some(pair) => serde_json::from_slice(&pair.value)?,
        None => BTreeMap::new(),
    };
    if options.common.json {
        println!("{}", serde_json::json!({ "service": options.service, "shares": shares }));
    } else if shares.is_empty() {
        println!("{}: each instance has its own weight", options.service);
    } else {
        let shares: Vec<_> = shares.iter().map(|(tag, share)| format!("{tag} {share} %")).collect();
        println!("{}: {}", options.service, shares.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}

/// Says that nothing is registered as a service, and which names are near: that of one of several ports, or the DNS label
/// that becomes of it.
fn unknown(service: &str, registered: &[&str]) -> Option<String> {
    // Consul's own service is always there: whoever sees none may not see any, and does not know.
    if registered.is_empty() || registered.contains(&service) {
        return None;
    }
    let lower = service.to_lowercase();
    let is_near = |name: &&&str| {
        let name = name.to_lowercase();
        services::is_called(&lower, &name) || services::is_called(&name, &lower)
    };
    let near: Vec<_> = registered.iter().filter(is_near).copied().collect();
    let near = near.join(", ");
    let near = if near.is_empty() { near } else { format!("; names that are near: {near}") };
    Some(format!("nothing is registered as {service:?}, so these shares are nobody's yet{near}"))
}

fn share(text: &str) -> Result<(String, u8), String> {
    let wrong = || format!("{text:?} is no TAG=PERCENT, as in v2=50");
    let (tag, share) = text.split_once('=').ok_or_else(wrong)?;
    let share = share.trim_end_matches('%').parse().ok().filter(|share| *share <= 100);
    let share = share.filter(|_| !tag.is_empty() && !tag.chars().any(char::is_control));
    Ok((tag.to_owned(), share.ok_or_else(wrong)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_what_is_not_registered_are_told_with_the_names_that_are_near() {
        let all = ["consul", "my-db", "web-443", "web-80", "web-admin", "website"];
        for (service, near) in [
            ("web", "yet; names that are near: web-443, web-80"),
            ("my_db", "yet; names that are near: my-db"),
            ("My-DB", "yet; names that are near: my-db"),
            ("my-db-5432", "yet; names that are near: my-db"),
            ("rng", "yet"),
        ] {
            let said = unknown(service, &all).unwrap();
            assert!(said.contains(&format!("nothing is registered as {service:?}")), "{said}");
            assert!(said.ends_with(near), "{said}");
        }
        assert_eq!(unknown("web-80", &all), None);
        assert_eq!(unknown("web", &[]), None, "nothing is seen");
    }

    #[test]
    fn a_share_is_a_tag_and_a_percentage() {
        assert_eq!(share("v2=50"), Ok(("v2".to_owned(), 50)));
        assert_eq!(share("v=2=5").unwrap_err(), "\"v=2=5\" is no TAG=PERCENT, as in v2=50");
        for text in ["v2", "=50", "v2=101", "v2=-1", "v2=x"] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
