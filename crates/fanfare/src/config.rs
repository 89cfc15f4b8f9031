//! From what was given to what an edge is started with. Everything is refused here, before a port opens.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

use fanfare_broker::foreign::PythonDialect;
use fanfare_broker::redis::RedisOptions;
use fanfare_edge::cluster::Secret;
use fanfare_edge::rules::{RoomClass, Rules};
use fanfare_edge::{AppEndpoint, Config, Limits, Origins, Timing};
use fanfare_protocol::Namespaces;
use fanfare_redis::Prefix;

use crate::app::AppSettings;
use crate::file::FromFile;
use crate::host;
use crate::settings::{Fallback, Kind, LogFormat, SETTINGS, Setting, Settings};
use crate::sources::{ConfigError, Given, Written};
use crate::values;

/// The demo page.
const PAGE: &str = include_str!("demo.html");

/// Connections allowed where nobody says how many and the limit of open files does not bind.
const MOST_CONNECTIONS: u64 = 1_000_000;
/// Tunnels allowed where nobody says how many and the limit of open files does not bind.
const MOST_TUNNELS: u64 = 4_096;

/// What the process runs with.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) edge: Config,
    pub(crate) redis: Option<RedisOptions>,
    /// Where other nodes reach this one, where somebody said so.
    pub(crate) advertise: Option<String>,
    pub(crate) cluster_secret: Option<Secret>,
    pub(crate) dev: bool,
    pub(crate) log_format: Option<LogFormat>,
    /// Names of the room classes.
    pub(crate) classes: Vec<String>,
}

/// Resolves what flags, environment and file say, in that order of precedence, over the defaults.
/// `open_files` is how many the process may open.
pub(crate) fn resolve(
    flags: Vec<Given>,
    environment: Vec<Given>,
    file: FromFile,
    open_files: u64,
) -> Result<Resolved, ConfigError> {
    let mut given = HashMap::new();
    // The last one stays.
    for one in file.given.into_iter().chain(environment).chain(flags) {
        given.insert(one.key, one);
    }
    let mut settings = blank();
    for setting in SETTINGS {
        match (given.get(setting.key), &setting.fallback) {
            (Some(one), _) => apply(setting, &one.value, &mut settings)
                .map_err(|sentence| ConfigError::new(&*one.place, sentence))?,
            (None, Fallback::Value(text)) => {
                let value = Written::One((*text).to_owned());
                apply(setting, &value, &mut settings)
                    .map_err(|sentence| ConfigError::new(setting.key, sentence))?;
            }
            (None, Fallback::Derived(_)) => {}
        }
    }
    let places = Places(&given);
    check(&settings, &places)?;
    let files = files(&settings, open_files, &places)?;
    (settings.limits.connections, settings.limits.tunnels) = (files.connections, files.tunnels);
    let app = settings.app.clone().endpoint().map_err(|(key, sentence)| places.error(key, sentence))?;
    finish(settings, file.classes, app)
}

/// How errors call a setting: by the place where it was given, else by its key.
struct Places<'a>(&'a HashMap<&'static str, Given>);

impl Places<'_> {
    fn error(&self, key: &'static str, sentence: impl Into<String>) -> ConfigError {
        ConfigError::new(self.0.get(key).map_or(key, |given| &given.place), sentence)
    }
}

fn blank() -> Settings {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Settings {
        listen: nowhere,
        private: nowhere,
        redis: None,
        prefix: Prefix::default(),
        python_channel: None,
        python_dialect: PythonDialect::default(),
        envelope: 0,
        advertise: None,
        cluster_secret: None,
        node: None,
        label: None,
        dev: false,
        origins: Origins::SameHostAnd(Vec::new()),
        cors_credentials: false,
        namespaces: Namespaces::new([]).expect("no name is no wrong name"),
        app: AppSettings::default(),
        socketio_path: String::new(),
        plain_path: String::new(),
        client_dist: None,
        timing: Timing::default(),
        limits: Limits::default(),
        connections: None,
        tunnels: None,
        shards: None,
        log_format: None,
    }
}

fn apply(setting: &Setting, value: &Written, to: &mut Settings) -> Result<(), String> {
    if let Kind::List { set, .. } = &setting.kind {
        let items = match value {
            Written::Many(items) => items.clone(),
            Written::One(text) => {
                text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
            }
        };
        return set(to, &items);
    }
    let Written::One(text) = value else { return Err("one value belongs here, not a list".to_owned()) };
    let text = text.trim();
    match &setting.kind {
        Kind::Address(set) => set(to, values::address(text)?),
        Kind::Duration { range, set } => {
            set(to, within(values::duration(text)?, *range, values::show_duration)?);
        }
        Kind::Size { range, set } => set(to, within(values::size(text)?, *range, values::show_size)?),
        Kind::Count { range, set } => {
            set(to, within(values::count(text)?, *range, |value: usize| value.to_string())?);
        }
        Kind::Switch(set) => set(to, values::switch(text)?),
        Kind::Text { set, .. } => set(to, text)?,
        Kind::List { .. } => {}
    }
    Ok(())
}

