//! What each command does, and what it prints.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};

use crate::args::{Args, Command, FOLDER, program};
use crate::bundle::{Bundle, Member};
use crate::settings::Cluster;
use crate::up::{repository, step};
use crate::{acl, coins, down, network, overlay, status, up};

/// Does what the command line says.
///
/// # Errors
/// With what failed.
pub async fn execute(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Bundle { hosts, servers, tls, out } => {
            return write_bundle(hosts, servers, tls, out).await;
        }
        Command::Bootstrap { hosts, consul, out } => return bootstrap(hosts, consul, out).await,
        Command::Forget { host, consul, out } => {
            // Who it was does not matter any more: no files are written.
            acl::forget(&bundle(Vec::new(), false, &out)?, &host, &consul).await?;
            println!("{host} is off all lists; remove its folder in {}", out.display());
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    ensure!(
        nix::unistd::geteuid().is_root(),
        "this needs root, for namespaces and engines: use sudo"
    );
    let folder = args.folder;
    if let Command::Down = args.command {
        step("taking everything down", down::down(&folder)).await?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::Up(options) = args.command {
        let cluster = up::up(&folder, &repository()?, options.into()).await?;
        welcome(&cluster).await?;
        return Ok(ExitCode::SUCCESS);
    }
    on_cluster(Cluster::open(&folder)?, args.command).await
}

async fn on_cluster(mut cluster: Cluster, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Status => status::print(&cluster).await?,
        Command::Exec { node, command } => {
            let mut inside = cluster.node(&node)?.inside(&command[0])?;
            let status = inside.args(&command[1..]).status().await?;
            return Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)));
        }
        Command::Scale { workers, rng } => {
            step("DockerCoins", coins::scale(&cluster, workers, rng)).await?;
            (cluster.options.workers, cluster.options.rng) = (workers, rng);
            cluster.save()?;
        }
        Command::Partition { node } => network::partition(&cluster, &cluster.node(&node)?).await?,
        Command::Heal { node } => network::heal(&cluster, &cluster.node(&node)?).await?,
        Command::Crash { node, engine: true } => cluster.node(&node)?.stop_engine("KILL").await?,
        Command::Crash { node, engine: false } => cluster.node(&node)?.crash().await?,
        Command::Restart { node, engine } => {
            let node = cluster.node(&node)?;
            if engine {
                node.stop_engine("TERM").await?;
                step("the engine", node.start_engine()).await?;
            } else {
                node.shut_down().await?;
                step(node.name(), node.boot(&cluster)).await?;
            }
        }
        Command::Add => drop(up::add(&mut cluster).await?),
        Command::Remove { node } => {
            let node = cluster.node(&node)?;
            up::remove(&mut cluster, &node).await?;
        }
        Command::Exercise { .. } => overlay::exercise(&cluster).await?,
        Command::Reach { how } => up::reach(&mut cluster, how == "overlay").await?,
        Command::Near { switch } => up::near(&mut cluster, switch == "on").await?,
        Command::Swarm => overlay::swarm(&cluster).await?,
        Command::Up(_)
        | Command::Down
        | Command::Bundle { .. }
        | Command::Bootstrap { .. }
        | Command::Forget { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Says where to look.
async fn welcome(cluster: &Cluster) -> anyhow::Result<()> {
    let first = cluster.node("1")?;
    println!("    measuring for {} seconds", coins::SAMPLE.as_secs());
    let rate = coins::rate(&first, coins::SAMPLE).await.context("DockerCoins does not mine")?;
    let (address, n) = (first.address(), cluster.options.nodes);
    let folder = cluster.folder();
    let again = match program() {
        program if folder == Path::new(FOLDER) => program,
        program => format!("{program} --folder {}", folder.display()),
    };
    let management = crate::stack::bundle(cluster).management();
    println!(
        "\n    {n} nodes work, {address} to {}. Look at any of them, here at the first:\n      \
           http://{address}:8000   DockerCoins, mining {rate:.1} hashes/s\n      \
           http://{address}:8500   Consul; the token for everything: {}\n      \
           http://{address}:8404   HAProxy: who gets how much traffic\n    \
         Try   {again} status   {again} exec node2 docker ps   {again} crash node{n}\n    \
         End   {again} down\n",
        cluster.address(n),
        management.display()
    );
    Ok(())
}

/// Returns the hosts; the first `servers` of them run a Consul server.
fn members(hosts: Vec<(String, Ipv4Addr)>, servers: usize) -> Vec<Member> {
    let member = |(place, (name, address))| Member { name, address, server: place < servers };
    hosts.into_iter().enumerate().map(member).collect()
}

fn bundle(members: Vec<Member>, tls: bool, out: &Path) -> anyhow::Result<Bundle> {
    Ok(Bundle { members, tls, out: std::path::absolute(out)?, repository: repository()? })
}

async fn write_bundle(
    hosts: Vec<(String, Ipv4Addr)>,
    servers: Option<usize>,
    tls: bool,
    out: PathBuf,
) -> anyhow::Result<ExitCode> {
    let mut bundle = bundle(members(hosts, servers.unwrap_or(3)), tls, &out)?;
    if let Some(before) = bundle.before()? {
        bundle.tls |= before.tls;
        if servers.is_none() {
            for member in &mut bundle.members {
                member.server = before.servers.contains(&member.name);
            }
        }
    }
    let number = bundle.members.iter().filter(|member| member.server).count();
    ensure!(
        number % 2 == 1 && servers.is_none_or(|wanted| wanted == number),
        "{number} of these hosts would be servers: their number must be odd, and at most that of hosts; give it by --servers"
    );
    bundle.write().await?;
    let names = |server| {
        let those = bundle.members.iter().filter(|member| member.server == server);
        those.map(|member| member.name.as_str()).collect::<Vec<_>>().join(" ")
    };
    println!(
        "written to {}: bring each host its folder, and keep {} to yourself\n    \
           servers of Consul: {}\n    clients: {}",
        bundle.out.display(),
        bundle.secrets().display(),
        names(true),
        Some(names(false)).filter(|names| !names.is_empty()).unwrap_or("none".to_owned())
    );
    Ok(ExitCode::SUCCESS)
}

async fn bootstrap(
    hosts: Vec<(String, Ipv4Addr)>,
    consul: Option<String>,
    out: PathBuf,
) -> anyhow::Result<ExitCode> {
    let url = consul.unwrap_or_else(|| format!("http://{}:8500", hosts[0].1));
    let bundle = bundle(members(hosts, 0), false, &out)?;
    acl::bootstrap(&bundle, &url).await?;
    println!(
        "policies and tokens are in place; the token for everything is in {}",
        bundle.management().display()
    );
    Ok(ExitCode::SUCCESS)
}
