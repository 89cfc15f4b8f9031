//! Runs scenarios: starts the peers, alternates their rounds, judges what came out.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::measure::{Manner, round};
use crate::peers::{Peer, PeerKind, Setup};
use crate::process::raise_open_files;
use crate::report::limits::{Judgement, Limit};
use crate::report::{Results, gather, html, json, text};
use crate::scenario::{Load, Scenario};

/// What a run was asked for.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) scenarios: Vec<Scenario>,
    /// `None`: all that this machine has.
    pub(crate) peers: Option<Vec<PeerKind>>,
    /// `None`: the scenario's own.
    pub(crate) rounds: Option<usize>,
    pub(crate) manner: Manner,
    pub(crate) setup: Setup,
    pub(crate) json: Option<PathBuf>,
    pub(crate) html: Option<PathBuf>,
    pub(crate) limits: Vec<Limit>,
}

/// Descriptors that are not connections: listeners, pipes, the publisher, files.
const SPARE_FILES: u64 = 64;

/// Runs it and tells; success unless something was lost or a limit missed.
pub(crate) fn run(order: &Order) -> anyhow::Result<ExitCode> {
    let files = raise_open_files().context("raising the limit of open files")?;
    let peers = available(order)?;
    let started = gather::Started::now();
    let mut all = Vec::new();
    let mut rounds_so_far = 0;
    for scenario in &order.scenarios {
        if scenario.connections as u64 + SPARE_FILES > files {
            bail!("{} connections need more open files than {files}: raise ulimit -Hn", scenario.connections);
        }
        let results = run_scenario(order, *scenario, &peers, &mut rounds_so_far)?;
        println!("{}", text::table(&results));
        all.push(results);
    }
    let judgements: Vec<Judgement> =
        all.iter().flat_map(|results| order.limits.iter().flat_map(|limit| limit.judge(results))).collect();
    let ok = tell(&all, &judgements);
    if order.json.is_some() || order.html.is_some() {
        let document = gather::document(started.finish(order, &peers), &all, &judgements, ok);
        if let Some(path) = &order.json {
            json::write(&document, path)?;
        }
        if let Some(path) = &order.html {
            html::write(&document, path)?;
        }
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn available(order: &Order) -> anyhow::Result<Vec<PeerKind>> {
    if let Some(peers) = &order.peers {
        for peer in peers {
            if let Some(reason) = peer.missing(&order.setup) {
                bail!("{}: {reason}", peer.name());
            }
        }
        return Ok(peers.clone());
    }
    let mut peers = PeerKind::ALL.to_vec();
    peers.retain(|peer| match peer.missing(&order.setup) {
        None => true,
        Some(reason) => {
            eprintln!("without {}: {reason}", peer.name());
            false
        }
    });
    Ok(peers)
}

/// Where memory is measured each round gets a server that has held nobody yet.
fn run_scenario(
    order: &Order,
    scenario: Scenario,
    peers: &[PeerKind],
    rounds_so_far: &mut usize,
) -> anyhow::Result<Results> {
    let peers: Vec<PeerKind> = peers.iter().copied().filter(|peer| suits(*peer, scenario)).collect();
    let fresh = scenario.load == Load::Idle;
    let mut running: Vec<Peer> = Vec::new();
    if !fresh {
        for kind in &peers {
            running.push(kind.start(&order.setup, 1)?);
        }
    }
    let of = order.rounds.unwrap_or(scenario.rounds);
    let mut results = Results { scenario, peers, rounds: Vec::new() };
    for number in 1..=of {
        for (index, kind) in results.peers.clone().into_iter().enumerate() {
            let started = if fresh { Some(kind.start(&order.setup, 1)?) } else { None };
            let peer = started.as_ref().unwrap_or_else(|| &running[index]);
            let round = round(peer, &scenario, order.manner, *rounds_so_far)
                .with_context(|| format!("{} of {}", scenario.name, kind.name()))?;
            *rounds_so_far += 1;
            eprintln!("{}", text::progress(&results, &round, number, of));
            results.rounds.push(round);
        }
    }
    Ok(results)
}

/// The floor's memory and handshake say nothing about anybody else's.
fn suits(peer: PeerKind, scenario: Scenario) -> bool {
    peer != PeerKind::Floor || matches!(scenario.load, Load::Paced { .. } | Load::Closed { .. })
}

/// Prints limits and, as the last line, the sum of it all. Says whether all is well.
fn tell(all: &[Results], judgements: &[Judgement]) -> bool {
    for judgement in judgements {
        let measured = judgement.measured.map_or("not measured".into(), text::number_text);
        let verdict = judgement.outcome.word();
        let Judgement { limit, scenario, peer, .. } = judgement;
        println!("{verdict}: {limit} for {} in {scenario}: {measured}", peer.name());
    }
    let rounds: usize = all.iter().map(|results| results.rounds.len()).sum();
    let torn: Vec<String> = all
        .iter()
        .flat_map(|results| {
            let torn = results.peers.iter().filter(|peer| !results.is_whole(**peer));
            torn.map(|peer| format!("{} {}", results.scenario.name, peer.name()))
        })
        .collect();
    let void: usize = all.iter().flat_map(|results| &results.rounds).filter(|r| r.invalid.is_some()).count();
    let missed = judgements.iter().filter(|judgement| !judgement.holds()).count();
    let ok = torn.is_empty() && missed == 0;
    println!(
        "loadtest: {}: {} scenarios, {rounds} rounds ({void} not valid); limits: {} held, {missed} missed; {}",
        if ok { "ok" } else { "FAILED" },
        all.len(),
        judgements.len() - missed,
        if torn.is_empty() {
            "nothing lost, duplicated or out of order".into()
        } else {
            format!("not whole: {}", torn.join(", "))
        }
    );
    ok
}
