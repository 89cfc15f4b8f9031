//! What a round can find out, by name.

/// One number of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    CpuPerDelivery,
    BusCpuPerPublication,
    DeliveriesPerSecond,
    WritesPerDelivery,
    P50,
    P90,
    P99,
    P999,
    P9999,
    Longest,
    CalmP50,
    CalmP99,
    P99SlowRatio,
    P99Delay,
    RssGrowth,
    KernelPerStuck,
    SockstatPerStuck,
    StuckClosed,
    RssPerConnection,
    IdleCpu,
    CpuPerConnection,
    ConnectSeconds,
    ResubscribeSeconds,
    GeneratorBusy,
    ForeignCpu,
}

impl Figure {
    pub(crate) const ALL: [Self; 25] = [
        Self::CpuPerDelivery,
        Self::BusCpuPerPublication,
        Self::DeliveriesPerSecond,
        Self::WritesPerDelivery,
        Self::P50,
        Self::P90,
        Self::P99,
        Self::P999,
        Self::P9999,
        Self::Longest,
        Self::CalmP50,
        Self::CalmP99,
        Self::P99SlowRatio,
        Self::P99Delay,
        Self::RssGrowth,
        Self::KernelPerStuck,
        Self::SockstatPerStuck,
        Self::StuckClosed,
        Self::RssPerConnection,
        Self::IdleCpu,
        Self::CpuPerConnection,
        Self::ConnectSeconds,
        Self::ResubscribeSeconds,
        Self::GeneratorBusy,
        Self::ForeignCpu,
    ];

    /// Name in JSON and limits, with its unit.
    pub(crate) fn key(self) -> &'static str {
        self.names().0
    }

    /// Heading of its row, with its unit.
    pub(crate) fn heading(self) -> &'static str {
        self.names().1
    }

    /// Quantile of the latency histogram that this figure is.
    pub(crate) fn quantile(self) -> Option<f64> {
        match self {
            Self::P50 => Some(0.5),
            Self::P90 => Some(0.9),
            Self::P99 => Some(0.99),
            Self::P999 => Some(0.999),
            Self::P9999 => Some(0.9999),
            Self::Longest => Some(1.0),
            _ => None,
        }
    }

    /// Whether it takes knowing the server's processes.
    pub(crate) fn is_of_processes(self) -> bool {
        use Figure::{
            CpuPerConnection, CpuPerDelivery, ForeignCpu, IdleCpu, KernelPerStuck, RssGrowth,
            RssPerConnection,
        };
        matches!(
            self,
            CpuPerDelivery
                | CpuPerConnection
                | IdleCpu
                | RssPerConnection
                | RssGrowth
                | KernelPerStuck
                | ForeignCpu
        )
    }

    pub(crate) fn parse(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|figure| figure.key() == key)
    }

    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::CpuPerDelivery => ("cpu_us_per_delivery", "CPU µs/delivery"),
            Self::BusCpuPerPublication => ("bus_cpu_us_per_publication", "Redis µs/pub"),
            Self::DeliveriesPerSecond => ("deliveries_per_s", "deliveries/s"),
            Self::WritesPerDelivery => ("writes_per_delivery", "writes/delivery"),
            Self::P50 => ("p50_ms", "p50 ms"),
            Self::P90 => ("p90_ms", "p90 ms"),
            Self::P99 => ("p99_ms", "p99 ms"),
            Self::P999 => ("p999_ms", "p99.9 ms"),
            Self::P9999 => ("p9999_ms", "p99.99 ms"),
            Self::Longest => ("max_ms", "max ms"),
            Self::CalmP50 => ("calm_p50_ms", "p50 ms before"),
            Self::CalmP99 => ("calm_p99_ms", "p99 ms before"),
            Self::P99SlowRatio => ("p99_slow_ratio", "p99 ÷ before"),
            Self::P99Delay => ("p99_delay_ms", "p99 − before ms"),
            Self::RssGrowth => ("rss_growth_kib", "RSS growth KiB"),
            Self::KernelPerStuck => ("kernel_kib_per_stuck", "server kernel KiB/stuck"),
            Self::SockstatPerStuck => ("sockstat_kib_per_stuck", "both ends kernel KiB/stuck"),
            Self::StuckClosed => ("stuck_closed", "stuck, closed by server"),
            Self::RssPerConnection => ("rss_kib_per_connection", "RSS KiB/conn"),
            Self::IdleCpu => ("cpu_us_per_connection_and_s", "CPU µs/conn/s"),
            Self::CpuPerConnection => ("cpu_us_per_connection", "CPU µs/conn"),
            Self::ConnectSeconds => ("connect_s", "all joined s"),
            Self::ResubscribeSeconds => ("resubscribe_s", "subscribed again s"),
            Self::GeneratorBusy => ("generator_busy", "generator busy"),
            Self::ForeignCpu => ("foreign_cores", "foreign cores"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_found_by_its_key() {
        for (index, figure) in Figure::ALL.into_iter().enumerate() {
            assert_eq!(figure as usize, index);
            assert_eq!(Figure::parse(figure.key()), Some(figure));
        }
    }
}
