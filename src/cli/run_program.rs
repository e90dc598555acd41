//! `onecred run`: executes a program with environment variables that are set from the unit's credentials, for
//! programs that read only those.
//!
//! It does not ask the provider: systemd has written the credentials to `$CREDENTIALS_DIRECTORY`. The program
//! replaces this process, so it is the unit's main process and has its descriptors, signals and notify
//! socket.

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nix::unistd::execvpe;

use crate::domain::name::CredentialId;

/// What follows the options in the help of `onecred run`.
pub(super) const AFTER_HELP: &str = "Note: root and the program's user can read the environment in \
/proc/PID/environ while the program runs, and child processes inherit it. If the program can read a file, \
use $CREDENTIALS_DIRECTORY/ID instead.\n\nExit codes: the program's own; 203 it cannot be executed, 243 a \
credential cannot be read or set, 2 wrong command line";

/// The arguments of `onecred run`.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// Set the variable NAME to the credential ID; may be given several times
    #[arg(long, value_name = "NAME=ID", value_parser = assignment)]
    pub env: Vec<(String, CredentialId)>,
    /// Set a variable for every credential of the unit: db-password becomes DB_PASSWORD
    #[arg(long)]
    pub all: bool,
    /// With --all: the prefix of the variable names
    #[arg(long, value_name = "PREFIX", requires = "all", default_value = "", value_parser = prefix)]
    pub prefix: String,
    /// Remove one line break from the end of each value; by default values are not changed
    #[arg(long)]
    pub trim: bool,
    /// The program, which is searched for in $PATH, and its arguments
    #[arg(value_name = "PROGRAM", last = true, required = true)]
    pub command: Vec<OsString>,
}

/// The maximum size in bytes that the kernel accepts for one variable, including its name, the = and the
/// final NUL.
const MOST: usize = 128 << 10;
/// The exit statuses that systemd calls CREDENTIALS and EXEC.
const CREDENTIALS: u8 = 243;
const EXEC: u8 = 203;

/// Executes the program. Returns an exit code if that fails.
pub fn run(args: &RunArgs, err: &mut dyn io::Write) -> io::Result<u8> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY");
    let prepared = variables(args, folder.as_deref()).and_then(|variables| {
        let rest = std::env::vars_os()
            .filter(|(name, _)| name.to_str().is_none_or(|name| !variables.contains_key(name)));
        let rest = rest.map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()));
        let mut environment = rest.collect::<Result<Vec<_>, _>>()?;
        environment.extend(variables.into_values());
        Ok(environment)
    });
    let environment = match prepared {
        Ok(environment) => environment,
        Err(error) => {
            writeln!(err, "onecred run: {error}")?;
            return Ok(CREDENTIALS);
        }
    };
    let words: Result<Vec<_>, _> =
        args.command.iter().map(|word| CString::new(word.clone().into_vec())).collect();
    let words = words?; // arguments do not contain NUL bytes
    let Some(program) = words.first() else { return Ok(EXEC) };
    // not with the standard library, which would undo IgnoreSIGPIPE=
    let Err(error) = execvpe(program, &words, &environment);
    let remedy = match error {
        nix::Error::ENOENT => "; is it installed, and in $PATH?",
        nix::Error::E2BIG => "; its arguments and environment are too large together",
        _ => "",
    };
    writeln!(err, "onecred run: {program:?} can't be executed: {}{remedy}", error.desc())?;
    Ok(EXEC)
}

/// The variables to set, by name, as `NAME=VALUE`.
fn variables(args: &RunArgs, folder: Option<&OsStr>) -> Result<BTreeMap<String, CString>, Box<dyn Error>> {
    if args.env.is_empty() && !args.all {
        return Err("no variable is given; use --env NAME=ID for each, or --all".into());
    }
    let folder = folder.map(Path::new).ok_or(
        "there is no $CREDENTIALS_DIRECTORY, since the unit has no credentials; add LoadCredential=ID:/run/onecred/credential.sock to it",
    )?;
    let mut wanted: Vec<(String, CredentialId)> = Vec::new();
    if args.all {
        let cannot =
            |error: io::Error| format!("the credentials in {} can't be listed: {error}", folder.display());
        for entry in std::fs::read_dir(folder).map_err(cannot)? {
            let id = entry.map_err(cannot)?.file_name();
            let id = id.to_str().and_then(|id| CredentialId::parse(id).ok());
            let id = id.ok_or("the name of a credential is not a valid credential ID")?;
            let name = format!("{}{}", args.prefix, upper(id.as_str()));
            if !is_name(&name) {
                let what = format!("credential {id} can't be a variable: {name} begins with a digit");
                return Err(format!("{what}; use --prefix, or --env NAME={id}").into());
            }
            let named = args.env.iter().any(|(_, named)| *named == id);
            if !named {
                wanted.push((name, id));
            }
        }
    }
    wanted.extend(args.env.iter().cloned());
    let mut variables: BTreeMap<String, (CredentialId, CString)> = BTreeMap::new();
    for (name, id) in wanted {
        let value = value(folder, &name, &id, args.trim)?;
        if let Some((first, _)) = variables.insert(name.clone(), (id.clone(), value)) {
            let what = format!("credentials {first} and {id} would both be the variable {name}");
            return Err(format!("{what}; give each a different name with --env NAME=ID").into());
        }
    }
    Ok(variables.into_iter().map(|(name, (_, value))| (name, value)).collect())
}

