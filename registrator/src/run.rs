//! The wiring: from the command line to the controller and those who wake it.

use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use consul::{AgentSelf, Client};
use daemon::error::chain;
use daemon::listener::Readiness;
use services::{Node, Options};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::args::{Args, Command, Derive};
use crate::controller::{Controller, Parts};
use crate::docker::Engine;
use crate::metrics::Metrics;
use crate::mirror::{Layout, Mirror, Owner};
use crate::neighbour;
use crate::wakeups::Wakeups;
use crate::{acl, list, watch as watchers};

/// The exit status of a command line that makes no sense.
const USAGE: u8 = 2;
/// How long `list`, `--dry-run` and `acl-policy` wait for an answer.
const ONCE: Duration = Duration::from_secs(30);

/// Does what the command line says; as a daemon, until `token` is cancelled.
pub async fn run(args: Args, token: CancellationToken) -> anyhow::Result<ExitCode> {
    if let Some(Command::Healthcheck) = args.command {
        return Ok(healthcheck(&args).await);
    }
    let usage = |error: &dyn std::error::Error| {
        eprintln!("error: {}", chain(error));
        Ok(ExitCode::from(USAGE))
    };
    let config = match args.consul_config() {
        Ok(config) => config,
        Err(error) => return usage(&error),
    };
    let client = match Client::new(&config) {
        Ok(client) => client,
        Err(error) if error.is_usage() => return usage(&error),
        Err(error) => return Err(error.into()),
    };
    if let Err(error) = args.docker.check() {
        return usage(&error);
    }
    let options = match options(&args.derive) {
        Ok(options) => options,
        Err(error) => return usage(&*error),
    };
    let kv_prefix = config.kv_prefix.as_deref();
    match &args.command {
        Some(Command::AclPolicy) => {
            let node = tokio::time::timeout(ONCE, client.agent_self()).await;
            let owner = node.ok().and_then(Result::ok).map(|agent| owner(&args.derive, &agent));
            print!("{}", acl::policy(owner.as_ref(), args.mirror.prefix(kv_prefix).as_deref()));
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::List { json }) => once(&args, client, options, Some(*json)).await,
        _ if args.keep.dry_run => once(&args, client, options, None).await,
        _ => serve(args, client, options, kv_prefix, token).await,
    }
}

/// Returns the node whose containers are registered.
pub(crate) fn node(derive: &Derive, agent: &AgentSelf) -> Node {
    let is_ipv4 = agent.address.parse().ok().map(|ip: IpAddr| ip.is_ipv4());
    let lan = ["lan_ipv4", "lan_ipv6"].iter().filter_map(|name| agent.tagged_addresses.get(*name));
    let other_family = lan
        .filter_map(|text| text.parse().ok())
        .find(|ip: &IpAddr| is_ipv4.is_some_and(|is_ipv4| ip.is_ipv4() != is_ipv4));
    Node { other_family, ..Node::new(node_name(derive, agent), &agent.address) }
}

fn node_name(derive: &Derive, agent: &AgentSelf) -> String {
    // Trimmed, as what it marks is: marks are compared with it.
    let given = derive.hostname.as_deref().map(str::trim).filter(|name| !name.is_empty());
    given.unwrap_or(&agent.node).to_owned()
}

fn owner(derive: &Derive, agent: &AgentSelf) -> Owner {
    Owner { node: agent.node.clone(), host: node_name(derive, agent) }
}

fn options(derive: &Derive) -> Result<Options, Box<dyn std::error::Error>> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let ip = given(&derive.ip)
        .map(|ip| match ip.parse() {
            Ok(ip) if services::is_reachable(ip) => Ok(ip),
            Ok(ip) => Err(format!(
                "--ip: other nodes cannot reach {ip}; leave it out for the agent's address"
            )),
            Err(_) => Err(format!("--ip: {ip:?} is not an IP address")),
        })
        .transpose()?;
    let network_cidr = given(&derive.network_cidr);
    if let Some(text) = network_cidr.as_ref().filter(|text| !services::is_range(text)) {
        return Err(format!("--network-cidr: {text:?} is no range such as 10.0.0.0/8").into());
    }
    Ok(Options {
        explicit: derive.explicit,
        internal: derive.internal,
        ip,
        use_ip_from_label: given(&derive.use_ip_from_label),
        network: given(&derive.network),
        network_cidr,
        label_prefix: derive.label_prefix.clone().unwrap_or_default(),
        // Per container, as they may be templates.
        tags: Vec::new(),
        compose_names: derive.compose_names,
    })
}

async fn healthcheck(args: &Args) -> ExitCode {
    match args.listen.address() {
        None => {
            eprintln!("nobody listens: --listen is empty");
            ExitCode::FAILURE
        }
        Some(address) if daemon::listener::probe(address).await => ExitCode::SUCCESS,
        Some(address) => {
            eprintln!("nobody answers at {address}");
            ExitCode::FAILURE
        }
    }
}

