//! All names of a configuration: which are due, and what their answers mean for servers. No clock and no sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lb_core::spec::{Address, Spec, Target as SpecTarget};

use super::members::{Member, Members};
use super::name::{Name, Ttl};
use super::service::places;
use super::{Answer, Failure, Gap, Kind, Question, Target};
use crate::config::{NamedServer, Way};

/// Addresses that a line about a change names at most of one kind.
const TOLD_MAX: usize = 8;

/// The names that are asked for, each once, whoever uses it.
#[derive(Debug, Clone, Default)]
pub struct Names {
    asked: BTreeMap<Question, Asked>,
    results: [u64; Failure::RESULTS.len()],
    changed: bool,
    remove_after: Duration,
}

#[derive(Debug, Clone)]
struct Asked {
    name: Name,
    /// Names of the backends that use it.
    backends: BTreeSet<String>,
    /// For entries that take every address.
    all: Option<Members>,
    /// For entries that take one.
    first: Option<Members>,
}

/// Something that a person should know about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    pub name: String,
    pub worse: bool,
    pub words: String,
}

/// One name, for those who show it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'a> {
    pub question: &'a Question,
    pub name: &'a Name,
    /// Who serves for entries that take every address, and for those that take one.
    pub members: [Option<&'a Members>; 2],
}

