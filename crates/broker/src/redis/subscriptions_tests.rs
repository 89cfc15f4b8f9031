use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::super::resp::{Parsed, Said, parse};
use super::*;

/// A Redis that reads the commands, keeps what is subscribed and answers when told to.
#[derive(Default)]
struct Redis {
    forbidden: HashSet<String>,
    subscribed: HashSet<String>,
    commands: VecDeque<Vec<String>>,
    /// Answers to the command that was begun.
    answers: VecDeque<Vec<u8>>,
    largest: usize,
}

impl Redis {
    fn take(&mut self, mut bytes: &[u8]) {
        fn number(bytes: &mut &[u8]) -> usize {
            let end = bytes.windows(2).position(|pair| pair == b"\r\n").unwrap();
            let number = std::str::from_utf8(&bytes[1..end]).unwrap().parse().unwrap();
            *bytes = &bytes[end + 2..];
            number
        }
        while !bytes.is_empty() {
            let words = (0..number(&mut bytes))
                .map(|_| {
                    let len = number(&mut bytes);
                    let word = String::from_utf8(bytes[..len].to_vec()).unwrap();
                    bytes = &bytes[len + 2..];
                    word
                })
                .collect::<Vec<_>>();
            self.largest = self.largest.max(words.len() - 1);
            self.commands.push_back(words);
        }
    }

    /// Carries out the next command where there is none under way, and gives one answer.
    fn step(&mut self) -> Option<Vec<u8>> {
        if self.answers.is_empty() {
            let words = self.commands.pop_front()?;
            let (verb, names) = words.split_first().unwrap();
            let subscribe = verb == "SUBSCRIBE";
            assert!(subscribe || verb == "UNSUBSCRIBE", "{verb}");
            if subscribe && names.iter().any(|name| self.forbidden.contains(name)) {
                return Some(b"-NOPERM no permission\r\n".to_vec());
            }
            for name in names {
                if subscribe {
                    assert!(self.subscribed.insert(name.clone()), "{name} was subscribed twice");
                } else {
                    assert!(self.subscribed.remove(name), "{name} was not subscribed");
                }
                let verb = verb.to_lowercase();
                let ack = format!(">3\r\n${}\r\n{verb}\r\n${}\r\n{name}\r\n:1\r\n", verb.len(), name.len());
                self.answers.push_back(ack.into_bytes());
            }
        }
        self.answers.pop_front()
    }
}

/// What the owner of the feed was told last.
#[derive(Debug, Clone, PartialEq)]
enum Told {
    Active,
    Refused,
}

struct World {
    subscriptions: Subscriptions,
    redis: Redis,
    wanted: HashSet<String>,
    told: HashMap<String, Told>,
    restored: Vec<usize>,
    up: bool,
}

impl World {
    fn new(forbidden: &[String]) -> Self {
        let redis = Redis { forbidden: forbidden.iter().cloned().collect(), ..Default::default() };
        let mut subscriptions = Subscriptions::default();
        subscriptions.link_up(false);
        Self {
            subscriptions,
            redis,
            wanted: HashSet::new(),
            told: HashMap::new(),
            restored: Vec::new(),
            up: true,
        }
    }

    fn want(&mut self, name: &str, wanted: bool) {
        self.subscriptions.want(name, wanted);
        self.told.remove(name);
        if wanted {
            self.wanted.insert(name.to_owned());
        } else {
            self.wanted.remove(name);
        }
    }

    fn write(&mut self) -> bool {
        while let Some(name) = self.subscriptions.next_already_active() {
            self.told.insert(name.to_string(), Told::Active);
        }
        let mut out = Vec::new();
        let said = self.up && self.subscriptions.write_next(&mut out);
        self.redis.take(&out);
        self.restored.extend(self.subscriptions.restored());
        said
    }

    fn hear(&mut self) -> bool {
        let Some(bytes) = self.redis.step().filter(|_| self.up) else { return false };
        let Ok(Parsed::Whole { said, .. }) = parse(&bytes, 1000) else { panic!() };
        match said {
            Said::Subscribed(name) => {
                let name = std::str::from_utf8(name).unwrap();
                if self.subscriptions.subscribed(name).unwrap() {
                    self.told.insert(name.to_owned(), Told::Active);
                }
            }
            Said::Unsubscribed(name) => {
                self.subscriptions.unsubscribed(std::str::from_utf8(name).unwrap()).unwrap();
            }
            Said::Error(reason) => {
                if let Refusal::Of(name) =
                    self.subscriptions.error(std::str::from_utf8(reason).unwrap()).unwrap()
                {
                    self.told.insert(name.to_string(), Told::Refused);
                }
            }
            other => panic!("{other:?}"),
        }
        self.restored.extend(self.subscriptions.restored());
        true
    }

    fn lose(&mut self) {
        self.up = false;
        self.redis = Redis { forbidden: std::mem::take(&mut self.redis.forbidden), ..Default::default() };
        self.told.retain(|_, told| *told == Told::Refused);
        self.subscriptions.link_lost();
    }

