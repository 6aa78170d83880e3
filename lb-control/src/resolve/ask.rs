//! Asking name servers: the part that waits for the world.
//!
//! The name servers are asked in turn, beginning with the one that answered last: a good answer, or that there is nothing,
//! is the end of it; a failing, refusing or silent one leaves the question to the next. UDP first, TCP where an answer is
//! cut; an answer with a wrong id, from elsewhere or to another question is not one (all that is hickory's work).

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{Hosts, TokioResolver, system_conf};
use tokio::task::{Id, JoinSet};

use super::{ADDRESSES_MAX, Answer, Failure, Gap, Kind, Part, Question, SERVICE_HOSTS_MAX, Target};
use crate::config::{Family, ResolverSettings};

/// Questions under way at once at most. Each may be two queries, and each query a socket.
pub const ASKS_AT_ONCE: usize = 16;

/// Of one service, hosts whose addresses are asked for at once.
const HOSTS_AT_ONCE: usize = 4;

/// Name servers of the system's file that are asked: as many as the C library knows.
const SYSTEM_SERVERS_MAX: usize = 3;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// Asks questions, a bounded number at a time.
pub(crate) struct Asker {
    settings: ResolverSettings,
    client: Arc<Client>,
    /// Of the system's files, when they were read.
    stamps: [Option<Stamp>; 2],
    under_way: JoinSet<Result<Answer, Failure>>,
    questions: HashMap<Id, Question>,
}

impl Asker {
    /// Reads the system's files, if they are to be used.
    pub(crate) fn new(settings: &ResolverSettings) -> Asker {
        Asker {
            settings: settings.clone(),
            client: Arc::new(Client::new(settings)),
            stamps: stamps(),
            under_way: JoinSet::new(),
            questions: HashMap::new(),
        }
    }

    /// Asks by other settings from now on. Returns whether others answer than before.
    pub(crate) fn set(&mut self, settings: &ResolverSettings) -> bool {
        if self.settings == *settings {
            return false;
        }
        let others = (&self.settings.servers, self.settings.family) != (&settings.servers, settings.family);
        self.settings = settings.clone();
        self.client = Arc::new(Client::new(settings));
        self.stamps = stamps();
        others
    }

    /// How many more questions may be asked now.
    pub(crate) fn room(&self) -> usize {
        ASKS_AT_ONCE.saturating_sub(self.under_way.len())
    }

    /// Begins to ask.
    pub(crate) fn begin(&mut self, question: Question) {
        if self.settings.servers.is_empty() {
            let stamps = stamps();
            if stamps != self.stamps {
                self.stamps = stamps;
                self.client = Arc::new(Client::new(&self.settings));
            }
        }
        let asking = Arc::clone(&self.client).ask(question.clone());
        let id = self.under_way.spawn(asking).id();
        self.questions.insert(id, question);
    }

    /// Waits for the end of any question; for ever if none is under way. May be dropped at any time.
    pub(crate) async fn next(&mut self) -> (Question, Result<Answer, Failure>) {
        while let Some(ended) = self.under_way.join_next_with_id().await {
            let (id, result) = match ended {
                Ok(ended) => ended,
                // What came made somebody panic: that must not cost us the name.
                Err(error) => (error.id(), Err(Failure::Malformed)),
            };
            if let Some(question) = self.questions.remove(&id) {
                return (question, result);
            }
        }
        std::future::pending().await
    }
}

/// Which version of a file this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, u64, i64, i64);

fn stamps() -> [Option<Stamp>; 2] {
    [RESOLV_CONF, HOSTS].map(|path| {
        let it = fs::metadata(path).ok()?;
        Some(Stamp(it.ino(), it.size(), it.mtime(), it.mtime_nsec()))
    })
}

