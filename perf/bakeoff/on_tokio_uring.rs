//! The relay on tokio-uring: reads and writes as operations with buffers of their own.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener},
    rc::Rc,
};

use tokio_uring::{buf::BoundedBuf as _, net::TcpStream};

use crate::engine::BUFFER_BYTES;

const ENTRIES: u32 = 4096;

/// Serves for ever.
pub fn serve(listener: TcpListener, backend: SocketAddr) -> io::Result<()> {
    // Its best: without the flags every completion interrupts what runs.
    let mut flags = tokio_uring::uring_builder();
    flags.setup_single_issuer().setup_coop_taskrun();
    tokio_uring::builder().entries(ENTRIES).uring_builder(&flags).start(async {
        let listener = tokio_uring::net::TcpListener::from_std(listener);
        loop {
            let (client, _) = listener.accept().await?;
            tokio_uring::spawn(async move {
                // An error ends this connection and nothing else.
                let _ = relay(client, backend).await;
            });
        }
    })
}

async fn relay(client: TcpStream, backend: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(backend).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client, server) = (Rc::new(client), Rc::new(server));
    let up = tokio_uring::spawn(copy(client.clone(), server.clone()));
    let down = copy(server, client).await;
    up.await??;
    down
}

async fn copy(from: Rc<TcpStream>, to: Rc<TcpStream>) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        let (count, read) = from.read(buffer).await;
        let count = count?;
        if count == 0 {
            return to.shutdown(Shutdown::Write);
        }
        let (written, slice) = to.write_all(read.slice(..count)).await;
        written?;
        buffer = slice.into_inner();
    }
}
