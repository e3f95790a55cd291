//! That a relay is one: every byte both ways, and half-closes. At tiny size, for `cargo test`.

use std::{
    collections::BTreeSet,
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use crate::{engine, figure, measure::Plan};

/// No wait is longer.
const DEADLINE: Duration = Duration::from_secs(20);
/// More than the socket buffers of both connections hold, so that senders have to wait.
const BYTES: usize = 24 << 20;
/// Held open all the time, with a message each before and after the large one.
const HELD: usize = 40;

/// Proves each contender right, or says what is wrong with one.
pub fn prove(plan: &Plan) -> Result<(), String> {
    figure::prove();
    engine::check(&plan.contenders)?;
    let all: BTreeSet<&str> = engine::names(false).chain(engine::names(true)).collect();
    let named =
        |name: &&str| plan.contenders.is_empty() || plan.contenders.iter().any(|n| n == name);
    for name in all.into_iter().filter(named) {
        relays(name).map_err(|error| format!("{name} is no relay: {error}"))?;
        println!("{name}: every byte, and half-closes");
    }
    Ok(())
}

/// 1. Many connections, on each a message both ways.
/// 2. Another: both ends send more than buffers hold while they read, the client ends first, the
///    server goes on and ends later: each has all bytes of the other, then the end.
/// 3. A client that goes away abruptly disturbs nobody.
/// 4. The many of the beginning still work, and end.
fn relays(name: &str) -> io::Result<()> {
    let backend = TcpListener::bind("127.0.0.1:0")?;
    let (_process, relay) = engine::start(name, backend.local_addr()?).map_err(io::Error::other)?;
    let mut held = Vec::new();
    for _ in 0..HELD {
        let (mut client, mut server) = pair(&backend, relay)?;
        ping(&mut client, &mut server)?;
        held.push((client, server));
    }
    both_ways(pair(&backend, relay)?)?;
    let (client, mut server) = pair(&backend, relay)?;
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO))?;
    drop(client);
    // The end or an error, as the runtime passes it on; both are one.
    let _ = server.read(&mut [0; 16]);
    drop(server);
    for (mut client, mut server) in held {
        ping(&mut client, &mut server)?;
        ping(&mut server, &mut client)?;
        server.shutdown(Shutdown::Write)?;
        ends(&mut client)?;
        client.write_all(b"last")?;
        drop(client);
        let mut last = Vec::new();
        server.read_to_end(&mut last)?;
        same(&last, b"last")?;
    }
    Ok(())
}

/// A client and the server it came out at.
fn pair(backend: &TcpListener, relay: SocketAddr) -> io::Result<(TcpStream, TcpStream)> {
    let client = TcpStream::connect(relay)?;
    let (server, _) = backend.accept()?;
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
    }
    Ok((client, server))
}

fn ping(from: &mut TcpStream, to: &mut TcpStream) -> io::Result<()> {
    let mut got = [0; 128];
    from.write_all(&[7; 128])?;
    to.read_exact(&mut got)?;
    same(&got, &[7; 128])
}

fn both_ways((client, server): (TcpStream, TcpStream)) -> io::Result<()> {
    let up: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
    let down: Vec<u8> = (0..BYTES).map(|at| (at % 241) as u8).collect();
    let send = |mut stream: &TcpStream, bytes: &[u8]| {
        stream.write_all(bytes)?;
        stream.shutdown(Shutdown::Write)
    };
    let receive = |mut stream: &TcpStream| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).map(|_| bytes)
    };
    let got_up = thread::scope(|scope| {
        let sender = scope.spawn(|| send(&client, &up));
        // Nothing is read for as long as the client can send: the relay has to wait.
        (&server).write_all(&down[..1000])?;
        let got = receive(&server)?;
        sender.join().map_err(|_| io::Error::other("the client's sender failed"))??;
        Ok::<_, io::Error>(got)
    })?;
    same(&got_up, &up)?;
    let got_down = thread::scope(|scope| {
        let sender = scope.spawn(|| send(&server, &down[1000..]));
        let got = receive(&client)?;
        sender.join().map_err(|_| io::Error::other("the server's sender failed"))??;
        Ok::<_, io::Error>(got)
    })?;
    same(&got_down, &down)
}

fn ends(stream: &mut TcpStream) -> io::Result<()> {
    match stream.read(&mut [0; 16])? {
        0 => Ok(()),
        count => Err(io::Error::other(format!("{count} bytes came after the last"))),
    }
}

fn same(got: &[u8], sent: &[u8]) -> io::Result<()> {
    if got == sent {
        return Ok(());
    }
    let at = got.iter().zip(sent).position(|(got, sent)| got != sent);
    let at = at.unwrap_or(got.len().min(sent.len()));
    let (got, sent) = (got.len(), sent.len());
    Err(io::Error::other(format!("{got} bytes came of {sent}, the first {at} of them right")))
}
