//! A thread inside a machine: it starts programs there and works on files without another process, which would
//! cost more than most of what the cases do.
use nix::{
    sched::{CloneFlags, setns, unshare},
    unistd::{chroot, fchdir},
};
use std::{
    fs::{self, File},
    io,
    os::unix::{
        fs::{OpenOptionsExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{Mutex, PoisonError, mpsc},
    thread,
};

type Order = Box<dyn FnOnce() + Send>;

/// Where programs are searched for.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The thread. It ends when this is dropped, and with it its hold on the machine's namespaces.
pub(super) struct Inside {
    orders: Mutex<mpsc::Sender<Order>>,
}

impl Inside {
    /// Starts a thread in the namespaces and the root of this process.
    pub(super) fn enter(init: i32) -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel::<Order>();
        let (entered, result) = mpsc::channel();
        thread::Builder::new().name("in the machine".into()).spawn(move || {
            let is_in = enter(init);
            let stays = is_in.is_ok();
            let _ = entered.send(is_in);
            for order in inbox.into_iter().take_while(|_| stays) {
                order();
            }
        })?;
        result.recv().map_err(io::Error::other)??;
        Ok(Self { orders: Mutex::new(orders) })
    }

    /// Runs `work` in the machine and waits for its result. It must be short, because there is one thread.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (done, result) = mpsc::channel();
        let order: Order = Box::new(move || drop(done.send(work())));
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner).clone();
        orders.send(order).map_err(|_| io::Error::other("the thread in the machine has ended"))?;
        result.recv().map_err(|_| io::Error::other("the thread in the machine has panicked"))?
    }

    /// Starts a program, which is searched for in the machine.
    pub(super) fn spawn(&self, words: &[String], prepare: fn(&mut Command)) -> io::Result<Child> {
        let words = words.to_vec();
        self.run(move || {
            let (name, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
            // by its path: with another PATH, std searches for a name in a copy of this process, and copying
            // all its memory is slow
            let mut command = Command::new(program(name)?);
            prepare(command.arg0(name).args(arguments));
            command.spawn()
        })
    }

    /// Writes a new file in place of what is there, as install(1) does. Creates its directories.
    pub(super) fn write(&self, path: &str, content: &[u8], mode: u32) -> io::Result<()> {
        let (path, content) = (PathBuf::from(path), content.to_vec());
        self.run(move || {
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
            io::Write::write_all(&mut file, &content)?;
            file.set_permissions(fs::Permissions::from_mode(mode))
        })
    }

    /// Reads a file.
    pub(super) fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let path = PathBuf::from(path);
        self.run(move || fs::read(path))
    }
}

/// Moves this thread, and the processes that it starts, into a process's namespaces and root.
fn enter(init: i32) -> io::Result<()> {
    let of = |what: &str| File::open(format!("/proc/{init}/{what}"));
    let root = of("root")?;
    let names = ["ns/uts", "ns/ipc", "ns/net", "ns/cgroup", "ns/pid", "ns/mnt"];
    let namespaces = names.into_iter().map(of).collect::<io::Result<Vec<_>>>()?;
    unshare(CloneFlags::CLONE_FS)?; // the working directory and the root are no longer those of all threads
    for namespace in namespaces {
        setns(namespace, CloneFlags::empty())?;
    }
    fchdir(&root)?;
    Ok(chroot(".")?)
}

/// The path of a program in the root of this thread.
fn program(name: &str) -> io::Result<PathBuf> {
    if name.contains('/') {
        return Ok(name.into());
    }
    let paths = PATH.split(':').map(|folder| Path::new(folder).join(name));
    paths.into_iter().find(|path| path.is_file()).ok_or_else(|| io::ErrorKind::NotFound.into())
}
