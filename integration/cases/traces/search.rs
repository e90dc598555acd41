//! Searches for values everywhere on a machine: in files, processes and the journal, literally and in common
//! encodings.
use aho_corasick::AhoCorasick;
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD, engine::general_purpose::URL_SAFE_NO_PAD};
use onecred_integration::stage::Stage;
use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// How much of a process's memory is searched at once.
const PIECE: usize = 1 << 20;

/// What to search for: each encoding with its name.
pub(crate) struct Needles {
    all: Vec<(String, Vec<u8>)>,
    needles: AhoCorasick,
}

impl Needles {
    /// These values in all encodings.
    pub(crate) fn of(values: &[&str]) -> Self {
        let mut all = Vec::new();
        for value in values {
            let mut add = |form: &str, bytes: &[u8]| all.push((format!("{value:.8} {form}"), bytes.to_vec()));
            let half = value.len() / 2;
            // a part reveals as much as the whole, and memory is overwritten from its start after it is freed
            let parts = if value.len() < 32 {
                vec![("as it is", value.as_bytes())]
            } else {
                vec![("begins", &value.as_bytes()[..half]), ("ends", &value.as_bytes()[half..])]
            };
            parts.into_iter().for_each(|(form, bytes)| add(form, bytes));
            let json = serde_json::to_string(value).unwrap_or_default();
            add("as JSON", json.trim_matches('"').as_bytes());
            let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
            add("in hexadecimal", hex.as_bytes());
            add("in hexadecimal", hex.to_uppercase().as_bytes());
            let wide: Vec<u8> = value.encode_utf16().flat_map(u16::to_le_bytes).collect();
            add("in UTF-16", &wide);
            for (before, unsure) in [(0, 0), (1, 2), (2, 3)] {
                let shifted = [&vec![0; before], value.as_bytes()].concat();
                for text in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
                    add("in base64", &text.as_bytes()[unsure..text.len() - 3]);
                }
            }
        }
        let needles = AhoCorasick::new(all.iter().map(|(_, needle)| needle));
        Self { needles: needles.unwrap_or_else(|error| panic!("needles: {error}")), all }
    }

    /// The first that these bytes contain.
    pub(crate) fn found_in(&self, bytes: &[u8]) -> Option<&str> {
        let found = self.needles.find(bytes)?;
        Some(&self.all[found.pattern().as_usize()].0)
    }

    /// The length of the longest.
    fn longest(&self) -> usize {
        self.all.iter().map(|(_, needle)| needle.len()).max().unwrap_or_default()
    }

    /// In files below these directories that were written since then, except below those that may contain it.
    pub(crate) fn in_files(
        &self,
        stage: &Stage,
        folders: &[&str],
        but: &[&str],
        since: SystemTime,
    ) -> Vec<String> {
        let mut found = Vec::new();
        let mut todo: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
        while let Some(folder) = todo.pop() {
            let outside = |path: &Path| stage.root().join(path.strip_prefix("/").unwrap_or(path));
            for entry in fs::read_dir(outside(&folder)).into_iter().flatten().flatten() {
                let path = folder.join(entry.file_name());
                let Ok(kind) = entry.file_type() else { continue };
                if but.iter().any(|but| path.starts_with(but)) {
                    continue;
                }
                if kind.is_dir() {
                    todo.push(path);
                    continue;
                }
                let recent = entry.metadata().and_then(|it| it.modified()).is_ok_and(|at| at >= since);
                if recent && let Some(what) = self.found_in(entry.file_name().as_encoded_bytes()) {
                    found.push(format!("the name of {}: {what}", path.display()));
                }
                if kind.is_file()
                    && recent
                    && let Ok(bytes) = fs::read(outside(&path))
                    && let Some(what) = self.found_in(&bytes)
                {
                    found.push(format!("{}: {what}", path.display()));
                }
            }
        }
        found
    }

    /// In the arguments and environments of all processes.
    pub(crate) fn in_arguments(&self, stage: &Stage) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir(stage.root().join("proc")).into_iter().flatten().flatten() {
            for what in ["cmdline", "environ"] {
                let bytes = fs::read(entry.path().join(what)).unwrap_or_default();
                if let Some(needle) = self.found_in(&bytes) {
                    found.push(format!("{what} of process {}: {needle}", entry.file_name().display()));
                }
            }
        }
        found
    }

    /// In the readable memory of a unit's processes.
    pub(crate) fn in_memory(&self, stage: &Stage, unit: &str) -> Vec<String> {
        let processes = processes(stage, unit);
        assert!(!processes.is_empty(), "{unit} has no process");
        processes.iter().flat_map(|process| self.in_process(stage, unit, process)).collect()
    }

    /// In the readable memory of a process.
    pub(crate) fn in_process(&self, stage: &Stage, unit: &str, process: &str) -> Vec<String> {
        let proc = stage.root().join("proc").join(process);
        let maps = fs::read_to_string(proc.join("maps")).unwrap_or_else(|error| panic!("{unit}: {error}"));
        let memory = File::open(proc.join("mem")).unwrap_or_else(|error| panic!("{unit}: {error}"));
        let (mut found, mut looked) = (Vec::new(), 0);
        for line in maps.lines() {
            let mut words = line.split_whitespace();
            let (Some(range), Some(rights)) = (words.next(), words.next()) else { continue };
            let ends: Option<(&str, &str)> = range.split_once('-');
            let number = |text: &str| u64::from_str_radix(text, 16).unwrap_or_default();
            let Some((mut at, end)) = ends.map(|(from, to)| (number(from), number(to))) else { continue };
            if !rights.starts_with('r') {
                continue;
            }
            while at < end {
                let mut piece = vec![0; PIECE.min((end - at) as usize)];
                if memory.read_exact_at(&mut piece, at).is_err() {
                    break; // mapped by the kernel
                }
                looked += piece.len();
                if let Some(what) = self.found_in(&piece) {
                    found.push(format!("memory of {unit}, process {process}, {line}: {what}"));
                    break;
                }
                let next = at + piece.len() as u64;
                at = if next < end { next - self.longest() as u64 } else { next };
            }
        }
        assert!(looked > PIECE, "of process {process} of {unit} no more than {looked} bytes could be read");
        found
    }
}

/// All processes of a unit, and its keeper in a scope.
pub(crate) fn processes(stage: &Stage, unit: &str) -> Vec<String> {
    let group = stage.show(unit, "ControlGroup");
    let keepers = if unit == "onecred.service" {
        "/sys/fs/cgroup/system.slice/onecred-keeper-*/cgroup.procs"
    } else {
        ""
    };
    let text = stage
        .sh(&format!("cat /sys/fs/cgroup{group}/cgroup.procs; cat /dev/null {keepers} 2>/dev/null || true"))
        .ok();
    text.lines().map(str::to_owned).collect()
}
