//! Owners, permissions and what a file was made of.

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::*;

fn piece<'a>(rig: &'a Rig, target: &'a Target, owner: Owner, made_of: &str) -> Piece<'a> {
    let value = SecretValue::new(b"value".to_vec());
    Piece { target, root: rig.root(), owner, value, made_of: made_of.to_owned() }
}

fn put(rig: &mut Rig, owner: Owner, made_of: &str) -> Result<bool, Fault> {
    let target = rig.target("key", 0o400);
    let mut writer = std::mem::replace(&mut rig.writer, Writer::new(Kind::Anything, Manifest::default()));
    writer.manifest.note(&target, rig.root());
    let result = writer.put(&[piece(rig, &target, owner, made_of)], &mut Open::default(), &|_| {}).remove(0);
    rig.writer = writer;
    result
}

#[test]
fn what_a_file_was_made_of_is_known() {
    let mut rig = Rig::new();
    let path = rig.root().join("key");
    rig.writer.manifest.note(&rig.target("key", 0o400), rig.folder.path());
    assert_eq!(rig.writer.made_of(&path), None, "it is not published yet");
    for (made_of, is_written) in [("one", true), ("one", false), ("two", false)] {
        assert_eq!(put(&mut rig, owner(), made_of).unwrap(), is_written, "{made_of}");
        assert_eq!(rig.writer.made_of(&path), Some(made_of));
    }
}

#[test]
fn a_file_of_another_owner_is_written_again() {
    let mut rig = Rig::new();
    put(&mut rig, owner(), "").unwrap();
    let (uid, gid) = (Uid::from_raw(owner().uid.as_raw() + 1), Gid::from_raw(owner().gid.as_raw() + 1));
    for other in [Owner { uid, ..owner() }, Owner { gid, ..owner() }, Owner { uid, gid }] {
        match put(&mut rig, other, "") {
            Ok(is_written) => {
                let stat = rig.stat("key");
                let expected = (true, other.uid.as_raw(), other.gid.as_raw());
                assert_eq!((is_written, stat.uid(), stat.gid()), expected);
            }
            Err(fault) => assert!(!geteuid().is_root(), "{fault}"), // others cannot give files away
        }
    }
}

#[test]
fn an_incomplete_file_is_private() {
    let rig = Rig::new();
    let dir = Dir::root(rig.root(), Kind::Anything).unwrap();
    fs::write(rig.root().join("new"), "left by a process that died").unwrap();
    let file = rig.writer.create(&dir, OsStr::new("new")).unwrap();
    assert_eq!(rig.stat("new").mode() & 0o7777, 0o600);
    assert_eq!(rig.read("new"), "");
    let flags = FdFlag::from_bits_truncate(fcntl(&file, FcntlArg::F_GETFD).unwrap());
    assert!(flags.contains(FdFlag::FD_CLOEXEC));
    rig.writer.opens(rig.root()).unwrap();
    rig.writer.opens(&rig.root().join("missing")).unwrap_err();
}

#[test]
fn files_that_exceed_the_limit_together_are_not_written() {
    let mut rig = Rig::new();
    rig.writer.limit = in_pages(1);
    let (one, other) = (rig.target("one", 0o400), rig.target("other", 0o400));
    let results = rig.put(&[(&one, "value"), (&other, "value")]);
    assert!(results.iter().all(Result::is_err), "{results:?}");
    assert!(rig.is_tidy(""));
}

#[test]
fn a_file_whose_directory_is_gone_is_forgotten() {
    let mut rig = Rig::new();
    rig.puts("dir/key", "value");
    let (root, path) = (rig.root().to_owned(), rig.root().join("dir/key"));
    let exists = |rig: &Rig, path: &Path| rig.writer.exists(path, &root, &mut Open::default());
    assert_eq!(exists(&rig, &path), Some(true));
    assert_eq!(exists(&rig, &root.join("dir/other")), Some(false));
    fs::remove_dir_all(root.join("dir")).unwrap();
    assert_eq!(exists(&rig, &path), Some(false));
    rig.writer.remove(&path, &mut Open::default()).unwrap();
    assert!(!rig.writer.has(&path));
    fs::write(root.join("dir"), "no directory").unwrap();
    assert_eq!(exists(&rig, &path), None);
}

#[test]
fn files_in_two_directories_are_written_each_in_its_own() {
    let mut rig = Rig::new();
    let (one, other) = (rig.target("one/a", 0o400), rig.target("other/b", 0o400));
    for (first, second) in [("a1", "b1"), ("a2", "b2")] {
        rig.put(&[(&one, first), (&other, second)]).into_iter().for_each(|result| assert!(result.unwrap()));
        assert_eq!((rig.read("one/a").as_str(), rig.read("other/b").as_str()), (first, second));
    }
}
