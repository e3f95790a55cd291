//! A panic in a connection's own task ends that connection and nothing else; any other ends the
//! process.
//!
//! A task that was [`super::spawn_apart`] may be unwound: its guards clean up as they are dropped.
//! What it shares with others must be whole then. So what is shared is changed inside [`whole`], by
//! the accessors of the runtime and of [`Whole`] and by the end of a connection, and a panic in
//! there ends the process. (Counters alone are not: each change of one is whole.) The hook decides,
//! before anything is unwound.

use std::{
    backtrace::Backtrace,
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    process,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::meters::{PanicReport, Panics};

thread_local! {
    /// The reports of this thread's shard, exactly while a task is polled that may be unwound.
    static APART: Cell<Option<&'static Panics>> = const { Cell::new(None) };
    /// Accessors that run: what they change is not whole.
    static CHANGING: Cell<u32> = const { Cell::new(0) };
    /// True exactly while a task is unwound.
    static UNWINDING: Cell<bool> = const { Cell::new(false) };
}

/// Changes what others share; a panic meanwhile ends the process. Not to be called across a wait.
#[inline]
pub fn whole<T>(change: impl FnOnce() -> T) -> T {
    CHANGING.set(CHANGING.get() + 1);
    let changed = change();
    CHANGING.set(CHANGING.get() - 1);
    changed
}

/// What the tasks of a shard share, and one at a time may change.
#[derive(Debug, Default)]
pub struct Whole<T>(RefCell<T>);

impl<T> Whole<T> {
    /// Shares it.
    pub fn new(value: T) -> Whole<T> {
        Whole(RefCell::new(value))
    }

    /// Looks at it or changes it.
    ///
    /// # Panics
    /// Somebody else is at it.
    #[inline]
    pub fn with<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        whole(|| change(&mut self.0.borrow_mut()))
    }
}

/// Polls a task that a panic ends alone; true exactly when that has happened.
pub(super) fn ends_alone(panics: &'static Panics, poll: impl FnOnce()) -> bool {
    APART.set(Some(panics));
    let polled = panic::catch_unwind(AssertUnwindSafe(poll));
    APART.set(None);
    UNWINDING.set(false);
    match polled {
        Ok(()) => false,
        // Nobody has asked the hook: the tests' own panics are for the tests.
        Err(panic) if !HOOK.is_completed() => panic::resume_unwind(panic),
        Err(_) => true,
    }
}

static HOOK: Once = Once::new();

/// True exactly while names of frames are looked up, for which std holds the lock of captures.
static NAMING: AtomicBool = AtomicBool::new(false);

/// Shows frames, which finds their names: slow, and meanwhile no shard captures others.
pub fn name_frames<T>(show: impl FnOnce() -> T) -> T {
    NAMING.store(true, Ordering::Relaxed);
    let shown = show();
    NAMING.store(false, Ordering::Relaxed);
    shown
}

/// From now on a panic ends the process, wherever it happens, unless it is a connection's alone.
pub fn end_process_on_panic() {
    HOOK.call_once(|| {
        let say = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !is_alone(panic) {
                say(panic);
                say_what_waits();
                process::abort();
            }
        }));
    });
}

/// The process ends: what the coordinator has not logged yet may be what led to it.
fn say_what_waits() {
    let Some(panics) = APART.get() else { return };
    while let Some(report) = panics.reports.pop() {
        eprintln!("before that, at {}: {}\n{}", report.place, report.words, report.frames);
    }
}

/// Whether a panic ends one connection; if so, it is reported.
fn is_alone(panic: &PanicHookInfo<'_>) -> bool {
    let Some(panics) = APART.get() else { return false };
    if CHANGING.get() > 0 || UNWINDING.replace(true) {
        return false;
    }
    // Frames cost 0.1 ms, and wait while others are named: a panic with each request must not stop
    // the others.
    if panics.reports.is_full() || NAMING.load(Ordering::Relaxed) {
        panics.unreported.add(1);
        return true;
    }
    let report = PanicReport {
        place: panic.location().map(ToString::to_string).unwrap_or_default(),
        words: panic.payload_as_str().unwrap_or_default().to_owned(),
        frames: Backtrace::force_capture(),
    };
    // Only this thread fills it, and it had room.
    let _ = panics.reports.push(report);
    true
}
