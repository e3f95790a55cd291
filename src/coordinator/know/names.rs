//! From names to addresses, again and again: who is behind a backend that has a name.
//!
//! This room refuses to know pools and backends. [`Names::watch`] calls back with the whole set of
//! endpoints whenever it differs; `answer` (pure) decides what a set is, `watched` (pure) what an
//! answer or a failure means for what was known before. The resolver's own cache is off, so that
//! there is one opinion on how long an answer lasts, and it is ours. Name servers are asked as
//! getaddrinfo(3) does: in their order, one at a time.

mod answer;
mod place;
mod watched;
mod why;

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use hickory_resolver::{
    Resolver, TokioResolver,
    config::{NameServerConfig, ResolverConfig, ResolverOpts},
    lookup::Lookup,
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, RecordType},
    },
    system_conf,
};
use tokio::{sync::Semaphore, task::JoinSet};

pub use self::{
    answer::{Answer, Cut, Endpoint},
    watched::Told,
    why::Why,
};
use self::{
    place::{Found, Host, Place},
    watched::Watched,
};
use crate::{
    config::Target,
    limits::{ENDPOINTS_MAX, QUESTIONS_AT_ONCE_MAX},
    sock,
};

/// How long one server may take for one try of one question.
pub const TRY_MAX: Duration = Duration::from_secs(2);

/// How often all servers are asked before there is no answer: a datagram may be lost.
const ROUNDS: usize = 2;

/// Where the system says who its name servers are.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Asks the servers.
#[derive(Clone)]
pub struct Names {
    /// One for each server, in their order.
    servers: Arc<[TokioResolver]>,
    /// For questions that are asked at once: each has a socket.
    places: Arc<Semaphore>,
    /// Whether this host could send to an address at all.
    has_way: fn(SocketAddr) -> bool,
}

/// What a lookup came to.
pub struct Look<'a> {
    /// Everybody behind the name, as far as that is known.
    pub endpoints: &'a [Endpoint],
    /// What was left out of the last answer.
    pub cut: Cut,
    /// Why the lookup failed, or a part of it.
    pub failed: Option<&'a Why>,
    /// What of that is news.
    pub told: Option<&'a Told>,
}

impl Names {
    /// Asks `servers`, or the system's where there are none; each try may take `try_max`.
    ///
    /// # Errors
    /// A sentence: the system's servers are not known.
    pub fn new(servers: &[SocketAddr], try_max: Duration) -> Result<Names, String> {
        let (config, options) = match servers.is_empty() {
            // resolv.conf(5): a file that is not there is as good as an empty one.
            true => system(&std::fs::read_to_string(RESOLV_CONF).unwrap_or_default())?,
            false => (
                ResolverConfig::from_name_servers(servers.iter().map(server).collect()),
                ResolverOpts::default(),
            ),
        };
        Names::with(&config, options, try_max)
    }

    /// A resolver knows one server, so that the order is ours: of several it asks two at once, and
    /// they share the time of one try.
    fn with(
        config: &ResolverConfig,
        mut options: ResolverOpts,
        try_max: Duration,
    ) -> Result<Names, String> {
        (options.cache_size, options.attempts, options.timeout) = (0, 0, try_max);
        let one = |server: &NameServerConfig| {
            let (domain, search) = (config.domain().cloned(), config.search().to_vec());
            let config = ResolverConfig::from_parts(domain, search, vec![server.clone()]);
            let builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
            builder.with_options(options.clone()).build()
        };
        let servers: Result<Vec<_>, NetError> = config.name_servers().iter().map(one).collect();
        let servers = servers.map_err(|error| no_servers(&error))?.into();
        let places = Arc::new(Semaphore::new(QUESTIONS_AT_ONCE_MAX));
        Ok(Names { servers, places, has_way: sock::has_way_to })
    }

    /// The same, where `has_way` says what this host can reach.
    pub fn judged_by(self, has_way: fn(SocketAddr) -> bool) -> Names {
        Names { has_way, ..self }
    }