impl Names {
    /// Takes up who needs which name: others are forgotten, new ones are due.
    pub(crate) fn fit<'a>(&mut self, servers: impl Iterator<Item = &'a NamedServer>, now: Instant) {
        let mut wanted: BTreeMap<&Question, ([bool; 2], BTreeSet<String>)> = BTreeMap::new();
        for server in servers {
            let ([all, first], backends) = wanted.entry(&server.question).or_default();
            *(if server.way == Way::First { first } else { all }) = true;
            backends.insert(server.backend_name.clone());
        }
        self.asked.retain(|question, _| wanted.contains_key(question));
        for (question, ([all, first], backends)) in wanted {
            let asked = self.asked.entry(question.clone()).or_insert_with(|| Asked {
                name: Name::new(now),
                backends: BTreeSet::new(),
                all: None,
                first: None,
            });
            asked.backends = backends;
            asked.all = all.then(|| asked.all.take().unwrap_or_default());
            asked.first = first.then(|| asked.first.take().unwrap_or_default());
            asked.follow(now);
        }
    }

    /// Has every name to be asked at once: others are going to answer than until now.
    pub(crate) fn ask_all_soon(&mut self, now: Instant) {
        self.asked.values_mut().for_each(|asked| asked.name.ask_soon(now));
    }

    /// The names to be asked now, those that are due for longest first. They count as being asked from now on.
    pub(crate) fn begin_due(&mut self, now: Instant, most: usize) -> Vec<Question> {
        let mut due: Vec<(Instant, &Question)> = self
            .asked
            .iter()
            .filter_map(|(question, asked)| Some((asked.name.due()?, question)))
            .filter(|(due, _)| *due <= now)
            .collect();
        due.sort();
        let due: Vec<Question> = due.into_iter().take(most).map(|(_, question)| question.clone()).collect();
        for question in &due {
            if let Some(asked) = self.asked.get_mut(question) {
                asked.name.begin();
            }
        }
        due
    }

    /// Takes up what came of asking. An answer to what nobody needs any more changes nothing.
    pub(crate) fn answered(
        &mut self,
        question: &Question,
        result: Result<Answer, Failure>,
        ttl: Ttl,
        now: Instant,
        random: u64,
    ) -> Option<News> {
        self.results[result.as_ref().map_or_else(Failure::place, |_| 0)] += 1;
        let asked = self.asked.get_mut(question)?;
        let was_failing = asked.name.failing().is_some();
        let had_gap = asked.name.gap().is_some();
        let news = |worse: bool, words: String| Some(News { name: question.name.clone(), worse, words });
        match result {
            Err(failure) => {
                let has_addresses = !asked.name.present().is_empty();
                let words = match has_addresses {
                    true => format!("{failure}: its last addresses stay"),
                    false => format!("{failure}: it has no addresses"),
                };
                asked.name.failed(failure, ttl, now, random);
                if was_failing { None } else { news(true, words) }
            }
            Ok(answer) => {
                let before = asked.name.present();
                asked.name.answered(answer, ttl, now, random);
                self.changed |= asked.follow(now);
                let mut words = difference(&before, &asked.name.present());
                if was_failing {
                    words.insert(0, "it is answered again".to_owned());
                }
                if let (Some(Gap { failure, .. }), false) = (asked.name.gap(), had_gap) {
                    words.push(format!("a part of the answer is missing: {failure}"));
                }
                if words.is_empty() { None } else { news(false, words.join("; ")) }
            }
        }
    }

    /// Lets addresses that left their answer go, where they may.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        remove_after: Duration,
        is_up: impl Fn(&Question, &Target) -> bool,
    ) -> Vec<News> {
        self.remove_after = remove_after;
        let mut news = Vec::new();
        for (question, asked) in &mut self.asked {
            for members in [&mut asked.all, &mut asked.first].into_iter().flatten() {
                if members.next_look().is_none_or(|look| look > now) {
                    continue;
                }
                let before: Vec<SocketAddr> = members.all().iter().map(|it| it.target.address).collect();
                if members.look(now, remove_after, |target| is_up(question, target)) {
                    self.changed = true;
                    let stays =
                        |address: &SocketAddr| members.all().iter().any(|it| it.target.address == *address);
                    let gone = before.into_iter().filter(|address| !stays(address));
                    let words = format!("{} no longer serves: it left the answer", listed(gone));
                    news.push(News { name: question.name.clone(), worse: false, words });
                }
            }
        }
        news
    }

    /// Nobody will tell any more what came of questions under way: they are due again.
    pub(crate) fn give_up_asking(&mut self) {
        self.asked.values_mut().for_each(|asked| asked.name.give_up());
    }

    /// When something is to be done next. `can_ask`: whether there is room to ask.
    pub(crate) fn next(&self, can_ask: bool) -> Option<Instant> {
        let times = self.asked.values().flat_map(|asked| {
            let members = [&asked.all, &asked.first].into_iter().flatten();
            let looks = members.filter_map(Members::next_look);
            looks.chain(asked.name.due().filter(|_| can_ask))
        });
        times.min()
    }

    /// Whether servers are different from what they were when this was last asked.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Whether all of these have been asked, well or not.
    pub(crate) fn were_asked<'a>(&self, mut servers: impl Iterator<Item = &'a NamedServer>) -> bool {
        servers.all(|server| self.asked.get(&server.question).is_none_or(|asked| asked.name.was_asked()))
    }

    /// Why an entry has no address at all, if it has none.
    pub(crate) fn why_none(&self, server: &NamedServer) -> Option<String> {
        let asked = self.asked.get(&server.question)?;
        if asked.members(server.way).is_some_and(|members| !members.all().is_empty()) {
            return None;
        }
        Some(asked.name.failing().map_or("there is no answer yet".to_owned(), |(_, why)| why.to_string()))
    }

    /// Writes into a spec who serves now.
    pub(crate) fn fill(&self, servers: &[NamedServer], spec: &mut Spec) {
        for server in servers {
            let members = self.asked.get(&server.question).and_then(|asked| asked.members(server.way));
            let members = members.map(Members::all).unwrap_or_default();
            let backend = spec.backends.get_mut(server.backend);
            if let Some(entry) = backend.and_then(|backend| backend.servers.get_mut(server.server)) {
                entry.address = address(members, server);
            }
        }
    }

    /// The names that a backend's servers have, each with how it stands, in words.
    pub fn of_backend(&self, backend: &str, now: Instant) -> Vec<(String, String)> {
        let of = self.asked.iter().filter(|(_, asked)| asked.backends.contains(backend));
        of.map(|(question, asked)| (question.name.clone(), asked.words(now))).collect()
    }

    /// All of them, in order.
    pub(crate) fn shown(&self) -> impl Iterator<Item = Shown<'_>> {
        self.asked.iter().map(|(question, asked)| Shown {
            question,
            name: &asked.name,
            members: [asked.all.as_ref(), asked.first.as_ref()],
        })
    }

    /// Ends of asking so far, in the order of [`Failure::RESULTS`].
    pub(crate) fn results(&self) -> &[u64] {
        &self.results
    }

    /// How long an address that left its answer serves on at most, as was said last.
    pub(crate) fn remove_after(&self) -> Duration {
        self.remove_after
    }

    /// How many names there are.
    pub(crate) fn len(&self) -> usize {
        self.asked.len()
    }
}

