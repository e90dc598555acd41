use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Child, Command, Stdio};

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::*;
use crate::host::sys;

/// A connection to this process from an address, as the listener sees it.
fn connection(address: &[u8]) -> (OwnedFd, OwnedFd) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let theirs = sys::connect_from(&SocketAddr::from_abstract_name(address).unwrap(), &path).unwrap();
    (listener.accept().unwrap().0.into(), theirs)
}

fn claim(n: u64) -> Vec<u8> {
    format!("{:x}/unit/onecred-test.service/db-password", u64::from(std::process::id()) << 16 | n)
        .into_bytes()
}

fn ours() -> u32 {
    nix::unistd::geteuid().as_raw()
}

#[test]
fn a_claim_is_believed_only_where_the_cgroup_proves_it() {
    let (ours_end, _theirs) = connection(&claim(1));
    let strict = Attestation { uid: ours(), trusting: false };
    // this test runs in a unit other than the one it claims, or in none
    let stranger = strict.identify(&ours_end).unwrap_err();
    assert!(matches!(stranger, Stranger::OtherUnit { .. } | Stranger::NoUnit(_)), "{stranger:?}");
    let trusting = Attestation { uid: ours(), trusting: true };
    let peer = trusting.identify(&ours_end).unwrap();
    assert_eq!(peer.claim.unit.as_str(), "onecred-test.service");
    assert_eq!(peer.process.pid(), std::process::id() as i32);
}

#[test]
fn the_cgroup_must_be_that_of_the_claimed_unit_or_of_the_manager() {
    let claim = Claim::parse(&claim(0)).unwrap();
    for (cgroup, is_proven, said) in [
        ("0::/system.slice/onecred-test.service\n", true, ""),
        ("1:cpu:/\n0::/init.scope\n", true, ""),
        ("0::/system.slice/other.service\n", false, "but is in the cgroup of other.service"),
        (
            "0::/system.slice/other.service/onecred-test.service\n",
            false,
            "but is in the cgroup of other.service",
        ),
        ("0::/system.slice\n", false, "but is not in the cgroup of a unit"),
        ("1:name=systemd:/system.slice/onecred-test.service\n", false, "but is not in the cgroup of a unit"),
        ("", false, "but is not in the cgroup of a unit"),
    ] {
        let result = proven(claim.clone(), cgroup);
        assert_eq!(result.is_ok(), is_proven, "{cgroup:?}");
        let reason = result.map_or_else(|stranger| stranger.to_string(), |_| String::new());
        assert!(reason.contains(said), "{cgroup:?}: {reason}");
    }
}

#[test]
fn the_cgroup_file_is_read_whole() {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    assert_eq!(read_cgroup(std::process::id() as i32).unwrap(), own);
}

#[test]
fn another_user_is_not_heard() {
    let (ours_end, _theirs) = connection(&claim(2));
    let other = Attestation { uid: ours() + 1, trusting: true };
    assert_eq!(other.identify(&ours_end), Err(Stranger::User(ours())));
}

#[test]
fn an_address_that_is_no_request_is_not_heard() {
    let address = format!("onecred-test-{}", std::process::id());
    let (ours_end, _theirs) = connection(address.as_bytes());
    assert_eq!(Attestation { uid: ours(), trusting: true }.identify(&ours_end), Err(Stranger::NoClaim));
    let (unnamed, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    assert_eq!(Attestation { uid: ours(), trusting: true }.identify(&unnamed), Err(Stranger::NoClaim));
}

#[test]
fn one_process_is_one_process() {
    let trusting = Attestation { uid: ours(), trusting: true };
    let ((a, _a), (b, _b)) = (connection(&claim(3)), connection(&claim(4)));
    assert_eq!(trusting.identify(&a).unwrap().process, trusting.identify(&b).unwrap().process);
    assert!(start_time(std::process::id() as i32).unwrap() > 0);
    assert_eq!(start_time(i32::MAX), None);
}

/// A process that runs until it is killed.
fn process() -> (Child, Pid) {
    let child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_raw(child.id() as i32);
    (child, pid)
}

/// Kills a process. Until its parent has waited for it, its PID is not reused, and its cgroup can be read.
fn end(child: &mut Child, pid: Pid) {
    child.kill().unwrap();
    waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
}

#[test]
fn what_was_read_of_a_process_that_has_ended_since_does_not_count() {
    let cgroup = || Ok("0::/system.slice/app.service\n".to_owned());
    for has_pidfd in [true, false] {
        let (mut child, pid) = process();
        let pidfd = has_pidfd.then(|| sys::pidfd_open(pid).unwrap());
        let watch = Watch::over(pid.as_raw(), pidfd).unwrap();
        assert_eq!(watch.cgroup(|_| cgroup()), Ok(cgroup().unwrap()), "pidfd: {has_pidfd}");
        let read = |_| {
            end(&mut child, pid);
            if !has_pidfd {
                child.wait()?; // until then its start time can be read
            }
            cgroup()
        };
        assert_eq!(watch.cgroup(read), Err(Stranger::Gone), "pidfd: {has_pidfd}");
        child.wait().unwrap();
    }
}

#[test]
fn a_process_that_has_ended_is_of_no_unit() {
    let (mut child, pid) = process();
    let pidfd = sys::pidfd_open(pid).unwrap();
    end(&mut child, pid);
    assert!(read_cgroup(pid.as_raw()).is_ok());
    assert_eq!(unit_of(pid.as_raw(), Some(pidfd)), Err(Stranger::Gone));
    child.wait().unwrap();
}
