//! Active health checks: one task per backend, a bounded number at once.
//!
//! A TCP check sees that the kernel of the backend's host accepts; a process that is stopped or
//! stuck still passes it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpSocket, sync::Semaphore, time::Instant};

use super::App;
use crate::{
    args::cause, bridge::Health, config::HealthCheck, health::Series, limits::CHECKS_AT_ONCE_MAX,
    sock,
};

/// Starts the checks of every pool that has them.
pub fn start(app: &Arc<App>) {
    let places = Arc::new(Semaphore::new(CHECKS_AT_ONCE_MAX));
    for (pool, plan) in app.config.pools.iter().zip(&app.bridge.plan.pools) {
        let Some(check) = &pool.health_check else { continue };
        for backend in plan.backends.clone() {
            let (app, check, places) = (Arc::clone(app), check.clone(), Arc::clone(&places));
            let pool = pool.name.clone();
            tokio::spawn(async move { watch(&app, &pool, backend, &check, &places).await });
        }
    }
}

async fn watch(app: &App, pool: &str, backend: usize, check: &HealthCheck, places: &Semaphore) {
    let name = &app.bridge.plan.backends[backend].name;
    let address = app.bridge.plan.backends[backend].address;
    let mut series = Series::new(check.healthy_after, check.unhealthy_after);
    let mut next = Instant::now();
    loop {
        tokio::time::sleep_until(next).await;
        next = Instant::now() + check.interval;
        let Ok(_place) = places.acquire().await else { return };
        let result = tcp(address, check.timeout).await;
        if result.as_ref().is_err_and(sock::is_shortage) {
            tracing::warn!(pool, backend = name, error = %text(&result), "cannot check");
            continue;
        }
        if let Some(health) = series.result(result.is_ok()) {
            app.bridge.health.set(backend, health);
            let reason = text(&result);
            match health {
                Health::Healthy => tracing::info!(pool, backend = name, "healthy"),
                Health::Unhealthy => tracing::warn!(pool, backend = name, reason, "unhealthy"),
            }
        }
    }
}

fn text(result: &io::Result<()>) -> String {
    result.as_ref().err().map(cause).unwrap_or_default()
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
