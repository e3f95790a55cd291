//! Who leads where: a pool that leads back to its own listener would make connections of its
//! connections, and one that leads to the admin endpoint would let its clients speak as if local.
//!
//! The rule is pure. Which addresses are this host's is asked of the caller, because a listener on
//! a wildcard address is at all of them.

use std::net::{IpAddr, SocketAddr};

use super::{Config, Target};

/// The listeners, the pools behind them, and the backends of these that have an address.
#[derive(Clone, Debug)]
pub struct References {
    admin: SocketAddr,
    listeners: Vec<Listener>,
    pools: Vec<Pool>,
}

#[derive(Clone, Debug)]
struct Listener {
    name: String,
    addresses: Vec<SocketAddr>,
    pool: usize,
}

#[derive(Clone, Debug)]
struct Pool {
    name: String,
    /// Each with its name.
    backends: Vec<(String, SocketAddr)>,
}

impl References {
    /// Those of the file.
    pub fn of(config: &Config) -> References {
        let bound = config.listeners.iter().map(|listener| listener.listen.clone()).collect();
        References::bound(config, config.admin.listen, bound)
    }

    /// Those of the file, with the addresses that were bound: ports are chosen now.
    pub fn bound(config: &Config, admin: SocketAddr, bound: Vec<Vec<SocketAddr>>) -> References {
        let listeners = config.listeners.iter().zip(bound).map(|(listener, addresses)| Listener {
            name: listener.name.clone(),
            addresses,
            pool: listener.pool,
        });
        let pools = config.pools.iter().map(|pool| Pool {
            name: pool.name.clone(),
            backends: pool
                .backends
                .iter()
                .filter_map(|backend| match backend.address {
                    Target::Address(address) => Some((backend.name.clone(), address)),
                    Target::Name { .. } | Target::Service { .. } => None,
                })
                .collect(),
        });
        References { admin, listeners: listeners.collect(), pools: pools.collect() }
    }

    /// What must not be, each as subject, value, rule and way out.
    pub fn problems(&self, is_ours: impl Fn(IpAddr) -> bool) -> Vec<String> {
        let of_pool = |(index, pool): (usize, &Pool)| {
            let problem = |(name, address): &(String, SocketAddr)| {
                let rule = self.refusal(index, *address, &is_ours)?;
                Some(format!(
                    "pool {}: backend {name} = \"{address}\": {rule} (name another server)",
                    pool.name
                ))
            };
            pool.backends.iter().filter_map(problem).collect::<Vec<String>>()
        };
        self.pools.iter().enumerate().flat_map(of_pool).collect()
    }

    /// Why a pool must not lead to `address`, if so.
    pub fn refusal(
        &self,
        pool: usize,
        address: SocketAddr,
        is_ours: impl Fn(IpAddr) -> bool,
    ) -> Option<String> {
        if is_admin(self.admin, address, &is_ours) {
            return Some("it is the admin endpoint, whose clients would speak as if local".into());
        }
        // Who uses the pool comes in at one of these; only where somebody does can there be a loop.
        self.listeners_at(address, &is_ours).into_iter().find_map(|listener| {
            let Listener { name, pool: next, .. } = &self.listeners[listener];
            let way = self.way(*next, pool, &is_ours)?;
            let by = |names: &[&str]| format!(", by way of listener {}", names.join(" and "));
            let by = if way.is_empty() { String::new() } else { by(&way) };
            Some(format!("it is listener {name}, which leads back to this pool{by}"))
        })
    }

    /// The listeners that are at `address`.
    pub fn listeners_at(
        &self,
        address: SocketAddr,
        is_ours: impl Fn(IpAddr) -> bool,
    ) -> Vec<usize> {
        let is_there = |(_, listener): &(usize, &Listener)| {
            listener.addresses.iter().any(|listen| meets(*listen, address, &is_ours))
        };
        self.listeners.iter().enumerate().filter(is_there).map(|(index, _)| index).collect()
    }

    /// The listeners on the way from one pool to another, `None` where there is no way; nobody is
    /// on the way from a pool to itself.
    fn way(&self, from: usize, to: usize, is_ours: &impl Fn(IpAddr) -> bool) -> Option<Vec<&str>> {
        // For each pool that was reached, the one before it and the listener in between.
        let mut before: Vec<Option<(usize, usize)>> = vec![None; self.pools.len()];
        let mut queue = std::collections::VecDeque::from([from]);
        while let Some(pool) = queue.pop_front() {
            if pool == to {
                let mut names = Vec::new();
                let mut at = to;
                while let Some((earlier, listener)) = before[at].filter(|_| at != from) {
                    names.insert(0, self.listeners[listener].name.as_str());
                    at = earlier;
                }
                return Some(names);
            }
            for (_, address) in &self.pools[pool].backends {
                for listener in self.listeners_at(*address, is_ours) {
                    let next = self.listeners[listener].pool;
                    if next != from && before[next].is_none() {
                        before[next] = Some((pool, listener));
                        queue.push_back(next);
                    }
                }
            }
        }
        None
    }
}

