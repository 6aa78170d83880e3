//! The server with the fewest requests in flight, by weight.

use super::{Asked, Draw, Group, Member};
use crate::snapshot::ServerIndex;

/// Up to this many servers all are compared; above, two drawn by weight are (Mitzenmacher, "The power of two
/// choices in randomized load balancing", 2001): nearly as even, and reads two shared counters instead of all.
const SERVERS_COMPARED_MAX: usize = 4;

/// Draws before a pick gives up drawing and compares all: most of the servers are out then.
const DRAWS_MAX: u32 = 8;

pub(super) fn pick(group: &Group, asked: &Asked<'_>) -> Option<ServerIndex> {
    let mut draw = asked.draw;
    if group.members.len() <= SERVERS_COMPARED_MAX {
        return of_all(group, asked, &mut draw);
    }
    of_two(group, asked, &mut draw).or_else(|| of_all(group, asked, &mut draw))
}

/// The least loaded of two that were drawn by weight; an even match is the first one's. `None` if no draw met
/// a server that can serve.
fn of_two(group: &Group, asked: &Asked<'_>, draw: &mut Draw) -> Option<ServerIndex> {
    let mut first: Option<&Member> = None;
    for _ in 0..DRAWS_MAX {
        let member = &group.members[group.order.place(draw.below(group.order.len()))];
        if first.is_some_and(|first| first.server == member.server) || !asked.can_serve(member.server) {
            continue;
        }
        let Some(one) = first else {
            first = Some(member);
            continue;
        };
        let other_is_less =
            load(asked, member) * u64::from(one.weight) < load(asked, one) * u64::from(member.weight);
        return Some(if other_is_less { member.server } else { one.server });
    }
    first.map(|member| member.server)
}

/// The least loaded of all. Among equally loaded ones weight decides by lot, so that an idle backend is used as
/// its weights say and not from its top.
fn of_all(group: &Group, asked: &Asked<'_>, draw: &mut Draw) -> Option<ServerIndex> {
    let mut best: Option<(&Member, u64)> = None;
    let mut even_weight = 0;
    for member in group.members.iter().filter(|member| asked.can_serve(member.server)) {
        let requests = load(asked, member);
        let order = best.map(|(best, least)| {
            (requests * u64::from(best.weight)).cmp(&(least * u64::from(member.weight)))
        });
        let takes_it = match order {
            None | Some(std::cmp::Ordering::Less) => {
                even_weight = 0;
                true
            }
            Some(std::cmp::Ordering::Equal) => draw.below(even_weight + member.weight) >= even_weight,
            Some(std::cmp::Ordering::Greater) => continue,
        };
        even_weight += member.weight;
        if takes_it {
            best = Some((member, requests));
        }
    }
    best.map(|(member, _)| member.server)
}

fn load(asked: &Asked<'_>, member: &Member) -> u64 {
    u64::from(asked.in_flight(member.server))
}
