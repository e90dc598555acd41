use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::*;

/// A test that takes longer than this hangs.
const HANGS: Duration = Duration::from_secs(60);

/// A connection, systemd's end of it, and the permits that show when it is closed.
async fn pair() -> (Connection, UnixStream, Arc<Semaphore>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let permits = Arc::new(Semaphore::new(1));
    let permit = Arc::clone(&permits).acquire_owned().await.unwrap();
    (Connection::new(ours.into(), ConnectionPermits::new(permit, None, Arc::default())), theirs, permits)
}

/// Waits until a connection is closed, or does not block new connections any more.
async fn until_closed(permits: &Semaphore) {
    drop(timeout(HANGS, permits.acquire()).await.expect("it is not closed").unwrap());
}

/// Reads as systemd does: up to its limit plus one byte, then hangs up.
async fn read_as_systemd(mut theirs: UnixStream) -> Vec<u8> {
    theirs.set_read_timeout(Some(HANGS)).unwrap();
    tokio::task::spawn_blocking(move || {
        let mut got = Vec::new();
        Read::by_ref(&mut theirs).take((1 << 20) + 1).read_to_end(&mut got).unwrap();
        got
    })
    .await
    .unwrap()
}

async fn answer(connection: Connection, value: SecretValue) -> Delivery {
    match connection.answer_at_once(&value) {
        Ok(delivery) => delivery,
        Err((connection, sent)) => {
            timeout(HANGS, connection.answer_rest(value, sent)).await.expect("it is not sent")
        }
    }
}

#[tokio::test]
async fn a_value_arrives_whole_whatever_its_length() {
    for len in [0, 1, 16, 65_536, 219_264, 219_265, 921_600, 1 << 20] {
        let (connection, theirs, permits) = pair().await;
        let value: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        let (delivery, got) =
            tokio::join!(answer(connection, SecretValue::new(value.clone())), read_as_systemd(theirs));
        assert_eq!(delivery, Delivery::Whole);
        assert!(got == value, "{len} bytes");
        until_closed(&permits).await;
    }
}

#[tokio::test]
async fn a_refusal_goes_over_the_limit_and_ends_when_the_peer_hangs_up() {
    let (connection, theirs, permits) = pair().await;
    connection.refuse("no item\nof this name");
    let got = read_as_systemd(theirs).await;
    assert_eq!(got.len(), (1 << 20) + 1);
    assert!(got.starts_with(b"onecred: refused: no item of this name\n!!!!"));
    until_closed(&permits).await;
}

#[tokio::test]
async fn a_connection_that_is_dropped_is_refused() {
    let (connection, theirs, _permits) = pair().await;
    let task = tokio::spawn(async move {
        let _connection = connection;
        panic!("on purpose");
    });
    assert!(task.await.is_err());
    assert_eq!(read_as_systemd(theirs).await.len(), (1 << 20) + 1);
}

#[tokio::test]
async fn a_value_that_was_sent_in_part_is_refused_when_its_task_dies() {
    let (connection, theirs, _permits) = pair().await;
    let value = SecretValue::new(vec![7; 900_000]);
    let Err((connection, sent)) = connection.answer_at_once(&value) else { panic!("it went at once") };
    assert!(sent > 0 && sent < value.len());
    drop(connection);
    let got = read_as_systemd(theirs).await;
    assert_eq!(got.len(), (1 << 20) + 1);
    let reason = b"onecred: refused: something went wrong";
    assert!(got.windows(reason.len()).any(|part| part == reason), "the reason is behind what was sent");
}