    /// Who is behind `target` now.
    ///
    /// # Errors
    /// Nobody is, or nobody can tell.
    pub async fn look_up(&self, target: &Target) -> Result<Answer, Why> {
        let mut answer = match target {
            Target::Address(address) => return Ok(Answer::fixed(*address)),
            Target::Name { host, port } => {
                let found = self.host(host).await?;
                Answer::new(&[Place::of_name(*port)], &[(Host::Itself, Ok(found))])
            }
            Target::Service { name } => self.service(name).await?,
        };
        answer.keep_reachable(self.has_way);
        Ok(answer)
    }

    /// Looks `target` up for ever, and calls back after each time. What could not be looked up
    /// changes nothing: what was known stays.
    pub async fn watch(&self, target: &Target, mut on_look: impl FnMut(Look<'_>)) {
        let name = target.to_string();
        let mut watched = Watched::default();
        loop {
            let news = watched.take(self.look_up(target).await);
            if news.cut_changed {
                tell(&name, watched.cut());
            }
            on_look(Look {
                endpoints: watched.endpoints(),
                cut: watched.cut(),
                failed: watched.failed(),
                told: news.told.as_ref(),
            });
            tokio::time::sleep(news.wait).await;
        }
    }

    /// The addresses of a host. One family that cannot be told does not spoil the other: many
    /// servers answer AAAA with an error.
    async fn host(&self, name: &str) -> Result<Found, Why> {
        let (v4, v6) = tokio::join!(
            self.addresses(name, RecordType::A),
            self.addresses(name, RecordType::AAAA)
        );
        let found = match (v4, v6) {
            (Ok(v4), Ok(v6)) => Found::both(v4, v6),
            (Ok(v4), Err(why)) => v4.without(true, why),
            (Err(why), Ok(v6)) => v6.without(false, why),
            (Err(Why::Empty), Err(why)) | (Err(why), Err(_)) => return Err(why),
        };
        match found {
            Found { ips, lost, .. } if ips.is_empty() => {
                Err(lost.map_or(Why::Empty, |(_, why)| why))
            }
            found => Ok(found),
        }
    }

    /// Everybody behind a service. A host that fails does not spoil the others.
    async fn service(&self, name: &str) -> Result<Answer, Why> {
        let (places, too_many, ttl) = {
            let _place = self.places.acquire().await;
            let records = self.ask(name, RecordType::SRV).await?;
            let places = records.answers().iter().filter_map(place).collect();
            let (places, too_many) = place::first_places(places);
            (places, too_many, ttl(&records))
        };
        let hosts: BTreeSet<String> = places.iter().filter_map(Place::host).collect();
        let mut asking = JoinSet::new();
        for host in hosts {
            let names = self.clone();
            asking.spawn(async move {
                let found = names.host(&host).await;
                (Host::Named(host), found)
            });
        }
        let mut hosts = asking.join_all().await;
        // Of several failures the same one is told each time.
        hosts.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut answer = Answer::new(&places, &hosts);
        answer.cut.dropped += too_many;
        answer.last_at_most(ttl);
        if answer.endpoints.is_empty() {
            return Err(answer.lost.into_iter().next().map_or(Why::Empty, |lost| lost.why));
        }
        Ok(answer)
    }

    /// The addresses of one family. The records they come in may be a megabyte, so there are no
    /// more of those than questions at once.
    async fn addresses(&self, name: &str, family: RecordType) -> Result<Found, Why> {
        let _place = self.places.acquire().await;
        let lookup = self.ask(name, family).await?;
        let ips = lookup.answers().iter().filter_map(|record| match &record.data {
            RData::A(ip) => Some(ip.0.into()),
            RData::AAAA(ip) => Some(ip.0.into()),
            _ => None,
        });
        Ok(Found::new(ips, ttl(&lookup)))
    }

    /// One server after the other, until one of them can tell.
    async fn ask(&self, name: &str, kind: RecordType) -> Result<Lookup, Why> {
        // As ASCII: read as Unicode, a name may not have an underscore.
        let name = Name::from_ascii(name).map_err(|error| Why::Broken(error.to_string()))?;
        let mut last = Why::Timeout;
        for server in (0..ROUNDS).flat_map(|_| self.servers.iter()) {
            // Its cache has no room, but what was put there last may be there for a moment.
            server.clear_cache();
            match server.lookup(name.clone(), kind).await {
                Err(error) if asks_next(&error) => last = why(error),
                told => return told.map_err(why),
            }
        }
        Err(last)
    }
}

/// The system's servers, and how it asks them. With none of them it is this host's own, as
/// resolv.conf(5) has it: `localhost` and the file of hosts need none.
fn system(text: &str) -> Result<(ResolverConfig, ResolverOpts), String> {
    let or_this_host = |_| {
        let text = format!("{text}\nnameserver 127.0.0.1\n");
        system_conf::parse_resolv_conf(text)
    };
    system_conf::parse_resolv_conf(text).or_else(or_this_host).map_err(|error| no_servers(&error))
}

fn no_servers(error: &NetError) -> String {
    format!("cannot read the system's name servers: {error} (write dns.servers)")
}

/// Whether the next server is asked: this one was silent, or has said that it cannot tell. What it
/// tells of the name, also that there is none, is an answer.
fn asks_next(error: &NetError) -> bool {
    let code = match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => none.response_code,
        NetError::Dns(DnsError::ResponseCode(code)) => *code,
        NetError::Dns(_) => return false,
        _ => return true,
    };
    [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::NotImp].contains(&code)
}

