//! Runs scenarios: starts the peers, alternates their rounds, judges what came out.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::measure::{Manner, Round, round};
use crate::peers::{Peer, PeerKind, Setup};
use crate::process::raise_open_files;
use crate::report::limits::{Judgement, Limit};
use crate::report::{Results, gather, html, json, text};
use crate::scenario::{Figure, Load, Scenario};
use crate::watch::Watch;

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

/// A round that says how fast a peer is, with so many publications in flight, in seconds.
const FLAT_OUT: (usize, u64) = (8, 3);

/// Runs it and tells; success unless a limit was missed, or fanfare or the server given lost something.
pub(crate) fn run(order: &Order) -> anyhow::Result<ExitCode> {
    let files = raise_open_files().context("raising the limit of open files")?;
    let peers = available(order)?;
    let started = gather::Started::now();
    let mut all = Vec::new();
    let mut rounds_so_far = 0;
    for scenario in &order.scenarios {
        let connections = scenario.connections();
        if connections as u64 + SPARE_FILES > files {
            bail!("{connections} connections need more open files than {files}: raise ulimit -Hn");
        }
        let results = Playing { order, rounds_so_far: &mut rounds_so_far }.play(scenario, &peers)?;
        println!("{}", text::table(&results));
        all.push(results);
    }
    let judgements: Vec<Judgement> = all.iter().flat_map(|results| judge(order, results)).collect();
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

/// A scenario's own limits are about itself, and of peers that are measured only; whoever names a limit on
/// the command line means it.
fn judge(order: &Order, results: &Results) -> Vec<Judgement> {
    let scenario = &results.scenario;
    let (own, idle): (Vec<_>, Vec<_>) =
        scenario.limits.iter().partition(|limit| limit.is_measurable(results));
    for limit in idle {
        println!("not judged: {}:{limit}: that peer is not measured here", scenario.name);
    }
    let own = own.into_iter().flat_map(|limit| limit.judge(results));
    own.chain(order.limits.iter().flat_map(|limit| limit.judge(results))).collect()
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

/// The order in the middle of being carried out.
struct Playing<'a> {
    order: &'a Order,
    rounds_so_far: &'a mut usize,
}

impl Playing<'_> {
    /// Runs a scenario's rounds, each peer once, then each again.
    fn play(&mut self, scenario: &Scenario, peers: &[PeerKind]) -> anyhow::Result<Results> {
        let setup = Setup {
            fanfare_arguments: [&scenario.fanfare[..], &self.order.setup.fanfare_arguments].concat(),
            ..self.order.setup.clone()
        };
        let scenario = self.with_rate(scenario, peers, &setup)?;
        let suited = |peer: &&PeerKind| match scenario.leaves_out(**peer) {
            None => true,
            Some(reason) => {
                eprintln!("{} without {}: {reason}", scenario.name, peer.name());
                false
            }
        };
        let peers: Vec<PeerKind> = peers.iter().filter(suited).copied().collect();
        let mut running: Vec<Peer> = Vec::new();
        if !scenario.wants_fresh_servers() {
            for kind in &peers {
                running.push(kind.start(&setup, scenario.edges)?);
            }
        }
        let of = self.order.rounds.unwrap_or(scenario.rounds);
        let mut results = Results { scenario, peers, rounds: Vec::new() };
        for number in 1..=of {
            for (index, kind) in results.peers.clone().into_iter().enumerate() {
                let mut fresh =
                    if running.is_empty() { Some(kind.start(&setup, results.scenario.edges)?) } else { None };
                let peer = fresh.as_mut().unwrap_or_else(|| &mut running[index]);
                let title = format!("{} {} {number}/{of}", results.scenario.name, kind.name());
                let round = self.round(&title, peer, &results.scenario)?;
                eprintln!("{}", text::progress(&results, &round, number, of));
                results.rounds.push(round);
            }
        }
        Ok(results)
    }

    fn round(&mut self, title: &str, peer: &mut Peer, scenario: &Scenario) -> anyhow::Result<Round> {
        let number = *self.rounds_so_far;
        *self.rounds_so_far += 1;
        let mut watch = Watch::new(title);
        round(peer, scenario, self.order.manner, number, &mut watch).with_context(|| title.to_owned())
    }

    /// The scenario with a rate in the place of a share of what some peer does flat out.
    fn with_rate(
        &mut self,
        scenario: &Scenario,
        peers: &[PeerKind],
        setup: &Setup,
    ) -> anyhow::Result<Scenario> {
        let mut scenario = scenario.clone();
        let [group] = &scenario.groups[..] else { return Ok(scenario) };
        let Load::Share { of, share } = group.load else { return Ok(scenario) };
        if !peers.contains(&of) {
            bail!("{}: its rate is that of {}, which is not measured here", scenario.name, of.name());
        }
        let members = (group.members * group.rooms) as f64;
        let mut flat_out = scenario.clone();
        flat_out.seconds = FLAT_OUT.1;
        flat_out.groups[0].load = Load::Closed { in_flight: FLAT_OUT.0 };
        let round = self.round(
            &format!("{} {} flat out", scenario.name, of.name()),
            &mut of.start(setup, 1)?,
            &flat_out,
        )?;
        let rate = round.figure(Figure::DeliveriesPerSecond).unwrap_or(0.0) / members * share;
        let per_second = rate.round() as u32;
        if per_second == 0 || round.invalid.is_some() {
            bail!("{}: {} flat out could not be measured", scenario.name, of.name());
        }
        scenario.about += &format!("; that is {per_second} publications/s");
        scenario.groups[0].load = Load::Paced { per_second, burst: 1 };
        Ok(scenario)
    }
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
    let torn = torn(all);
    let void: usize = all.iter().flat_map(|results| &results.rounds).filter(|r| r.invalid.is_some()).count();
    let missed = judgements.iter().filter(|judgement| !judgement.holds()).count();
    // What others lose is their result; the run fails by its subject.
    let ok = missed == 0 && !torn.iter().any(|(_, peer)| !peer.is_base());
    println!(
        "loadtest: {}: {} scenarios, {rounds} rounds ({void} not valid); limits: {} held, {missed} missed; {}",
        if ok { "ok" } else { "FAILED" },
        all.len(),
        judgements.len() - missed,
        if torn.is_empty() {
            "nothing lost, duplicated or out of order".into()
        } else {
            let names = torn.iter().map(|(scenario, peer)| format!("{scenario} {}", peer.name()));
            format!("not whole: {}", names.collect::<Vec<_>>().join(", "))
        }
    );
    ok
}

/// Peers that lost something, repeated it or had it out of order, with the scenario in which they did.
fn torn(all: &[Results]) -> Vec<(&str, PeerKind)> {
    let of = |results: &'_ Results| -> Vec<PeerKind> {
        results.peers.iter().copied().filter(|peer| !results.is_whole(*peer)).collect()
    };
    all.iter()
        .flat_map(|results| of(results).into_iter().map(|peer| (results.scenario.name.as_str(), peer)))
        .collect()
}