/// Those who answer.
struct Client {
    /// One for each name server, so that the order is ours.
    servers: Vec<TokioResolver>,
    /// Which of them answered last.
    last: AtomicUsize,
    /// Why there are none.
    problem: String,
    hosts: Option<Hosts>,
    family: Family,
    retries: u32,
    /// How long one of them may take for one query, all names of its search list included.
    patience: Duration,
}

impl Client {
    fn new(settings: &ResolverSettings) -> Client {
        let own = !settings.servers.is_empty();
        let read = match own {
            true => {
                let servers = settings.servers.iter().map(|address| name_server(*address)).collect();
                Ok((ResolverConfig::from_parts(None, Vec::new(), servers), ResolverOpts::default()))
            }
            false => system_conf::read_system_conf(),
        };
        let (config, mut options, mut problem) = match read {
            Ok((config, options)) => (config, options, "there is none".to_owned()),
            Err(error) => {
                let nobody = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
                (nobody, ResolverOpts::default(), format!("{RESOLV_CONF}: {}", words(&error)))
            }
        };
        options.timeout = settings.timeout;
        options.attempts = 0;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.preserve_intermediates = true;
        let most = if own { usize::MAX } else { SYSTEM_SERVERS_MAX };
        let mut servers = Vec::new();
        for server in config.name_servers().iter().take(most) {
            let parts = (config.domain().cloned(), config.search().to_vec(), vec![server.clone()]);
            let config = ResolverConfig::from_parts(parts.0, parts.1, parts.2);
            let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            match builder.with_options(options.clone()).build() {
                Ok(server) => servers.push(server),
                Err(error) => problem = words(&error),
            }
        }
        // The name itself, with the domain, and with each of the list.
        let tries = u32::try_from(config.search().len() + 2).unwrap_or(u32::MAX);
        Client {
            servers,
            last: AtomicUsize::new(0),
            problem,
            hosts: if own { None } else { Hosts::from_system().ok() },
            family: settings.family,
            retries: settings.retries,
            patience: settings.timeout.saturating_mul(tries),
        }
    }

    async fn ask(self: Arc<Client>, question: Question) -> Result<Answer, Failure> {
        let name = Name::from_ascii(&question.name).map_err(|_| Failure::NoName)?;
        match question.kind {
            Kind::Addresses => {
                let Found { addresses, ttl, gap } = self.addresses(&name).await?;
                let targets = addresses.into_iter().map(Target::plain).collect();
                Ok(Answer { targets, ttl, gap })
            }
            Kind::Service => self.service(&name).await,
        }
    }

    /// The addresses of a name, of the families that are wanted.
    async fn addresses(&self, name: &Name) -> Result<Found, Failure> {
        if let Some(found) = self.in_hosts_file(name) {
            return found;
        }
        let [v4, v6] = [RecordType::A, RecordType::AAAA];
        match self.family {
            Family::Ipv4 => self.of_type(name, v4).await,
            Family::Ipv6 => self.of_type(name, v6).await,
            Family::PreferIpv4 => self.preferring(name, [v4, v6]).await,
            Family::PreferIpv6 => self.preferring(name, [v6, v4]).await,
            Family::Any => {
                let (v4, v6) = tokio::join!(self.of_type(name, v4), self.of_type(name, v6));
                both(v4, v6)
            }
        }
    }

    /// The other family only where there is nothing of the first: that its name server fails says nothing.
    async fn preferring(&self, name: &Name, [one, other]: [RecordType; 2]) -> Result<Found, Failure> {
        match self.of_type(name, one).await {
            Err(why) if why.says_there_is_nothing() => self.of_type(name, other).await,
            found => found,
        }
    }

    async fn of_type(&self, name: &Name, kind: RecordType) -> Result<Found, Failure> {
        found(&self.look_up(name, kind).await?)
    }

