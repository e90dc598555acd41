//! onecred on a real systemd: the machine, the fakes, the cases and the benchmarks.

pub mod fake_connect;
