//! The table of checks: every state with every event, and rise and fall against a model that counts naively.

use lb_core::health::{Check, CheckSettings, Event, Fault, Initial, State, jittered};
use lb_core::spec::Admin;
use lb_core::{Health, Why};
use proptest::prelude::*;
use std::fmt::Write as _;
use std::time::Duration;

const EVENTS: [(&str, Event); 6] = [
    ("good", Event::Good),
    ("bad", Event::Bad(Fault::Timeout)),
    ("attempt failed", Event::AttemptFailed),
    ("ready", Event::Admin(Admin::Ready)),
    ("drain", Event::Admin(Admin::Drain)),
    ("maintenance", Event::Admin(Admin::Maintenance)),
];

fn states() -> Vec<State> {
    let fault = Fault::Connect;
    vec![
        State::Resting,
        State::Unknown,
        State::Up { bad: 0, doubted: false },
        State::Up { bad: 0, doubted: true },
        State::Up { bad: 1, doubted: false },
        State::Up { bad: 2, doubted: true },
        State::Down { fault, good: 0 },
        State::Down { fault, good: 1 },
    ]
}

fn short(state: State) -> String {
    match state {
        State::Resting => "resting".into(),
        State::Unknown => "unknown".into(),
        State::Up { bad, doubted } => format!("up {bad}{}", if doubted { "?" } else { "" }),
        State::Down { fault, good } => format!("down {good} ({fault:?})").to_lowercase(),
    }
}

/// Every transition with rise 2 and fall 3, one line each: state, event → state, health, next check in ms, and whether
/// "since" begins anew.
fn table(settings: &CheckSettings) -> String {
    let (before, now) = (Duration::from_secs(1), Duration::from_secs(2));
    let mut lines = String::new();
    for state in states() {
        for (word, event) in EVENTS {
            let (check, effects) = Check { state, since: before }.step(event, settings, now);
            let next = effects.next.map_or("-".to_owned(), |next| next.as_millis().to_string());
            let fresh = if check.since == now { " anew" } else { "" };
            let (from, to, health) = (short(state), short(check.state), effects.health.word());
            writeln!(lines, "{from}, {word} → {to}; {health}; {next}{fresh}").unwrap();
        }
    }
    lines
}

#[test]
fn every_transition() {
    let expected = "\
resting, good → resting; down (not checked yet); -
resting, bad → resting; down (not checked yet); -
resting, attempt failed → resting; down (not checked yet); -
resting, ready → unknown; down (not checked yet); 0 anew
resting, drain → unknown; down (not checked yet); 0 anew
resting, maintenance → resting; down (not checked yet); -
unknown, good → up 0; up; 2000 anew
unknown, bad → down 0 (timeout); down (timeout); 2000 anew
unknown, attempt failed → unknown; down (not checked yet); -
unknown, ready → unknown; down (not checked yet); -
unknown, drain → unknown; down (not checked yet); -
unknown, maintenance → resting; down (not checked yet); - anew
up 0, good → up 0; up; 2000
up 0, bad → up 1; up; 500
up 0, attempt failed → up 0?; up; 500
up 0, ready → up 0; up; -
up 0, drain → up 0; up; -
up 0, maintenance → resting; down (not checked yet); - anew
up 0?, good → up 0; up; 2000
up 0?, bad → up 1?; up; 500
up 0?, attempt failed → up 0?; up; -
up 0?, ready → up 0?; up; -
up 0?, drain → up 0?; up; -
up 0?, maintenance → resting; down (not checked yet); - anew
up 1, good → up 0; up; 2000
up 1, bad → up 2; up; 500
up 1, attempt failed → up 1?; up; 500
up 1, ready → up 1; up; -
up 1, drain → up 1; up; -
up 1, maintenance → resting; down (not checked yet); - anew
up 2?, good → up 0; up; 2000
up 2?, bad → down 0 (timeout); down (timeout); 2000 anew
up 2?, attempt failed → up 2?; up; -
up 2?, ready → up 2?; up; -
up 2?, drain → up 2?; up; -
up 2?, maintenance → resting; down (not checked yet); - anew
down 0 (connect), good → down 1 (connect); down (connect); 500
down 0 (connect), bad → down 0 (timeout); down (timeout); 2000
down 0 (connect), attempt failed → down 0 (connect); down (connect); -
down 0 (connect), ready → down 0 (connect); down (connect); -
down 0 (connect), drain → down 0 (connect); down (connect); -
down 0 (connect), maintenance → resting; down (not checked yet); - anew
down 1 (connect), good → up 0; up; 2000 anew
down 1 (connect), bad → down 0 (timeout); down (timeout); 2000
down 1 (connect), attempt failed → down 1 (connect); down (connect); -
down 1 (connect), ready → down 1 (connect); down (connect); -
down 1 (connect), drain → down 1 (connect); down (connect); -
down 1 (connect), maintenance → resting; down (not checked yet); - anew
";
    assert_eq!(table(&CheckSettings::default()), expected);
}

