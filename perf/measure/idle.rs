//! What an idle connection costs a relay in memory.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use ringway::errno::cause;

use crate::contender::Relay;

/// Between these counts of connections the slope is taken: what a relay has anyway is in both.
const COUNTS: [usize; 2] = [2_000, 8_000];
const MESSAGE_BYTES: usize = 128;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The memory has settled when it is the same after this long ...
const LOOK: Duration = Duration::from_millis(300);
/// ... and it is given this long; what moves on after that is the relay's own doing.
const SETTLE_MAX: Duration = Duration::from_secs(3);

/// Bytes of Pss per connection that was used once. The kernel's part is not in it. Sockets are the
/// same for all; what the kernel keeps to wait on them is not (Linux 6.18, /proc/slabinfo, 3,000
/// more connections): with a ring about 1.7 KiB for each (io_kiocb 512 B, kmalloc-512 1,016 B,
/// kmalloc-96 192 B), with epoll about 0.25 KiB.
pub fn bytes_each(relay: &Relay, stop: &AtomicBool) -> Result<f64, String> {
    let mut held = Vec::with_capacity(COUNTS[1]);
    let mut bytes = [0.0; 2];
    for (count, bytes) in COUNTS.into_iter().zip(&mut bytes) {
        while held.len() < count {
            if stop.load(Ordering::Relaxed) {
                return Err("stopped by a signal".to_owned());
            }
            let used = used_once(relay.listeners[0]);
            held.push(used.map_err(|error| {
                format!("connection {} of {count}: {}", held.len() + 1, cause(&error))
            })?);
        }
        *bytes = settled_pss(relay.process.pid())? as f64;
    }
    Ok((bytes[1] - bytes[0]) / (COUNTS[1] - COUNTS[0]) as f64)
}

fn used_once(target: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(target)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(&[0; MESSAGE_BYTES])?;
    stream.read_exact(&mut [0; MESSAGE_BYTES])?;
    Ok(stream)
}

fn settled_pss(pid: u32) -> Result<u64, String> {
    let deadline = Instant::now() + SETTLE_MAX;
    let mut last = pss(pid)?;
    loop {
        pause(LOOK);
        let now = pss(pid)?;
        if now == last || Instant::now() > deadline {
            return Ok(now);
        }
        last = now;
    }
}

/// A parked thread may wake early.
fn pause(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
}

/// Proportional set size in bytes: what the process has of the machine's memory.
fn pss(pid: u32) -> Result<u64, String> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path)
        .map_err(|error| format!("cannot read {path}: {} (did it end?)", cause(&error)))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| format!("{path} has no Pss in kB"))
}
