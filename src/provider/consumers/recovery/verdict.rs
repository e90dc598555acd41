//! Decides whether systemd failed to decrypt a sealed answer, from what systemd reports about the unit.

/// A command of a unit as the service manager shows it: program, arguments, whether its failure is ignored,
/// start and end on two clocks in microseconds, PID, how it ended (CLD_EXITED), and its exit status.
pub(super) type Command = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

/// The code of a process that has exited (`CLD_EXITED`).
const EXITED: i32 = 1;
/// The exit status of a process that could not set up its unit's credentials.
const CREDENTIALS: i32 = 243;

/// The state of a unit that has failed.
#[derive(Debug, Clone, Default)]
pub(super) struct Failed {
    /// The commands that the unit has run or tried to run.
    pub(super) commands: Vec<Command>,
    /// Whether it has a setting that makes its process call systemd-creds: `PrivateDevices=`, `DeviceAllow=`
    /// or `DevicePolicy=`.
    pub(super) calls: bool,
    /// Where its other credentials come from.
    pub(super) others: Vec<OtherSource>,
    /// Whether systemd-creds.socket has refused connections since the answer, or was not running.
    pub(super) reset: bool,
}

/// The origin of a credential that is not from onecred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OtherSource {
    /// A file or socket that does not exist: the unit cannot start.
    Missing,
    /// Anything else, which may have caused the failure.
    Other,
}

/// Whether the process that received a complete sealed answer failed because systemd could not decrypt it. If
/// the unit has other credentials, which may also have failed, this needs evidence from systemd-creds.socket.
pub(super) fn is_undecrypted(process: u32, failed: &Failed) -> bool {
    let ended_so =
        |(.., of, how, status): &Command| *of == process && *how == EXITED && *status == CREDENTIALS;
    failed.commands.iter().any(ended_so)
        && failed.calls
        && !failed.others.contains(&OtherSource::Missing)
        && (failed.reset || failed.others.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(process: u32, how: i32, status: i32) -> Command {
        ("/bin/app".into(), Vec::new(), false, 1, 1, 2, 2, process, how, status)
    }

    #[test]
    fn only_a_failed_decryption_of_this_answer_counts() {
        let failed = |commands: &[Command], calls, others: &[OtherSource], reset| Failed {
            commands: commands.to_vec(),
            calls,
            others: others.to_vec(),
            reset,
        };
        let ours = [command(9, EXITED, 0), command(7, EXITED, CREDENTIALS)];
        for (why, failed, expected) in [
            ("nothing else can have failed", failed(&ours, true, &[], false), true),
            ("the socket refused connections", failed(&ours, true, &[OtherSource::Other], true), true),
            ("another credential may have failed", failed(&ours, true, &[OtherSource::Other], false), false),
            (
                "another credential is missing",
                failed(&ours, true, &[OtherSource::Other, OtherSource::Missing], true),
                false,
            ),
            ("it decrypts by itself", failed(&ours, false, &[], true), false),
            ("a later process failed", failed(&[command(8, EXITED, CREDENTIALS)], true, &[], true), false),
            ("the program failed", failed(&[command(7, EXITED, 1)], true, &[], true), false),
            ("the process was killed", failed(&[command(7, 2, CREDENTIALS)], true, &[], true), false),
            ("there is no such command", failed(&[], true, &[], true), false),
        ] {
            assert_eq!(is_undecrypted(7, &failed), expected, "{why}");
        }
    }
}
