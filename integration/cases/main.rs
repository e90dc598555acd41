//! smoke
use onecred_integration::machine::*;
fn main() {
    clear_on_signals().unwrap();
    for s in Suite::chosen().unwrap() {
        let t = std::time::Instant::now();
        let m = Plan::new(s).boot().unwrap_or_else(|e| panic!("{e}"));
        eprintln!("{s} boot {:?}", t.elapsed());
        print!("{}", m.run(&["systemctl", "--version"]).ok());
        print!("{}", m.run(&["systemctl", "list-units", "--no-legend"]).ok());
        print!("{}", m.run(&["systemd-analyze", "blame"]).ok());
        print!("{}", m.run(&["systemd-analyze"]));
        print!("{}", m.whole_journal(100));
        if std::env::var_os("PAUSE").is_some() { std::thread::sleep(std::time::Duration::from_secs(1000)); }
        let t = std::time::Instant::now();
        drop(m);
        eprintln!("{s} drop {:?}", t.elapsed());
    }
}
