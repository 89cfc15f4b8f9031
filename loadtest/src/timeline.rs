//! A round's measured part, slice by slice.

use hdrhistogram::Histogram;
#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::ledger::latencies;
use crate::meter::{Meter, Sample};

/// What happened in one slice of a round's measured part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Moment {
    /// Seconds from the start of the round's measured part to the end of this slice.
    pub(crate) at_s: f64,
    /// Deliveries per second in this slice.
    pub(crate) deliveries_per_s: f64,
    /// Latency of what was delivered in this slice, milliseconds; `None` where nothing was timed.
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) max_ms: Option<f64>,
    /// Cores used by the server's processes, by the bus, by the generator's thread.
    pub(crate) server_cores: f64,
    pub(crate) bus_cores: f64,
    pub(crate) generator_cores: f64,
    /// Resident memory of the server's processes, KiB.
    pub(crate) server_rss_kib: u64,
}

/// Takes the moments. One costs some 0.2 ms, mostly the histograms' passes through memory.
#[derive(Debug)]
pub(crate) struct Recorder {
    meter: Meter,
    start: Sample,
    last: Sample,
    deliveries: u64,
    slice: Histogram<u64>,
    so_far: Histogram<u64>,
    moments: Vec<Moment>,
}

impl Recorder {
    pub(crate) fn start(meter: Meter, engine: &Engine<'_>) -> Self {
        let start = meter.sample();
        let deliveries = engine.deliveries();
        let (slice, so_far) = (latencies(), latencies());
        Self { meter, start, last: start, deliveries, slice, so_far, moments: Vec::new() }
    }

    /// Ends a slice. Latency is that of the groups that do not disturb.
    pub(crate) fn take(&mut self, engine: &mut Engine<'_>) {
        let sample = self.meter.sample();
        let cost = sample.since(self.last);
        let deliveries = engine.deliveries();
        let groups = engine.crowd().groups;
        self.slice.reset();
        for (ledger, group) in engine.ledgers.iter_mut().zip(groups) {
            if !group.disturbs {
                self.slice.add(ledger.slice()).expect("all have the same bounds");
            }
            ledger.end_slice();
        }
        self.so_far.add(&self.slice).expect("all have the same bounds");
        let [server_cores, bus_cores, generator_cores] = cost.cores();
        self.moments.push(Moment {
            at_s: (sample.at - self.start.at).as_secs_f64(),
            deliveries_per_s: (deliveries - self.deliveries) as f64 / cost.seconds,
            p50_ms: quantile_ms(&self.slice, 0.5),
            p99_ms: quantile_ms(&self.slice, 0.99),
            max_ms: quantile_ms(&self.slice, 1.0),
            server_cores,
            bus_cores,
            generator_cores,
            server_rss_kib: self.meter.server_rss_kib(),
        });
        (self.last, self.deliveries) = (sample, deliveries);
    }

    /// 99th percentile of all moments, milliseconds.
    pub(crate) fn p99_ms(&self) -> Option<f64> {
        quantile_ms(&self.so_far, 0.99)
    }

    pub(crate) fn into_moments(self) -> Vec<Moment> {
        self.moments
    }
}

fn quantile_ms(latency: &Histogram<u64>, quantile: f64) -> Option<f64> {
    (!latency.is_empty()).then(|| latency.value_at_quantile(quantile) as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;
    use crate::engine::Crowd;
    use crate::scenario::Group;
    use crate::stamp::Stamp;

    #[test]
    fn a_moment_tells_of_its_slice_and_takes_nothing_from_the_whole() {
        let loud = Group { disturbs: true, ..Group::plain(1, 1) };
        let groups = [Group::plain(1, 1), loud];
        let (dialect, hosts) = (Dialect::Plain, &[][..]);
        let crowd = Crowd { dialect, hosts, groups: &groups, at_once: 1, number: 0, receive_buffer: None };
        let mut engine = Engine::new(crowd).unwrap();
        engine.open_window(&(0..u64::MAX));
        let mut recorder = Recorder::start(Meter::default(), &engine);
        let deliver = |engine: &mut Engine<'_>, group: usize, milliseconds: u64| {
            let stamp = Stamp { room: 0, sequence: 0, intended: 0 };
            engine.ledgers[group].deliver(stamp, true, milliseconds * 1_000_000);
        };
        deliver(&mut engine, 0, 5);
        deliver(&mut engine, 1, 500);
        recorder.take(&mut engine);
        deliver(&mut engine, 0, 20);
        recorder.take(&mut engine);
        recorder.take(&mut engine);
        assert_eq!(recorder.p99_ms().map(f64::round), Some(20.0));
        let moments = recorder.into_moments();
        let longest: Vec<_> = moments.iter().map(|moment| moment.max_ms.map(f64::round)).collect();
        assert_eq!(longest, [Some(5.0), Some(20.0), None], "the loud group's are not among them");
        assert!(
            moments[0].deliveries_per_s > moments[1].deliveries_per_s && moments[1].at_s > moments[0].at_s
        );
        assert_eq!(moments[2].deliveries_per_s, 0.0);
        assert_eq!(engine.ledgers[0].close_window().len(), 2);
        assert_eq!(engine.ledgers[1].close_window().len(), 1);
    }
}
