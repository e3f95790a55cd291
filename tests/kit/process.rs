//! A running ringway seen and held from outside: whether it stands still, its descriptors, its CPU
//! time.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::PathBuf,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, Signal};

use super::{Proxy, wait_for, wait_until};

impl Proxy {
    /// Lets the process finish what it is doing, stops it, and comes back when it stands still.
    pub fn stop(&self) {
        wait_until("a process that waits", || self.threads_are('S'));
        self.signal(Signal::STOP);
        wait_until("a process that stands still", || self.threads_are('T'));
    }

    fn threads_are(&self, state: char) -> bool {
        let tasks = format!("/proc/{}/task", self.pid().as_raw_nonzero());
        fs::read_dir(tasks).unwrap().all(|task| {
            let text = fs::read_to_string(task.unwrap().path().join("stat"));
            // proc(5): the state follows the name, which is in brackets.
            text.is_ok_and(|text| text.rsplit_once(") ").unwrap().1.starts_with(state))
        })
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// Open descriptors of the process.
    pub fn descriptors(&self) -> usize {
        let pid = self.pid().as_raw_nonzero();
        fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
    }

    /// Its descriptors of one kind, by what they are: `pipe:[17]`. Both ends of a pipe are one.
    pub fn links_to(&self, kind: &str) -> BTreeMap<PathBuf, PathBuf> {
        let pid = self.pid().as_raw_nonzero();
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|fd| fd.unwrap().path());
        entries
            .filter_map(|fd| Some((fs::read_link(&fd).ok()?, fd)))
            .filter(|(what, _)| what.to_string_lossy().starts_with(kind))
            .collect()
    }

    /// How much each pipe of the process may hold, smallest first.
    pub fn pipe_sizes(&self) -> Vec<usize> {
        let size = |fd| rustix::pipe::fcntl_getpipe_size(File::open(fd).unwrap()).unwrap();
        let mut sizes: Vec<usize> = self.links_to("pipe:").values().map(size).collect();
        sizes.sort_unstable();
        sizes
    }

    /// Open descriptors once their number stays the same: connections that are over are closed.
    pub fn settled_descriptors(&self) -> usize {
        const LOOKS: usize = 20;
        let (mut same, mut before) = (0, 0);
        wait_for("a number of descriptors that stays", || {
            let now = self.descriptors();
            same = if now == before { same + 1 } else { 0 };
            before = now;
            (same == LOOKS).then_some(now)
        })
    }

    /// CPU time of the process, user and system.
    pub fn cpu_time(&self) -> Duration {
        let pid = self.pid().as_raw_nonzero();
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let after_name = text.rsplit_once(')').unwrap().1;
        let numbers: Vec<u64> =
            after_name.split_whitespace().skip(11).take(2).map(|n| n.parse().unwrap()).collect();
        let per_second = rustix::param::clock_ticks_per_second();
        Duration::from_millis(numbers.iter().sum::<u64>() * 1000 / per_second)
    }

    /// CPU time of the process while something else happens, and how long that took.
    pub fn cpu_during(&self, something: impl FnOnce()) -> (Duration, Duration) {
        let (before, began) = (self.cpu_time(), Instant::now());
        something();
        (self.cpu_time() - before, began.elapsed())
    }

    /// The lowest limit of descriptors under which what is open stays, and nothing new fits.
    pub fn first_free_descriptor(&self) -> u64 {
        let pid = self.pid().as_raw_nonzero();
        let open: Vec<u64> = fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().parse().unwrap())
            .collect();
        // Holes below the highest one would be used; the limit goes under the first of them.
        (0..).find(|number| !open.contains(number)).unwrap()
    }

    /// Lowers or raises the soft limit of open files of the running process.
    pub fn limit_descriptors(&self, most: u64) {
        let now = rustix::process::getrlimit(Resource::Nofile);
        let limit = Rlimit { current: Some(most), maximum: now.maximum };
        rustix::process::prlimit(Some(self.pid()), Resource::Nofile, limit).unwrap();
    }
}
