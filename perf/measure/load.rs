//! One run: a fresh backend, a fresh contender, a warm-up, and its figures.

use std::{
    fs,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use ringway::{
    bench::{self, Mode, Percentiles, Plan, Report, Tally},
    errno::cause,
};

use crate::{
    calls,
    case::{
        CONNECT_BACKENDS, Case, FAIR_STREAMS, MANY_BACKENDS, MANY_CONNECTIONS, SOME_CONNECTIONS,
        Work,
    },
    contender::{self, Backend, Place, Relay},
    idle, tail,
};

/// Connections at once when backends grow, and how many a second: so many that no relay runs out of
/// ports with one backend (see [`Case::caveat`]).
const CONNECT_AT_ONCE: u32 = 32;
const CONNECTS_PER_SECOND: f64 = 5_000.0;
/// By the clock: pings as fast as they come back would count the moments in which the bulk pauses,
/// when thousands fit, and hardly those in which it flows.
const PINGS_PER_SECOND: f64 = 100.0;
/// Of the messages that are due, this part has to be answered in time for a latency to mean much.
const KEPT_MIN: f64 = 0.98;
/// What is measured is so many intervals, begun after the warm-up: a connection that is up for us
/// may still wait for the proxy to take it and to dial, which is no part of a message.
const INTERVALS: u32 = 8;
const WARM_UP: Duration = Duration::from_millis(250);
const WARM_UP_EACH: Duration = Duration::from_micros(200);

/// What stays the same for all runs of a case.
pub struct Lab<'a> {
    pub place: &'a Place,
    /// What is measured of each load.
    pub seconds: Duration,
    /// Set by a signal.
    pub stop: &'a AtomicBool,
    /// Messages a second, of the latency at a fixed rate.
    pub rate: Option<f64>,
}

/// What one unit of work took: of the proxy's CPU time, and of the clock's with all at once.
struct Cost {
    cpu: f64,
    wall: f64,
}

/// What came within the measured time.
struct Window {
    cpu_ns: f64,
    tally: Tally,
    seconds: f64,
}

