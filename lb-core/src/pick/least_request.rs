//! The server with the fewest requests in flight, by weight.

use super::two_choices::{self, Load};
use super::{Asked, Group};
use crate::snapshot::ServerIndex;

pub(super) fn pick(group: &Group, asked: &Asked<'_>) -> Option<ServerIndex> {
    two_choices::pick(group, asked, |live, weight| Load { load: live.in_flight().into(), weight })
}
