//! Everybody connects and nothing happens.

use super::{Round, Task};
use crate::engine::Engine;
use crate::process::settled_rss_kib;
use crate::scenario::Figure;
use crate::watch::Watch;

pub(super) fn run(task: &Task<'_>, watch: &mut Watch<'_>) -> anyhow::Result<Round> {
    let mut engine = Engine::new(task.crowd(&task.peer.listen))?;
    let meter = task.meter();
    watch.phase("memory of the empty server", None);
    let empty = settled_rss_kib(meter.servers(), |pause| Ok(engine.listen(pause, watch)?))?;
    task.gather(&mut engine, watch)?;
    watch.phase("memory settles", None);
    let full = settled_rss_kib(meter.servers(), |pause| Ok(engine.listen(pause, watch)?))?;
    watch.phase("idle", Some(task.scenario.measured()));
    watch.record(&meter, &engine);
    let before = meter.sample();
    engine.listen(task.scenario.measured(), watch)?;
    let cost = meter.sample().since(before);
    let timeline = watch.moments();
    let connections = engine.settled() as f64;
    let mut figures = vec![
        (Figure::RssPerConnection, full.saturating_sub(empty) as f64 / connections),
        (Figure::IdleCpu, cost.server / connections / cost.seconds),
    ];
    figures.extend(cost.surroundings());
    Ok(Round { timeline, ..task.finish(&engine, figures, &[], None) })
}
