//! What a round looked like while it went on.

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
