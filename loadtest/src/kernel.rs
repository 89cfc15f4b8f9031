//! What the kernel holds for connections.

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;

/// KiB of all TCP buffers of the machine, both ends of loopback connections: whole pages.
pub(crate) fn sockstat_kib() -> f64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    tcp_pages(&text).unwrap_or(0) as f64 * 4.0
}

/// KiB that the kernel holds on average at the other ends of these connections, as far as they are open:
/// queued to be sent or read, and set aside for it. `None` where iproute2's `ss` cannot tell.
pub(crate) fn server_ends(own_ends: &[SocketAddr]) -> Option<f64> {
    let output = Command::new("ss").args(["-tmnHO", "state", "established"]).output().ok()?;
    let own_ends: HashSet<SocketAddr> = own_ends.iter().copied().collect();
    average_kib(&String::from_utf8_lossy(&output.stdout), &own_ends)
}

fn average_kib(listing: &str, far_ends: &HashSet<SocketAddr>) -> Option<f64> {
    let (mut bytes, mut count) = (0, 0_u32);
    for line in listing.lines() {
        // Recv-Q Send-Q Local:Port Peer:Port skmem:(…)
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, _, _, far, rest @ ..] = fields.as_slice() else { continue };
        if far.parse().is_ok_and(|far| far_ends.contains(&far)) {
            bytes += rest.iter().find_map(|field| skmem(field))?;
            count += 1;
        }
    }
    (count > 0).then(|| bytes as f64 / 1024.0 / f64::from(count))
}

/// Of ss(8)'s `skmem:(r…,rb…,t…,tb…,f…,w…,o…,bl…,d…)`: r received, f set aside, w queued to be sent.
fn skmem(field: &str) -> Option<u64> {
    let list = field.strip_prefix("skmem:(")?.strip_suffix(')')?;
    let value = |name: char| -> Option<u64> {
        list.split(',').find_map(|item| item.strip_prefix(name)?.parse().ok())
    };
    Some(value('r')? + value('f')? + value('w')?)
}

fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    line.split_ascii_whitespace().skip_while(|word| *word != "mem").nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_server_s_end_is_told_from_its_own() {
        let listing = "0 2048 127.0.0.1:80 127.0.0.2:500 skmem:(r0,rb131072,t100,tb2626560,f1024,w3072,o0,bl0,d0)\n\
                       0 0 127.0.0.2:500 127.0.0.1:80 skmem:(r9999,rb131072,t0,tb87040,f0,w0,o0,bl0,d0)\n\
                       0 0 [::1]:5 [::1]:6\n";
        let own = HashSet::from(["127.0.0.2:500".parse().unwrap()]);
        assert_eq!(average_kib(listing, &own), Some(4.0));
        assert_eq!(average_kib(listing, &HashSet::new()), None);
    }

    #[test]
    fn pages_of_tcp() {
        assert_eq!(
            tcp_pages("sockets: used 13\nTCP: inuse 1 orphan 0 tw 5 alloc 1 mem 50\nUDP: mem 7\n"),
            Some(50)
        );
    }

    #[test]
    fn what_waits_for_a_stuck_reader_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stuck = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut server = listener.accept().unwrap().0;
        server.set_nonblocking(true).unwrap();
        while server.write(&[0; 4096]).is_ok() {}
        let kib = server_ends(&[stuck.local_addr().unwrap()]);
        // Where iproute2 is missing there is nothing to see.
        assert!(kib.is_none_or(|kib| kib > 16.0), "{kib:?}");
        assert!(sockstat_kib() > 16.0);
    }
}
