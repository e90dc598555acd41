//! Judges a unit, whatever its lines are: whether it can run, request credentials, and start early.

use super::{Effect, LineVerdict};
use crate::cli::creds_socket::SOCKET;
use crate::cli::unit_lines::facts::{LoadState, Machine, Unit};
use crate::host::systemd::unit_type::{Asks, ExecType};

/// Why a unit cannot run, or cannot request credentials, whatever its lines are.
pub(in crate::cli::unit_lines) fn judge_unit(machine: Machine, unit: &Unit) -> Option<LineVerdict> {
    let name = &unit.name;
    let fails = |what: String| Some(LineVerdict::new(Effect::Fails, what));
    match &unit.state {
        LoadState::NotFound(nearest) => {
            let hint =
                nearest.as_ref().map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default();
            return fails(format!("this machine has no unit {name}{hint}"));
        }
        LoadState::OfUsers => {
            return fails(format!(
                "{name} is a unit of user managers, which cannot reach onecred's sockets; make it a system unit with User="
            ));
        }
        LoadState::Masked => return fails(format!("{name} is masked; systemctl unmask {name}")),
        LoadState::Broken(state, error) => {
            return fails(format!(
                "systemd could not load {name} ({state}): {}; see: systemd-analyze verify {name}",
                error.trim_end_matches('.')
            ));
        }
        LoadState::Template => {
            let (prefix, suffix) = (name.prefix(), name.suffix());
            return fails(format!(
                "{name} is a template, which cannot run; name an instance: {prefix}@NAME.{suffix}"
            ));
        }
        LoadState::Loaded => {}
    }
    cannot_ask(machine, unit).map(|what| LineVerdict::new(Effect::Without, what))
}

/// Why units of this type cannot request credentials, and which can.
fn cannot_ask(machine: Machine, unit: &Unit) -> Option<String> {
    let (name, suffix) = (&unit.name, unit.name.suffix());
    let service = match unit.triggers.as_slice() {
        [] => "the service that needs the secret".to_owned(),
        triggers => triggers.join(", "),
    };
    match unit.exec().map(|exec| (exec, exec.asks())) {
        Some((_, Asks::Always)) => None,
        Some((_, Asks::Since(version))) if machine.systemd >= version => None,
        Some((_, Asks::Since(version))) => Some(format!(
            "{suffix} units can load credentials since systemd {version}, and this machine has systemd {}, which starts {name} without them; \
             publish the secret as a file with \"target\"",
            machine.systemd
        )),
        Some((ExecType::Swap, Asks::Never)) => Some(
            "systemd ignores LoadCredential= in swap units; publish the secret as a file with \"target\""
                .to_owned(),
        ),
        Some((_, Asks::Never)) => {
            Some(format!("systemd ignores LoadCredential= in {suffix} units; move the line to {service}"))
        }
        None => {
            let article = if suffix.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
            Some(format!("{article} {suffix} unit cannot have credentials; the line belongs in {service}"))
        }
    }
}

/// Why systemd cannot decrypt the credentials of a unit at boot.
pub(in crate::cli::unit_lines) fn before_decryption(unit: &Unit) -> Option<String> {
    let early = unit.before_decryption.as_ref()?;
    let through = early.through.as_ref().map(|unit| format!(", through {unit}")).unwrap_or_default();
    Some(format!(
        "{} fails with 243/CREDENTIALS: it is ordered before {SOCKET}{through}, and systemd decrypts the credentials of units with PrivateDevices=, \
         DeviceAllow= or DevicePolicy= through that socket; order it after {SOCKET}, or load this secret with LoadCredential=",
        unit.name
    ))
}

/// Why a unit may fail at boot: it may start before a socket.
pub(in crate::cli::unit_lines) fn unordered(unit: &Unit) -> Option<String> {
    let sockets = Some(unit.unordered.join(" ")).filter(|sockets| !sockets.is_empty())?;
    Some(format!(
        "{} may start before {sockets}, and then fails with 243/CREDENTIALS; add After={sockets} to it",
        unit.name
    ))
}

/// Why a unit that starts before onecred, or before the network that its secret needs, waits for itself.
pub(in crate::cli::unit_lines) fn early(unit: &Unit, needs_network: bool) -> Option<String> {
    let early = unit.early.as_ref().filter(|early| early.holds_onecred || needs_network)?;
    let through = early.through.as_ref().map(|unit| format!(", through {unit}")).unwrap_or_default();
    let (waits, remedy) = match early.holds_onecred {
        true => ("onecred", "order it after onecred.socket alone"),
        false => ("the network, which 1Password needs,", "order it after network-online.target"),
    };
    Some(format!(
        "{0} and {waits} wait for each other: {0} is ordered before {1}{through}; {remedy}, or load this secret in another unit",
        unit.name, early.target
    ))
}
