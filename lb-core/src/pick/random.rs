//! Any server, by weight.

use super::{Asked, Draw, Group, Member};
use crate::snapshot::ServerIndex;

/// Draws before a pick gives up drawing and asks all: most of the servers are out then, or all have just come up.
const DRAWS_MAX: u32 = 32;

pub(super) fn pick(group: &Group, asked: &Asked<'_>) -> Option<ServerIndex> {
    let mut draw = asked.draw;
    let drawn = one(group, asked, &mut draw, None).or_else(|| of_all(group, asked, &mut draw));
    drawn.map(|member| member.server)
}

/// A server drawn by weight, another than the given one. In slow start a server refuses as many draws as its strength
/// lacks, so that it is drawn by the weight that it has. `None` if no draw met one that can serve.
pub(super) fn one<'a>(
    group: &'a Group,
    asked: &Asked<'_>,
    draw: &mut Draw,
    except: Option<&Member>,
) -> Option<&'a Member> {
    for _ in 0..DRAWS_MAX {
        let member = &group.members[group.order.place(draw.below(group.order.len()))];
        if except.is_some_and(|except| except.server == member.server) {
            continue;
        }
        let strength = asked.strength(member.server);
        if strength > 0 && draw.admits(strength) {
            return Some(member);
        }
    }
    None
}

/// One of all that can serve, drawn by the weight that each has.
fn of_all<'a>(group: &'a Group, asked: &Asked<'_>, draw: &mut Draw) -> Option<&'a Member> {
    let mut lot = Lot::default();
    let mut drawn = None;
    for member in &group.members {
        if lot.falls_on(member.weight * asked.strength(member.server), draw) {
            drawn = Some(member);
        }
    }
    drawn
}

/// A lot among weights that are told one after the other: it has fallen on the last one that it fell on.
#[derive(Default)]
pub(super) struct Lot(u32);

impl Lot {
    /// Whether the lot falls on the next one, of all so far. It never does on a weight of 0.
    pub(super) fn falls_on(&mut self, weight: u32, draw: &mut Draw) -> bool {
        self.0 += weight;
        weight > 0 && draw.below(self.0) < weight
    }
}
