use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use nix::unistd::{Gid, Uid};

use super::super::removal::Removed;
use super::*;
use crate::provider::store::testing;

mod attributes;

/// A root in a directory that belongs to this user.
struct Rig {
    folder: tempfile::TempDir,
    writer: Writer,
}

fn owner() -> Owner {
    Owner { uid: geteuid(), gid: getegid() }
}

impl Rig {
    fn new() -> Self {
        Self { folder: testing::folder(), writer: Writer::new(Kind::Anything, Manifest::default()) }
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn target(&self, name: &str, mode: u32) -> Target {
        let path = self.root().join(name);
        Target { path, user: "root".into(), group: None, mode, links: Vec::new(), make_directories: false }
    }

    fn put(&mut self, files: &[(&Target, &str)]) -> Vec<Result<bool, Fault>> {
        let root = self.folder.path().to_owned();
        for (target, _) in files {
            self.writer.manifest.note(target, &root);
        }
        let mut pieces = Vec::new();
        for &(target, value) in files {
            let value = SecretValue::new(value.as_bytes().to_vec());
            pieces.push(Piece { target, root: &root, owner: owner(), value, made_of: String::new() });
        }
        self.writer.put(&pieces, &mut Open::default(), &|_| {})
    }

    /// Puts one file. Returns whether it was written.
    fn puts(&mut self, name: &str, value: &str) -> bool {
        let target = self.target(name, 0o400);
        self.put(&[(&target, value)]).remove(0).unwrap()
    }

    fn fails(&mut self, name: &str) -> String {
        let target = self.target(name, 0o400);
        self.put(&[(&target, "value")]).remove(0).unwrap_err().to_string()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.root().join(name)).unwrap()
    }

    fn stat(&self, name: &str) -> fs::Metadata {
        fs::symlink_metadata(self.root().join(name)).unwrap()
    }

    /// Whether no temporary files are left.
    fn is_tidy(&self, below: &str) -> bool {
        let mut names = fs::read_dir(self.root().join(below)).unwrap().flatten();
        !names.any(|entry| entry.file_name().to_string_lossy().starts_with(UNFINISHED))
    }
}

#[test]
fn a_file_is_as_it_should_be_and_what_is_unchanged_is_not_touched() {
    let mut rig = Rig::new();
    assert!(rig.puts("a/b/key", "one"));
    let first = rig.stat("a/b/key");
    assert_eq!((rig.read("a/b/key").as_str(), first.mode() & 0o7777), ("one", 0o400));
    assert_eq!((rig.stat("a").mode() & 0o7777, rig.stat("a/b").mode() & 0o7777), (0o755, 0o755));
    assert!(!rig.puts("a/b/key", "one"));
    let second = rig.stat("a/b/key");
    assert_eq!(
        (first.ino(), first.ctime(), first.ctime_nsec()),
        (second.ino(), second.ctime(), second.ctime_nsec())
    );
    assert!(rig.puts("a/b/key", "two"));
    assert_eq!(rig.read("a/b/key"), "two");
    assert_ne!(rig.stat("a/b/key").ino(), first.ino());
    assert!(rig.is_tidy("a/b"));
}

#[test]
fn what_others_made_of_a_file_is_mended() {
    let mut rig = Rig::new();
    rig.puts("key", "value");
    let path = rig.root().join("key");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(rig.puts("key", "value"));
    assert_eq!(rig.stat("key").mode() & 0o7777, 0o400);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "value").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    assert!(rig.puts("key", "value"), "another file of the same content is not ours");
    // the same applies to a later process, which has only the manifest
    let list = serde_json::to_vec(&rig.writer.manifest).unwrap();
    assert!(!String::from_utf8_lossy(&list).contains("value"), "a value is in the list");
    rig.writer = Writer::new(Kind::Anything, serde_json::from_slice(&list).unwrap());
    assert!(!rig.puts("key", "value"));
    let mode = rig.target("key", 0o440);
    assert!(rig.put(&[(&mode, "value")]).remove(0).unwrap());
    assert_eq!(rig.stat("key").mode() & 0o7777, 0o440);
}

