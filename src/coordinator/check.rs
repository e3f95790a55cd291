//! Active health checks: one task per backend, a bounded number at once.
//!
//! A TCP check sees that the kernel of the backend's host accepts; a process that is stopped or
//! stuck still passes it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpSocket, sync::Semaphore, time::Instant};

use super::App;
use crate::{args::cause, config::HealthCheck, health::Series, limits::CHECKS_AT_ONCE_MAX, sock};

/// Who is checked, and how.
struct Target {
    pool: String,
    name: String,
    slot: usize,
    address: SocketAddr,
    check: HealthCheck,
}

/// Starts the checks of every pool that has them.
pub fn start(app: &Arc<App>) {
    let places = Arc::new(Semaphore::new(CHECKS_AT_ONCE_MAX));
    let pools = app.pools();
    for (pool, config) in pools.all().zip(&app.config.pools) {
        let Some(check) = &config.health_check else { continue };
        for (slot, backend) in pool.backends() {
            let (pool, name, address) = (pool.name.clone(), backend.name.clone(), backend.address);
            let target = Target { pool, name, slot, address, check: check.clone() };
            let (app, places) = (Arc::clone(app), Arc::clone(&places));
            tokio::spawn(async move { watch(&app, &target, &places).await });
        }
    }
}

async fn watch(app: &App, target: &Target, places: &Semaphore) {
    let Target { pool, name, slot, check, .. } = target;
    let mut series = Series::new(check.healthy_after, check.unhealthy_after);
    let mut next = Instant::now();
    loop {
        tokio::time::sleep_until(next).await;
        next = Instant::now() + check.interval;
        if app.pools().is_disabled(*slot) {
            continue;
        }
        let Ok(_place) = places.acquire().await else { return };
        let result = tcp(target.address, check.timeout).await;
        if result.as_ref().is_err_and(sock::is_shortage) {
            tracing::warn!(pool, backend = name, error = %text(&result), "cannot check");
            continue;
        }
        if let Some(health) = series.result(result.is_ok()) {
            app.pools().checked(*slot, health, &text(&result));
        }
    }
}

fn text(result: &io::Result<()>) -> String {
    result.as_ref().err().map_or_else(|| "its checks pass".into(), cause)
}

/// Connects and resets: a FIN would leave a socket in TIME_WAIT for each check.
async fn tcp(address: SocketAddr, limit: Duration) -> io::Result<()> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_zero_linger()?;
    let connected = tokio::time::timeout(limit, socket.connect(address)).await;
    connected.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {limit:?}"))
    })??;
    Ok(())
}