fn within<T: PartialOrd + Copy>(value: T, (min, max): (T, T), show: fn(T) -> String) -> Result<T, String> {
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(format!("{} is out of range; write {} to {}", show(value), show(min), show(max)))
}

/// What single values cannot know of each other.
fn check(settings: &Settings, places: &Places<'_>) -> Result<(), ConfigError> {
    if settings.dev {
        for (key, address) in [("listen", settings.listen), ("private", settings.private)] {
            if !address.ip().is_loopback() {
                let sentence = format!(
                    "{address} is not a loopback address, and --dev lets everyone who reaches it do everything; \
                     write 127.0.0.1:{} or leave out --dev",
                    address.port()
                );
                return Err(places.error(key, sentence));
            }
        }
    }
    if settings.listen == settings.private && settings.listen.port() != 0 {
        let sentence =
            format!("{} is the clients' address (listen) too; give each its own port", settings.private);
        return Err(places.error("private", sentence));
    }
    let (socketio, plain) = (&settings.socketio_path, &settings.plain_path);
    if format!("{plain}/").starts_with(&**socketio) {
        let sentence =
            format!("{plain} lies within {socketio}, which is Socket.IO's; choose another, as /ws");
        return Err(places.error("plain_path", sentence));
    }
    if settings.cors_credentials && (settings.dev || settings.origins == Origins::Any) {
        let sentence = "cookies are for pages that are known; name them in the setting origins".to_owned();
        return Err(places.error("cors_credentials", sentence));
    }
    let Limits { outbox_soft: soft, outbox_hard: hard, outbox_budget: budget, .. } = settings.limits;
    if soft > hard {
        return Err(places.error("outbox_soft", above("outbox_hard", soft, hard)));
    }
    if hard > budget {
        return Err(places.error("outbox_hard", above("outbox_budget", hard, budget)));
    }
    Ok(())
}

fn above(other: &str, value: usize, bound: usize) -> String {
    let (value, bound) = (values::show_size(value), values::show_size(bound));
    format!("{value} is more than {other}, which is {bound}; lower this or raise {other}")
}

/// What open files are for.
struct Files {
    connections: usize,
    tunnels: usize,
}

/// How many connections and tunnels the node takes; each connection is an open file, and each tunnel one more.
fn files(settings: &Settings, open_files: u64, places: &Places<'_>) -> Result<Files, ConfigError> {
    let most = open_files.saturating_sub(host::reserve(open_files));
    if most == 0 {
        let least = 2 * host::LEAST_RESERVE;
        let sentence = format!(
            "the process may open only {open_files} files; allow at least {least}, as with ulimit -n 65536"
        );
        return Err(places.error("connections", sentence));
    }
    let count = |files: u64| usize::try_from(files).unwrap_or(usize::MAX);
    let wanted = settings.connections;
    let usual = if settings.redis.is_some() { (most / 8).min(MOST_TUNNELS) } else { 0 };
    let tunnels = settings
        .tunnels
        .unwrap_or_else(|| count(usual.min(most.saturating_sub(wanted.unwrap_or_default() as u64))));
    let left = most.saturating_sub(tunnels as u64);
    let connections = wanted.unwrap_or_else(|| count(left.clamp(1, MOST_CONNECTIONS)));
    if connections as u64 > left {
        let key = if wanted.is_some() { "connections" } else { "tunnels" };
        let sentence = format!(
            "{connections} connections and {tunnels} tunnels need {} open files, and the process may open \
             {open_files}; write {} or less, or raise the hard limit, as with ulimit -Hn",
            (connections + tunnels) as u64 + host::reserve(open_files),
            if wanted.is_some() { left } else { most - 1 }
        );
        return Err(places.error(key, sentence));
    }
    Ok(Files { connections, tunnels })
}

