//! Shares by weight, and how evenly turns are taken.

use super::*;
use lb_core::{Health, Why};

const WEIGHTS: [&[u32]; 5] =
    [&[1, 1, 1], &[5, 1, 1], &[1, 2, 4, 4, 9], &[256, 1, 100], &[3, 3, 3, 3, 3, 3, 3, 1]];

/// How far shares may be off by construction, beyond chance. Of two choices the second is another server, which takes
/// a little of the heaviest: most where one weighs nearly as much as all others together.
fn slack(policy: Policy, weights: &[u32]) -> f64 {
    let whole = f64::from(weights.iter().sum::<u32>());
    match policy {
        // An entry of the table more or less, and the first turn that is everybody's.
        Policy::Maglev => (1.0 + weights.len() as f64) / 65_537.0,
        Policy::LeastRequest | Policy::PeakEwma if weights.len() > 4 => {
            f64::from(*weights.iter().max().unwrap()) / whole / 50.0
        }
        _ => 0.0,
    }
}

#[test]
fn shares_are_those_of_the_weights() {
    for policy in all_policies() {
        for weights in WEIGHTS {
            let table = table(&one(policy, weighted(weights)));
            let count = Crowd::new(1).shares(&table, 40_000);
            let parts: Vec<f64> = weights.iter().map(|weight| f64::from(*weight)).collect();
            assert_shares(&count, &parts, slack(policy, weights), &format!("{policy:?} {weights:?}"));
        }
    }
}

/// A server that is out leaves the others the shares that they had among themselves.
#[test]
fn who_is_out_leaves_the_others_their_proportions() {
    for policy in all_policies() {
        let weights = [2, 3, 5, 4, 6, 7];
        let table = table(&one(policy, weighted(&weights)));
        live(&table, "s2").set_health(Health::Down(Why::Told));
        live(&table, "s4").set_admin(Admin::Maintenance);
        let count = Crowd::new(2).shares(&table, 40_000);
        let left = [2.0, 3.0, 0.0, 4.0, 0.0, 7.0];
        assert_shares(&count, &left, slack(policy, &[2, 3, 4, 7, 0]), &format!("{policy:?}"));
    }
}

/// Turns of one cursor, in turn.
fn turns(weights: &[u32], picks: usize) -> Vec<usize> {
    let table = table(&one(Policy::RoundRobin, weighted(weights)));
    let mut crowd = Crowd::new(3);
    (0..picks).map(|_| crowd.next(&table).0).collect()
}

/// Round robin is smooth. From the start of an order nobody is ever a whole turn ahead or behind; so in no window,
/// wherever it begins, two; a window of the whole order is exact; and where weights are equal no window is off by a
/// whole turn. (One turn in any window whatever the weights cannot be had: orders that are so even exist for few sets
/// of weights only, which is Fraenkel's conjecture.)
#[test]
fn round_robin_is_smooth() {
    for weights in [&[1, 1, 1, 1, 1][..], &[5, 1, 1], &[7, 5, 3, 2], &[10, 10, 1], &[1, 2, 3, 4, 5, 6, 7]] {
        let order: usize = weights.iter().sum::<u32>() as usize;
        let turns = turns(weights, 4 * order);
        let are_equal = weights.iter().all(|weight| *weight == weights[0]);
        for (place, weight) in weights.iter().enumerate() {
            let due = |picks: usize| picks as f64 * f64::from(*weight) / order as f64;
            for from in 0..2 * order {
                let mut count = 0.0;
                for len in 1..=2 * order {
                    count += f64::from(u8::from(turns[from + len - 1] == place));
                    let off = (count - due(len)).abs();
                    let bound = if from == 0 || are_equal { 1.0 } else { 2.0 };
                    assert!(off < bound, "{weights:?}: {place} in {len} from {from}");
                    assert!(len % order != 0 || off < 1e-9, "{weights:?}: {place} in {len} from {from}");
                }
            }
        }
    }
}
