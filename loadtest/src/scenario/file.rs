//! A scenario as TOML. Whatever is wrong is told with the file, and the line where there is one.

use std::path::Path;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::{Course, Figure, Group, Load, Scenario, Source};
use crate::peers::PeerKind;
use crate::report::document::Side;
use crate::report::limits::Limit;
use crate::stamp::MIN_SIZE;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    about: String,
    #[serde(default)]
    course: Course,
    seconds: u64,
    rounds: usize,
    #[serde(default = "one")]
    edges: usize,
    #[serde(default, deserialize_with = "peers")]
    without: Vec<PeerKind>,
    #[serde(default)]
    fanfare: Vec<String>,
    #[serde(deserialize_with = "figure")]
    headline: Figure,
    #[serde(default, deserialize_with = "max_ratio")]
    max_ratio: Vec<Limit>,
    #[serde(default, deserialize_with = "min_ratio")]
    min_ratio: Vec<Limit>,
    #[serde(default, deserialize_with = "max")]
    max: Vec<Limit>,
    #[serde(default, deserialize_with = "min")]
    min: Vec<Limit>,
    group: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGroup {
    name: String,
    rooms: usize,
    members: usize,
    #[serde(default = "one")]
    joins: usize,
    #[serde(default)]
    load: Option<Load>,
    #[serde(default)]
    from: Source,
    #[serde(default)]
    stalled: Option<Stalled>,
    #[serde(default)]
    disturbs: bool,
    payload: Option<usize>,
}

/// So many members, or that part of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stalled {
    Members(usize),
    Share(f64),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLoad {
    per_second: Option<u32>,
    burst: Option<u32>,
    in_flight: Option<usize>,
    share: Option<f64>,
    of: Option<String>,
}

impl Scenario {
    /// Reads a scenario's text; `origin` names it in errors.
    pub(crate) fn parse(text: &str, origin: &str) -> anyhow::Result<Self> {
        let written: Written = toml::from_str(text).with_context(|| origin.to_owned())?;
        written.check().with_context(|| origin.to_owned())
    }

    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::parse(&text, &path.display().to_string())
    }
}

impl Written {
    fn check(self) -> anyhow::Result<Scenario> {
        let flows = self.group.iter().any(|group| group.load != Load::None);
        let shares = self.group.iter().filter(|group| matches!(group.load, Load::Share { .. })).count();
        let rooms = self.group.iter().all(|group| group.rooms > 0);
        match self.course {
            _ if self.group.is_empty() => bail!("group: at least one is needed"),
            _ if self.rounds == 0 || self.edges == 0 => bail!("rounds and edges: at least 1"),
            Course::Flow if !flows => bail!("course flow: one group at least needs a load"),
            Course::Flow if self.seconds == 0 => bail!("seconds: at least 1"),
            Course::Flow if shares > 0 && self.group.len() > 1 => bail!("load share: one group only"),
            Course::Flow if self.group.iter().all(|group| group.disturbs) => {
                bail!("disturbs: some group must be left to be disturbed")
            }
            Course::Flow => {}
            _ if flows => bail!("load: only in course flow"),
            Course::Idle => {}
            Course::Filled | Course::Storm | Course::Resubscribe if !rooms => {
                bail!("rooms: at least 1 in each group")
            }
            Course::Filled | Course::Storm | Course::Resubscribe => {}
        }
        Ok(Scenario {
            name: self.name,
            about: self.about,
            course: self.course,
            seconds: self.seconds,
            rounds: self.rounds,
            edges: self.edges,
            without: self.without,
            fanfare: self.fanfare,
            limits: [self.max_ratio, self.min_ratio, self.max, self.min].concat(),
            groups: self.group,
            headline: self.headline,
        })
    }
}

impl<'de> Deserialize<'de> for Group {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let written = WrittenGroup::deserialize(from)?;
        let load = written.load.unwrap_or(Load::None);
        let mut group = Self {
            name: written.name,
            rooms: written.rooms,
            members: written.members,
            joins: written.joins,
            load,
            from: written.from,
            stalled: 0.0,
            disturbs: written.disturbs,
            payload: written.payload,
        };
        if group.members == 0 || group.joins == 0 {
            return Err(D::Error::custom("members and joins: at least 1"));
        }
        if group.rooms == 0 && load != Load::None {
            return Err(D::Error::custom("load: there are no rooms to publish to"));
        }
        if group.rooms > 0
            && (group.joins > group.rooms || !(group.rooms * group.members).is_multiple_of(group.joins))
        {
            return Err(D::Error::custom(
                "joins: rooms × members must be a multiple of it, and rooms no fewer",
            ));
        }
        if matches!(load, Load::Closed { .. }) && group.rooms != 1 {
            return Err(D::Error::custom("in_flight: a closed loop has one room"));
        }
        group.stalled = match written.stalled {
            None => 0.0,
            Some(Stalled::Share(share)) => share,
            Some(Stalled::Members(members)) => members as f64 / group.connections() as f64,
        };
        if !(0.0..1.0).contains(&group.stalled) {
            return Err(D::Error::custom("stalled: fewer than all, as a number or a share below 1"));
        }
        if group.stalled > 0.0 && (!matches!(load, Load::Paced { .. }) || group.from == Source::Members) {
            return Err(D::Error::custom("stalled: only with a paced load of the publisher"));
        }
        if group.payload.is_some_and(|size| !(MIN_SIZE..=32_768).contains(&size)) {
            return Err(D::Error::custom(format!("payload: {MIN_SIZE} to 32768 bytes")));
        }
        Ok(group)
    }
}

