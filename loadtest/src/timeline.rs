//! A round's measured part, slice by slice.

use hdrhistogram::Histogram;

use crate::engine::Engine;
use crate::ledger::latencies;
use crate::meter::{Meter, Sample};

/// What happened in one slice of a round's measured part.
#[derive(Debug, Clone, Default, PartialEq)]
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
