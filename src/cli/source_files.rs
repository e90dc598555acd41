//! Checks for `onecred check` that the files of sources (vault files and `caFile`) can be used.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::OFlag;
use nix::unistd::{User, getgrouplist};

use crate::config::{Loaded, Position, Problem, Report, Severity, Source, SourceKind};
use crate::ipc::Failure;
use crate::resolver::{examine_ca_file, examine_vault_file};

/// The account of the resolver, which reads vault files.
const ACCOUNT: &str = "onecred";
/// The unit of the resolver.
const UNIT: &str = "onecred-resolver.service";
/// The directories of its unit file and drop-ins; the first unit file counts.
const UNIT_FOLDERS: [&str; 4] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
];
/// A place that the unit of the resolver can see.
const ELSEWHERE: &str = "move the file, for example to /etc/onecred";

/// Checks the files on this machine. A file that cannot be used is an error of its source. A `caFile` that
/// does not exist is a warning.
pub(super) fn checked(mut loaded: Loaded) -> Result<Loaded, Report> {
    let files = loaded.settings.sources.iter().filter_map(|(name, source)| {
        let (file, path) = match &source.kind {
            SourceKind::File { path } => (VAULT, path),
            SourceKind::Connect { ca_file, .. } => (CA, ca_file.as_ref()?),
            SourceKind::ServiceAccount(account) => (CA, account.ca_file.as_ref()?),
        };
        Some((name, source, file, path))
    });
    let mut problems: Vec<Problem> =
        files.filter_map(|(name, source, file, path)| problem(name.as_str(), source, file, path)).collect();
    problems.append(&mut loaded.warnings);
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(Report { problems });
    }
    loaded.warnings = problems;
    Ok(loaded)
}

