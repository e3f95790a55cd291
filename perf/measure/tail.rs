//! How late the last few bytes of a stream come: a relay that waits for more before it moves what
//! is there would be cheap per GB, and late here.
//!
//! The server sends bulk, and as soon as the client has all of it, while the relay still takes the
//! stream for bulk, a tail. Both ends are threads of ours, so that one clock measures.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use ringway::errno::cause;

use crate::{contender, load::Lab};

const TAIL_BYTES: usize = 777;
const BULK_BYTES: usize = (4 << 20) + TAIL_BYTES;
/// Fewer delays give no 99th percentile.
const TAILS_MIN: usize = 200;
/// Nothing comes for this long: it will not.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Until the server looks again whether somebody comes.
const LOOK: Duration = Duration::from_millis(1);
/// What the client asks for, each with a byte.
const BULK: u8 = b'b';
const TAIL: u8 = b't';

/// The median of the delays, their 99th percentile, and the median time of a whole stream, in
/// microseconds.
pub fn delays(lab: &Lab, name: &str) -> Result<Vec<f64>, String> {
    let failed = |error: io::Error| format!("a stream with tails: {}", cause(&error));
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let server = listener.local_addr().map_err(failed)?;
    let (over, (sent, times)) = (AtomicBool::new(false), mpsc::channel());
    thread::scope(|scope| {
        // Dropped after the relay, whose end is that of the streams.
        let _end = End(&over);
        scope.spawn(|| serve(&listener, &over, sent));
        let relay = contender::start(lab.place, name, &[&[server]])?;
        measure(lab, relay.listeners[0], &times).map_err(failed)
    })
}

/// Ends the server however the scope that it runs in is left.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whoever looks whether a relay serves is a client too, which asks for nothing.
fn serve(listener: &TcpListener, over: &AtomicBool, sent: mpsc::Sender<Instant>) {
    thread::scope(|scope| {
        while !over.load(Ordering::Relaxed) {
            let Ok((client, _)) = listener.accept() else {
                thread::park_timeout(LOOK);
                continue;
            };
            let sent = sent.clone();
            // Its end is the client's to see.
            scope.spawn(move || answer(client, &sent).unwrap_or_default());
        }
    });
}

/// Sends what is asked for, and tells when each tail went out.
fn answer(mut client: TcpStream, sent: &mpsc::Sender<Instant>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let bulk = vec![0; BULK_BYTES];
    let mut asked = [0];
    while client.read(&mut asked)? > 0 {
        if asked == [BULK] {
            client.write_all(&bulk)?;
            continue;
        }
        // Whoever measures has given up where nobody listens.
        let _ = sent.send(Instant::now());
        client.write_all(&bulk[..TAIL_BYTES])?;
    }
    Ok(())
}

/// Asks for bulk and tail in turn.
fn measure(lab: &Lab, relay: SocketAddr, times: &mpsc::Receiver<Instant>) -> io::Result<Vec<f64>> {
    let mut server = TcpStream::connect(relay)?;
    server.set_nodelay(true)?;
    server.set_read_timeout(Some(SILENCE_MAX))?;
    let (mut bulk, mut delays, mut streams) = (vec![0; BULK_BYTES], Vec::new(), Vec::new());
    let begun = Instant::now();
    while begun.elapsed() < lab.seconds || delays.len() < TAILS_MIN {
        if lab.stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let asked = Instant::now();
        server.write_all(&[BULK])?;
        server.read_exact(&mut bulk)?;
        streams.push(asked.elapsed());
        server.write_all(&[TAIL])?;
        server.read_exact(&mut bulk[..TAIL_BYTES])?;
        let came = Instant::now();
        let sent = times.recv_timeout(SILENCE_MAX);
        delays.push(came - sent.map_err(|_| io::ErrorKind::TimedOut)?);
    }
    Ok(vec![percentile(&mut delays, 50), percentile(&mut delays, 99), percentile(&mut streams, 50)])
}

fn percentile(values: &mut [Duration], percent: usize) -> f64 {
    values.sort_unstable();
    values[values.len() * percent / 100].as_secs_f64() * 1e6
}