    fn connect(&mut self) {
        self.up = true;
        self.subscriptions.link_up(true);
    }

    fn settle(&mut self) {
        while self.write() || self.hear() {}
    }

    fn check(&self) {
        let refused = self.wanted.intersection(&self.redis.forbidden).cloned().collect::<HashSet<_>>();
        let expected = self.wanted.difference(&refused).cloned().collect::<HashSet<_>>();
        assert_eq!(self.redis.subscribed, expected);
        for name in &self.wanted {
            let told = if refused.contains(name) { Told::Refused } else { Told::Active };
            assert_eq!(self.told.get(name), Some(&told), "{name}");
        }
        assert_eq!(
            self.subscriptions.channels.len(),
            self.wanted.len(),
            "what is settled and unwanted is forgotten"
        );
        assert!(self.subscriptions.unsettled.is_empty() && self.subscriptions.outstanding.is_empty());
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("socket.io#/#room-{n}#")).collect()
}

#[test]
fn one_refused_name_fails_nothing_else() {
    let names = names(2_500);
    let mut world = World::new(&[names[777].clone(), names[2_499].clone()]);
    for name in &names {
        world.want(name, true);
    }
    world.settle();
    world.check();
    assert_eq!(world.redis.largest, MAX_NAMES);
    assert_eq!(world.told.values().filter(|told| **told == Told::Refused).count(), 2);
    // Refused ones are left alone until they are wanted anew.
    assert!(!world.write());
    world.redis.forbidden.clear();
    world.want(&names[777], true);
    world.want(&names[2_499], true);
    world.settle();
    world.check();
}

#[test]
fn a_lost_link_is_restored_and_said_once() {
    let names = names(5);
    let mut world = World::new(&names[4..]);
    for name in &names {
        world.want(name, true);
    }
    world.settle();
    assert_eq!(world.restored, Vec::<usize>::new());
    world.lose();
    world.want(&names[0], false);
    world.connect();
    world.write();
    world.want(&names[1], false);
    world.settle();
    world.check();
    assert_eq!(world.restored, [3 - 1]);
}

#[test]
fn nothing_wanted_is_restored_at_once() {
    let mut world = World::new(&[]);
    world.lose();
    world.connect();
    assert_eq!(world.subscriptions.restored(), Some(0));
    assert_eq!(world.subscriptions.restored(), None);
}

#[test]
fn answers_that_answer_nothing_end_the_link() {
    let mut subscriptions = Subscriptions::default();
    assert_eq!(subscriptions.pong(), Err(OutOfStep::Unasked));
    assert_eq!(subscriptions.subscribed("a"), Err(OutOfStep::Unasked));
    assert_eq!(subscriptions.unsubscribed("a"), Err(OutOfStep::Unasked));
    subscriptions.asked_ping();
    assert_eq!(subscriptions.error("LOADING x"), Err(OutOfStep::Refused("LOADING x".into())));
    subscriptions.want("a", true);
    subscriptions.want("b", true);
    assert!(subscriptions.write_next(&mut Vec::new()));
    assert_eq!(subscriptions.subscribed("b"), Err(OutOfStep::Unasked));
    assert_eq!(subscriptions.error("NOAUTH x"), Err(OutOfStep::Refused("NOAUTH x".into())));
}

#[test]
fn an_unasked_unsubscribe_is_made_good() {
    let names = names(1);
    let mut world = World::new(&[]);
    world.want(&names[0], true);
    world.settle();
    world.redis.subscribed.clear();
    world.subscriptions.unsubscribed(&names[0]).unwrap();
    world.settle();
    world.check();
}

#[derive(Debug, Clone)]
enum Step {
    Want(usize, bool),
    Write,
    Hear,
    Lose,
    Connect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..12, any::<bool>()).prop_map(|(name, wanted)| Step::Want(name, wanted)),
        3 => Just(Step::Write),
        6 => Just(Step::Hear),
        1 => Just(Step::Lose),
        2 => Just(Step::Connect),
    ]
}

proptest! {
    /// Whatever happens in whatever order: in the end what is subscribed is what is wanted and allowed,
    /// and whoever wants a channel knows how it stands.
    #[test]
    fn the_two_sides_meet(steps in prop::collection::vec(step(), 0..200), forbidden in prop::collection::vec(0usize..12, 0..4)) {
        let names = names(12);
        let mut world = World::new(&forbidden.iter().map(|&at| names[at].clone()).collect::<Vec<_>>());
        for step in steps {
            match step {
                Step::Want(at, wanted) => world.want(&names[at], wanted),
                Step::Write => { world.write(); }
                Step::Hear => { world.hear(); }
                Step::Lose if world.up => world.lose(),
                Step::Connect if !world.up => world.connect(),
                Step::Lose | Step::Connect => {}
            }
        }
        if !world.up {
            world.connect();
        }
        world.settle();
        world.check();
    }
}
