//! The families of pools and backends.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;

use super::{Family, Form, Label, OVER_RANGE, latency::Latencies};
use crate::{
    bridge::{Boards, Bridge, Direction, Failure},
    coordinator::{
        know::{
            counts::BackendSums,
            pools::{Backend, Lookup, Name, Pool, Pools},
        },
        tell::{Recorded, stats},
    },
    health::standing::State,
};

/// A backend with its labels and counters.
struct Row<'p> {
    labels: [Label; 2],
    known: &'p Backend,
    slot: usize,
}

/// Pools with their places in the plan.
pub type Chosen<'p> = [(usize, &'p Pool)];

/// All of them, or one.
pub fn chosen(pools: &Pools, only: Option<usize>) -> Vec<(usize, &Pool)> {
    let is_chosen = |(i, _): &(usize, &Pool)| only.is_none_or(|only| only == *i);
    pools.all().enumerate().filter(is_chosen).collect()
}

fn rows<'p>(pools: &Chosen<'p>) -> Vec<Row<'p>> {
    let row = |pool: &Pool, (slot, known)| Row { labels: labels(pool, known), known, slot };
    let of_pool = |(_, pool): &(usize, &'p Pool)| -> Vec<Row<'p>> {
        let pool = *pool;
        pool.backends().map(|backend| row(pool, backend)).collect()
    };
    pools.iter().flat_map(of_pool).collect()
}

fn labels(pool: &Pool, backend: &Backend) -> [Label; 2] {
    [("pool", pool.name.clone()), ("backend", backend.name.clone())]
}

/// The labels of a backend and one more.
fn with(row: &Row<'_>, key: &'static str, value: &'static str) -> [Label; 3] {
    let [pool, backend] = row.labels.clone();
    [pool, backend, (key, value.to_owned())]
}

/// Gauges and counters.
pub fn counts(
    (bridge, recorded): (&Bridge, &Recorded),
    pools: &Chosen<'_>,
    e: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    of_pools(&bridge.boards, pools, e)?;
    let rows = rows(pools);
    states(&rows, e)?;
    let sums: Vec<BackendSums> =
        rows.iter().map(|row| stats::backend_sums(bridge, row.slot, row.known)).collect();
    traffic(&rows, &sums, e)?;
    let gathered = recorded.gathered();
    let mut family = Family::counter(e, "backend_over_range", OVER_RANGE)?;
    for row in &rows {
        let phases = gathered.kept.backends[row.slot].phases();
        family.put(&row.labels, stats::over_range(phases) as f64)?;
    }
    Ok(())
}

fn flag(so: bool) -> f64 {
    f64::from(u8::from(so))
}

fn of_pools(boards: &Boards, pools: &Chosen<'_>, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let label = |pool: &Pool| [("pool", pool.name.clone())];
    let help = "1 while too few backends are healthy and all of them are used";
    let mut family = Family::gauge(e, "pool_panic", help)?;
    for (_, pool) in pools {
        family.put(&label(pool), flag(pool.panicking))?;
    }
    let mut family = Family::gauge(e, "pool_healthy", "Backends that are well and have a weight")?;
    for (_, pool) in pools {
        family.put(&label(pool), pool.healthy() as f64)?;
    }
    let mut family = Family::counter(e, "pool_retries", "Attempts after a timed-out dial")?;
    for (i, pool) in pools {
        family.put(&label(pool), stats::pool_sums(boards, *i).retries as f64)?;
    }
    let help = "Attempts after a timed-out dial that the retry budget did not allow";
    let mut family = Family::counter(e, "pool_retries_denied", help)?;
    for (i, pool) in pools {
        family.put(&label(pool), stats::pool_sums(boards, *i).retries_denied as f64)?;
    }
    of_names(pools, e)
}