#[test]
fn a_link_at_any_step_is_not_followed() {
    let mut rig = Rig::new();
    let outside = testing::folder();
    fs::write(outside.path().join("key"), "of others").unwrap();
    symlink(outside.path(), rig.root().join("a")).unwrap();
    fs::create_dir(rig.root().join("b")).unwrap();
    symlink(outside.path(), rig.root().join("b/c")).unwrap();
    assert!(rig.fails("a/key").contains("a is a symbolic link"), "{}", rig.fails("a/key"));
    assert!(rig.fails("b/c/key").contains("c is a symbolic link"), "{}", rig.fails("b/c/key"));
    // a symbolic link at the file's path is replaced, and its target does not change
    symlink(outside.path().join("key"), rig.root().join("key")).unwrap();
    assert!(rig.puts("key", "ours"));
    assert!(rig.stat("key").is_file());
    assert_eq!(fs::read_to_string(outside.path().join("key")).unwrap(), "of others");
    // also at the temporary name
    for n in 0..100 {
        symlink(outside.path().join("key"), rig.root().join(format!("{UNFINISHED}{n}"))).unwrap();
    }
    assert!(rig.puts("other", "ours"));
    assert_eq!(fs::read_to_string(outside.path().join("key")).unwrap(), "of others");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    // a root must not be a symbolic link
    let target = Target { path: rig.root().join("a/key"), ..rig.target("x", 0o400) };
    let root = rig.root().join("a");
    let value = SecretValue::new(b"value".to_vec());
    let piece = Piece { target: &target, root: &root, owner: owner(), value, made_of: String::new() };
    rig.writer.put(&[piece], &mut Open::default(), &|_| {}).remove(0).unwrap_err();
}

#[test]
fn a_directory_that_others_can_write_in_is_refused() {
    let mut rig = Rig::new();
    for (name, mode) in [("all", 0o777), ("sticky", 0o1777), ("group", 0o775)] {
        fs::create_dir(rig.root().join(name)).unwrap();
        fs::set_permissions(rig.root().join(name), fs::Permissions::from_mode(mode)).unwrap();
        let why = rig.fails(&format!("{name}/key"));
        assert!(why.contains("can be written by others"), "{why}");
    }
    fs::create_dir(rig.root().join("key")).unwrap();
    assert!(rig.fails("key").contains("can't be put in its place"), "{}", rig.fails("key"));
    fs::write(rig.root().join("file"), "").unwrap();
    assert!(rig.fails("file/key").contains("file is not a directory"), "{}", rig.fails("file/key"));
    if geteuid().is_root() {
        fs::create_dir(rig.root().join("theirs")).unwrap();
        nix::unistd::chown(&rig.root().join("theirs"), Some(Uid::from_raw(4321)), None).unwrap();
        assert!(rig.fails("theirs/key").contains("belongs to user 4321"), "{}", rig.fails("theirs/key"));
    }
}

#[test]
fn a_file_that_fails_holds_up_no_other() {
    let mut rig = Rig::new();
    let (user, password) = (rig.target("user", 0o400), rig.target("sub/password", 0o400));
    rig.put(&[(&user, "u1"), (&password, "p1")]);
    // one of the files cannot be written
    fs::rename(rig.root().join("sub"), rig.root().join("away")).unwrap();
    symlink(rig.root().join("away"), rig.root().join("sub")).unwrap();
    let results = rig.put(&[(&user, "u2"), (&password, "p2")]);
    assert!(results[0].is_ok() && results[1].is_err());
    assert_eq!((rig.read("user").as_str(), rig.read("away/password").as_str()), ("u2", "p1"));
    assert!(rig.is_tidy(""));
    fs::remove_file(rig.root().join("sub")).unwrap();
    fs::rename(rig.root().join("away"), rig.root().join("sub")).unwrap();
    rig.put(&[(&user, "u2"), (&password, "p2")]);
    assert_eq!((rig.read("user").as_str(), rig.read("sub/password").as_str()), ("u2", "p2"));
    // but if the limit is exceeded, all files keep the same version
    rig.writer.limit = 2 * 4096;
    for result in rig.put(&[(&user, "u3"), (&password, &"x".repeat(5000))]) {
        assert!(result.is_err());
    }
    assert_eq!((rig.read("user").as_str(), rig.read("sub/password").as_str()), ("u2", "p2"));
    let never = rig.target("user/below", 0o400);
    let results = rig.put(&[(&user, "u3"), (&never, "n3")]);
    assert!(results[1].is_err());
    assert_eq!(rig.read("user"), "u3");
}

#[test]
fn the_limit_counts_what_is_there() {
    let mut rig = Rig::new();
    rig.writer.limit = 2 * 4096;
    assert!(rig.puts("a", "one") && rig.puts("b", "one"));
    let why = rig.fails("c");
    assert!(why.contains("12288 bytes, and their limit is 8192"), "{why}");
    assert!(rig.puts("a", "two"), "what replaces another takes its room");
    rig.writer.remove(&rig.folder.path().join("b"), &mut Open::default()).unwrap();
    assert!(rig.puts("c", "one"));
    assert!(rig.is_tidy(""));
}

