//! In turn, smoothly, by weight. The order is compiled into the snapshot; the cursor is the caller's.

use super::{Asked, Found, Group, Member, Rank};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Slots that a pick looks at before it turns to the list of servers: it bounds a pick in a long order whose
/// servers are nearly all out, and in one whose servers all have just come up.
const SLOTS_LOOKED_AT_MAX: usize = 512;

/// The order in which servers take their turns: each as often as its weight says, and as evenly as can be.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// Places in the list of members. There are at most 2^12 of them.
    slots: Box<[u16]>,
}

impl Order {
    /// Of `length` slots (the sum of the weights, cancelled by what they have in common), a server of weight w
    /// gets w, its k-th one after slot k·length/w and not after slot (k+1)·length/w. Serving whose turn has come
    /// by the earliest deadline keeps all of these whenever that is possible, which for whole turns on one
    /// cursor it always is (Baruah et al., "Proportionate progress", 1996). So at no time is a server more than
    /// one turn ahead or behind.
    pub(super) fn new(members: &[Member]) -> Order {
        let common = members.iter().fold(0, |common, member| gcd(common, member.weight)).max(1);
        let turns = |member: &Member| u64::from(member.weight / common);
        let length: u64 = members.iter().map(turns).sum();
        // (slot from which the turn has come, deadline, member, turn)
        let turn = |place: usize, count: u64| {
            let weight = turns(&members[place]);
            (count * length / weight, ((count + 1) * length).div_ceil(weight), place, count)
        };
        let mut waiting: BinaryHeap<_> = (0..members.len())
            .filter(|place| turns(&members[*place]) > 0)
            .map(|place| Reverse(turn(place, 0)))
            .collect();
        let mut ready = BinaryHeap::new();
        let mut slots = Vec::with_capacity(length as usize);
        for slot in 0..length {
            while let Some(Reverse((from, deadline, place, count))) = waiting.peek().copied()
                && from <= slot
            {
                waiting.pop();
                ready.push(Reverse((deadline, place, count)));
            }
            let Some(Reverse((_, place, count))) = ready.pop() else { break };
            slots.push(place as u16);
            if count + 1 < turns(&members[place]) {
                waiting.push(Reverse(turn(place, count + 1)));
            }
        }
        Order { slots: slots.into() }
    }

    /// How many slots.
    pub(super) fn len(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Whose turn it is in a slot: a place in the list of members.
    pub(super) fn place(&self, slot: u32) -> usize {
        usize::from(self.slots[slot as usize])
    }
}

fn gcd(left: u32, right: u32) -> u32 {
    if right == 0 { left } else { gcd(right, left % right) }
}

/// The next server whose turn it is and that can serve, and where the cursor stands after it. Turns of servers
/// that cannot serve are passed for good, so that the others keep their proportions, instead of one of them
/// inheriting the turns of its neighbour. In slow start a server passes as many of its turns as its strength lacks.
pub(super) fn pick(group: &Group, rank: Rank, asked: &Asked<'_>) -> Option<Found> {
    let length = group.order.len();
    let position = asked.cursors.position(asked.backend, rank);
    let mut slot = position.checked_rem(length)?;
    let mut draw = asked.draw;
    let mut out = None;
    let mut passed = None;
    for looked_at in 0..SLOTS_LOOKED_AT_MAX {
        if looked_at == length as usize && passed.is_none() {
            return None;
        }
        let server = group.members[group.order.place(slot)].server;
        slot = if slot + 1 == length { 0 } else { slot + 1 };
        if out == Some(server) {
            continue;
        }
        match asked.strength(server) {
            0 => out = Some(server),
            strength if draw.admits(strength) => return Some(Found::in_turn(server, slot)),
            _ => passed = Some(server),
        }
    }
    let found = passed.or_else(|| {
        let first = position as usize % group.members.len();
        let from_first = group.members[first..].iter().chain(&group.members[..first]);
        from_first.map(|member| member.server).find(|server| asked.can_serve(*server))
    });
    Some(Found::in_turn(found?, slot))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::ServerIndex;
    use proptest::prelude::*;

    fn order(weights: &[u32]) -> Vec<u32> {
        let members: Vec<Member> = weights
            .iter()
            .enumerate()
            .map(|(place, weight)| Member { server: ServerIndex(place as u32), weight: *weight })
            .collect();
        Order::new(&members).slots.iter().map(|place| u32::from(*place)).collect()
    }

    #[test]
    fn table() {
        assert_eq!(order(&[]), []);
        assert_eq!(order(&[7]), [0]);
        assert_eq!(order(&[10, 10, 10]), [0, 1, 2]);
        assert_eq!(order(&[5, 1, 1]), [0, 0, 0, 1, 0, 0, 2]);
        assert_eq!(order(&[2, 1]), [0, 0, 1]);
        assert_eq!(order(&[200, 100, 100]), [0, 1, 0, 2]);
    }

    proptest! {
        #[test]
        fn nobody_is_more_than_a_turn_off(weights in proptest::collection::vec(1_u32..=256, 1..12)) {
            let order = order(&weights);
            let total: u32 = weights.iter().sum();
            prop_assert_eq!(total as usize % order.len(), 0);
            for (place, weight) in weights.iter().enumerate() {
                let mut turns = 0_f64;
                for (slot, server) in order.iter().enumerate() {
                    turns += f64::from(u8::from(*server as usize == place));
                    let due = (slot + 1) as f64 * f64::from(*weight) / f64::from(total);
                    prop_assert!((turns - due).abs() < 1.0 + 1e-9, "server {} at slot {}", place, slot);
                }
            }
        }

        /// Any window, wherever it begins: within two turns of what is due.
        #[test]
        fn windows_are_even(weights in proptest::collection::vec(1_u32..=20, 1..8), start: usize, len in 1_usize..60) {
            let order = order(&weights);
            let total: u32 = weights.iter().sum();
            for (place, weight) in weights.iter().enumerate() {
                let turns = (0..len).filter(|at| order[(start % order.len() + at) % order.len()] as usize == place);
                let due = len as f64 * f64::from(*weight) / f64::from(total);
                prop_assert!((turns.count() as f64 - due).abs() < 2.0);
            }
        }
    }
}
