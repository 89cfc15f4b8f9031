//! Why a connection ends: one table for close codes, metric labels and advice.

/// Why a connection ended. Socket.IO clients see only that the transport closed, and come back by
/// themselves; plain clients get [`Disconnect::close_code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Disconnect {
    /// The client closed, or its socket did.
    Client,
    /// No answer to a heartbeat in time.
    PingTimeout,
    /// No namespace was joined in time.
    ConnectTimeout,
    /// Its outbox was full and did not move, or passed its hard bound.
    SlowConsumer,
    /// The node's outbox budget was spent, and this connection held the most.
    Budget,
    /// Bytes or frames against WebSocket.
    Protocol,
    /// A Socket.IO packet against its protocol. Told as the reference server tells it: without a code.
    Packet,
    /// Text that is not UTF-8.
    InvalidText,
    /// One message was larger than allowed.
    TooLarge,
    /// The kernel refused a write.
    WriteError,
    /// The node leaves service.
    Drain,
    /// The app callback did not answer, or not usably, when the client wanted to enter a namespace.
    AppUnavailable,
    /// The app refused a plain client, which has no namespace to be refused.
    Refused,
    /// The app, or another server, ended the connection.
    Server,
}

impl Disconnect {
    /// Every reason, in the order of the table.
    pub const ALL: [Disconnect; 14] = [
        Self::Client,
        Self::PingTimeout,
        Self::ConnectTimeout,
        Self::SlowConsumer,
        Self::Budget,
        Self::Protocol,
        Self::Packet,
        Self::InvalidText,
        Self::TooLarge,
        Self::WriteError,
        Self::Drain,
        Self::AppUnavailable,
        Self::Refused,
        Self::Server,
    ];

    /// The value of the metric label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::PingTimeout => "ping_timeout",
            Self::ConnectTimeout => "connect_timeout",
            Self::SlowConsumer => "slow_consumer",
            Self::Budget => "budget",
            Self::Protocol => "protocol_error",
            Self::Packet => "bad_packet",
            Self::InvalidText => "invalid_text",
            Self::TooLarge => "too_large",
            Self::WriteError => "write_error",
            Self::Drain => "drain",
            Self::AppUnavailable => "app_unavailable",
            Self::Refused => "refused",
            Self::Server => "server",
        }
    }

    /// The WebSocket close code (RFC 6455 §7.4; 4000 and above are fanfare's) and reason, or `None`
    /// where the socket is gone already. A close without a code has no reason either.
    pub fn close_code(self) -> Option<(Option<u16>, &'static str)> {
        match self {
            Self::Client | Self::WriteError => None,
            Self::PingTimeout => Some((Some(4000), "ping timeout")),
            Self::ConnectTimeout => Some((Some(4001), "connect timeout")),
            Self::SlowConsumer => Some((Some(4002), "slow consumer")),
            Self::Budget => Some((Some(4003), "over the node's outbox budget")),
            Self::Packet => Some((None, "")),
            Self::Protocol => Some((Some(1002), "protocol error")),
            Self::InvalidText => Some((Some(1007), "text is not UTF-8")),
            Self::TooLarge => Some((Some(1009), "message too large")),
            Self::Drain => Some((Some(1001), "going away")),
            Self::AppUnavailable => Some((Some(4503), "the app is unavailable")),
            Self::Refused => Some((Some(4403), "refused by the app")),
            Self::Server => Some((Some(4005), "closed by the server")),
        }
    }

    /// Whether the client should connect again.
    pub fn come_back(self) -> bool {
        !matches!(
            self,
            Self::Protocol | Self::Packet | Self::InvalidText | Self::TooLarge | Self::Refused | Self::Server
        )
    }

    /// The reason in the words of Socket.IO's server (its event `disconnect`), for the app.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Client => "transport close",
            Self::PingTimeout => "ping timeout",
            Self::Packet => "parse error",
            Self::Protocol | Self::InvalidText | Self::TooLarge | Self::WriteError => "transport error",
            Self::Drain => "server shutting down",
            Self::Server => "server namespace disconnect",
            Self::ConnectTimeout
            | Self::SlowConsumer
            | Self::Budget
            | Self::AppUnavailable
            | Self::Refused => "forced server close",
        }
    }
}
