//! Looking over all servers of a backend: which part stays in the node's own zone, whether the backend has failed
//! open, and what a bounded load is a part of. All of it changes only when a server does.
//!
//! A backend fails open when less than `fail_open_below` of its ready primaries are up and no backup is: whatever made
//! so many look bad (a health check that asks for the wrong thing, a network that is cut from where we stand) is
//! likelier to be wrong than they, and the few that are left could not carry all. Health is ignored then, and only
//! health. When not one of them is up, another arm that can serve comes first.

use super::zones::{self, Capacity};
use super::{Bound, Care, Pool, Rank, Wanted};
use crate::live::{Live, Open, Outlook, ServerLive};
use crate::share::Share;
use crate::snapshot::BackendIndex;

/// What a backend's servers are looked over for.
#[derive(Debug)]
pub(crate) struct Lookout {
    /// Whether there is anything to look for.
    is_needed: bool,
    zoned: bool,
    spill_below: Share,
    /// None: never.
    fail_open_below: Share,
    /// 0: as much as comes.
    max_load_percent: u32,
}

impl Lookout {
    pub(super) fn new(wanted: &Wanted, zoned: bool) -> Lookout {
        let max_load_percent = if wanted.policy.hashes() { wanted.max_load_percent } else { 0 };
        Lookout {
            is_needed: zoned || wanted.fail_open_below > Share::NONE || max_load_percent > 0,
            zoned,
            spill_below: wanted.spill_below,
            fail_open_below: wanted.fail_open_below,
            max_load_percent,
        }
    }

    /// Whether there is a bound on what a server has in flight.
    pub(crate) fn is_bounded(&self) -> bool {
        self.max_load_percent > 0
    }

    /// Whether zones count here.
    pub(crate) fn is_zoned(&self) -> bool {
        self.zoned
    }

    /// The bound for one more request.
    pub(crate) fn bound(&self, live: &Live, backend: BackendIndex, outlook: Outlook) -> Option<Bound> {
        self.is_bounded()
            .then(|| Bound::new(self.max_load_percent, live.in_flight_of(backend), outlook.weight))
    }
}

impl Outlook {
    /// Whether health is ignored when a server is asked for with this care.
    pub(crate) fn is_open(self, care: Care) -> bool {
        match self.open {
            Open::No => false,
            Open::Yes => true,
            Open::AtLast => care != Care::Careful,
        }
    }
}

impl Pool {
    /// What can be said of all servers.
    #[inline]
    pub(crate) fn outlook(&self, live: &Live, backend: BackendIndex) -> Outlook {
        if !self.lookout.is_needed {
            return Outlook::FINE;
        }
        live.outlook(backend, || self.look(live))
    }

    fn look(&self, live: &Live) -> Outlook {
        let open = self.open(live);
        let is_up = |live: &ServerLive| match open {
            Open::No => live.is_ready_and_up(),
            Open::Yes | Open::AtLast => live.is_ready(),
        };
        let mut capacity = Capacity::default();
        for (rank, member) in self.members() {
            let up = if is_up(live.server(member.server)) { member.weight } else { 0 };
            match rank {
                Rank::Near => {
                    capacity.all += member.weight;
                    capacity.near += up;
                }
                Rank::Far => capacity.far += up,
                Rank::Backup => {}
            }
        }
        Outlook {
            open,
            near_share: zones::near_share(capacity, self.lookout.spill_below),
            weight: capacity.near + capacity.far,
        }
    }

    fn open(&self, live: &Live) -> Open {
        let (mut ready, mut up, mut backup_is_up) = (0, 0, false);
        for (rank, member) in self.members() {
            let server = live.server(member.server);
            if rank == Rank::Backup {
                backup_is_up |= server.is_ready_and_up();
            } else {
                ready += u32::from(server.is_ready());
                up += u32::from(server.is_ready_and_up());
            }
        }
        let (whole, below) = (u32::from(Share::WHOLE), u32::from(self.lookout.fail_open_below.hundredths()));
        match up {
            _ if up * whole >= ready * below || backup_is_up => Open::No,
            0 => Open::AtLast,
            _ => Open::Yes,
        }
    }
}