#[test]
fn what_is_removed_leaves_nothing_of_ours_and_all_of_others() {
    let mut rig = Rig::new();
    rig.puts("a/b/key", "value");
    rig.puts("a/key", "value");
    fs::write(rig.root().join("a/of-others"), "").unwrap();
    fs::write(rig.root().join("a/b").join(format!("{UNFINISHED}77")), "of a process that died").unwrap();
    let (roots, open) = ([rig.root().to_owned()], &mut Open::default());
    rig.writer.clean(&roots, open);
    for name in ["a/b/key", "a/key", "never"] {
        rig.writer.remove(&roots[0].join(name), open).unwrap();
    }
    rig.writer.remove_empty_dirs(&roots, open);
    assert!(!rig.root().join("a/b").exists());
    let left: Vec<_> = fs::read_dir(rig.root().join("a")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["of-others"]);
    assert!(rig.writer.manifest.files().is_empty());
}

#[test]
fn an_owner_gets_the_file() {
    if !geteuid().is_root() {
        return;
    }
    let mut rig = Rig::new();
    let (target, root) = (rig.target("key", 0o440), rig.root().to_owned());
    rig.writer.manifest.note(&target, &root);
    let owner = Owner { uid: Uid::from_raw(4321), gid: Gid::from_raw(8765) };
    for fresh in [true, false] {
        let value = SecretValue::new(b"value".to_vec());
        let piece = Piece { target: &target, root: &root, owner, value, made_of: String::new() };
        assert_eq!(rig.writer.put(&[piece], &mut Open::default(), &|_| {}).remove(0).unwrap(), fresh);
    }
    let stat = rig.stat("key");
    assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (4321, 8765, 0o440));
}

#[test]
fn links_stand_only_where_nothing_of_others_does() {
    let mut rig = Rig::new();
    // the directories of a link are checked from the top, and every user can write to a temporary directory
    let target = rig.root().join("key");
    let why = rig.writer.link(&rig.root().join("link"), &target, false).unwrap_err();
    assert!(why.to_string().contains("/tmp can be written by others"), "{why}");
}

#[test]
fn files_with_a_directory_for_themselves_are_replaced_with_it() {
    let mut rig = Rig::new();
    let (user, password) = (rig.target("pair/user", 0o400), rig.target("pair/password", 0o440));
    rig.put(&[(&user, "u1"), (&password, "p1")]);
    assert_eq!(rig.stat("pair").mode() & 0o7777, 0o755);
    let (inode, file) = (rig.stat("pair").ino(), rig.stat("pair/user").ino());
    for result in rig.put(&[(&user, "u1"), (&password, "p1")]) {
        assert!(!result.unwrap());
    }
    assert_eq!((rig.stat("pair").ino(), rig.stat("pair/user").ino()), (inode, file));
    let before = File::open(rig.root().join("pair")).unwrap();
    // one file changes, and a reader that has opened the directory sees no new file in it
    rig.put(&[(&user, "u1"), (&password, "p2")]);
    assert_ne!(rig.stat("pair").ino(), inode);
    assert_eq!((rig.read("pair/user").as_str(), rig.read("pair/password").as_str()), ("u1", "p2"));
    fstatat(&before, "password", AtFlags::empty()).unwrap_err();
    assert!(rig.is_tidy("") && rig.is_tidy("pair"));
    // with a file of someone else or of another item in it, the directory does not belong to them alone
    fs::write(rig.root().join("pair/of-others"), "").unwrap();
    let inode = rig.stat("pair").ino();
    rig.put(&[(&user, "u3"), (&password, "p3")]);
    assert_eq!(rig.stat("pair").ino(), inode);
    assert_eq!((rig.read("pair/user").as_str(), rig.read("pair/password").as_str()), ("u3", "p3"));
    fs::remove_file(rig.root().join("pair/of-others")).unwrap();
    rig.puts("pair/other", "o");
    rig.put(&[(&user, "u4"), (&password, "p4")]);
    assert_eq!((rig.stat("pair").ino(), rig.read("pair/other").as_str()), (inode, "o"));
    // if the limit is exceeded, nothing changes
    rig.writer.remove(&rig.folder.path().join("pair/other"), &mut Open::default()).unwrap();
    rig.writer.limit = 2 * 4096;
    let long = "x".repeat(5000);
    let results = rig.put(&[(&user, "u5"), (&password, long.as_str())]);
    let whys = results.into_iter().map(|result| result.unwrap_err().to_string()).collect::<Vec<_>>();
    assert!(whys[0].contains("belongs to the same group as") && whys[1].contains("limit"), "{whys:?}");
    assert_eq!((rig.read("pair/user").as_str(), rig.read("pair/password").as_str()), ("u4", "p4"));
    assert!(rig.is_tidy(""));
}

#[test]
fn a_file_of_somebody_else_in_the_place_of_ours_is_left() {
    let mut rig = Rig::new();
    rig.puts("key", "value");
    let path = rig.root().join("key");
    // it is onecred's file, even if its owner has changed it
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, "of the owner").unwrap();
    assert_eq!(rig.writer.remove(&path, &mut Open::default()).unwrap(), Removed::Ours);
    assert!(!path.exists());
    rig.puts("key", "value");
    fs::write(rig.root().join("new"), "of an admin").unwrap();
    fs::rename(rig.root().join("new"), &path).unwrap();
    assert_eq!(rig.writer.remove(&path, &mut Open::default()).unwrap(), Removed::LeftOfOthers);
    assert_eq!(rig.read("key"), "of an admin");
    assert!(rig.writer.manifest.files().is_empty(), "it is none of ours");
}