impl Lab<'_> {
    /// The figures of one contender, in the case's order.
    pub fn run(&self, case: &Case, name: &str) -> Result<Vec<f64>, String> {
        match case.work {
            Work::Messages(count) => {
                let (_backend, relay) = self.start(name, "echo", 1)?;
                Ok(self.load(&relay, Mode::Tcp, count)?.us_each().figures())
            }
            Work::Connect(count) => {
                let (_backend, relay) = self.start(name, "echo", CONNECT_BACKENDS)?;
                Ok(self.load(&relay, Mode::Connect, count)?.us_each().figures())
            }
            Work::Bulk(count) => {
                let (_backend, relay) = self.start(name, "source", 1)?;
                Ok(self.load(&relay, Mode::Bulk, count)?.seconds_per_gb().figures())
            }
            Work::Tail => tail::delays(self, name),
            Work::Calls(count) => calls::each(self, name, count),
            Work::Idle => {
                let (_backend, relay) = self.start(name, "echo", 1)?;
                Ok(vec![idle::bytes_each(&relay, self.stop)?])
            }
            Work::Latency => self.latency(name),
            Work::Fair => self.fair(name),
            Work::GrowthConnections => {
                let (_backend, relay) = self.start(name, "echo", 1)?;
                let us_each =
                    |count| Ok::<_, String>(self.load(&relay, Mode::Tcp, count)?.us_each().cpu);
                let (some, many) = (us_each(SOME_CONNECTIONS)?, us_each(MANY_CONNECTIONS)?);
                Ok(vec![some, many, many / some])
            }
            Work::GrowthBackends => {
                let (one, many) =
                    (self.with_backends(name, 1)?, self.with_backends(name, MANY_BACKENDS)?);
                let figures = one.iter().zip(many).map(|(one, many)| [*one, many, many / one]);
                Ok(figures.flatten().collect())
            }
        }
    }

    /// Messages a second through a contender, as fast as they come back.
    pub fn peak(&self, name: &str) -> Result<f64, String> {
        let (_backend, relay) = self.start(name, "echo", 1)?;
        let window = self.load(&relay, Mode::Tcp, SOME_CONNECTIONS)?;
        Ok(window.tally.operations as f64 / window.seconds)
    }

    /// A backend that nobody has talked to, so that no port that waits for its time to be over is
    /// left by the contender before, and the contender.
    pub fn start(
        &self,
        name: &str,
        mode: &str,
        addresses: u32,
    ) -> Result<(Backend, Relay), String> {
        let backend = Backend::start(self.place, mode, addresses)?;
        let relay = contender::start(self.place, name, &[&backend.addresses])?;
        Ok((backend, relay))
    }

    /// Messages, one connection for each of the most backends, then new connections.
    fn with_backends(&self, name: &str, backends: u32) -> Result<[f64; 2], String> {
        let (_backend, relay) = self.start(name, "echo", backends)?;
        let messages = self.load(&relay, Mode::Tcp, MANY_BACKENDS)?;
        let mut plan = Plan::new(Mode::Connect, relay.listeners[0], CONNECT_AT_ONCE as usize);
        plan.rate = Some(CONNECTS_PER_SECOND);
        Ok([messages.us_each().cpu, self.drive(plan, &relay)?.us_each().cpu])
    }

    fn latency(&self, name: &str) -> Result<Vec<f64>, String> {
        let (_backend, relay) = self.start(name, "echo", 1)?;
        let mut plan = Plan::new(Mode::Tcp, relay.listeners[0], SOME_CONNECTIONS as usize);
        plan.rate = self.rate;
        let window = self.drive(plan, &relay)?;
        let p = Percentiles::of(&window.tally.latency);
        let due = self.rate.unwrap_or(0.0) * window.seconds;
        if (p.count as f64) < due * KEPT_MIN {
            return Err(format!("{} messages of {due:.0} that were due", p.count));
        }
        Ok([p.p50_us, p.p90_us, p.p99_us, p.p999_us].map(|us| us as f64).to_vec())
    }

    fn fair(&self, name: &str) -> Result<Vec<f64>, String> {
        let (source, echo) =
            (Backend::start(self.place, "source", 1)?, Backend::start(self.place, "echo", 1)?);
        let pools: [&[SocketAddr]; 2] = [&source.addresses, &echo.addresses];
        let relay = contender::start(self.place, name, &pools)?;
        let [bulk, ping] = relay.listeners[..] else {
            return Err("not two listeners".to_owned());
        };
        let mut pings = Plan::new(Mode::Tcp, ping, 1);
        pings.rate = Some(PINGS_PER_SECOND);
        let streams = Plan::new(Mode::Bulk, bulk, FAIR_STREAMS as usize);
        let (flood, pings) = thread::scope(|scope| {
            let flood = scope.spawn(|| self.drive(streams, &relay));
            let pings = self.drive(pings, &relay);
            Ok::<_, String>((flood.join().map_err(|_| "the bulk load failed")??, pings?))
        })?;
        let p = Percentiles::of(&pings.tally.latency);
        Ok(vec![p.p50_us as f64, p.p99_us as f64, flood.seconds_per_gb().wall])
    }

    fn load(&self, relay: &Relay, mode: Mode, count: u32) -> Result<Window, String> {
        self.drive(Plan::new(mode, relay.listeners[0], count as usize), relay)
    }

    /// Drives a load in which nothing may fail, and gives what lies between the warm-up and the
    /// end: neither making the connections nor closing them is in it.
    fn drive(&self, mut plan: Plan, relay: &Relay) -> Result<Window, String> {
        let interval = self.seconds / INTERVALS;
        let warm_up = WARM_UP + WARM_UP_EACH * plan.connections as u32;
        let first = warm_up.as_nanos().div_ceil(interval.as_nanos()) as u32;
        let last = first + INTERVALS;
        plan.interval = interval;
        // Longer than what is looked at, so that the last look comes before the end.
        plan.seconds = Some(interval * last + interval / 2);
        let (mut looks, mut tally, mut cpu) = (0, Tally::default(), Vec::new());
        let report = bench::drive(&plan, self.stop, |passed| {
            looks += 1;
            if (first + 1..=last).contains(&looks) {
                tally.take_from(&mut passed.clone());
            }
            if looks == first || looks == last {
                cpu.push(cpu_ns(relay.process.pid()));
            }
        })?;
        self.check(&report)?;
        let [Ok(before), Ok(after)] = cpu[..] else {
            let gone = cpu.into_iter().find_map(Result::err);
            return Err(gone.unwrap_or_else(|| "the machine was too busy to look in time".into()));
        };
        let seconds = (interval * INTERVALS).as_secs_f64();
        Ok(Window { cpu_ns: spent(before, after)? as f64, tally, seconds })
    }

    /// An error voids the run.
    pub fn check(&self, report: &Report) -> Result<(), String> {
        if self.stop.load(Ordering::Relaxed) {
            return Err("stopped by a signal".to_owned());
        }
        match report.tally.failed_total() + report.tally.cut {
            0 => Ok(()),
            lost => Err(format!("{lost} operations failed")),
        }
    }
}

impl Cost {
    /// In the case's order.
    fn figures(&self) -> Vec<f64> {
        vec![self.cpu, self.wall]
    }
}

impl Window {
    /// Microseconds of an operation.
    fn us_each(&self) -> Cost {
        self.cost_of(self.tally.operations as f64 * 1e3)
    }

    /// Nanoseconds per byte are seconds per GB.
    fn seconds_per_gb(&self) -> Cost {
        self.cost_of(self.tally.bytes as f64)
    }

    fn cost_of(&self, units: f64) -> Cost {
        let [cpu, wall] = [self.cpu_ns, self.seconds * 1e9].map(|ns| ns / units.max(1.0));
        Cost { cpu, wall }
    }
}

/// A thread that ends takes what it used out of the sum; more than all others used shows here.
fn spent(before: u64, after: u64) -> Result<u64, String> {
    let ended = || "a thread of the proxy ended and took its CPU time along".to_owned();
    after.checked_sub(before).ok_or_else(ended)
}

/// CPU time of all threads of a process that are there.
fn cpu_ns(pid: u32) -> Result<u64, String> {
    let tasks = format!("/proc/{pid}/task");
    let gone =
        |error: std::io::Error| format!("cannot read {tasks}: {} (did it end?)", cause(&error));
    let mut sum = 0;
    for task in fs::read_dir(&tasks).map_err(gone)? {
        let path = task.map_err(gone)?.path().join("schedstat");
        // A thread that ended between the two reads has nothing to add.
        let text = fs::read_to_string(path).unwrap_or_default();
        let on_cpu = text.split(' ').next().and_then(|number| number.parse::<u64>().ok());
        sum += on_cpu.unwrap_or(0);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_that_went_with_its_thread_is_no_figure() {
        assert_eq!(spent(7, 9), Ok(2));
        assert!(spent(9, 7).is_err_and(|why| why.contains("a thread of the proxy ended")));
    }
}