impl Asked {
    fn members(&self, way: Way) -> Option<&Members> {
        if way == Way::First { self.first.as_ref() } else { self.all.as_ref() }
    }

    /// `2 addresses, 1 that left; answered 3 s ago, kept for 5 s`, and what fails.
    fn words(&self, now: Instant) -> String {
        let present = self.name.present().len();
        let members = [&self.all, &self.first].into_iter().flatten();
        let leaving = members.map(|members| members.leaving().count()).max().unwrap_or(0);
        let mut words = match present {
            0 => "no address".to_owned(),
            1 => "1 address".to_owned(),
            _ => format!("{present} addresses"),
        };
        if leaving > 0 {
            write!(words, ", {leaving} that left").expect("writing to a string");
        }
        if let Some(good) = self.name.last_good() {
            let (ago, kept) = (now.saturating_duration_since(good.at).as_secs(), good.ttl.as_secs_f64());
            write!(words, "; answered {ago} s ago, kept for {kept} s").expect("writing to a string");
        }
        if let Some((count, why)) = self.name.failing() {
            write!(words, "; {why}, failed {count} in a row").expect("writing to a string");
        }
        words
    }

    /// Has its members follow what the name says.
    fn follow(&mut self, now: Instant) -> bool {
        let present = self.name.present();
        let mut changed = false;
        if let Some(all) = &mut self.all {
            changed |= all.follow(&present, now);
        }
        if let Some(first) = &mut self.first {
            // The one that serves stays while it is in the answer, so that answers that rotate move nobody.
            let is_there = |target: &Target| present.iter().any(|it| it.address == target.address);
            let serving = first.present().map(|member| member.target).find(is_there);
            let chosen = serving.or(self.name.first().filter(is_there)).or(present.first().copied());
            changed |= first.follow(chosen.as_slice(), now);
        }
        changed
    }
}

/// What members are to the core.
fn address(members: &[Member], server: &NamedServer) -> Address {
    if server.question.kind == Kind::Addresses {
        let at_port = |member: &Member| SocketAddr::new(member.target.address.ip(), server.port);
        return Address::Resolved(members.iter().map(at_port).collect());
    }
    let targets: Vec<Target> = members.iter().map(|member| member.target).collect();
    let places = places(&targets);
    let target = |(target, place): (&Target, &super::service::Place)| SpecTarget {
        address: target.address,
        weight: place.weight,
        backup: place.backup,
    };
    Address::Service(targets.iter().zip(&places).map(target).collect())
}

/// What is different between two answers, in words.
fn difference(before: &[Target], after: &[Target]) -> Vec<String> {
    let of = |targets: &[Target]| targets.iter().map(|it| it.address).collect::<Vec<_>>();
    let (before_addresses, after_addresses) = (of(before), of(after));
    let new: Vec<_> = after_addresses.iter().filter(|it| !before_addresses.contains(it)).copied().collect();
    let gone: Vec<_> = before_addresses.iter().filter(|it| !after_addresses.contains(it)).copied().collect();
    let mut words = Vec::new();
    if !new.is_empty() {
        words.push(format!("{} is new", listed(new)));
    }
    if !gone.is_empty() {
        words.push(format!("{} left the answer", listed(gone)));
    }
    if words.is_empty() && before != after {
        words.push("other weights or priorities".to_owned());
    }
    words
}

/// `10.0.0.1, 10.0.0.2 and 3 more`.
fn listed(addresses: impl IntoIterator<Item = SocketAddr>) -> String {
    let addresses: Vec<SocketAddr> = addresses.into_iter().collect();
    let mut words = String::new();
    for (place, address) in addresses.iter().take(TOLD_MAX).enumerate() {
        let comma = if place > 0 { ", " } else { "" };
        let told = match address.port() {
            0 => write!(words, "{comma}{}", address.ip()),
            _ => write!(words, "{comma}{address}"),
        };
        told.expect("writing to a string");
    }
    if addresses.len() > TOLD_MAX {
        write!(words, " and {} more", addresses.len() - TOLD_MAX).expect("writing to a string");
    }
    words
}
