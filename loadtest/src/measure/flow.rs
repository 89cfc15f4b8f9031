//! Publications flow. With a disturbance: first without it, then with it.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::{BUSY_LIMIT, Round, Task};
use crate::engine::Engine;
use crate::kernel::{server_ends, sockstat_kib};
use crate::ledger::Ledger;
use crate::meter::{Cost, Meter};
use crate::scenario::Figure;
use crate::traffic::Traffic;
use crate::watch::Watch;

/// Between the calm half and the other: what was published in the first arrives.
const BETWEEN: Duration = Duration::from_millis(500);

/// What a measured stretch came to.
struct Stretch {
    cost: Cost,
    deliveries: f64,
    publications: f64,
}

/// What was there before something disturbed it.
struct Calm {
    latency: Option<Histogram<u64>>,
    cost: Cost,
    rss_kib: u64,
    sockstat_kib: f64,
    stalled: usize,
}

pub(super) fn run(task: &Task<'_>, watch: &mut Watch<'_>) -> anyhow::Result<Round> {
    let mut engine = Engine::new(task.crowd(&task.peer.listen))?;
    let meter = task.meter();
    task.gather(&mut engine, watch)?;
    let writes = task.peer.writes();
    let mut traffic = task.traffic(&mut engine)?;
    watch.phase("warming up", Some(task.manner.warmup));
    traffic.drive(&mut engine, watch, task.manner.warmup)?;
    watch.record(&meter, &engine);
    let calm = match task.scenario.is_disturbed() {
        true => Some(be_calm(task, &meter, &mut engine, &mut traffic, watch)?),
        false => None,
    };
    let phase = if calm.is_some() { "disturbed" } else { "measuring" };
    let stretch = stretch(phase, task, &meter, &mut engine, &mut traffic, watch)?;
    let timeline = watch.moments();
    let mut figures = costs(task, &stretch);
    // What is on its way must not wait while the kernel is asked.
    watch.phase("draining", None);
    traffic.drain(&mut engine, watch)?;
    let latencies: Vec<_> = engine.ledgers.iter_mut().map(Ledger::close_window).collect();
    if let Some(calm) = calm.as_ref().filter(|calm| calm.stalled > 0) {
        figures.push((Figure::RssGrowth, meter.server_rss_kib().saturating_sub(calm.rss_kib) as f64));
        figures.extend(kernel_figures(&engine, calm));
    }
    if calm.as_ref().is_some_and(|calm| calm.stalled > 0) {
        watch.phase("those that were stuck read", None);
        traffic.catch_up(&mut engine, watch)?;
        figures.push((Figure::StuckClosed, engine.stuck_closed() as f64));
    }
    if let (Some(before), Some(after)) = (writes, task.peer.writes()) {
        figures.push((Figure::WritesPerDelivery, after.per_delivery_since(before)));
    }
    let mut round = task.finish(&engine, figures, &latencies, Some(&traffic));
    if let Some(calm) = &calm {
        compare(&mut round, calm);
    }
    round.timeline = timeline;
    round.invalid = match calm.as_ref().and_then(|calm| task.fault_of(calm.cost)) {
        _ if stretch.deliveries == 0.0 => Some("nothing was delivered"),
        // Processes that were started after the meter, as by a master whose worker has died.
        _ if stretch.cost.server == 0.0 && !meter.servers().is_empty() => {
            Some("the server's cost was not seen")
        }
        None => task.fault_of(stretch.cost),
        fault => fault,
    };
    round.generator_bound = stretch.cost.generator_busy() > BUSY_LIMIT;
    Ok(round)
}

fn stretch(
    phase: &'static str,
    task: &Task<'_>,
    meter: &Meter,
    engine: &mut Engine<'_>,
    traffic: &mut Traffic,
    watch: &mut Watch<'_>,
) -> anyhow::Result<Stretch> {
    let length = task.scenario.measured();
    watch.phase(phase, Some(length));
    let now = engine.now();
    engine.open_window(&(now..now + length.as_nanos() as u64));
    let published = |traffic: &Traffic| traffic.published().iter().sum::<u64>();
    let before = (meter.sample(), engine.deliveries(), published(traffic));
    traffic.drive(engine, watch, length)?;
    Ok(Stretch {
        cost: meter.sample().since(before.0),
        deliveries: (engine.deliveries() - before.1) as f64,
        publications: (published(traffic) - before.2) as f64,
    })
}

/// The calm half; then the disturbance begins.
fn be_calm(
    task: &Task<'_>,
    meter: &Meter,
    engine: &mut Engine<'_>,
    traffic: &mut Traffic,
    watch: &mut Watch<'_>,
) -> anyhow::Result<Calm> {
    let stretch = stretch("calm", task, meter, engine, traffic, watch)?;
    traffic.drive(engine, watch, BETWEEN)?;
    let latencies: Vec<_> = engine.ledgers.iter_mut().map(Ledger::close_window).collect();
    let calm = Calm {
        latency: task.merged(&latencies),
        cost: stretch.cost,
        rss_kib: meter.server_rss_kib(),
        sockstat_kib: sockstat_kib(),
        stalled: engine.stop_reading(|seats, connection| seats.stalls(connection))?,
    };
    traffic.release(engine);
    Ok(calm)
}

fn costs(task: &Task<'_>, stretch: &Stretch) -> Vec<(Figure, f64)> {
    let Stretch { cost, deliveries, publications } = *stretch;
    let mut figures = vec![
        (Figure::CpuPerDelivery, cost.server / deliveries),
        (Figure::DeliveriesPerSecond, deliveries / cost.seconds),
    ];
    if task.peer.bus.is_some() {
        figures.push((Figure::BusCpuPerPublication, cost.bus / publications));
    }
    figures.extend(cost.surroundings());
    figures
}

/// What the kernel holds for those who do not read, by two ways of looking.
fn kernel_figures(engine: &Engine<'_>, calm: &Calm) -> Vec<(Figure, f64)> {
    let grown = (sockstat_kib() - calm.sockstat_kib).max(0.0);
    let mut figures = vec![(Figure::SockstatPerStuck, grown / calm.stalled as f64)];
    figures.extend(server_ends(&engine.stuck()).map(|kib| (Figure::KernelPerStuck, kib)));
    figures
}

fn compare(round: &mut Round, calm: &Calm) {
    let Some(latency) = &calm.latency else { return };
    let [p50, p99] = [0.5, 0.99].map(|quantile| latency.value_at_quantile(quantile) as f64 / 1000.0);
    round.figures.extend([(Figure::CalmP50, p50), (Figure::CalmP99, p99)]);
    if let Some(now) = round.figure(Figure::P99) {
        round.figures.extend([(Figure::P99SlowRatio, now / p99), (Figure::P99Delay, now - p99)]);
    }
}
