//! The relay on monoio, three ways: operations with buffers of their own, readiness and then direct
//! calls with one buffer for all, and its own splice.

use std::{
    cell::RefCell,
    io,
    net::{SocketAddr, TcpListener},
    os::fd::{AsRawFd as _, BorrowedFd},
    rc::Rc,
};

use monoio::{
    IoUringDriver, RuntimeBuilder,
    io::{
        AsyncReadRent as _, AsyncWriteRent as _, AsyncWriteRentExt as _, Splitable as _, zero_copy,
    },
    net::{
        TcpStream,
        tcp::{TcpOwnedReadHalf, TcpOwnedWriteHalf},
    },
};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown},
};

use crate::engine::BUFFER_BYTES;

const ENTRIES: u32 = 4096;
/// Of the buffer that all connections share; as large as the floor's.
const SCRATCH_BYTES: usize = 64 << 10;

/// Serves for ever with receive and send operations.
pub fn serve_operations(listener: TcpListener, backend: SocketAddr) -> io::Result<()> {
    serve(listener, backend, async |client, server| {
        let ((from_client, to_client), (from_server, to_server)) =
            (client.into_split(), server.into_split());
        let up = monoio::spawn(copy(from_client, to_server));
        let down = copy(from_server, to_client).await;
        up.await.and(down)
    })
}

/// Serves for ever with the engine's splice operations.
pub fn serve_splice(listener: TcpListener, backend: SocketAddr) -> io::Result<()> {
    serve(listener, backend, async |client, server| {
        let ((from_client, to_client), (from_server, to_server)) =
            (client.into_split(), server.into_split());
        let up = monoio::spawn(splice(from_client, to_server));
        let down = splice(from_server, to_client).await;
        up.await.and(down)
    })
}

/// Serves for ever with waits for readiness and direct calls.
pub fn serve_readiness(listener: TcpListener, backend: SocketAddr) -> io::Result<()> {
    let scratch = Rc::new(RefCell::new(vec![0; SCRATCH_BYTES]));
    serve(listener, backend, async move |client, server| {
        let (client, server) = (Rc::new(client), Rc::new(server));
        let up = monoio::spawn(pass(client.clone(), server.clone(), scratch.clone()));
        let down = pass(server, client, scratch.clone()).await;
        up.await.and(down)
    })
}

fn serve<R>(listener: TcpListener, backend: SocketAddr, relay: R) -> io::Result<()>
where
    R: AsyncFn(TcpStream, TcpStream) -> io::Result<()> + 'static,
{
    let mut flags = io_uring_06::IoUring::builder();
    flags.setup_single_issuer().setup_coop_taskrun();
    let builder = RuntimeBuilder::<IoUringDriver>::new().with_entries(ENTRIES).uring_builder(flags);
    let relay = Rc::new(relay);
    builder.build()?.block_on(async move {
        let listener = monoio::net::TcpListener::from_std(listener)?;
        loop {
            let (client, _) = listener.accept().await?;
            let relay = relay.clone();
            monoio::spawn(async move {
                // An error ends this connection and nothing else.
                let Ok(server) = TcpStream::connect_addr(backend).await else { return };
                if client.set_nodelay(true).and(server.set_nodelay(true)).is_ok() {
                    let _ = relay(client, server).await;
                }
            });
        }
    })
}

async fn copy(mut from: TcpOwnedReadHalf, mut to: TcpOwnedWriteHalf) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        let (count, read) = from.read(buffer).await;
        if count? == 0 {
            return to.shutdown().await;
        }
        let (written, all) = to.write_all(read).await;
        written?;
        buffer = all;
    }
}

async fn splice(mut from: TcpOwnedReadHalf, mut to: TcpOwnedWriteHalf) -> io::Result<()> {
    zero_copy(&mut from, &mut to).await?;
    to.shutdown().await
}

async fn pass(
    from: Rc<TcpStream>,
    to: Rc<TcpStream>,
    scratch: Rc<RefCell<Vec<u8>>>,
) -> io::Result<()> {
    let mut short = true;
    loop {
        if short {
            from.readable(false).await?;
        }
        let rest = {
            let mut scratch = scratch.borrow_mut();
            match rustix::net::recv(fd(&from), &mut scratch[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Ok(rustix::net::shutdown(fd(&to), Shutdown::Write)?),
                Ok((count, _)) => {
                    short = count < SCRATCH_BYTES;
                    let sent = send(&to, &scratch[..count])?;
                    scratch[sent..count].to_vec()
                }
                Err(Errno::AGAIN) => {
                    short = true;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let mut sent = 0;
        while sent < rest.len() {
            to.writable(false).await?;
            sent += send(&to, &rest[sent..])?;
        }
    }
}

/// Sends what there is room for.
fn send(to: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match rustix::net::send(fd(to), bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Err(Errno::AGAIN) => Ok(0),
        result => Ok(result?),
    }
}

fn fd(stream: &TcpStream) -> BorrowedFd<'_> {
    // SAFETY: the stream owns the descriptor for as long as it is borrowed here.
    unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }
}
