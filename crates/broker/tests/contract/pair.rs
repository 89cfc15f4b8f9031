//! Both halves of a broker, with what it takes to run them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare_broker::redis::RedisOptions;
use fanfare_broker::{Answer, Asker, Broker, Link, PublishError, memory, redis};
use fanfare_protocol::Publication;
use fanfare_protocol::msgpack::{event, write_uint};
use fanfare_redis::Address;
use tokio::runtime::Runtime;

use crate::driver::{Driver, PATIENCE, Received, Seen};
use crate::server::Redis;

pub(crate) struct Pair {
    pub(crate) driver: Driver,
    pub(crate) broker: Arc<dyn Broker>,
    runtime: Runtime,
    /// Ends after both links.
    pub(crate) redis: Option<Redis>,
}

pub(crate) fn in_memory() -> Pair {
    let (broker, feed) = memory::new();
    let mut pair = Pair { driver: Driver::new(Box::new(feed)), broker, runtime: runtime(), redis: None };
    pair.wait_up();
    pair
}

pub(crate) fn over_redis() -> Pair {
    let redis = Redis::start();
    let options = options(&redis.url());
    let mut pair = connect(options, Some(redis));
    pair.wait_up();
    pair
}

pub(crate) fn options(url: &str) -> RedisOptions {
    let mut options = RedisOptions::new(Address::parse(url).unwrap(), "node 1");
    options.max_envelope = 1 << 20;
    options.python_channel = Some("socketio".to_owned());
    options
}

/// Does not wait for anything.
pub(crate) fn connect(options: RedisOptions, redis: Option<Redis>) -> Pair {
    let runtime = runtime();
    let entered = runtime.enter();
    let (broker, feed) = redis::connect(options);
    drop(entered);
    Pair { driver: Driver::new(Box::new(feed)), broker, runtime, redis }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

impl Pair {
    pub(crate) fn redis(&self) -> &Redis {
        self.redis.as_ref().unwrap()
    }

    /// Waits until both halves are up.
    pub(crate) fn wait_up(&mut self) {
        self.driver.until_seen(&Seen::Up);
        self.wait_link(|link| link == Link::Up);
    }

    /// Waits for a state of the publishing half; the time it took.
    pub(crate) fn wait_link(&mut self, is: impl Fn(Link) -> bool) -> Duration {
        let begun = Instant::now();
        while !is(self.broker.link()) {
            assert!(begun.elapsed() < PATIENCE, "the publishing link stays {:?}", self.broker.link());
            self.driver.step(Duration::from_millis(5));
        }
        begun.elapsed()
    }

    pub(crate) fn publish(&self, batch: Vec<Publication<'static>>) -> Vec<Result<(), PublishError>> {
        self.runtime.block_on(self.broker.publish(batch))
    }

    pub(crate) fn answer(&self, asker: Asker, answer: Answer) -> Result<(), PublishError> {
        self.runtime.block_on(self.broker.answer(asker, answer))
    }

    /// Publishes and receives one thing in a room that is wanted for it.
    pub(crate) fn check_flow(&mut self, room: &str) {
        self.driver.forget();
        self.driver.want_room(room, true);
        self.driver.until_seen(&Seen::Active(format!("/ {room}")));
        assert_eq!(self.publish(vec![to("/", &[room], 7)]), [Ok(())]);
        let received = self.driver.receive(1);
        assert_eq!(numbers(&received), [7]);
    }
}

/// A publication of `n`.
pub(crate) fn to(namespace: &str, rooms: &[&str], n: u64) -> Publication<'static> {
    let mut argument = Vec::new();
    write_uint(n, &mut argument);
    Publication {
        namespace: namespace.to_owned().into(),
        rooms: rooms.iter().map(|room| (*room).to_owned().into()).collect(),
        except: Default::default(),
        volatile: false,
        data: event("n", &[&argument]).into(),
        sent_at: None,
        ack: None,
    }
}

/// The numbers that [`to`] put in.
pub(crate) fn numbers(received: &[Received]) -> Vec<u64> {
    let number = |received: &Received| {
        // An array of two: the name "n" in two bytes, then the number.
        let mut rest = &received.data[3..];
        match fanfare_protocol::msgpack::read(&mut rest) {
            Ok(fanfare_protocol::msgpack::Token::Unsigned(n)) => n,
            other => panic!("{other:?}"),
        }
    };
    received.iter().map(number).collect()
}
