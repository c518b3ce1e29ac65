//! The clocks of this host.

use dvs_domain::ports::Clock;
use dvs_domain::time::{BootId, Moment, Timestamp, Uptime};
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the kernel tells which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Wall time, and the uptime with suspend included.
pub(crate) struct SystemClock {
    boot: BootId,
}

impl SystemClock {
    /// Where the boot's id cannot be read this process counts as a boot of its own: a restart then compares wall time.
    pub(crate) fn new() -> Self {
        let id = std::fs::read_to_string(BOOT_ID).ok();
        let id = id.and_then(|id| u128::from_str_radix(&id.trim().replace('-', ""), 16).ok());
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Self { boot: BootId(id.unwrap_or_else(now)) }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        let uptime = Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default();
        Moment {
            wall: Timestamp(milliseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())),
            boot: Some(self.boot),
            uptime: Uptime(milliseconds(uptime)),
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_processes_of_one_boot_measure_the_same_time() {
        let (first, second) = (SystemClock::new().now(), SystemClock::new().now());
        assert_eq!(first.boot, second.boot);
        assert!(first.uptime <= second.uptime);
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        let seconds: f64 = text.split(' ').next().unwrap().parse().unwrap();
        assert!((seconds - first.uptime.0 as f64 / 1000.0).abs() < 60.0, "{seconds} s, {first:?}");
    }
}
