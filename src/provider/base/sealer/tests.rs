use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use super::*;
use crate::domain::seal::key_file;

const MACHINE: u128 = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;

/// Puts a key of this machine there.
fn put(file: &Path, machine_id: u128, key: &[u8]) {
    let next = file.with_extension("next");
    fs::write(&next, [&key_file::app_specific(machine_id)[..], key].concat()).unwrap();
    fs::set_permissions(&next, Permissions::from_mode(0o400)).unwrap();
    fs::rename(&next, file).unwrap();
}

/// A folder with a machine ID, and a sealer of a key that is to be in `systemd/credential.secret` there.
fn place() -> (TempDir, PathBuf, Sealer) {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("systemd/credential.secret");
    let sealer = sealer(place.path(), &file);
    (place, file, sealer)
}

fn sealer(place: &Path, file: &Path) -> Sealer {
    fs::write(place.join("machine-id"), format!("{MACHINE:032x}\n")).unwrap();
    Sealer::with_machine_id(file, &place.join("machine-id"))
}

/// A sealer with a key, both in this folder.
pub(crate) fn with_key(folder: &Path) -> Sealer {
    let file = folder.join("key");
    put(&file, MACHINE, &[1; 32]);
    sealer(folder, &file)
}

fn is_settled(sealer: &Sealer) -> bool {
    sealer.looks.look();
    sealer.is_settled()
}

fn key(sealer: &Sealer) -> Looked {
    sealer.looks.look();
    sealer.last()
}

fn seal(sealer: &Sealer) -> Result<usize, String> {
    sealer.looks.look();
    let value = SecretValue::new(b"hunter2".to_vec());
    let sealed = sealer.seal(&CredentialId::parse("db").unwrap(), &value);
    sealed.map(|blob| blob.len()).map_err(|error| error.with_remedy())
}

#[test]
fn a_key_that_comes_and_changes() {
    let (_place, file, sealer) = place();
    assert!(!is_settled(&sealer));
    assert!(seal(&sealer).unwrap_err().contains("RequiresMountsFor="));
    fs::create_dir(file.parent().unwrap()).unwrap();
    assert!(!is_settled(&sealer), "it may be made just now");
    assert!(seal(&sealer).unwrap_err().contains("systemd-creds setup"));
    put(&file, MACHINE, b"");
    assert!(is_settled(&sealer));
    assert!(seal(&sealer).unwrap_err().contains("it has 16 bytes"));
    put(&file, MACHINE, &[1; 32]);
    assert!(seal(&sealer).is_ok());
    let first = key(&sealer).unwrap();
    assert!(Arc::ptr_eq(&first, &key(&sealer).unwrap()), "read again");
    put(&file, MACHINE, &[2; 32]);
    assert!(!Arc::ptr_eq(&first, &key(&sealer).unwrap()), "not read again");
    fs::remove_file(&file).unwrap();
    assert!(seal(&sealer).unwrap_err().contains("has no key"));
}

#[test]
fn a_key_that_systemd_does_not_use_seals_nothing() {
    let (place, file, sealer) = place();
    fs::create_dir(file.parent().unwrap()).unwrap();
    let other = place.path().join("other");
    let break_it: [(&str, &dyn Fn(), &str); 5] = [
        ("0644", &|| fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap(), "chmod 0400 "),
        ("two links", &|| fs::hard_link(&file, &other).unwrap(), "-samefile "),
        (
            "a symbolic link",
            &|| {
                let _ = fs::remove_file(&other);
                fs::rename(&file, &other).unwrap();
                symlink(&other, &file).unwrap();
            },
            "bind mount",
        ),
        ("another machine's", &|| put(&file, MACHINE + 1, &[1; 32]), "another machine ID"),
        (
            "a new machine ID",
            &|| fs::write(place.path().join("machine-id"), "none yet").unwrap(),
            "machine-id-setup",
        ),
    ];
    for (case, break_it, words) in break_it {
        let _ = (fs::remove_file(&other), fs::remove_file(&file));
        put(&file, MACHINE, &[1; 32]);
        assert!(seal(&sealer).is_ok(), "before {case}");
        break_it();
        let error = seal(&sealer).expect_err(case);
        assert!(error.contains(words), "{case}: {error}");
    }
}

#[test]
fn a_key_is_made_when_it_is_missing_or_foreign_and_a_unit_asks() {
    let (_place, file, sealer) = place();
    fs::create_dir(file.parent().unwrap()).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let sealer = sealer.with_maker(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let asked = || asked.swap(0, Ordering::Relaxed);
    assert!(key(&sealer).is_err() && asked() == 0, "a look makes none");
    assert!(!is_settled(&sealer) && !is_settled(&sealer));
    assert_eq!(asked(), 1, "once for all who wait");
    put(&file, MACHINE, &[1; 32]);
    assert!(is_settled(&sealer) && asked() == 0);
    put(&file, MACHINE + 1, &[1; 32]);
    assert!(!is_settled(&sealer) && asked() == 1);
    put(&file, MACHINE, &[1; 32]);
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    assert!(is_settled(&sealer) && asked() == 0, "systemd makes none in its place");
}

/// The disk of the key hangs until something is sent.
#[tokio::test]
async fn who_needs_a_key_waits_for_its_disk_and_one_thread_looks() {
    let (answer, answers) = std::sync::mpsc::channel::<()>();
    let (answers, looks) = (Mutex::new(answers), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&looks);
    let sealer = Arc::new(Sealer::reading("/var/key".into(), move || {
        count.fetch_add(1, Ordering::SeqCst);
        let _ = answers.lock().unwrap().recv();
        Err(Unsealed::NoRandom)
    }));
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let sealer = Arc::clone(&sealer);
            tokio::spawn(async move { sealer.settled().await })
        })
        .collect();
    while looks.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
    assert!(matches!(sealer.not_settled(), Unsealed::NoAnswer(file) if file == Path::new("/var/key")));
    assert_eq!(looks.load(Ordering::SeqCst), 1, "one at a time");
    for _ in 0..2 {
        answer.send(()).unwrap();
    }
    for waiting in waiting {
        timeout(Duration::from_secs(60), waiting).await.expect("it hangs").unwrap();
    }
    assert!(matches!(sealer.not_settled(), Unsealed::NoRandom));
    assert_eq!(looks.load(Ordering::SeqCst), 2, "one for all who waited during the first");
}

/// A look that has begun may have read the key before it was replaced.
#[tokio::test]
async fn who_asks_during_a_look_gets_the_result_of_the_next_one() {
    let (answer, answers) = std::sync::mpsc::channel::<()>();
    let (answers, looks) = (Mutex::new(answers), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&looks);
    let sealer = Arc::new(Sealer::reading("/var/key".into(), move || {
        count.fetch_add(1, Ordering::SeqCst);
        let _ = answers.lock().unwrap().recv();
        Err(Unsealed::NoRandom)
    }));
    let look = || {
        let sealer = Arc::clone(&sealer);
        tokio::spawn(async move { sealer.look().await })
    };
    let begun = async |number: usize| {
        while looks.load(Ordering::SeqCst) < number {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let first = look();
    begun(1).await;
    let second = look();
    while !sealer.looks.inner().is_wanted {
        tokio::task::yield_now().await;
    }
    answer.send(()).unwrap();
    timeout(Duration::from_secs(60), first).await.expect("it hangs").unwrap();
    begun(2).await;
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!second.is_finished(), "it took the result of a look that began before");
    answer.send(()).unwrap();
    timeout(Duration::from_secs(60), second).await.expect("it hangs").unwrap();
}
