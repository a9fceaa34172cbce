//! Writes one line to the system's log for each command that changed something: the user, the command, the epoch before
//! and after it, and the result. A command does not fail if the host has no log socket.

use std::os::unix::net::UnixDatagram;

use crate::model::deceptive;

/// The sockets of syslogd, for Linux and for FreeBSD.
const SOCKETS: [&str; 2] = ["/dev/log", "/var/run/log"];

/// The facility auth (4) and the severity notice (5), RFC 5424 §6.2.1.
const PRIORITY: u8 = 4 * 8 + 5;

/// Writes one line. It replaces deceptive characters, because a hostile name could otherwise look like another line.
pub fn write(message: &str) {
    let clean: String = message
        .chars()
        .map(|c| if deceptive(c) { '?' } else { c })
        .take(900)
        .collect();
    let line = format!("<{PRIORITY}>ezz[{}]: {clean}", std::process::id());
    let Ok(socket) = UnixDatagram::unbound() else {
        return;
    };
    // A full log must not delay the command.
    if socket.set_nonblocking(true).is_err() {
        return;
    }
    for path in SOCKETS {
        if socket.send_to(line.as_bytes(), path).is_ok() {
            return;
        }
    }
}