/// What is different where servers are used before their first check.
#[test]
fn used_from_the_start() {
    let settings = CheckSettings { initial: Initial::Up, ..CheckSettings::default() };
    let (usual, used) = (table(&CheckSettings::default()), table(&settings));
    let different: Vec<&str> =
        used.lines().zip(usual.lines()).filter(|(used, usual)| used != usual).map(|(used, _)| used).collect();
    let expected = [
        "resting, ready → unknown; up; 0 anew",
        "resting, drain → unknown; up; 0 anew",
        "unknown, bad → up 1; up; 500 anew",
        "unknown, attempt failed → unknown; up; -",
        "unknown, ready → unknown; up; -",
        "unknown, drain → unknown; up; -",
    ];
    assert_eq!(different, expected);
}

#[test]
fn a_server_begins() {
    let settings = CheckSettings::default();
    let now = Duration::from_secs(3);
    for (admin, state, decided) in [
        (Admin::Ready, State::Unknown, false),
        (Admin::Drain, State::Unknown, false),
        (Admin::Maintenance, State::Resting, true),
    ] {
        let check = Check::new(admin, now);
        assert_eq!((check.state, check.since, check.is_decided()), (state, now, decided));
        assert_eq!(check.health(&settings), Health::Down(Why::Unchecked));
    }
}

/// 0 means 1, and a fast interval that is slow is not used.
#[test]
fn settings_at_their_edges() {
    let settings = CheckSettings {
        rise: 0,
        fall: 0,
        interval: Duration::from_secs(1),
        fast_interval: Duration::from_secs(9),
        ..CheckSettings::default()
    };
    let up = Check { state: State::Up { bad: 0, doubted: false }, since: Duration::ZERO };
    let (down, effects) = up.step(Event::Bad(Fault::Answer), &settings, Duration::ZERO);
    assert_eq!((effects.health, effects.next), (Health::Down(Why::Answer), Some(Duration::from_secs(1))));
    let (up, effects) = down.step(Event::Good, &settings, Duration::ZERO);
    assert_eq!(effects.health, Health::Up);
    let (_, effects) = up.step(Event::AttemptFailed, &settings, Duration::ZERO);
    assert_eq!(effects.next, Some(Duration::from_secs(1)));
}

/// The model keeps all results since the last turn and looks at the end of the list.
fn naive(results: &[bool], rise: usize, fall: usize) -> Option<bool> {
    let mut up = None;
    let mut since: Vec<bool> = Vec::new();
    for good in results {
        since.push(*good);
        let all_of_last = |count: usize, value: bool| {
            since.len() >= count && since[since.len() - count..].iter().all(|it| *it == value)
        };
        let turned = match up {
            None => Some(*good),
            Some(true) if all_of_last(fall, false) => Some(false),
            Some(false) if all_of_last(rise, true) => Some(true),
            Some(_) => None,
        };
        if turned.is_some() {
            up = turned;
            since.clear();
        }
    }
    up
}

proptest! {
    #[test]
    fn rise_and_fall_are_exact(
        results in proptest::collection::vec(any::<bool>(), 0..60),
        rise in 1_usize..5,
        fall in 1_usize..5,
    ) {
        let settings =
            CheckSettings { rise: rise as u32, fall: fall as u32, ..CheckSettings::default() };
        let mut check = Check::new(Admin::Ready, Duration::ZERO);
        for (place, good) in results.iter().enumerate() {
            let event = if *good { Event::Good } else { Event::Bad(Fault::Connect) };
            let (next, effects) = check.step(event, &settings, Duration::from_secs(place as u64));
            check = next;
            let up = naive(&results[..=place], rise, fall).unwrap();
            prop_assert_eq!(effects.health == Health::Up, up, "after {:?}", &results[..=place]);
            prop_assert_eq!(effects.health, check.health(&settings));
        }
    }

    /// Whatever happens, a server is as it should be from where it is: counts stay below their bounds, the next check
    /// is one of the two intervals or at once, and what happens is a matter of state, event and settings only.
    #[test]
    fn nothing_gets_out_of_bounds(events in proptest::collection::vec(0_usize..EVENTS.len(), 0..80)) {
        let settings = CheckSettings::default();
        let mut check = Check::new(Admin::Ready, Duration::ZERO);
        for (place, event) in events.into_iter().enumerate() {
            let (event, now) = (EVENTS[event].1, Duration::from_secs(place as u64));
            let (next, effects) = check.step(event, &settings, now);
            prop_assert_eq!((next, effects), check.step(event, &settings, now));
            match next.state {
                State::Up { bad, .. } => prop_assert!(bad < settings.fall),
                State::Down { good, .. } => prop_assert!(good < settings.rise),
                State::Resting | State::Unknown => {}
            }
            prop_assert!(next.since <= now && next.since >= check.since);
            let times = [None, Some(Duration::ZERO), Some(settings.interval), Some(settings.fast_interval)];
            prop_assert!(times.contains(&effects.next), "{:?}", effects);
            check = next;
        }
    }

    #[test]
    fn jitter_stays_within_its_part(millis in 0_u64..100_000, random: u64) {
        let time = Duration::from_millis(millis);
        let jittered = jittered(time, random);
        prop_assert!(jittered >= time * 8 / 10 && jittered <= time * 12 / 10, "{:?}", jittered);
    }
}

#[test]
fn jitter_uses_all_of_it() {
    let time = Duration::from_secs(10);
    assert_eq!(jittered(time, 0), Duration::from_secs(8));
    assert_eq!(jittered(time, u64::MAX), Duration::from_secs(12));
    assert_eq!(jittered(Duration::MAX, u64::MAX), Duration::MAX);
}