#[tokio::test]
async fn a_socket_in_use_stays_open_when_its_task_is_aborted() {
    let (connection, mut theirs, _permits) = pair().await;
    let value = SecretValue::new(vec![7; 900_000]);
    let Err((connection, sent)) = connection.answer_at_once(&value) else { panic!("it went at once") };
    let task = tokio::spawn(connection.answer_rest(value, sent));
    tokio::task::yield_now().await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    // the sent bytes arrive, but no EOF follows: the keeper continues after the process ends
    let mut got = vec![0; sent];
    theirs.set_read_timeout(Some(HANGS)).unwrap();
    theirs.read_exact(&mut got).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut rest = Vec::new();
    assert_eq!(theirs.read_to_end(&mut rest).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_peer_that_has_hung_up_is_noticed() {
    let (connection, theirs, _permits) = pair().await;
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(!connection.hung_up(), "systemd shuts its own direction down at once");
    drop(theirs);
    assert!(connection.hung_up());
    assert_eq!(answer(connection, SecretValue::new(vec![1; 10])).await, Delivery::HungUp { sent: 0 });
    let (connection, theirs, permits) = pair().await;
    drop(theirs);
    connection.refuse("too late");
    until_closed(&permits).await;
    let (connection, theirs, _permits) = pair().await;
    drop(theirs);
    let at_once = connection.answer_at_once(&SecretValue::new(vec![1; 10])).map_err(|(_, sent)| sent);
    assert_eq!(at_once, Ok(Delivery::HungUp { sent: 0 }), "no task waits for it");
}

#[tokio::test]
async fn a_refusal_that_has_begun_waits_for_nothing_that_a_stop_waits_for() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let [open, waiting] = [(); 2].map(|()| Arc::new(Semaphore::new(1)));
    let acquire = |permits: &Arc<Semaphore>| Arc::clone(permits).try_acquire_owned().unwrap();
    let connection = Connection::new(
        ours.into(),
        ConnectionPermits::new(acquire(&open), Some(acquire(&waiting)), Arc::default()),
    );
    assert!(waiting.try_acquire().is_err(), "it waits for its answer");
    connection.refuse("no");
    assert!(waiting.try_acquire().is_ok(), "the keeper can finish it");
    assert!(open.try_acquire().is_err(), "it is open until its peer has read all of it");
    drop(theirs);
}

/// More bytes than any reader of systemd accepts: nspawn reads up to 67,174,400 before it fails.
const NSPAWN: u64 = 67_174_400;

/// Reads this much, and returns how much arrived: less after EOF, or if nothing more arrives for a minute.
fn read_up_to(mut theirs: &UnixStream, most: u64) -> u64 {
    theirs.set_read_timeout(Some(HANGS)).unwrap();
    let (mut read, mut buffer) = (0, vec![0; 1 << 20]);
    while read < most {
        match theirs.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(n) => read += n as u64,
        }
    }
    read
}

#[tokio::test]
async fn a_refusal_ends_readers_that_buffer_64_mib_and_more() {
    let (connection, theirs, permits) = pair().await;
    connection.refuse("no");
    let read = tokio::task::spawn_blocking(move || read_up_to(&theirs, NSPAWN)).await.unwrap();
    assert!(read >= NSPAWN, "it got {read} bytes");
    until_closed(&permits).await;
}

#[tokio::test]
async fn a_reader_that_never_hangs_up_keeps_a_descriptor_and_nothing_else() {
    let (connection, theirs, permits) = pair().await;
    connection.refuse("no");
    let theirs = tokio::task::spawn_blocking(move || {
        assert!(read_up_to(&theirs, ENOUGH) >= ENOUGH);
        theirs
    });
    let mut theirs = theirs.await.unwrap();
    until_closed(&permits).await;
    theirs.set_nonblocking(true).unwrap();
    let mut rest = Vec::new();
    assert_eq!(theirs.read_to_end(&mut rest).unwrap_err().kind(), io::ErrorKind::WouldBlock, "it was closed");
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_a_hang_up_wakes_nobody() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let socket = Unfinished::new(Held::new(ours.into()));
    let (mut wait, mut polls) = (std::pin::pin!(socket.hung_up()), 0);
    let counted = std::future::poll_fn(|context| {
        polls += 1;
        wait.as_mut().poll(context)
    });
    timeout(Duration::from_secs(3600), counted).await.unwrap_err();
    assert!(polls < 10, "it was polled {polls} times in an hour");
    drop(theirs);
    timeout(HANGS, wait).await.expect("the hang-up was not noticed");
}
