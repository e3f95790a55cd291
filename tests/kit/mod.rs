//! What every black-box test starts with: the real binary with a configuration of its own, scripted
//! peers on free ports, and waiting with a deadline instead of sleeping.
//!
//! The kit refuses to know what is being tested.

#![allow(dead_code, unused_imports, reason = "each test crate uses its own part of the kit")]

pub mod config;
pub mod http;
pub mod kernel;
pub mod netns;
pub mod peer;
pub mod process;
pub mod proxy;
pub mod server;
pub mod stats;
pub mod steady;

use std::{
    panic,
    thread::{self, park_timeout},
    time::{Duration, Instant},
};

use ringway::rt::{Driver, Engine, choose};

pub use config::Config;
pub use peer::{End, Seen};
pub use proxy::{Folder, Proxy};
pub use server::{Blackhole, FreePort, Hand, Refusing, Server, Tool};
pub use stats::Stats;
pub use steady::Steady;

/// Everything that has to happen happens within this, on a machine that is busy elsewhere too.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How long a poll waits before it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Lets others work for a moment while something is waited for.
pub fn pause(time: Duration) {
    park_timeout(time);
}

/// Looks until there is something to see.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} in vain for: {what}");
        pause(LOOK_AGAIN);
    }
}

/// Looks until it is so.
pub fn wait_until(what: &str, mut look: impl FnMut() -> bool) {
    wait_for(what, || look().then_some(()));
}

/// Says that a story cannot be told here, for want of a tool or a right; with `CI=true` it fails.
pub fn not_tested(why: &str) {
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "NOT TESTED {why}");
    eprintln!("NOT TESTED {why}");
}

/// The drivers this host has; epoll always.
pub fn drivers() -> Vec<&'static str> {
    let meters = Box::leak(Box::default());
    let ring = Some(Driver::IoUring);
    let refusal = Engine::new(Driver::IoUring, meters).err();
    match choose(ring, refusal.as_ref()) {
        Ok(_) => vec!["io_uring", "epoll"],
        Err(refusal) => {
            not_tested(&format!("with io_uring: {refusal}"));
            vec!["epoll"]
        }
    }
}

/// Lets time pass in which nothing is to happen; never less than that.
pub fn let_pass(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        pause(until.saturating_duration_since(Instant::now()));
    }
}

/// Tells the story once for each driver, at the same time; the thread's name says which one failed.
pub fn each_driver(story: impl Fn(&'static str) + Sync) {
    let told: Vec<_> = thread::scope(|scope| {
        let tell = |driver: &'static str| {
            let story = &story;
            let thread = thread::Builder::new().name(format!("driver {driver}"));
            (driver, thread.spawn_scoped(scope, move || story(driver)).unwrap())
        };
        let threads: Vec<_> = drivers().into_iter().map(tell).collect();
        threads.into_iter().map(|(driver, thread)| (driver, thread.join())).collect()
    });
    let failed: Vec<&str> =
        told.iter().filter(|(_, told)| told.is_err()).map(|(driver, _)| *driver).collect();
    assert!(failed.is_empty(), "failed with driver {}", failed.join(" and "));
}

/// The same, one after the other: for what measures time.
pub fn each_driver_alone(story: impl Fn(&'static str)) {
    for driver in drivers() {
        if let Err(panic) = panic::catch_unwind(panic::AssertUnwindSafe(|| story(driver))) {
            eprintln!("failed with driver {driver}");
            panic::resume_unwind(panic);
        }
    }
}

/// A seed that is printed where the test fails, and can be given with `RINGWAY_SEED`.
pub struct Seed(pub u64);

impl Seed {
    pub fn new() -> Seed {
        let given = std::env::var("RINGWAY_SEED").ok().and_then(|seed| seed.parse().ok());
        Seed(given.unwrap_or_else(|| fastrand::u64(..)))
    }

    /// A source of its own for each part of a test.
    pub fn rng(&self, part: u64) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.0.wrapping_add(part.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("again with RINGWAY_SEED={}", self.0);
        }
    }
}
