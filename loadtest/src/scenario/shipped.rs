//! The scenarios that come with the program, in the order in which `all` runs them.

use std::sync::OnceLock;

use super::Scenario;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../scenarios/", $name, ".toml")))),*]
    };
}

const FILES: [(&str, &str); 14] = files![
    "f1",
    "f8",
    "r10",
    "p1",
    "half",
    "bursts",
    "chat",
    "huge",
    "slow",
    "two-edges",
    "idle",
    "filled",
    "connect",
    "resubscribe"
];

/// All of them.
pub(crate) fn shipped() -> &'static [Scenario] {
    static SHIPPED: OnceLock<Vec<Scenario>> = OnceLock::new();
    SHIPPED.get_or_init(|| {
        let parse = |(name, text): (&str, &str)| Scenario::parse(text, name).expect("a test parses each");
        FILES.into_iter().map(parse).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_shipped_and_named_as_it_is() {
        for (scenario, (name, _)) in shipped().iter().zip(FILES) {
            assert_eq!(scenario.name, name);
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
        let mut there: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".toml"))
            .collect();
        let mut shipped: Vec<String> = FILES.iter().map(|(name, _)| format!("{name}.toml")).collect();
        there.sort();
        shipped.sort();
        assert_eq!(there, shipped);
    }
}