/// The description of a source's file, and the function that checks its content.
type SourceFile = (&'static str, fn(&Path) -> Result<(), Failure>);

const VAULT: SourceFile = ("vault file", examine_vault_file);
const CA: SourceFile = ("caFile", examine_ca_file);

fn problem(name: &str, source: &Source, (called, examine): SourceFile, path: &Path) -> Option<Problem> {
    // without blocking on a FIFO
    let opened = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let unseen = opened.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    let (severity, what, remedy) = if unseen && !nix::unistd::geteuid().is_root() {
        let what = format!("the {called} {} of source {name} was not checked", path.display());
        (Severity::Warning, what, "run this as root".to_owned())
    } else {
        match examine(path) {
            Err(failure) if called == CA.0 && !path.exists() => {
                (Severity::Warning, format!("source {name}: {}", failure.cause), failure.remedy)
            }
            Err(failure) => (Severity::Error, format!("source {name}: {}", failure.cause), failure.remedy),
            Ok(()) => {
                let (why, remedy) = unreadable(path)?;
                let what = format!(
                    "source {name}: the resolver, which runs as user {ACCOUNT}, cannot read the {called} {}: {why}",
                    path.display()
                );
                (Severity::Error, what, remedy)
            }
        }
    };
    let (file, line) = source.declared_at.rsplit_once(':').unwrap_or((&source.declared_at, ""));
    let at = line.parse().ok().map(|line| Position { line, column: 1 });
    Some(Problem { severity, file: file.into(), at, what, remedy })
}

/// Why the resolver cannot read a file that root can, and the remedy. `None` if it can, or if this machine
/// has no resolver.
fn unreadable(path: &Path) -> Option<(String, String)> {
    let account = Account::find()?;
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let unit = unit_text();
    if let Some(hidden) = [path, &real].into_iter().find_map(|path| hidden_by(&unit, path)) {
        return Some((format!("{UNIT} hides it by {hidden}"), ELSEWHERE.to_owned()));
    }
    let steps = steps(path, &real);
    let obstacle = steps.iter().find(|step| !step.allows(&account, true));
    let by_own_group = steps.iter().all(|step| step.allows(&account, false));
    match (obstacle, try_to_read(path, &account)) {
        // an access control list may allow what the mode forbids
        (_, Some(true)) | (None, None) => None,
        (Some(step), _) => Some(step.explain(&account)),
        (None, Some(false)) if by_own_group => Some((
            "its mode allows it, but an access control list or a security module does not".to_owned(),
            format!("see: getfacl {}", path.display()),
        )),
        // the attempt had no supplementary groups
        (None, Some(false)) => None,
    }
}

/// The account as which the resolver reads.
#[derive(Debug)]
struct Account {
    uid: u32,
    gid: u32,
    /// Its supplementary groups.
    others: Vec<u32>,
}

impl Account {
    fn find() -> Option<Self> {
        let user = User::from_name(ACCOUNT).ok().flatten()?;
        let name = std::ffi::CString::new(ACCOUNT).ok()?;
        let groups = getgrouplist(&name, user.gid).unwrap_or_default();
        let others = groups.into_iter().map(nix::unistd::Gid::as_raw).collect();
        Some(Self { uid: user.uid.as_raw(), gid: user.gid.as_raw(), others })
    }
}

/// A directory of the path, or the file.
#[derive(Debug)]
struct Step {
    path: PathBuf,
    is_directory: bool,
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Step {
    /// Whether the mode allows the account to search the directory or read the file, with or without its
    /// supplementary groups.
    fn allows(&self, account: &Account, with_others: bool) -> bool {
        let wanted = if self.is_directory { 0o1 } else { 0o4 };
        let in_group = self.gid == account.gid || with_others && account.others.contains(&self.gid);
        let shift = match (self.uid == account.uid, in_group) {
            (true, _) => 6,
            (false, true) => 3,
            (false, false) => 0,
        };
        self.mode >> shift & wanted != 0
    }

    /// What is wrong with it, and the remedy.
    fn explain(&self, account: &Account) -> (String, String) {
        let (path, mode) = (self.path.display(), self.mode & 0o7777);
        if self.is_directory {
            let why = format!("the mode {mode:04o} of {path} does not let the resolver enter");
            let class = if self.uid == account.uid { "u" } else { "o" };
            let class = if self.uid != account.uid && self.gid == account.gid { "g" } else { class };
            return (why, format!("run: chmod {class}+x {path}; or {ELSEWHERE}"));
        }
        let why = format!("owner {}, group {}, mode {mode:04o}", self.uid, self.gid);
        (why, format!("run: chown root:{ACCOUNT} {path}; chmod 0640 {path}"))
    }
}

/// The directories on the path to a file, including those that its links lead to, and the file.
fn steps(path: &Path, real: &Path) -> Vec<Step> {
    let mut directories: Vec<&Path> = path.ancestors().skip(1).collect();
    directories.extend(real.ancestors().skip(1));
    directories.sort_by_key(|path| path.components().count());
    directories.dedup();
    directories.push(real);
    let step = |path: &&Path| {
        let metadata = fs::metadata(path).ok()?;
        Some(Step {
            path: path.to_path_buf(),
            is_directory: metadata.is_dir(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            mode: metadata.mode(),
        })
    };
    directories.iter().filter_map(step).collect()
}

/// Whether a process of the account can read a file. Unknown without root privileges.
fn try_to_read(path: &Path, account: &Account) -> Option<bool> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let mut test = Command::new("test");
    test.arg("-r").arg(path).uid(account.uid).gid(account.gid).current_dir("/");
    let status = test.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?;
    match status.code() {
        Some(0) => Some(true),
        Some(1) => Some(false),
        _ => None,
    }
}

/// The text of the resolver's unit file and drop-ins, in order of precedence.
fn unit_text() -> String {
    let unit = UNIT_FOLDERS.iter().find_map(|folder| fs::read_to_string(Path::new(folder).join(UNIT)).ok());
    let mut drop_ins = std::collections::BTreeMap::new();
    for folder in UNIT_FOLDERS {
        let entries =
            fs::read_dir(Path::new(folder).join(format!("{UNIT}.d"))).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.path().extension().is_some_and(|ending| ending == "conf")) {
            drop_ins.entry(entry.file_name()).or_insert_with(|| entry.path());
        }
    }
    let drop_ins = drop_ins.into_values().filter_map(|path| fs::read_to_string(path).ok());
    unit.into_iter().chain(drop_ins).collect::<Vec<_>>().join("\n")
}

/// The setting of a unit that hides a path. A bind-mounted path is visible.
fn hidden_by(unit: &str, path: &Path) -> Option<String> {
    let (mut home, mut inaccessible, mut bound) = (String::new(), Vec::new(), Vec::new());
    for line in unit.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        let value = value.trim();
        let list = match key.trim() {
            "ProtectHome" => {
                home = value.to_owned();
                continue;
            }
            "InaccessiblePaths" => &mut inaccessible,
            "BindPaths" | "BindReadOnlyPaths" => &mut bound,
            _ => continue,
        };
        if value.is_empty() {
            list.clear();
        }
        list.extend(
            value.split_ascii_whitespace().map(|path| path.trim_start_matches(['-', '+']).to_owned()),
        );
    }
    let target = |bind: &String| bind.split(':').nth(1).unwrap_or(bind).to_owned();
    if bound.iter().any(|bind| path.starts_with(target(bind))) {
        return None;
    }
    let hides_home = matches!(home.as_str(), "yes" | "true" | "on" | "1" | "tmpfs");
    let homes = ["/home", "/root", "/run/user"];
    if hides_home && homes.iter().any(|home| path.starts_with(home)) {
        return Some(format!("ProtectHome={home}"));
    }
    let by = inaccessible.iter().find(|hidden| path.starts_with(hidden));
    by.map(|hidden| format!("InaccessiblePaths={hidden}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_mode_allows() {
        let account = Account { uid: 7, gid: 70, others: vec![80] };
        for (is_directory, uid, gid, mode, expected) in [
            (false, 0, 0, 0o600, [false, false]),
            (false, 0, 0, 0o604, [true, true]),
            (false, 0, 0, 0o640, [false, false]),
            (false, 0, 70, 0o640, [true, true]),
            (false, 0, 80, 0o640, [false, true]),
            (false, 7, 0, 0o400, [true, true]),
            // only the first matching class counts
            (false, 7, 0, 0o044, [false, false]),
            (false, 0, 70, 0o604, [false, false]),
            (false, 0, 80, 0o604, [true, false]),
            (true, 0, 0, 0o700, [false, false]),
            (true, 0, 0, 0o711, [true, true]),
            (true, 0, 0, 0o704, [false, false]),
            (true, 0, 70, 0o710, [true, true]),
        ] {
            let step = Step { path: "/x".into(), is_directory, uid, gid, mode };
            let found = [false, true].map(|with_others| step.allows(&account, with_others));
            assert_eq!(found, expected, "{is_directory} {uid}:{gid} {mode:o}");
        }
    }

    #[test]
    fn the_fix_is_named() {
        let account = Account { uid: 7, gid: 70, others: Vec::new() };
        let explain = |is_directory, uid, gid, mode| {
            let step = Step { path: "/v/x".into(), is_directory, uid, gid, mode };
            let (why, fix) = step.explain(&account);
            format!("{why}; {fix}")
        };
        assert_eq!(
            explain(false, 0, 0, 0o100_600),
            "owner 0, group 0, mode 0600; run: chown root:onecred /v/x; chmod 0640 /v/x"
        );
        let pass = |mode: &str, class: &str| {
            format!(
                "the mode {mode} of /v/x does not let the resolver enter; run: chmod {class}+x /v/x; or {ELSEWHERE}"
            )
        };
        assert_eq!(explain(true, 0, 0, 0o40_700), pass("0700", "o"));
        assert_eq!(explain(true, 0, 70, 0o40_701), pass("0701", "g"));
        assert_eq!(explain(true, 7, 70, 0o40_011), pass("0011", "u"));
    }

    #[test]
    fn every_directory_of_the_path_counts() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("real/deep")).unwrap();
        fs::create_dir(root.join("links")).unwrap();
        fs::write(root.join("real/deep/vault.json"), "{}").unwrap();
        std::os::unix::fs::symlink(root.join("real/deep/vault.json"), root.join("links/vault")).unwrap();
        let path = root.join("links/vault");
        let steps = steps(&path, &path.canonicalize().unwrap());
        let names: Vec<_> = steps.iter().filter_map(|step| step.path.strip_prefix(&root).ok()).collect();
        let expected = ["", "links", "real", "real/deep", "real/deep/vault.json"].map(Path::new);
        assert_eq!(names, expected);
        assert!(steps.iter().rev().skip(1).all(|step| step.is_directory));
    }

    #[test]
    fn what_the_unit_hides() {
        let unit = "[Service]\nProtectHome=yes\nInaccessiblePaths=-/run/onecred/store -/srv\n";
        let home = Some("ProtectHome=yes".to_owned());
        for (more, path, expected) in [
            ("", "/etc/onecred/vault.json", None),
            ("", "/home/me/vault.json", home.clone()),
            ("", "/root/vault.json", home.clone()),
            ("", "/homes/vault.json", None),
            ("", "/srv/vault.json", Some("InaccessiblePaths=/srv".to_owned())),
            ("ProtectHome=no", "/home/me/vault.json", None),
            ("ProtectHome=read-only", "/home/me/vault.json", None),
            ("BindReadOnlyPaths=/home/me/vault.json", "/home/me/vault.json", None),
            ("BindReadOnlyPaths=/data:/srv", "/srv/vault.json", None),
            ("BindReadOnlyPaths=/home/you", "/home/me/vault.json", home),
            ("InaccessiblePaths=", "/srv/vault.json", None),
        ] {
            assert_eq!(hidden_by(&format!("{unit}{more}"), Path::new(path)), expected, "{more} {path}");
        }
    }
}
