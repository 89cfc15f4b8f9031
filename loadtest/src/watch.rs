//! Looks at a running round four times a second: for the timeline, and for the line on the terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::meter::Meter;
use crate::timeline::{Moment, Recorder};

/// Length of a slice of the timeline, and of the time between two states of the line.
const SLICE: Duration = Duration::from_millis(250);

/// What the round is doing, for whoever watches.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    /// What is run; `None`: nobody watches.
    title: Option<&'a str>,
    phase: &'static str,
    ends: Option<Instant>,
    next: Instant,
    last: (Instant, u64),
    drawn: bool,
    recorder: Option<Recorder>,
}

impl<'a> Watch<'a> {
    /// Draws the line where standard error is a terminal.
    pub(crate) fn new(title: &'a str) -> Self {
        Self::titled(std::io::stderr().is_terminal().then_some(title))
    }

    #[cfg(test)]
    pub(crate) fn silent() -> Self {
        Self::titled(None)
    }

    fn titled(title: Option<&'a str>) -> Self {
        let now = Instant::now();
        Self { title, phase: "", ends: None, next: now, last: (now, 0), drawn: false, recorder: None }
    }

    /// Something else goes on from here, for `length` if that is known.
    pub(crate) fn phase(&mut self, phase: &'static str, length: Option<Duration>) {
        self.phase = phase;
        self.ends = length.map(|length| Instant::now() + length);
    }

    /// Starts the timeline, or goes on with it.
    pub(crate) fn record(&mut self, meter: &Meter, engine: &Engine<'_>) {
        self.recorder.get_or_insert_with(|| Recorder::start(meter.clone(), engine));
        self.next = Instant::now() + SLICE;
    }

    /// Ends the timeline.
    pub(crate) fn moments(&mut self) -> Vec<Moment> {
        self.recorder.take().map_or(Vec::new(), Recorder::into_moments)
    }

    /// Called again and again; does something when it is time.
    pub(crate) fn look(&mut self, engine: &mut Engine<'_>) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + SLICE;
        if let Some(recorder) = &mut self.recorder {
            recorder.take(engine);
        }
        self.draw(engine, now);
    }

    fn draw(&mut self, engine: &Engine<'_>, now: Instant) {
        let Some(title) = self.title else { return };
        let deliveries = engine.deliveries();
        let seconds = (now - self.last.0).as_secs_f64();
        let rate = deliveries.saturating_sub(self.last.1) as f64 / seconds;
        self.last = (now, deliveries);
        let mut line = format!("{title} · {} · {} connected", self.phase, engine.settled());
        if rate > 0.0 {
            line += &format!(" · {rate:.0} deliveries/s");
        }
        if let Some(p99) = self.recorder.as_ref().and_then(Recorder::p99_ms) {
            line += &format!(" · p99 {p99:.2} ms");
        }
        if let Some(ends) = self.ends {
            line += &format!(" · {:.0} s left", ends.saturating_duration_since(now).as_secs_f64().ceil());
        }
        show(&line);
        self.drawn = true;
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if self.drawn {
            show("");
        }
    }
}

/// Puts `line` in place of the one before it, cut to the terminal's width, since what is wrapped cannot be
/// taken back. A terminal that is gone is nobody's loss.
fn show(line: &str) {
    let mut terminal = std::io::stderr().lock();
    let line: String = line.chars().take(columns()).collect();
    write!(terminal, "\r\x1b[K{line}").and_then(|()| terminal.flush()).ok();
}

/// Width of the terminal on standard error.
fn columns() -> usize {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the struct is written during the call.
    let result = unsafe { libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    // One that does not tell has none.
    if result == 0 && size.ws_col > 0 { usize::from(size.ws_col) } else { usize::MAX }
}
