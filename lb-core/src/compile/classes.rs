//! Classes: whether there are any, and what each has.

use super::codes;
use super::problem::{Place, Problems};
use crate::class::{Class, ClassesSpec};
use crate::defaults::{CLASS_SHARE_MAX, CLASS_WAITING_MAX};
use crate::spec::Spec;

/// The classes of a table; none where all routes have the same one, for then there is nobody to share with.
pub(super) fn compile(spec: &Spec, problems: &mut Problems) -> Option<ClassesSpec> {
    let (classes, place) = (&spec.classes, Place::root().field("classes"));
    check(classes, &place, problems);
    let first = spec.routes.first().map(|route| route.class).unwrap_or_default();
    let is_shared = spec.routes.iter().any(|route| route.class != first);
    if !is_shared
        && !problems.has_errors()
        && (*classes != ClassesSpec::default() || first != Class::default())
    {
        let message = format!("all routes are {}: there is nobody to share with", first.word());
        problems.warning(codes::CLASSES_UNUSED, &place, message);
    }
    is_shared.then_some(*classes)
}

fn check(classes: &ClassesSpec, place: &Place, problems: &mut Problems) {
    let mut above: Option<Class> = None;
    for class in Class::ALL {
        let (share, word) = (classes.share(class), class.word());
        let place = place.field(word);
        if !(1..=CLASS_SHARE_MAX).contains(&share) {
            let message = format!("{share} cannot be the share of `{word}`");
            problems
                .error(codes::CLASS, &place, message)
                .expected(format!("expected 1 to {CLASS_SHARE_MAX}"));
        } else if let Some(above) = above.filter(|above| classes.share(*above) < share) {
            let message =
                format!("`{word}` has a larger share than `{}`, which comes before it", above.word());
            problems.warning(codes::CLASS_ORDER, &place, message);
        }
        above = Some(class);
    }
    if !(1..=CLASS_WAITING_MAX).contains(&classes.waiting) {
        let message = format!("{} requests of a class cannot be made to wait", classes.waiting);
        problems
            .error(codes::CLASS, &place.field("waiting"), message)
            .expected(format!("expected 1 to {CLASS_WAITING_MAX}"));
    }
}
