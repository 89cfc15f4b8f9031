//! The generator's word on loss, duplicates and order is worth something: a proxy between a real server and
//! the crowd drops, repeats or swaps one delivery, and the report counts exactly that.

mod proxy;

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use proxy::{Fault, Proxy};

const LOADTEST: &str = env!("CARGO_BIN_EXE_loadtest");

/// The floor as a process: members connect to one port, publications come to the other.
struct Floor {
    process: Child,
    members: SocketAddr,
    orders: SocketAddr,
}

impl Floor {
    fn start() -> Self {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [members, orders] = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        drop(listeners);
        let mut command = Command::new(LOADTEST);
        command.args(["floor", "--listen", &members.to_string(), "--orders", &orders.to_string()]);
        let process = command.spawn().unwrap();
        let floor = Self { process, members, orders };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(orders).is_err() {
            assert!(Instant::now() < deadline, "the floor listens within 10 s");
            thread::yield_now();
        }
        floor
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Five members of one room get a second of publications; says what the generator exits with and what its
/// report counts as lost, duplicated and reordered.
fn measured_through(fault: Fault) -> (Option<i32>, [u64; 3]) {
    let floor = Floor::start();
    let proxy = Proxy::start(floor.members, fault);
    let report = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("oracle-{fault:?}.json"));
    let mut command = Command::new(LOADTEST);
    command.args(["run", "f1", "--connections", "5", "--rate", "50", "--rounds", "1", "--seconds", "1"]);
    command.arg("--at").arg(format!("path://{}", proxy.address));
    command.arg("--publish-to").arg(format!("order://{}", floor.orders));
    command.args(["--warmup-ms", "0", "--json"]).arg(&report);
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert_eq!(proxy.has_acted(), fault != Fault::None);

    let report: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    assert_eq!(report["ok"], status.success());
    let losses = report["scenarios"][0]["peers"][0]["rounds"][0]["losses"].as_object().unwrap();
    let connections = losses.iter().filter(|(what, _)| what.starts_with("connections_"));
    assert!(
        connections.clone().count() > 0 && connections.clone().all(|(_, count)| count == 0),
        "{losses:?}"
    );
    let counts = ["lost", "duplicated", "reordered"].map(|count| losses[count].as_u64().unwrap());
    (status.code(), counts)
}

#[test]
fn an_undisturbed_crowd_is_whole() {
    assert_eq!(measured_through(Fault::None), (Some(0), [0, 0, 0]));
}

#[test]
fn a_dropped_delivery_is_lost() {
    assert_eq!(measured_through(Fault::Drop), (Some(1), [1, 0, 0]));
}

#[test]
fn a_repeated_delivery_is_a_duplicate() {
    assert_eq!(measured_through(Fault::Repeat), (Some(1), [0, 1, 0]));
}

#[test]
fn two_swapped_deliveries_are_one_out_of_order() {
    assert_eq!(measured_through(Fault::Swap), (Some(1), [0, 0, 1]));
}
