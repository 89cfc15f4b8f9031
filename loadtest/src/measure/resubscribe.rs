//! The bus dies and comes back empty.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::{Round, SETTLE, Task};
use crate::engine::Engine;
use crate::redis::Inquiry;
use crate::scenario::Figure;
use crate::watch::Watch;

/// How long the bus may take to answer, and the servers to subscribe again.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks: what the figure is exact to.
const LOOK: Duration = Duration::from_millis(2);

/// Time from the new bus's first answer until as many channels are subscribed as before.
pub(super) fn run(task: &mut Task<'_>, watch: &mut Watch<'_>) -> anyhow::Result<Round> {
    let hosts = task.peer.listen.clone();
    let address = task.peer.publish;
    let crowd = task.crowd(&hosts);
    let mut engine = Engine::new(crowd)?;
    task.gather(&mut engine, watch)?;
    let rooms = engine.rooms().len() as u64;
    let before = Inquiry::open(address)?.channels()?;
    if before < rooms {
        bail!("{before} channels are subscribed for {rooms} rooms");
    }
    watch.phase("Redis is away", None);
    let bus = task.peer.bus.as_mut().context("a bus to restart")?;
    bus.kill()?;
    bus.start_again()?;
    let answers = |engine: &mut Engine<'_>, watch: &mut Watch<'_>| -> anyhow::Result<Inquiry> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(inquiry) = Inquiry::open(address) {
                return Ok(inquiry);
            }
            if Instant::now() > deadline {
                bail!("Redis does not answer after {} s", PATIENCE.as_secs());
            }
            engine.listen(LOOK, watch)?;
        }
    };
    let mut inquiry = answers(&mut engine, watch)?;
    let back = Instant::now();
    let meter = task.meter();
    watch.phase("subscribing again", None);
    watch.record(&meter, &engine);
    let sample = meter.sample();
    while inquiry.channels()? < before {
        if back.elapsed() > PATIENCE {
            bail!("not all rooms are subscribed again after {} s", PATIENCE.as_secs());
        }
        engine.listen(LOOK, watch)?;
    }
    let seconds = back.elapsed().as_secs_f64();
    let cost = meter.sample().since(sample);
    let timeline = watch.moments();
    engine.listen(SETTLE, watch)?;
    let traffic = task.prove(&mut engine, watch)?;
    let mut figures = vec![(Figure::ResubscribeSeconds, seconds)];
    figures.extend(cost.surroundings());
    Ok(Round { timeline, ..task.finish(&engine, figures, &[], Some(&traffic)) })
}
