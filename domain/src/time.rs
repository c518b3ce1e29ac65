//! Time as the domain sees it: it comes in with each event, nothing here reads a clock.

/// Wall time in milliseconds since the Unix epoch. It can be set at any time, so it is shown and recorded, and measures a
/// duration only across a reboot: see [`Moment::milliseconds_since`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

/// Milliseconds since the host booted, suspend included (`CLOCK_BOOTTIME`). Nobody can set it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uptime(pub u64);

impl Uptime {
    /// The uptime `milliseconds` later.
    #[must_use]
    pub fn after_milliseconds(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }
}

/// The random id that the kernel gives to each boot (`/proc/sys/kernel/random/boot_id`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(pub u128);

/// A moment on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// By the wall clock.
    pub wall: Timestamp,
    /// The boot that `uptime` belongs to. Absent where only wall time was recorded, as agents did at first.
    pub boot: Option<BootId>,
    /// By the time since that boot.
    pub uptime: Uptime,
}

impl Moment {
    /// A moment of which only wall time is known.
    #[must_use]
    pub fn of_wall(wall: Timestamp) -> Self {
        Self { wall, boot: None, uptime: Uptime(0) }
    }

    /// Milliseconds from `earlier` to this; 0 when `earlier` is not earlier.
    ///
    /// Within one boot the uptime decides, whatever the wall clock was set to. Across a reboot there is only wall time,
    /// which may have been set back meanwhile: the time since this boot has passed in any case.
    #[must_use]
    pub fn milliseconds_since(self, earlier: Self) -> u64 {
        let by_wall = self.wall.0.saturating_sub(earlier.wall.0);
        match (self.boot, earlier.boot) {
            (Some(boot), Some(other)) if boot == other => self.uptime.0.saturating_sub(earlier.uptime.0),
            (Some(_), Some(_)) => by_wall.max(self.uptime.0),
            _ => by_wall,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(wall: u64, boot: u128, uptime: u64) -> Moment {
        Moment { wall: Timestamp(wall), boot: Some(BootId(boot)), uptime: Uptime(uptime) }
    }

    #[test]
    fn a_stepped_wall_clock_changes_no_duration_within_a_boot() {
        for wall in [0, 5_000, u64::MAX] {
            assert_eq!(moment(wall, 1, 700).milliseconds_since(moment(5_000, 1, 100)), 600, "{wall}");
        }
        assert_eq!(moment(9, 1, 100).milliseconds_since(moment(1, 1, 700)), 0);
    }

    #[test]
    fn across_a_reboot_wall_time_counts_and_at_least_the_time_since_the_boot() {
        assert_eq!(moment(9_000, 2, 100).milliseconds_since(moment(5_000, 1, 700)), 4_000);
        assert_eq!(
            moment(1_000, 2, 100).milliseconds_since(moment(5_000, 1, 700)),
            100,
            "set back meanwhile"
        );
    }

    #[test]
    fn a_moment_of_wall_time_only_is_compared_by_wall_time() {
        let old = Moment::of_wall(Timestamp(5_000));
        assert_eq!(moment(9_000, 2, 8_000_000).milliseconds_since(old), 4_000);
        assert_eq!(moment(1_000, 2, 8_000_000).milliseconds_since(old), 0);
        assert_eq!(Moment::of_wall(Timestamp(6_000)).milliseconds_since(old), 1_000);
    }
}
