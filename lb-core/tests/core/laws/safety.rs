//! Nobody is sent where nobody may be sent.

use super::*;
use lb_core::{Cursors, Health, PickReason, Verdict, Why};
use proptest::prelude::*;

/// What one server of a run is like.
#[derive(Clone, Debug)]
struct State {
    state: u8,
    weight: u32,
    backup: bool,
    zone: u8,
}

impl State {
    /// Whether a policy may send anybody to it.
    fn can(&self, open: bool) -> bool {
        let up = matches!(self.state, 0 | 4) || open && self.state == 3;
        up && self.weight > 0
    }
}

fn states() -> impl Strategy<Value = Vec<State>> {
    let state = (0_u8..5, 0_u32..4, prop::bool::weighted(0.3), 0_u8..3);
    let state = state.prop_map(|(state, weight, backup, zone)| State { state, weight, backup, zone });
    prop::collection::vec(state, 1..9)
}

/// Everything that may shape a pick, switched on and off.
fn shaped(policy: Policy, states: &[State], shape: u8) -> Spec {
    let servers = states.iter().enumerate().map(|(n, it)| ServerSpec {
        backup: it.backup,
        zone: Some(format!("z{}", it.zone)),
        ..server(&format!("s{n}"), it.weight)
    });
    let mut spec = one(policy, servers.collect());
    spec.zone = (shape & 1 != 0).then(|| "z1".into());
    let app = &mut spec.backends[0];
    app.slow_start = (shape & 2 != 0).then_some(Duration::from_secs(30));
    app.max_load_percent = (shape & 4 != 0 && policy.hashes()).then_some(125);
    app.sticky = (shape & 8 != 0).then(StickySpec::default);
    spec
}

fn set(table: &Table, states: &[State]) {
    for (live, it) in table.live.servers().iter().zip(states) {
        match it.state {
            1 => live.set_admin(Admin::Drain),
            2 => live.set_admin(Admin::Maintenance),
            3 => live.set_health(Health::Down(Why::Timeout)),
            4 => {
                // It has just come up.
                live.set_health(Health::Down(Why::Timeout));
                live.set_health(Health::Up);
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Whatever the states and whatever is switched on: nobody in maintenance, down, drained or of weight 0 is picked
    /// without a cookie; a backup only when no primary can serve; and somebody as long as there is anybody.
    #[test]
    fn never_one_that_is_out(
        policy in prop::sample::select(Policy::ALL.to_vec()),
        states in states(),
        shape: u8,
        failed: u16,
        seed: u64,
    ) {
        let table = table(&shaped(policy, &states, shape));
        set(&table, &states);
        let anybody = states.iter().any(|it| it.can(false));
        let mut client = Client::new(bits(seed));
        client.cursors = Cursors::new(seed);
        let mut held = Vec::new();
        for round in 0..20 {
            client.random = bits(seed ^ round);
            client.cookies.clear();
            match client.verdict(&table) {
                Verdict::Forward(decision) => {
                    prop_assert!(anybody);
                    let n = decision.server().0 as usize;
                    prop_assert!(states[n].can(false), "picked {} of {:?}", n, states);
                    prop_assert_eq!(decision.backup(), states[n].backup);
                    if decision.backup() {
                        // Only if no primary is left, but for those that connections failed to.
                        let now = client.now;
                        let out = |n: usize| table.live.servers()[n].removed_until() > now;
                        prop_assert!((0..states.len()).all(|n| states[n].backup || !states[n].can(false) || out(n)));
                    }
                    let permit = decision.take(&table, &mut client.cursors, client.now).expect("no bound");
                    if failed >> (round % 16) & 1 == 1 {
                        permit.finish(Outcome::ConnectFailed, client.now);
                    } else {
                        held.push(permit);
                    }
                }
                Verdict::Refuse(refusal) => {
                    prop_assert!(!anybody);
                    prop_assert_eq!(refusal.status(), 503);
                }
                Verdict::Answer(_) => prop_assert!(false),
            }
        }
        drop(held);
        prop_assert!(table.live.servers().iter().all(|live| live.in_flight() == 0));
    }

    /// With a cookie: drained servers and those of weight 0 keep their own sessions and nobody else's, those down and
    /// in maintenance keep nobody.
    #[test]
    fn sessions_stay_where_they_may(
        policy in prop::sample::select(Policy::ALL.to_vec()),
        before in states(),
        after in prop::collection::vec(0_u8..5, 9),
        shape: u8,
        seed: u64,
    ) {
        let mut states = before;
        let fresh: Vec<State> = states.iter().map(|it| State { state: 0, weight: it.weight.max(1), ..it.clone() }).collect();
        let first = table(&shaped(policy, &fresh, shape | 8));
        let mut clients: Vec<(Client, usize)> = (0..10).map(|number| {
            let mut client = Client::new(bits(seed ^ number));
            client.cursors = Cursors::new(seed ^ number);
            client.source = [10, 0, 0, number as u8].into();
            let home = client.request(&first).0.server().0 as usize;
            (client, home)
        }).collect();
        states.iter_mut().zip(after).for_each(|(it, state)| it.state = state);
        // The new table has the weights, too: they may have become 0.
        let spec = shaped(policy, &states, shape | 8);
        let second = Table::new(lb_core::compile(&spec).unwrap().snapshot, Some(&first));
        set(&second, &states);
        for (client, home) in &mut clients {
            let named = client.cookie("lb_app").is_some();
            let Verdict::Forward(decision) = client.verdict(&second) else {
                prop_assert!(!states.iter().any(|it| it.can(false)));
                continue;
            };
            let (n, it) = (decision.server().0 as usize, &states[*home]);
            let stays = named && matches!(it.state, 0 | 1 | 4);
            prop_assert_eq!(decision.pick_reason() == PickReason::Sticky, stays);
            if stays {
                prop_assert_eq!(n, *home);
            } else {
                prop_assert!(states[n].can(false));
            }
        }
    }

    /// Another attempt goes to another server as long as there is one.
    #[test]
    fn again_goes_elsewhere(
        policy in prop::sample::select(Policy::ALL.to_vec()),
        states in states(),
        shape: u8,
        seed: u64,
    ) {
        let table = table(&shaped(policy, &states, shape));
        set(&table, &states);
        let client = Client::new(bits(seed));
        if let Verdict::Forward(first) = client.verdict(&table) {
            let mut tried = vec![first.server()];
            for _ in 1..states.iter().filter(|it| it.can(false)).count() {
                let next = first.again(&table, &client.cursors, &tried, client.now, bits(seed + 1)).unwrap();
                prop_assert!(!tried.contains(&next.server()));
                tried.push(next.server());
            }
        }
    }
}
