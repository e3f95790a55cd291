//! What Maglev does to clients: how evenly they are spread, and who moves when backends go.

use std::net::{IpAddr, Ipv4Addr};

use ringway::maglev::{self, Table};

/// Clients, each with an address of its own.
const CLIENTS: usize = 100_000;

/// How often somebody else goes.
const TIMES: usize = 10;

/// The backend of each client over backends of these names and equal weights.
fn owners(names: &[usize], clients: &[u64]) -> Vec<usize> {
    let texts: Vec<String> = names.iter().map(|name| format!("b{name}")).collect();
    let members: Vec<(&str, u32)> = texts.iter().map(|name| (name.as_str(), 1)).collect();
    let table = Table::new(&members);
    clients.iter().map(|key| names[table.get(*key, 0)]).collect()
}

fn clients(rng: &mut fastrand::Rng) -> Vec<u64> {
    let address = |_| IpAddr::V4(Ipv4Addr::from_bits(rng.u32(..)));
    (0..CLIENTS).map(address).map(maglev::source_key).collect()
}

/// Clients of the busiest backend over those of a backend on average.
pub fn busiest(backends: usize, seed: u64) -> f64 {
    let clients = clients(&mut fastrand::Rng::with_seed(seed));
    let mut counts = vec![0usize; backends];
    let names: Vec<usize> = (0..backends).collect();
    owners(&names, &clients).into_iter().for_each(|owner| counts[owner] += 1);
    let most = counts.into_iter().max().unwrap_or(0);
    most as f64 * backends as f64 / CLIENTS as f64
}

/// The share of the other backends' clients that move when `gone` of `backends` go at once: mean
/// and most over ten times.
pub fn moved(backends: usize, gone: usize, seed: u64) -> (f64, f64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let clients = clients(&mut rng);
    let names: Vec<usize> = (0..backends).collect();
    let before = owners(&names, &clients);
    let shares: Vec<f64> = (0..TIMES)
        .map(|_| {
            let mut order = names.clone();
            rng.shuffle(&mut order);
            let mut left = order.split_off(gone);
            left.sort_unstable();
            let after = owners(&left, &clients);
            let others = before.iter().zip(&after).filter(|(owner, _)| !order.contains(owner));
            let (mut all, mut moved) = (0.0, 0.0);
            others.for_each(|(owner, now)| {
                all += 1.0;
                moved += f64::from(u8::from(owner != now));
            });
            moved / all
        })
        .collect();
    let most = shares.iter().copied().fold(0.0, f64::max);
    (shares.iter().sum::<f64>() / TIMES as f64, most)
}