impl<'de> Deserialize<'de> for Load {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let WrittenLoad { per_second, burst, in_flight, share, of } = WrittenLoad::deserialize(from)?;
        match (per_second, burst, in_flight, share, of) {
            (Some(per_second @ 1..=1_000_000), burst, None, None, None) if burst != Some(0) => {
                Ok(Self::Paced { per_second, burst: burst.unwrap_or(1) })
            }
            (None, None, Some(in_flight @ 1..), None, None) => Ok(Self::Closed { in_flight }),
            (None, None, None, Some(share), Some(of)) if share > 0.0 => {
                Ok(Self::Share { of: peer(&of).map_err(D::Error::custom)?, share })
            }
            _ => Err(D::Error::custom(
                "load is { per_second = N }, { per_second = N, burst = N }, { in_flight = N } or \
                 { share = 0.5, of = \"PEER\" }",
            )),
        }
    }
}

fn one() -> usize {
    1
}

fn peer(name: &str) -> Result<PeerKind, String> {
    PeerKind::parse(name).ok_or_else(|| format!("no peer is named {name}"))
}

fn peers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PeerKind>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    names.iter().map(|name| peer(name).map_err(D::Error::custom)).collect()
}

fn figure<'de, D: Deserializer<'de>>(from: D) -> Result<Figure, D::Error> {
    let key = String::deserialize(from)?;
    Figure::parse(&key).ok_or_else(|| D::Error::custom(format!("no figure is named {key}")))
}

type Parsed = Result<Limit, String>;

fn limits<'de, D: Deserializer<'de>>(
    from: D,
    parse: fn(&str, Side) -> Parsed,
    side: Side,
) -> Result<Vec<Limit>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    texts.iter().map(|text| parse(text, side).map_err(D::Error::custom)).collect()
}

fn max_ratio<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Limit>, D::Error> {
    limits(from, Limit::parse_ratio, Side::AtMost)
}

fn min_ratio<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Limit>, D::Error> {
    limits(from, Limit::parse_ratio, Side::AtLeast)
}

fn max<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Limit>, D::Error> {
    limits(from, Limit::parse_figure, Side::AtMost)
}

fn min<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Limit>, D::Error> {
    limits(from, Limit::parse_figure, Side::AtLeast)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "x"
about = "an example"
seconds = 4
rounds = 2
headline = "p99_ms"
max_ratio = ["nchan=1.0"]
[[group]]
name = "all"
rooms = 10
members = 100
load = { per_second = 10, burst = 8 }
stalled = 200
"#;

    #[test]
    fn a_file_says_it_all() {
        let scenario = Scenario::parse(GOOD, "x.toml").unwrap();
        assert_eq!((scenario.connections(), scenario.rooms(), scenario.seconds), (1000, 10, 4));
        assert_eq!(scenario.groups[0].load, Load::Paced { per_second: 10, burst: 8 });
        assert_eq!(scenario.groups[0].stalled, 0.2);
        assert_eq!(scenario.limits, [Limit::parse_ratio("nchan=1.0", Side::AtMost).unwrap()]);
        assert!(scenario.is_disturbed() && scenario.wants_fresh_servers());
    }

    #[test]
    fn what_is_wrong_is_told_with_file_and_line() {
        for (right, wrong, line, word) in [
            ("seconds = 4", "second = 4", "line 4", "second"),
            ("p99_ms", "speed", "line 6", "speed"),
            ("nchan=1.0", "nchin=1.0", "line 7", "nchin"),
            ("burst = 8", "in_flight = 8", "line 12", "load is"),
            ("burst = 8", "burst = 0", "line 12", "load is"),
            ("stalled = 200", "stalled = 1000", "line 8", "stalled"),
            ("rooms = 10\n", "rooms = 10\njoins = 7\n", "line 8", "joins"),
        ] {
            let error = Scenario::parse(&GOOD.replace(right, wrong), "x.toml").unwrap_err();
            let told = format!("{error:#}");
            for part in ["x.toml", line, word] {
                assert!(told.contains(part), "{wrong}: no {part} in: {told}");
            }
        }
        let idle = Scenario::parse(&GOOD.replace("seconds = 4", "seconds = 4\ncourse = \"idle\""), "x.toml");
        assert!(format!("{:#}", idle.unwrap_err()).contains("only in course flow"));
    }
}
