#![no_main]
onecred_fuzz::target!("core");
