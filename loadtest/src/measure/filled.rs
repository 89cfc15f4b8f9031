//! Everybody connects, stops reading until every outbox holds a lot, and reads it all.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::{Round, Task};
use crate::engine::{Crowd, Engine};
use crate::process::settled_rss_kib;
use crate::scenario::{FILLED_BYTES, Figure};
use crate::traffic::Traffic;
use crate::watch::Watch;

/// Asked of the kernel, which doubles it: little waits outside of the server.
const RECEIVE_BUFFER: usize = 4 << 10;
/// Rooms published to before the servers are asked whether they have taken it: few enough that a bus which
/// cuts off slow subscribers (Redis: at 32 MiB) has no reason to.
const BATCH: usize = 512;
/// How long filling may take.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn run(task: &Task<'_>, watch: &mut Watch<'_>) -> anyhow::Result<Round> {
    let crowd = Crowd { receive_buffer: Some(RECEIVE_BUFFER), ..task.crowd(&task.peer.listen) };
    let mut engine = Engine::new(crowd)?;
    let meter = task.meter();
    watch.phase("memory of the empty server", None);
    let empty = settled_rss_kib(meter.servers(), |pause| Ok(engine.listen(pause, watch)?))?;
    task.gather(&mut engine, watch)?;
    let mut traffic = task.traffic(&mut engine)?;
    watch.record(&meter, &engine);
    let stuck = engine.stop_reading(|_, _| true)?;
    fill(task, stuck as u64 * FILLED_BYTES, &mut engine, &mut traffic, watch)?;
    watch.phase("reading it all", None);
    traffic.catch_up(&mut engine, watch)?;
    watch.phase("quiet", Some(task.scenario.measured()));
    engine.listen(task.scenario.measured(), watch)?;
    let full = meter.server_rss_kib();
    let timeline = watch.moments();
    let figures = vec![
        (Figure::RssPerConnection, full.saturating_sub(empty) as f64 / engine.settled() as f64),
        (Figure::StuckClosed, engine.stuck_closed() as f64),
    ];
    Ok(Round { timeline, ..task.finish(&engine, figures, &[], Some(&traffic)) })
}

/// Publishes to all rooms in turn until the outboxes hold `bytes` together; each holds its part.
fn fill(
    task: &Task<'_>,
    bytes: u64,
    engine: &mut Engine<'_>,
    traffic: &mut Traffic,
    watch: &mut Watch<'_>,
) -> anyhow::Result<()> {
    watch.phase("filling outboxes", None);
    let deadline = Instant::now() + PATIENCE;
    let rooms: Vec<usize> = (0..engine.rooms().len()).collect();
    for batch in rooms.chunks(BATCH).cycle() {
        let held = task.peer.outbox_bytes().context("the servers' metrics")?;
        if held >= bytes {
            break;
        }
        let members: usize = batch.iter().map(|room| engine.size(*room)).sum();
        let goal = delivered(task)? + members as f64;
        traffic.publish_to(engine, batch)?;
        while delivered(task)? < goal && Instant::now() < deadline {
            traffic.drive(engine, watch, Duration::from_millis(5))?;
        }
        if Instant::now() > deadline {
            bail!("outboxes hold {held} bytes after {} s, not {bytes}", PATIENCE.as_secs());
        }
    }
    Ok(())
}

/// Publications that the servers have put into outboxes.
fn delivered(task: &Task<'_>) -> anyhow::Result<f64> {
    task.peer.writes().map(|so_far| so_far.deliveries).context("the servers' metrics")
}
