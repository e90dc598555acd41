//! Finds the user that owns the other end of a local TCP connection, from the kernel's socket tables `tcp`
//! and `tcp6` (proc_pid_net(5)).

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The tables of this process's network namespace. If a server listens on an IPv6 socket, its IPv4
/// connections are in the second table.
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];

/// The state of an established connection, in hexadecimal.
const ESTABLISHED: &str = "01";

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherEnd {
    /// Not in this network namespace: the connection was redirected, or it has ended.
    Absent,
    /// The listener has not accepted the connection, so its owner is not known.
    NotAccepted,
    /// A process of the user with this ID has accepted it.
    Of(u32),
}

/// Looks up the other end of an established connection by the addresses of this end.
pub fn other_end(local: SocketAddr, peer: SocketAddr) -> io::Result<OtherEnd> {
    for table in TABLES {
        let text = match fs::read_to_string(table) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue, // a kernel without IPv6
            Err(error) => return Err(error),
        };
        match find(&text, peer, local) {
            OtherEnd::Absent => {}
            found => return Ok(found),
        }
    }
    Ok(OtherEnd::Absent)
}

/// Searches a table for the established connection from one address to another.
fn find(table: &str, from: SocketAddr, to: SocketAddr) -> OtherEnd {
    let row = table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, local, remote, ESTABLISHED, _, _, _, uid, _, inode, ..] = columns[..] else { return None };
        let is_it = address(local) == Some(canonical(from)) && address(remote) == Some(canonical(to));
        is_it.then_some((uid.parse::<u32>().ok()?, inode.parse::<u64>().ok()?))
    });
    match row {
        None => OtherEnd::Absent,
        // on kernels before 6.17 the user ID is 0 until then
        Some((_, 0)) => OtherEnd::NotAccepted,
        Some((uid, _)) => OtherEnd::Of(uid),
    }
}

/// Parses an address in a table: 32-bit words in hexadecimal in the machine's byte order, and a port.
fn address(text: &str) -> Option<(IpAddr, u16)> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = ip.get(8 * at..8 * at + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some((ip, port))
}

fn canonical(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    #[test]
    fn rows_of_both_tables() {
        let row = |local: &str, remote: &str, state: &str, uid: u32, inode: u64| {
            format!(
                "   0: {local} {remote} {state} 00000000:00000000 00:00000000 00000000  {uid}        0 {inode} 1 0 20\n"
            )
        };
        let (server, client) = ("0100007F:1F90", "0100007F:C350");
        let mapped = |of: &str| format!("0000000000000000FFFF0000{of}");
        let (server6, client6) =
            ("00000000000000000000000001000000:1F90", "00000000000000000000000001000000:C350");
        let (v4, v6) = ("127.0.0.1", "[::1]");
        let table = [
            (v4, row(server, client, "01", 1000, 7), OtherEnd::Of(1000)),
            (v4, row(server, client, "01", 0, 7), OtherEnd::Of(0)),
            (v4, row(server, client, "01", 0, 0), OtherEnd::NotAccepted),
            (v4, row(server, client, "01", 1000, 0), OtherEnd::NotAccepted),
            (v4, row(&mapped(server), &mapped(client), "01", 5, 7), OtherEnd::Of(5)),
            (v6, row(server6, client6, "01", 6, 7), OtherEnd::Of(6)),
            // this end of the connection, the listener, a closed connection, another port
            (v4, row(client, server, "01", 1000, 7), OtherEnd::Absent),
            (v4, row(server, "00000000:0000", "0A", 1000, 7), OtherEnd::Absent),
            (v4, row(server, client, "06", 1000, 7), OtherEnd::Absent),
            (v4, row("0100007F:1F91", client, "01", 1000, 7), OtherEnd::Absent),
            (v4, row("0200007F:1F90", client, "01", 1000, 7), OtherEnd::Absent),
            (v6, row(server, client, "01", 1000, 7), OtherEnd::Absent),
            (v4, "   0: what this is not\n".into(), OtherEnd::Absent),
            (v4, row("0100007F", client, "01", 1000, 7), OtherEnd::Absent),
            (v4, row("é00007F:1F90", client, "01", 1000, 7), OtherEnd::Absent),
        ];
        for (ip, text, expected) in table {
            let of = |port: u16| format!("{ip}:{port}").parse().unwrap();
            let other = row("0100007F:0001", "0100007F:0002", "01", 99, 9);
            let found = find(&format!("{HEAD}{other}{text}"), of(8080), of(50000));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn real_connections() {
        for listen in ["127.0.0.1:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(listen) else { continue }; // no IPv6 on this machine
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (local, peer) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            assert_eq!(other_end(local, peer).unwrap(), OtherEnd::NotAccepted, "{listen}");
            let accepted = listener.accept().unwrap();
            let own = nix::unistd::geteuid().as_raw();
            assert_eq!(other_end(local, peer).unwrap(), OtherEnd::Of(own), "{listen}");
            drop(accepted);
            let nowhere = "127.0.0.1:1".parse().unwrap();
            assert_eq!(other_end(local, nowhere).unwrap(), OtherEnd::Absent);
        }
    }
}