/// Once for each change of what is left out.
fn tell(name: &str, cut: Cut) {
    let Cut { dropped, unreachable } = cut;
    match cut {
        Cut { dropped: 0, unreachable: 0 } => {
            tracing::info!(name, "all of its addresses are used again");
        }
        _ => {
            let rule = "addresses left out";
            tracing::warn!(name, dropped, unreachable, most = ENDPOINTS_MAX, "{rule}");
        }
    }
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    server.connections.iter_mut().for_each(|connection| connection.port = address.port());
    server
}

/// As long as the shortest of them, names on the way included.
fn ttl(lookup: &Lookup) -> Duration {
    let shortest = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
    Duration::from_secs(shortest.into())
}

fn place(record: &hickory_resolver::proto::rr::Record) -> Option<Place> {
    let RData::SRV(srv) = &record.data else { return None };
    let host = Host::Named(srv.target.to_ascii());
    // RFC 2782: a target of "." says that the service is not there.
    let there = srv.port > 0 && !srv.target.is_root();
    let (priority, weight) = (srv.priority, srv.weight.max(1));
    there.then_some(Place { host, port: srv.port, priority, weight })
}

fn why(error: NetError) -> Why {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => Why::NoSuchName,
            ResponseCode::NoError => Why::Empty,
            code => Why::Server(code.to_string()),
        },
        NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused)) => Why::Refused,
        NetError::Dns(DnsError::ResponseCode(code)) => Why::Server(code.to_string()),
        NetError::Timeout => Why::Timeout,
        error => Why::Broken(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1. The system names no server, or one. 2. With none it is this host's own, and `localhost`
    ///    is known all the same.
    #[test]
    fn without_a_server_localhost_is_known() {
        for (text, server) in [
            ("", "127.0.0.1"),
            ("# nothing\nsearch example\n", "127.0.0.1"),
            ("nameserver 10.0.0.53\n", "10.0.0.53"),
        ] {
            let (config, _) = system(text).unwrap();
            let ips: Vec<String> = config.name_servers().iter().map(|s| s.ip.to_string()).collect();
            assert_eq!(ips, [server], "{text:?}");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (config, options) = system("").unwrap();
        let answer = runtime.block_on(async {
            let names = Names::with(&config, options, Duration::from_millis(100)).unwrap();
            names.look_up(&Target::Name { host: "localhost".into(), port: 80 }).await.unwrap()
        });
        assert!(answer.endpoints.iter().all(|e| e.address.ip().is_loopback()), "{answer:?}");
    }
}