fn of_names(pools: &Chosen<'_>, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let names =
        || pools.iter().flat_map(|(_, pool)| pool.names.iter().map(move |name| (*pool, name)));
    let label =
        |pool: &Pool, name: &Name| [("pool", pool.name.clone()), ("name", name.spec.name.clone())];
    let help = "1 while a name cannot be looked up and what was known of it is used";
    let mut family = Family::gauge(e, "pool_name_failing", help)?;
    for (pool, name) in names() {
        family.put(&label(pool, name), flag(matches!(name.state, Lookup::Failed(_))))?;
    }
    let help = "Backends that came by a name, those that are going included";
    let mut family = Family::gauge(e, "pool_name_backends", help)?;
    for (pool, name) in names() {
        family.put(&label(pool, name), stats::behind(pool, name) as f64)?;
    }
    let help = "Addresses of a name that are not used, by why";
    let mut family = Family::gauge(e, "pool_name_left_out", help)?;
    for (pool, name) in names() {
        let [of_pool, of_name] = label(pool, name);
        for (why, count) in [
            ("too_many", name.cut.dropped),
            ("unreachable", name.cut.unreachable),
            ("no_room", name.no_room),
        ] {
            let labels = [of_pool.clone(), of_name.clone(), ("reason", why.to_owned())];
            family.put(&labels, count as f64)?;
        }
    }
    let help = "Lookups of which something was left out";
    let mut family = Family::counter(e, "pool_name_cuts", help)?;
    for (pool, name) in names() {
        family.put(&label(pool, name), name.cut_total as f64)?;
    }
    let help = "Addresses of an answer left out because they are this process";
    let mut family = Family::counter(e, "pool_name_refused", help)?;
    for (pool, name) in names() {
        family.put(&label(pool, name), name.refused_total as f64)?;
    }
    Ok(())
}

fn states(rows: &[Row<'_>], e: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = Family::gauge(e, "backend_healthy", "1 for a backend that is well")?;
    for row in rows {
        family.put(&row.labels, flag(row.known.state == State::Healthy))?;
    }
    let mut family = Family::gauge(e, "backend_state", "1 for the state a backend is in")?;
    for row in rows {
        for state in State::ALL {
            family.put(&with(row, "state", state.name()), flag(row.known.state == state))?;
        }
    }
    let mut family = Family::gauge(e, "backend_weight", "Its share, by file or operator")?;
    for row in rows {
        family.put(&row.labels, f64::from(row.known.weight))?;
    }
    let mut family = Family::gauge(e, "backend_priority", "Lower ones come first")?;
    for row in rows {
        family.put(&row.labels, f64::from(row.known.priority))?;
    }
    let help = "Connections allowed at once; 0: no limit";
    let mut family = Family::gauge(e, "backend_max_connections", help)?;
    for row in rows {
        family.put(&row.labels, f64::from(row.known.max_connections))?;
    }
    let mut family = Family::counter(e, "backend_ejections", "Times it was left out")?;
    for row in rows {
        family.put(&row.labels, row.known.ejections as f64)?;
    }
    Ok(())
}

fn traffic(rows: &[Row<'_>], sums: &[BackendSums], e: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let all = || rows.iter().zip(sums);
    let help = "Connections in flight, dials included";
    let mut family = Family::gauge(e, "backend_connections_active", help)?;
    for (row, sums) in all() {
        family.put(&row.labels, f64::from(sums.active))?;
    }
    let mut family = Family::counter(e, "backend_connections", "Connections established")?;
    for (row, sums) in all() {
        family.put(&row.labels, sums.established as f64)?;
    }
    let mut family = Family::counter(e, "backend_failures", "What went wrong, by cause")?;
    for (row, sums) in all() {
        for failure in Failure::ALL {
            let labels = with(row, "reason", failure.name());
            family.put(&labels, sums.failures[failure as usize] as f64)?;
        }
    }
    let mut family = Family::counter(e, "backend_bytes", "Bytes the destination socket took")?;
    for (row, sums) in all() {
        for direction in Direction::ALL {
            let labels = with(row, "direction", direction.name());
            family.put(&labels, sums.bytes[direction as usize] as f64)?;
        }
    }
    Ok(())
}

/// Histograms.
pub fn latencies(
    recorded: &Recorded,
    pools: &Chosen<'_>,
    form: Form,
    e: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let gathered = recorded.gathered();
    let help = "Time of a dial, and from established to the first byte";
    let mut family = Latencies::new(e, "backend_latency", help, form)?;
    for row in rows(pools) {
        for (phase, latency) in gathered.kept.backends[row.slot].phases() {
            family.put(&with(&row, "phase", phase), latency)?;
        }
    }
    Ok(())
}