    /// What stands in the hosts file is asked of nobody.
    fn in_hosts_file(&self, name: &Name) -> Option<Result<Found, Failure>> {
        let hosts = self.hosts.as_ref()?;
        let of = |kind| {
            let lookup = hosts.lookup_static_host(&Query::query(name.clone(), kind))?;
            Some(found(lookup.answers()))
        };
        let (v4, v6) = (of(RecordType::A), of(RecordType::AAAA));
        if v4.is_none() && v6.is_none() {
            return None;
        }
        let [v4, v6] = [v4, v6].map(|it| it.unwrap_or(Err(Failure::Empty)));
        Some(match self.family {
            Family::Ipv4 => v4,
            Family::Ipv6 => v6,
            Family::PreferIpv4 => v4.or(v6),
            Family::PreferIpv6 => v6.or(v4),
            Family::Any => both(v4, v6),
        })
    }

    /// The records of a service, and the addresses of the hosts in them.
    async fn service(self: Arc<Client>, name: &Name) -> Result<Answer, Failure> {
        let records = self.look_up(name, RecordType::SRV).await?;
        let mut ttl = shortest(&records);
        let mut services: Vec<(u16, u16, u16, Name)> = Vec::new();
        for record in &records {
            if let RData::SRV(service) = &record.data
                && !service.target.is_root()
            {
                services.push((
                    service.priority,
                    service.weight,
                    service.port,
                    service.target.to_lowercase(),
                ));
            }
        }
        services.sort();
        let mut hosts: Vec<Name> = Vec::new();
        for (.., host) in &services {
            if !hosts.contains(host) && hosts.len() < SERVICE_HOSTS_MAX {
                hosts.push(host.clone());
            }
        }
        let (mut waiting, mut asking) = (hosts.into_iter(), JoinSet::new());
        let mut known: HashMap<Name, Vec<IpAddr>> = HashMap::new();
        let mut gap = None;
        loop {
            while asking.len() < HOSTS_AT_ONCE {
                let Some(mut host) = waiting.next() else { break };
                let client = Arc::clone(&self);
                asking.spawn(async move {
                    host.set_fqdn(true);
                    (client.addresses(&host).await, host)
                });
            }
            match asking.join_next().await {
                None => break,
                Some(Ok((Ok(found), host))) => {
                    ttl = ttl.min(found.ttl);
                    gap = found.gap.map(|gap| Gap { part: Part::Hosts, ..gap }).or(gap);
                    known.insert(host, found.addresses);
                }
                Some(Ok((Err(failure), _))) if failure.says_there_is_nothing() => {}
                Some(Ok((Err(failure), _))) => gap = Some(Gap { part: Part::Hosts, failure }),
                Some(Err(_)) => gap = Some(Gap { part: Part::Hosts, failure: Failure::Malformed }),
            }
        }
        let mut targets: Vec<Target> = Vec::new();
        for (priority, weight, port, mut host) in services {
            host.set_fqdn(true);
            for address in known.get(&host).into_iter().flatten() {
                let address = SocketAddr::new(*address, port);
                if port != 0 && !targets.iter().any(|target| target.address == address) {
                    targets.push(Target { address, priority, weight });
                }
            }
        }
        match (targets.is_empty(), gap) {
            (true, Some(gap)) => Err(gap.failure),
            (true, None) => Err(Failure::Empty),
            (false, gap) => Ok(Answer { targets, ttl, gap }),
        }
    }

