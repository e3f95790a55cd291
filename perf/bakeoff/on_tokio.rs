//! The relay on tokio: one thread, `copy_bidirectional`.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use tokio::net::TcpStream;

use crate::engine::{self, BUFFER_BYTES};

/// Serves for ever.
pub fn serve(listener: TcpListener, backend: SocketAddr) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (client, _) = listener.accept().await?;
            tokio::task::spawn_local(async move {
                // An error ends this connection and nothing else.
                let _ = relay(client, backend).await;
            });
        }
    })
}

async fn relay(mut client: TcpStream, backend: SocketAddr) -> io::Result<()> {
    let mut server = TcpStream::connect(backend).await?;
    engine::no_delay(&client, &server)?;
    let (up, down) = (BUFFER_BYTES, BUFFER_BYTES);
    tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, up, down).await?;
    Ok(())
}