#[test]
fn a_file_that_was_put_in_its_place_right_before_the_end_is_known_as_ours() {
    for files in [&["key"][..], &["dir/user", "dir/password"]] {
        let mut rig = Rig::new();
        let targets: Vec<Target> = files.iter().map(|name| rig.target(name, 0o400)).collect();
        let root = rig.root().to_owned();
        targets.iter().for_each(|target| rig.writer.manifest.note(target, &root));
        let pieces: Vec<Piece<'_>> = targets
            .iter()
            .map(|target| {
                let value = SecretValue::new(b"value".to_vec());
                Piece { target, root: &root, owner: owner(), value, made_of: String::new() }
            })
            .collect();
        let kept = std::cell::RefCell::new(Vec::new());
        let keep = |manifest: &mut Manifest| *kept.borrow_mut() = serde_json::to_vec(manifest).unwrap();
        rig.writer
            .put(&pieces, &mut Open::default(), &keep)
            .into_iter()
            .for_each(|result| assert!(result.unwrap()));
        // later changes of the manifest are lost
        rig.writer = Writer::new(Kind::Anything, Manifest::read(&kept.borrow()));
        for target in &targets {
            assert_eq!(rig.writer.remove(&target.path, &mut Open::default()).unwrap(), Removed::Ours);
            assert!(!target.path.exists());
        }
    }
}

#[test]
fn a_symlink_of_somebody_else_is_left() {
    // below /run, because only root may be able to write to the directories of a link
    let Ok(folder) = tempfile::tempdir_in("/run") else { return };
    let mut rig = Rig::new();
    let (link, target, other) =
        (folder.path().join("link"), rig.root().join("key"), rig.root().join("other"));
    rig.writer.manifest.note(&Target { links: vec![link.clone()], ..rig.target("key", 0o400) }, &other);
    symlink("/of/somebody/else", &link).unwrap();
    let why = rig.writer.link(&link, &target, false).unwrap_err();
    assert!(matches!(why, Fault::Occupied(_)), "{why}");
    rig.writer.unlink(&link).unwrap();
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("/of/somebody/else"));
    // one of the links was changed, and removed
    fs::remove_file(&link).unwrap();
    rig.writer.link(&link, &target, false).unwrap();
    rig.writer.link(&link, &other, false).unwrap();
    assert_eq!(fs::read_link(&link).unwrap(), other);
    rig.writer.unlink(&link).unwrap();
    fs::read_link(&link).unwrap_err();
}

#[test]
fn another_mount_below_a_root_is_refused() {
    let Ok(top) = Dir::root(Path::new("/"), Kind::Anything) else { return };
    let why = top.down(OsStr::new("proc")).unwrap_err();
    assert!(why.to_string().contains("/proc is a mount of another program"), "{why}");
}

#[test]
fn directories_of_links_are_made_and_removed_only_if_that_is_wanted() {
    // below /run, because only root may be able to write to the directories of a link
    let Ok(folder) = tempfile::tempdir_in("/run") else { return };
    let mut rig = Rig::new();
    let (link, target) = (folder.path().join("a/b/link"), rig.root().join("key"));
    let why = rig.writer.link(&link, &target, false).unwrap_err();
    let remedy = why.remedy("key");
    for words in ["install -d", "/etc/tmpfiles.d/", "0755 root root -", "\"makeDirectories\": true"] {
        assert!(remedy.contains(words), "{remedy}");
    }
    rig.writer.link(&link, &target, true).unwrap();
    let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("a"), mode("a/b")), (0o755, 0o755));
    // a later process finds them in the manifest
    rig.writer.manifest.lost();
    let Some(super::super::manifest::Update::Replace(list)) = rig.writer.manifest.update() else {
        panic!("nothing is new")
    };
    rig.writer = Writer::new(Kind::Anything, Manifest::read(&list));
    rig.writer.remove_link_dirs(&[link.as_path()]);
    assert!(link.is_symlink(), "it is in use");
    rig.writer.unlink(&link).unwrap();
    fs::write(folder.path().join("a/of-an-admin"), "").unwrap();
    rig.writer.remove_link_dirs(&[]);
    assert!(!folder.path().join("a/b").exists() && folder.path().join("a").exists());
    fs::remove_file(folder.path().join("a/of-an-admin")).unwrap();
    rig.writer.remove_link_dirs(&[]);
    assert!(!folder.path().join("a").exists() && folder.path().exists());
}
