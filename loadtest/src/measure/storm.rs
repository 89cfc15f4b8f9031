//! Everybody connects and joins at once.

use super::{Round, SETTLE, Task};
use crate::engine::Engine;
use crate::scenario::Figure;
use crate::watch::Watch;

/// CPU until everybody has joined.
pub(super) fn run(task: &Task<'_>, watch: &mut Watch<'_>) -> anyhow::Result<Round> {
    let mut engine = Engine::new(task.crowd(&task.peer.listen))?;
    let meter = task.meter();
    watch.phase("connecting", None);
    watch.record(&meter, &engine);
    let before = meter.sample();
    engine.connect(watch)?;
    let joined = before.at.elapsed();
    engine.listen(SETTLE, watch)?;
    let cost = meter.sample().since(before);
    let timeline = watch.moments();
    let connections = engine.settled() as f64;
    let traffic = task.prove(&mut engine, watch)?;
    let mut figures = vec![
        (Figure::CpuPerConnection, cost.server / connections),
        (Figure::ConnectSeconds, joined.as_secs_f64()),
    ];
    figures.extend(cost.surroundings());
    Ok(Round { timeline, ..task.finish(&engine, figures, &[], Some(&traffic)) })
}