    /// Asks the name servers in turn, and silent ones again.
    async fn look_up(&self, name: &Name, kind: RecordType) -> Result<Vec<Record>, Failure> {
        let count = self.servers.len();
        let first = self.last.load(Relaxed);
        let mut silent: Vec<usize> = (0..count).map(|step| (first + step) % count).collect();
        let mut failure =
            if count == 0 { Failure::Unreachable(self.problem.clone()) } else { Failure::Timeout };
        for _ in 0..=self.retries {
            for at in std::mem::take(&mut silent) {
                let asked = self.servers[at].lookup(name.clone(), kind);
                let why = match tokio::time::timeout(self.patience, asked).await {
                    Ok(Ok(lookup)) => {
                        self.last.store(at, Relaxed);
                        return Ok(lookup.answers().to_vec());
                    }
                    Ok(Err(error)) => failure_of(&error),
                    Err(_) => Failure::Timeout,
                };
                match why {
                    Failure::NoName | Failure::Empty => {
                        self.last.store(at, Relaxed);
                        return Err(why);
                    }
                    Failure::Timeout => silent.push(at),
                    Failure::Malformed | Failure::Unreachable(_) => {
                        silent.push(at);
                        failure = why;
                    }
                    // It has an opinion, and would only repeat it.
                    _ => failure = why,
                }
            }
        }
        Err(failure)
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let [mut udp, mut tcp] = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    (udp.port, tcp.port) = (address.port(), address.port());
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    server.connections = vec![udp, tcp];
    server
}

/// Addresses that can be connected to.
struct Found {
    addresses: Vec<IpAddr>,
    ttl: Duration,
    gap: Option<Gap>,
}

fn found(records: &[Record]) -> Result<Found, Failure> {
    let mut addresses = Vec::new();
    for record in records {
        let address = match &record.data {
            RData::A(a) => IpAddr::V4(a.0),
            RData::AAAA(aaaa) => IpAddr::V6(aaaa.0),
            _ => continue,
        };
        // Name servers that filter say 0.0.0.0 where they mean nothing.
        if !address.is_unspecified() && !address.is_multicast() {
            addresses.push(address);
        }
        if addresses.len() > 4 * ADDRESSES_MAX {
            break;
        }
    }
    if addresses.is_empty() {
        return Err(Failure::Empty);
    }
    Ok(Found { addresses, ttl: shortest(records), gap: None })
}

fn shortest(records: &[Record]) -> Duration {
    Duration::from_secs(records.iter().map(|record| u64::from(record.ttl)).min().unwrap_or_default())
}

/// What both families came to.
fn both(v4: Result<Found, Failure>, v6: Result<Found, Failure>) -> Result<Found, Failure> {
    let with_gap = |found: Found, part: Part, failure: Failure| {
        let gap = (!failure.says_there_is_nothing()).then_some(Gap { part, failure });
        Ok(Found { gap, ..found })
    };
    match (v4, v6) {
        (Ok(mut v4), Ok(v6)) => {
            v4.addresses.extend(v6.addresses);
            v4.ttl = v4.ttl.min(v6.ttl);
            Ok(v4)
        }
        (Ok(v4), Err(failure)) => with_gap(v4, Part::Ipv6, failure),
        (Err(failure), Ok(v6)) => with_gap(v6, Part::Ipv4, failure),
        // A failure tells less than that there is nothing, so nothing is certain; no name is more than no addresses.
        (Err(one), Err(other)) => Err(match (one.says_there_is_nothing(), other.says_there_is_nothing()) {
            (true, false) => other,
            (true, true) if other == Failure::NoName => other,
            _ => one,
        }),
    }
}

fn failure_of(error: &NetError) -> Failure {
    match error {
        NetError::Timeout => Failure::Timeout,
        NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, .. })) => match *response_code {
            ResponseCode::NXDomain => Failure::NoName,
            _ => Failure::Empty,
        },
        NetError::Dns(DnsError::ResponseCode(code)) => match *code {
            ResponseCode::Refused => Failure::Refused,
            ResponseCode::ServFail => Failure::ServerFailed,
            code => Failure::Code(code.to_str().to_owned()),
        },
        NetError::Io(error) => Failure::Unreachable(crate::config::plain(error)),
        NetError::NoConnections | NetError::Busy => Failure::Unreachable(error.to_string()),
        _ => Failure::Malformed,
    }
}

fn words(error: &NetError) -> String {
    match error {
        NetError::Io(error) => crate::config::plain(error),
        other => other.to_string(),
    }
}