/// The available credentials, for the message about a missing one.
fn others(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).take(20).collect();
    names.sort();
    match names.is_empty() {
        true => String::new(),
        false => format!(", or use one of: {}", names.join(", ")),
    }
}

fn value(folder: &Path, name: &str, id: &CredentialId, trim: bool) -> Result<CString, String> {
    let mut bytes = std::fs::read(folder.join(id.as_str())).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!(
            "the unit has no credential {id}; add LoadCredential={id}:/run/onecred/credential.sock to it{}",
            others(folder)
        ),
        _ => format!("credential {id} can't be read: {error}"),
    })?;
    if trim && bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    let remedy = "make the program read the file";
    if name.len() + bytes.len() + 2 > MOST {
        let what = format!("credential {id} has {} bytes, and a variable can have 128 KiB", bytes.len());
        return Err(format!("{what}; {remedy} $CREDENTIALS_DIRECTORY/{id}"));
    }
    let variable = [name.as_bytes(), b"=", &bytes].concat();
    CString::new(variable).map_err(|_| {
        // the error itself contains the value
        format!(
            "credential {id} contains a NUL byte, which an environment can't contain; {remedy} $CREDENTIALS_DIRECTORY/{id}"
        )
    })
}

fn assignment(text: &str) -> Result<(String, CredentialId), String> {
    let (name, id) = text.split_once('=').ok_or("its form is NAME=ID, such as DB_PASSWORD=db-password")?;
    if !is_name(name) {
        return Err(format!(
            "{name:?} is not a valid variable name: use letters, digits and _, and do not begin with a digit"
        ));
    }
    Ok((name.to_owned(), CredentialId::parse(id).map_err(|error| error.to_string())?))
}

fn prefix(text: &str) -> Result<String, String> {
    match text.is_empty() || is_name(text) {
        true => Ok(text.to_owned()),
        false => Err("it can have letters, digits and _, and must not begin with a digit".to_owned()),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A credential ID in the characters of a variable name.
fn upper(id: &str) -> String {
    id.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: RunArgs,
    }

    fn set(line: &[&str], files: &[(&str, &[u8])]) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().expect("a directory");
        for (id, value) in files {
            std::fs::write(folder.path().join(id), value).expect("written");
        }
        let line = ["run"].iter().chain(line).chain(&["--", "true"]);
        let args = Line::try_parse_from(line).map_err(|error| error.to_string())?.args;
        let variables =
            variables(&args, Some(folder.path().as_os_str())).map_err(|error| error.to_string())?;
        Ok(variables.into_values().map(|value| value.into_string().expect("text")).collect())
    }

    #[test]
    fn sets_what_is_named() {
        let files: &[(&str, &[u8])] = &[("db-password", b"hunter2\n\n"), ("api.key", b"k$\"x"), ("1st", b"")];
        assert_eq!(set(&["--env", "P=db-password"], files), Ok(vec!["P=hunter2\n\n".into()]));
        assert_eq!(set(&["--trim", "--env=P=db-password"], files), Ok(vec!["P=hunter2\n".into()]));
        assert_eq!(
            set(&["--all", "--prefix", "X_", "--env", "K=api.key"], files),
            Ok(vec!["K=k$\"x".into(), "X_1ST=".into(), "X_DB_PASSWORD=hunter2\n\n".into()])
        );
    }

    #[test]
    fn refuses_what_it_cannot_set() {
        let files: &[(&str, &[u8])] =
            &[("a-b", b"x\0secret"), ("a.b", b"y"), ("1st", b"z"), ("long", &[b'a'; MOST])];
        for (line, why) in [
            (vec![], "no variable is given"),
            (vec!["--env", "P=nothing"], "the unit has no credential nothing; add LoadCredential=nothing:"),
            (vec!["--env", "P=a-b"], "credential a-b contains a NUL byte"),
            (vec!["--env", "P=long"], "credential long has 131072 bytes"),
            (vec!["--all"], "use --prefix, or --env NAME=1st"),
            (
                vec!["--env", "P=a.b", "--env", "P=1st"],
                "credentials a.b and 1st would both be the variable P",
            ),
            (vec!["--env", "1P=a.b"], "not a valid variable name"),
            (vec!["--env", "P"], "its form is NAME=ID"),
            (vec!["--env", "P=../a"], "not a credential ID"),
            (vec!["--prefix", "X"], "--all"),
        ] {
            let told = set(&line, files).expect_err(why);
            assert!(told.contains(why) && !told.contains("secret"), "{told}");
        }
        let two: &[(&str, &[u8])] = &[("a-b", b"x"), ("a.b", b"y")];
        assert!(set(&["--all"], two).expect_err("two").contains("would both be the variable A_B"));
        let args = Line::try_parse_from(["run", "--all", "--", "true"]).expect("valid").args;
        assert!(variables(&args, None).expect_err("none").to_string().contains("no $CREDENTIALS_DIRECTORY"));
    }
}
