//! A thousand seeds on each engine, and bugs that are planted to see that they are found.

use std::{
    env,
    io::{self, Write},
    thread,
};

use super::world::{self, Seen};
use crate::{planted::Bug, rt::Driver};

const ENGINES: [Driver; 2] = [Driver::IoUring, Driver::Epoll];

/// Lives through one seed on a thread of its own; what happened, or what went wrong.
fn live(driver: Driver, seed: u64, bug: Option<Bug>) -> Result<Seen, String> {
    let life = thread::Builder::new().name(format!("seed {seed} on {}", driver.name()));
    let life = life.spawn(move || world::run(driver, seed, bug)).unwrap();
    life.join().map_err(|panic| match panic.downcast::<String>() {
        Ok(words) => *words,
        Err(panic) => panic.downcast_ref::<&str>().unwrap_or(&"?").to_string(),
    })
}

fn number(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} = {value:?}: not a number")))
}

/// Seeds of a run without a wish; so many see everything in [`RARE`].
const SEEDS: u64 = 1000;

/// What has to have happened, or the simulation is blind.
const RARE: [&str; 19] = [
    "accept pauses",
    "bytes copied",
    "bytes spliced",
    "chunks dry",
    "client_fin",
    "client_reset",
    "connect_local",
    "connect_refused",
    "connect_timeout",
    "connect_unreachable",
    "drained",
    "half_close_timeout",
    "idle_timeout",
    "no_backend",
    "overload",
    "pipes dry",
    "pipes grown",
    "server_fin",
    "server_reset",
];

/// The same of the ring alone.
const RARE_ON_RING: [&str; 4] =
    ["completions late", "completions lost", "internal_error", "ring dry"];

/// 1. For each seed a world is drawn: clients, backends, configuration, faults. 2. A shard lives
///    through it. 3. Every byte is right, every connection recorded once, nothing left over.
fn worlds_leave_nothing_behind(driver: Driver, rare: &[&str]) {
    let seeds = match (number("RINGWAY_SIM_SEED"), number("RINGWAY_SIM_SEEDS")) {
        (Some(first), count) => first..first + count.unwrap_or(1),
        (None, count) => 0..count.unwrap_or(SEEDS),
    };
    let is_whole = seeds.end - seeds.start >= SEEDS;
    let (mut seen, mut failed) = (Seen::new(), Vec::new());
    for seed in seeds {
        match live(driver, seed, None) {
            Ok(more) => more.into_iter().for_each(|(what, n)| *seen.entry(what).or_default() += n),
            Err(words) => {
                if failed.len() < 10 {
                    // At once, and past the test's capture: what comes next may take long.
                    writeln!(io::stderr(), "RINGWAY_SIM_SEED={seed}: {words}").unwrap();
                }
                failed.push(seed);
            }
        }
    }
    eprintln!("{seen:#?}");
    let first = failed.first();
    assert!(failed.is_empty(), "{} worlds failed, the first is {first:?}", failed.len());
    let missing = rare.iter().filter(|what| seen.get(*what).is_none_or(|count| *count == 0));
    let missing: Vec<_> = missing.collect();
    assert!(!is_whole || missing.is_empty(), "never happened: {missing:?}");
}

#[test]
fn a_thousand_worlds_leave_nothing_behind_on_the_ring() {
    worlds_leave_nothing_behind(Driver::IoUring, &[RARE.as_slice(), &RARE_ON_RING].concat());
}

#[test]
fn a_thousand_worlds_leave_nothing_behind_on_epoll() {
    worlds_leave_nothing_behind(Driver::Epoll, &RARE);
}

#[test]
fn a_seed_lives_the_same_life_twice() {
    for driver in ENGINES {
        for seed in 0..20 {
            assert_eq!(live(driver, seed, None), live(driver, seed, None), "seed {seed}");
        }
    }
}

/// Seeds within which a planted bug has to be found.
const HUNT: u64 = 10_000;

/// 1. A bug is planted. 2. Worlds are lived through until one fails, and says why. 3. Without the
///    bug the same world does not.
fn is_found_on(driver: Driver, bug: Bug, words: &[&str]) {
    let found = (0..HUNT).find_map(|seed| Some((seed, live(driver, seed, Some(bug)).err()?)));
    let (seed, found) = found.unwrap_or_else(|| panic!("{bug:?} was not found in {HUNT} worlds"));
    eprintln!("{bug:?} on {}: seed {seed}: {found}", driver.name());
    assert!(words.iter().any(|words| found.contains(words)), "{bug:?} was found as {found}");
    assert_eq!(live(driver, seed, None).err(), None, "seed {seed} fails without {bug:?} too");
}

/// A bug of the ring's engine.
fn is_found(bug: Bug, words: &[&str]) {
    is_found_on(Driver::IoUring, bug, words);
}

/// A bug of what stands on either engine.
fn is_found_on_both(bug: Bug, words: &[&str]) {
    ENGINES.into_iter().for_each(|driver| is_found_on(driver, bug, words));
}

#[test]
fn a_fin_that_overtakes_bytes_is_found() {
    is_found(Bug::FinOvertakes, &["bytes up", "before the end", "bytes down"]);
}

#[test]
fn a_buffer_that_is_not_given_back_is_found() {
    is_found(Bug::BufferKept, &["left over"]);
}

#[test]
fn a_completion_that_reaches_a_reused_slot_is_found() {
    is_found(Bug::SlotReused, &["outlives its operations", "subtract", "bytes of", "wrong bytes"]);
}

#[test]
fn a_receive_that_is_never_armed_again_is_found() {
    is_found(Bug::StoppedForEver, &["still there", "subtract"]);
}

#[test]
fn a_reset_that_is_told_as_a_fin_is_found() {
    is_found(Bug::ResetIsFin, &["which did not finish"]);
}

#[test]
fn a_receive_that_is_not_stopped_is_found() {
    is_found(Bug::NeverStopped, &["beyond its bound", "although its sink is full"]);
}

#[test]
fn bytes_that_are_counted_twice_are_found() {
    is_found_on_both(Bug::CountedTwice, &["bytes"]);
}

#[test]
fn a_connection_that_is_not_recorded_is_found() {
    is_found_on_both(Bug::Unrecorded, &["recorded", "still there"]);
}

#[test]
fn a_pipe_that_is_lent_with_bytes_in_it_is_found() {
    is_found_on_both(Bug::PipeWithResidue, &["bytes of"]);
}

#[test]
fn a_fin_while_a_send_to_that_side_is_not_over_is_found() {
    is_found(Bug::FinWhileSending, &["which did not finish"]);
}

#[test]
fn a_lost_completion_that_nobody_looks_for_is_found() {
    is_found(Bug::LossIgnored, &["still there", "left open", "waits for ever", "left over"]);
}

#[test]
fn an_end_that_is_told_once_and_forgotten_is_found() {
    is_found_on(Driver::Epoll, Bug::EndForgotten, &["still there", "waits for ever"]);
}

#[test]
fn a_shortage_that_is_taken_for_an_empty_socket_is_found() {
    is_found_on(Driver::Epoll, Bug::ShortageIsEmpty, &["still there", "waits for ever"]);
}

#[test]
fn a_splice_before_an_urgent_byte_that_is_taken_for_an_empty_socket_is_found() {
    is_found_on(Driver::Epoll, Bug::UrgentForgotten, &["still there", "waits for ever"]);
}
