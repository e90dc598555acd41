//! Measures the start of a unit with one credential from the store, and the first answer of a
//! socket-activated server.

use super::{
    ask::{Asker, SOCKETS},
    table::{Row, Unit, Wanted},
};
use std::{
    io,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// Units that get one credential and end, one per server, which exist on the machine.
pub const CONSUMERS: [&str; 2] = ["start-onecred.service", "start-floor.service"];
/// A unit that asks onecred's sealed socket.
pub const SEALED_CONSUMER: &str = "start-sealed.service";
/// Two units with PrivateDevices=, which since systemd 258 do not decrypt credentials themselves: one asks
/// the sealed socket, one the plain one.
pub const HARDENED: [&str; 2] = ["start-hardened-sealed.service", "start-hardened-plain.service"];
/// The servers.
pub const SERVERS: [&str; 2] = ["onecred.service", "floor.service"];

/// Measures both servers in turn. The number of repetitions is constant, because medians of fewer are
/// unreliable.
pub fn rows() -> io::Result<Vec<Row>> {
    let (starts, activations) = (30, 15);
    let start = |side: usize| timed(|| systemctl(&["start", CONSUMERS[side]]));
    let sealed =
        in_turn(starts, |side| timed(|| systemctl(&["start", [SEALED_CONSUMER, CONSUMERS[0]][side]])))?;
    let hardened = in_turn(starts, |side| timed(|| systemctl(&["start", HARDENED[side]])))?;
    let starts = in_turn(starts, start)?;
    let activations = in_turn(activations, first_answer)?;
    Ok(vec![
        Row::events("a unit's start with one warm credential", Unit::Milliseconds, &starts, at_most(1.1)),
        Row::events("the same, sealed; against onecred's plain socket", Unit::Milliseconds, &sealed, None),
        Row::events(
            "with PrivateDevices=yes, sealed; against onecred's plain socket",
            Unit::Milliseconds,
            &hardened,
            None,
        ),
        Row::events("first answer after activation", Unit::Milliseconds, &activations, at_most(1.3)),
    ])
}

fn at_most(most: f64) -> Option<Wanted> {
    Some(Wanted::AtMost(most))
}

/// Both sides do it this many times in turn, and each is first equally often. The first time of each does not
/// count.
fn in_turn(times: usize, mut once: impl FnMut(usize) -> io::Result<f64>) -> io::Result<Vec<[f64; 2]>> {
    let mut pairs = Vec::new();
    for round in 0..=times {
        let mut pair = [0.0; 2];
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            pair[side] = once(side)?;
        }
        pairs.push(pair);
    }
    Ok(pairs.split_off(1))
}

fn first_answer(side: usize) -> io::Result<f64> {
    systemctl(&["stop", SERVERS[side]])?;
    thread::sleep(Duration::from_millis(150)); // PID 1 needs some time after a stop
    let mut asker = Asker::of(SOCKETS[side])?;
    timed(|| asker.ask())
}

/// The duration in ms.
fn timed(work: impl FnOnce() -> io::Result<()>) -> io::Result<f64> {
    let before = Instant::now();
    work()?;
    Ok(before.elapsed().as_secs_f64() * 1e3)
}

fn systemctl(words: &[&str]) -> io::Result<()> {
    let ran = Command::new("systemctl").arg("--quiet").args(words).status()?;
    if ran.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("systemctl {}: {ran}", words.join(" "))))
    }
}