/// Compares once and prints: the plan, or (`list`) a table, as JSON or not.
async fn once(
    args: &Args,
    client: Client,
    options: Options,
    list: Option<bool>,
) -> anyhow::Result<ExitCode> {
    let looking = async {
        let agent = client.agent_self().await?;
        let engine = Engine::connect(&args.docker).await?;
        let (_sender, engine) = watch::channel(Some(engine));
        let mut controller = Controller::new(Parts {
            node: node(&args.derive, &agent),
            client,
            engine,
            wakeups: Arc::default(),
            metrics: Metrics::default(),
            options,
            derive: args.derive.clone(),
            keep: args.keep.clone(),
            mirror: None,
            renewal: ONCE,
            journal_key: None,
            ready: watch::channel(Readiness::Ready).0,
        });
        controller.look_once().await?;
        anyhow::Ok(controller)
    };
    let mut controller = tokio::time::timeout(ONCE, looking)
        .await
        .context("docker or consul did not answer in time")??;
    let actions = controller.preview();
    match list {
        None if actions.is_empty() => println!("nothing to change"),
        None => actions.iter().for_each(|action| println!("{}", list::describe(action))),
        Some(json) => {
            let rows = controller.rows();
            if json {
                println!("{:#}", list::json(&rows));
            } else {
                print!("{}", list::table(&rows));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(
    args: Args,
    client: Client,
    options: Options,
    kv_prefix: Option<&str>,
    token: CancellationToken,
) -> anyhow::Result<ExitCode> {
    if args.ignored.given() {
        tracing::info!("--retry-attempts and --retry-interval are not needed: we never give up");
    }
    let metrics = Metrics::default();
    let (ready, readiness) = watch::channel(Readiness::NotReady("starting".into()));
    let (engine_sender, engine) = watch::channel(None);
    let wakeups = Arc::new(Wakeups::default());
    let mut tasks = JoinSet::new();
    let registry = Arc::new(metrics.registry());
    tasks.spawn(daemon::listener::serve(args.listen.address(), registry, readiness, token.clone()));
    tasks.spawn(watchers::docker(
        args.docker.clone(),
        wakeups.clone(),
        engine_sender,
        metrics.clone(),
        token.clone(),
    ));
    tasks.spawn(signals(wakeups.clone(), token.clone())?);
    ready.send_replace(Readiness::NotReady("consul does not answer".into()));
    let Some(agent) = wait_for(&client, &metrics, &token).await else {
        tasks.join_all().await;
        return Ok(ExitCode::SUCCESS);
    };
    tasks.spawn(watchers::consul(client.clone(), wakeups.clone(), token.clone()));
    let (node, owner) = (node(&args.derive, &agent), owner(&args.derive, &agent));
    tracing::info!(node = node.name, address = node.address, consul = agent.version, "started");
    let here_only = node.address.parse().is_ok_and(|ip| !services::is_reachable(ip));
    if here_only && options.ip.is_none() && !options.internal {
        tracing::warn!(
            address = node.address,
            "consul advertises an address that only this node reaches: published ports are not registered; \
             give the agent -advertise, or us --ip",
        );
    }
    let prefix = args.mirror.prefix(kv_prefix);
    let journal_key = prefix.as_ref().map(|prefix| owner.journal(prefix));
    let mirror = prefix.as_ref().map(|prefix| {
        let format = args.mirror.format(kv_prefix);
        let layout = Layout { prefix: prefix.clone(), format, owner: owner.clone() };
        Mirror::new(client.clone(), layout, args.mirror.ttl)
    });
    Controller::new(Parts {
        renewal: args.mirror.ttl_refresh.unwrap_or(args.mirror.ttl / 3).max(Duration::from_secs(1)),
        journal_key,
        client,
        engine,
        wakeups,
        metrics,
        node,
        options,
        derive: args.derive,
        keep: args.keep,
        mirror,
        ready,
    })
    .run(token)
    .await;
    tasks.join_all().await;
    Ok(ExitCode::SUCCESS)
}

/// Waits until the agent says who it is; `None` if we are told to stop before.
async fn wait_for(
    client: &Client,
    metrics: &Metrics,
    token: &CancellationToken,
) -> Option<AgentSelf> {
    let (mut delays, mut since, mut said) = (daemon::backoff::delays(), None, false);
    loop {
        let answer = tokio::select! {
            () = token.cancelled() => return None,
            answer = client.agent_self() => answer,
        };
        let error = match answer {
            Ok(agent) if !agent.node.is_empty() => {
                metrics.set_up("consul", true);
                return Some(agent);
            }
            Ok(_) => "it does not say who it is".to_owned(),
            Err(error) => chain(&error),
        };
        metrics.set_up("consul", false);
        if said {
            tracing::debug!(error, "still waiting for consul");
        } else {
            tracing::warn!(error, "waiting for consul");
            said = true;
        }
        tokio::select! {
            () = token.cancelled() => return None,
            () = tokio::time::sleep(neighbour::pause(&mut delays, &mut since)) => {}
        }
    }
}

/// SIGHUP looks at everything, SIGUSR1 prints the state.
fn signals(
    wakeups: Arc<Wakeups>,
    token: CancellationToken,
) -> std::io::Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut user = signal(SignalKind::user_defined1())?;
    Ok(async move {
        loop {
            tokio::select! {
                () = token.cancelled() => return,
                _ = hangup.recv() => wakeups.wake(|pending| {
                    pending.everywhere = true;
                    pending.consul = true;
                }),
                _ = user.recv() => wakeups.wake(|pending| pending.dump = true),
            }
        }
    })
}
