//! From names to addresses, again and again: who is behind a backend that has a name.
//!
//! This room refuses to know pools and backends. [`Names::watch`] calls back with the whole set of
//! endpoints whenever it differs; `answer` (pure) decides what a set is, `watched` (pure) what an
//! answer or a failure means for what was known before. The resolver's own cache is off, so that
//! there is one opinion on how long an answer lasts, and it is ours.

mod answer;
mod watched;

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use hickory_resolver::{
    Resolver, TokioResolver,
    config::{NameServerConfig, ResolverConfig},
    lookup::Lookup,
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, RecordType},
    },
};
use tokio::{sync::Semaphore, task::JoinSet};

pub use self::{
    answer::{Answer, Endpoint},
    watched::{Told, Why},
};
use self::{
    answer::{Found, Host, Place},
    watched::Watched,
};
use crate::{
    config::Target,
    limits::{ENDPOINTS_MAX, QUESTIONS_AT_ONCE_MAX},
};

/// How long one server may take for one try of one question.
pub const TRY_MAX: Duration = Duration::from_secs(2);

/// Tries after the first one: a datagram may be lost.
const TRIES_MORE: usize = 1;

/// Asks the servers.
#[derive(Clone)]
pub struct Names {
    resolver: TokioResolver,
    /// For questions that are asked at once: each has a socket.
    places: Arc<Semaphore>,
}

impl Names {
    /// Asks `servers`, or the system's where there are none; each try may take `try_max`.
    ///
    /// # Errors
    /// A sentence: the system's servers are not known.
    pub fn new(servers: &[SocketAddr], try_max: Duration) -> Result<Names, String> {
        let no_servers = |error: NetError| {
            format!("cannot read the system's name servers: {error} (write dns.servers)")
        };
        let mut builder = match servers.is_empty() {
            true => TokioResolver::builder_tokio().map_err(no_servers)?,
            false => Resolver::builder_with_config(
                ResolverConfig::from_name_servers(servers.iter().map(server).collect()),
                TokioRuntimeProvider::default(),
            ),
        };
        let options = builder.options_mut();
        options.cache_size = 0;
        options.timeout = try_max;
        options.attempts = TRIES_MORE;
        let resolver = builder.build().map_err(no_servers)?;
        Ok(Names { resolver, places: Arc::new(Semaphore::new(QUESTIONS_AT_ONCE_MAX)) })
    }

    /// Who is behind `target` now.
    ///
    /// # Errors
    /// Nobody is, or nobody can tell.
    pub async fn look_up(&self, target: &Target) -> Result<Answer, Why> {
        match target {
            Target::Address(address) => Ok(Answer::fixed(*address)),
            Target::Name { host, port } => {
                let found = self.host(host).await?;
                Ok(Answer::new(&[Place::of_name(*port)], &[(Host::Itself, Ok(found))]))
            }
            Target::Service { name } => self.service(name).await,
        }
    }

    /// Looks `target` up for ever, and calls back after each time: with everybody behind it, and
    /// with why it could not be looked up, or not all of it, and with what of that is news. What
    /// could not be looked up changes nothing: what was known stays.
    pub async fn watch(
        &self,
        target: &Target,
        mut on_look: impl FnMut(&[Endpoint], Option<&Why>, Option<&Told>),
    ) {
        let name = target.to_string();
        let mut watched = Watched::default();
        loop {
            let news = watched.take(self.look_up(target).await);
            if news.changed && news.dropped > 0 {
                let dropped = news.dropped;
                tracing::warn!(name, dropped, "more addresses than {ENDPOINTS_MAX}");
            }
            on_look(watched.endpoints(), watched.failed(), news.told.as_ref());
            tokio::time::sleep(news.wait).await;
        }
    }

    /// The addresses of a host. One family that cannot be told does not spoil the other: many
    /// servers answer AAAA with an error.
    async fn host(&self, name: &str) -> Result<Found, Why> {
        let (v4, v6) =
            tokio::join!(self.ask(name, RecordType::A), self.ask(name, RecordType::AAAA));
        let found = match (v4, v6) {
            (Ok(v4), Ok(v6)) => Found::both(addresses(&v4), addresses(&v6)),
            (Ok(v4), Err(why)) => addresses(&v4).without(true, why),
            (Err(why), Ok(v6)) => addresses(&v6).without(false, why),
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
        let records = self.ask(name, RecordType::SRV).await?;
        let places = answer::first_places(records.answers().iter().filter_map(place).collect());
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
        answer.last_at_most(ttl(&records));
        if answer.endpoints.is_empty() {
            return Err(answer.lost.into_iter().next().map_or(Why::Empty, |lost| lost.why));
        }
        Ok(answer)
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Result<Lookup, Why> {
        let _place = self.places.acquire().await;
        // Its cache has no room, but what was put there last may be there for a moment.
        self.resolver.clear_cache();
        // As ASCII: read as Unicode, a name may not have an underscore.
        let name = Name::from_ascii(name).map_err(|error| Why::Broken(error.to_string()))?;
        self.resolver.lookup(name, kind).await.map_err(why)
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

fn addresses(lookup: &Lookup) -> Found {
    let ips = lookup.answers().iter().filter_map(|record| match &record.data {
        RData::A(ip) => Some(ip.0.into()),
        RData::AAAA(ip) => Some(ip.0.into()),
        _ => None,
    });
    Found { ips: ips.collect(), ttl: ttl(lookup), lost: None }
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