/// Whether who dials `to` comes to a listener on `listen`, which is for one family alone.
fn meets(listen: SocketAddr, to: SocketAddr, is_ours: impl Fn(IpAddr) -> bool) -> bool {
    let (at, ip) = (listen.ip(), to.ip().to_canonical());
    let same_door = listen.port() == to.port() && to.port() != 0 && at.is_ipv4() == ip.is_ipv4();
    // Kernel: a dial of the wildcard address goes to the loopback one.
    let here = at == ip || (ip.is_unspecified() && at.is_loopback());
    same_door && (here || (at.is_unspecified() && is_ours(ip)))
}

/// The same for the admin endpoint: on `[::]` it is for both families, where the host does not say
/// otherwise.
fn is_admin(admin: SocketAddr, to: SocketAddr, is_ours: impl Fn(IpAddr) -> bool) -> bool {
    let v4 = |at: IpAddr| match at {
        IpAddr::V6(at) if at.is_unspecified() => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        at => at.to_canonical(),
    };
    let also = SocketAddr::new(v4(admin.ip()), admin.port());
    meets(admin, to, &is_ours) || meets(also, to, &is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(name, listen, backend)` of each listener, which has a pool of its own name.
    fn references(listeners: &[(&str, &str, &str)]) -> References {
        let address = |text: &str| text.parse().unwrap();
        let pools = listeners.iter().map(|(name, _, backend)| Pool {
            name: (*name).into(),
            backends: vec![("b".into(), address(backend))],
        });
        let pools = pools.collect();
        let listeners = listeners.iter().enumerate().map(|(pool, (name, listen, _))| Listener {
            name: (*name).into(),
            addresses: vec![address(listen)],
            pool,
        });
        References { admin: address("[::]:9900"), listeners: listeners.collect(), pools }
    }

    fn is_ours(ip: IpAddr) -> bool {
        ip.is_loopback() || ip.is_unspecified() || ip == IpAddr::from([10, 0, 0, 1])
    }

    #[test]
    fn a_pool_does_not_lead_to_its_own_listener_at_any_address_of_this_host() {
        for (listen, backend, loops) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("127.0.0.1:80", "[::ffff:127.0.0.1]:80", true),
            ("0.0.0.0:80", "127.0.0.9:80", true),
            ("0.0.0.0:80", "10.0.0.1:80", true),
            ("0.0.0.0:80", "0.0.0.0:80", true),
            ("0.0.0.0:80", "10.0.0.2:80", false),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::]:80", "[::1]:80", true),
            ("[::]:80", "127.0.0.1:80", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("10.0.0.1:80", "10.0.0.1:80", true),
        ] {
            let problems = references(&[("l", listen, backend)]).problems(is_ours);
            assert_eq!(problems.len(), usize::from(loops), "{listen} {backend}: {problems:?}");
        }
    }

    #[test]
    fn a_loop_through_others_is_told_with_its_way_and_a_row_is_none() {
        let row = [("a", "127.0.0.1:1", "127.0.0.1:2"), ("b", "127.0.0.1:2", "10.0.0.9:80")];
        assert_eq!(references(&row).problems(is_ours), [""; 0]);
        let ring = [
            ("a", "127.0.0.1:1", "127.0.0.1:2"),
            ("b", "0.0.0.0:2", "127.0.0.1:3"),
            ("c", "127.0.0.1:3", "127.0.0.1:1"),
            ("d", "127.0.0.1:4", "127.0.0.1:1"),
        ];
        let problems = references(&ring).problems(is_ours);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert_eq!(
            problems[0],
            "pool a: backend b = \"127.0.0.1:2\": it is listener b, which leads back to this pool, \
             by way of listener c and a (name another server)"
        );
    }

    #[test]
    fn nobody_leads_to_the_admin_endpoint() {
        for (backend, refused) in [
            ("127.0.0.1:9900", true),
            ("10.0.0.1:9900", true),
            ("[::1]:9900", true),
            ("10.0.0.2:9900", false),
        ] {
            let problems = references(&[("l", "127.0.0.1:1", backend)]).problems(is_ours);
            assert_eq!(problems.len(), usize::from(refused), "{backend}: {problems:?}");
        }
    }
}
