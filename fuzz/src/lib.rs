//! Runs a fuzz target of onecred, and measures the memory that it uses.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

pub use libfuzzer_sys::fuzz_target;

/// The system's allocator, which counts the memory of this thread and its peak.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let held = HELD.get() + bytes;
    HELD.set(held);
    MOST.set(MOST.get().max(held));
}

// SAFETY: all calls are passed unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller guarantees.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller guarantees.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs the target of this name.
pub fn run(name: &str, data: &[u8]) {
    let found = onecred::fuzzing::TARGETS.iter().find(|target| target.name == name);
    let target = found.unwrap_or_else(|| panic!("there is no target {name}"));
    let before = HELD.get();
    MOST.set(before);
    (target.run)(data);
    let (most, (base, each)) = (MOST.get() - before, target.memory);
    let allowed = base + each * data.len();
    assert!(most <= allowed as isize, "{most} bytes of memory for an input of {}, and {allowed} are the most", data.len());
}

/// Defines the program of a target.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        $crate::fuzz_target!(|data: &[u8]| $crate::run($name, data));
    };
}
