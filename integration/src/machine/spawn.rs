//! Child processes that cannot outlive this process: they are started by a thread that runs as long as it
//! does.
use std::{
    io,
    process::{Child, Command},
    sync::{LazyLock, Mutex, mpsc},
    thread,
};

struct Order {
    command: Command,
    child: mpsc::Sender<io::Result<Child>>,
}

/// The kernel sends a parent-death signal when the *thread* that forked ends, and a test's thread ends with
/// the test.
static SPAWNER: LazyLock<Mutex<mpsc::Sender<Order>>> = LazyLock::new(|| {
    let (orders, inbox) = mpsc::channel::<Order>();
    thread::spawn(move || {
        for mut order in inbox {
            let _ = order.child.send(order.command.spawn());
        }
    });
    Mutex::new(orders)
});

/// Starts a command that the kernel kills when this process ends for any reason.
pub(super) fn bound_to_this_process(program: &str, build: impl FnOnce(&mut Command)) -> io::Result<Child> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    build(&mut command);
    let (child, answer) = mpsc::channel();
    let gone = || io::Error::other("the spawning thread is gone");
    SPAWNER.lock().map_err(|_| gone())?.send(Order { command, child }).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}