fn finish(
    settings: Settings,
    classes: Vec<RoomClass>,
    app: Option<AppEndpoint>,
) -> Result<Resolved, ConfigError> {
    let names = classes.iter().map(|class| class.name.clone()).collect();
    let rules = Rules::new(classes).map_err(|error| ConfigError::new("rooms", error.to_string()))?;
    let rules = if settings.dev { rules.opened() } else { rules };
    let node = settings.node.unwrap_or_else(|| {
        let host = host::hostname().unwrap_or_else(|| "node".to_owned());
        format!("{host}-{}", std::process::id())
    });
    if let Some(channel) = &settings.python_channel
        && settings.prefix.read(channel).is_some()
    {
        let reason =
            format!("`{channel}` is one of the prefix's own channels; name the one of python-socketio");
        return Err(ConfigError::new("python_channel", reason));
    }
    let redis = settings.redis.map(|address| RedisOptions {
        prefix: settings.prefix,
        python_channel: settings.python_channel,
        python_dialect: settings.python_dialect,
        max_envelope: settings.envelope,
        ..RedisOptions::new(address, &node)
    });
    let edge = Config {
        node,
        label: settings.label,
        listen: settings.listen,
        private: settings.private,
        namespaces: settings.namespaces,
        rules,
        app,
        origins: if settings.dev { Origins::Any } else { settings.origins },
        cors_credentials: settings.cors_credentials,
        socketio_path: settings.socketio_path,
        plain_path: settings.plain_path,
        client_dist: settings.client_dist,
        echo: false,
        page: settings.dev.then_some(PAGE),
        timing: settings.timing,
        limits: settings.limits,
        shards: settings.shards,
    };
    let (advertise, cluster_secret) = (settings.advertise, settings.cluster_secret);
    let (dev, log_format) = (settings.dev, settings.log_format);
    Ok(Resolved { edge, redis, advertise, cluster_secret, dev, log_format, classes: names })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: u64 = 20_000;

    fn flag(key: &'static str, text: &str) -> Given {
        Given { key, value: Written::One(text.to_owned()), place: format!("--{key}") }
    }

    fn flags(list: &[(&'static str, &str)]) -> Result<Resolved, String> {
        let flags = list.iter().map(|(key, text)| flag(key, text)).collect();
        resolve(flags, vec![], FromFile::default(), FILES).map_err(|error| error.to_string())
    }

    /// The rules show themselves only to the edge and in `Debug`.
    fn open(resolved: &Resolved) -> bool {
        format!("{:?}", resolved.edge.rules).contains("open: true")
    }

    #[test]
    fn pythons_channel_is_named_apart_or_off() {
        let with = |key, text| flags(&[("redis", "redis://host"), (key, text)]);
        let channel =
            |text| with("python_channel", text).map(|resolved| resolved.redis.unwrap().python_channel);
        assert_eq!(channel("chat"), Ok(Some("chat".to_owned())));
        assert_eq!(channel(""), Ok(None));
        assert!(channel("socket.io#/#").unwrap_err().contains("prefix"));
        let dialect =
            |text| with("python_dialect", text).map(|resolved| resolved.redis.unwrap().python_dialect);
        for (version, expected) in [
            ("5.14.0", PythonDialect::Value),
            ("5.15.0", PythonDialect::Value),
            ("5.15.1", PythonDialect::Arguments),
            ("6.0.0", PythonDialect::Arguments),
        ] {
            assert_eq!(dialect(version), Ok(expected), "{version}");
        }
        assert!(dialect("5.13.0").unwrap_err().contains("upgrade"));
        assert!(dialect("new").unwrap_err().contains("5.15.1"));
    }

    #[test]
    fn defaults_are_the_edges_own() {
        let resolved = flags(&[]).unwrap();
        assert_eq!(resolved.edge.listen.to_string(), "127.0.0.1:3000");
        assert_eq!(resolved.edge.private.to_string(), "127.0.0.1:3001");
        assert_eq!(format!("{:?}", resolved.edge.timing), format!("{:?}", Timing::default()));
        let limits = Limits { connections: 20_000 - 256, tunnels: 0, ..Limits::default() };
        assert_eq!(format!("{:?}", resolved.edge.limits), format!("{limits:?}"));
        let redis = flags(&[("redis", "redis://host")]).unwrap().redis.unwrap();
        assert_eq!(redis.max_envelope, fanfare_broker::envelope::MAX_ENVELOPE);
        assert_eq!(redis.prefix, Prefix::default());
        assert_eq!(redis.python_channel.as_deref(), Some("socketio"));
        assert_eq!(redis.python_dialect, PythonDialect::Arguments);
        assert!(resolved.redis.is_none() && resolved.edge.page.is_none());
        assert!(!open(&resolved));
        assert_eq!(resolved.edge.origins, Origins::SameHostAnd(vec![]));
    }

    #[test]
    fn flags_beat_variables_and_variables_beat_the_file() {
        let from = |place: &str, text: &str| Given {
            key: "node",
            value: Written::One(text.to_owned()),
            place: place.to_owned(),
        };
        let file = || FromFile { given: vec![from("file", "c")], ..FromFile::default() };
        let node = |flags, environment| resolve(flags, environment, file(), FILES).unwrap().edge.node;
        assert_eq!(node(vec![from("flag", "a")], vec![from("env", "b")]), "a");
        assert_eq!(node(vec![], vec![from("env", "b")]), "b");
        assert_eq!(node(vec![], vec![]), "c");
    }

    #[test]
    fn dev_opens_the_rules_on_loopback_only() {
        let dev = flags(&[("dev", "true"), ("listen", "[::1]:0")]).unwrap();
        assert!(open(&dev) && dev.edge.page.is_some() && dev.edge.origins == Origins::Any);
        let error = flags(&[("dev", "true"), ("listen", "0.0.0.0:3000")]).unwrap_err();
        assert!(error.starts_with("--listen: 0.0.0.0:3000 is not a loopback address"), "{error}");
        assert!(error.contains("127.0.0.1:3000"), "{error}");
        assert!(flags(&[("dev", "true"), ("private", "10.0.0.1:1")]).is_err());
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        for list in [
            &[("listen", "127.0.0.1:9"), ("private", "127.0.0.1:9")][..],
            &[("outbox_soft", "2MiB"), ("outbox_hard", "1MiB")],
            &[("outbox_hard", "600MiB")],
            &[("plain_path", "/socket.io/x")],
            &[("plain_path", "/socket.io")],
            &[("plain_path", "ws")],
            &[("plain_path", "/{ws}")],
            &[("socketio_path", "/")],
            &[("socketio_path", "/io")],
            &[("ping_interval", "25")],
            &[("ping_interval", "1ms")],
            &[("shards", "0")],
            &[("origins", "https://a.example/path")],
            &[("origins", "a.example")],
            &[("node", "two words")],
            &[("label", "two.parts")],
            &[("label", "seventeen-letters")],
            &[("cors_credentials", "true"), ("origins", "*")],
            &[("client_dist", "/no/such/folder")],
            &[("advertise", "10.0.0.5")],
            &[("advertise", ":3001")],
            &[("advertise", "fe80::1:3001")],
            &[("cluster_secret", "short")],
            &[("log_format", "xml")],
            &[("dev", "yes")],
            &[("app_url", "http://127.0.0.1:1/")],
            &[("app_secret", "0123456789abcdef")],
            &[("app_url", "https://127.0.0.1:1/"), ("app_secret", "0123456789abcdef")],
            &[("app_url", "127.0.0.1:1"), ("app_secret", "0123456789abcdef")],
            &[("app_url", "http://127.0.0.1:1/"), ("app_secret", "short")],
            &[("app_format", "xml")],
            &[("app_namespaces", "admin")],
        ] {
            assert!(flags(list).is_err(), "{list:?}");
        }
    }

    #[test]
    fn connections_follow_the_open_files() {
        assert_eq!(flags(&[("connections", "19744")]).unwrap().edge.limits.connections, 19_744);
        let error = flags(&[("connections", "19745")]).unwrap_err();
        assert!(error.contains("may open 20000; write 19744 or less"), "{error}");
        let joined = |list: &[_]| flags(&[&[("redis", "redis://host")], list].concat());
        let limits = joined(&[]).unwrap().edge.limits;
        assert_eq!((limits.connections, limits.tunnels), (19_744 - 2_468, 2_468));
        let limits = joined(&[("connections", "19000")]).unwrap().edge.limits;
        assert_eq!((limits.connections, limits.tunnels), (19_000, 744));
        let limits = joined(&[("tunnels", "0")]).unwrap().edge.limits;
        assert_eq!((limits.connections, limits.tunnels), (19_744, 0));
        let error = joined(&[("connections", "19000"), ("tunnels", "745")]).unwrap_err();
        assert!(error.starts_with("--connections: 19000 connections and 745 tunnels"), "{error}");
        assert!(joined(&[("tunnels", "19744")]).unwrap_err().starts_with("--tunnels: 1 connections"));
        let none = resolve(vec![], vec![], FromFile::default(), 32).unwrap_err().to_string();
        assert!(none.contains("only 32 files"), "{none}");
        let few = resolve(vec![], vec![], FromFile::default(), 300).unwrap();
        assert_eq!(few.edge.limits.connections, 225);
        let endless = resolve(vec![], vec![], FromFile::default(), u64::MAX).unwrap();
        assert_eq!(endless.edge.limits.connections, 1_000_000);
    }

    #[test]
    fn the_secret_of_the_app_is_never_shown() {
        let list = [("app_url", "http://h:1/x"), ("app_secret", "open sesame, please")];
        let shown = format!("{:?}", flags(&list).unwrap());
        assert!(shown.contains("http://h:1/x") && !shown.contains("sesame"), "{shown}");
    }

    #[test]
    fn secrets_are_never_shown() {
        for url in
            ["redis://user:sesame@", "http://user:sesame@host", "redis://user:sesame@host:99999", "sesame"]
        {
            if let Err(error) = flags(&[("redis", url)]) {
                assert!(!error.contains("sesame"), "{error}");
            }
        }
        let given = [("redis", "redis://user:sesame@host:6379"), ("cluster_secret", "open sesame, open")];
        let shown = format!("{:?}", flags(&given).unwrap());
        assert!(!shown.contains("sesame"), "{shown}");
    }
}
