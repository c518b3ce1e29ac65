//! The faults of a scenario.

use super::{Maker, NAMES, STORES, What, path, volume_name};
use crate::world::faults::{Armed, Call, Fault};
use dvs_domain::failure::FailureCode;

/// How far the wall clock is set: by years where it had no battery, by less where it ran wrong.
pub(super) const CLOCK_STEPS_MILLISECONDS: [i64; 6] =
    [-100_000_000_000, -3_600_000, -15_000, 15_000, 3_600_000, 100_000_000_000];
/// The last kind of fault.
const KIND_MAX: u64 = 19;

impl Maker {
    pub(super) fn faults(&mut self) {
        let favourites: Vec<u64> =
            (0..self.random.between(1, 5)).map(|_| self.random.between(0, KIND_MAX)).collect();
        let count = if self.random.chance(6) { 0 } else { self.random.between(1, 14) };
        for _ in 0..count {
            let at = self.random.between(0, self.span);
            let kind = favourites[self.random.index(favourites.len())];
            self.fault(kind, at);
        }
    }

    fn fault(&mut self, kind: u64, at: u64) {
        let milliseconds = self.random.pick(&[50, 600, 2_000, 9_000, 26_000]);
        let end = at + milliseconds;
        let store = self.random.index(STORES.len());
        let there = path(self.paths[self.random.index(self.paths.len())]);
        match kind {
            0 | 1 => {
                self.armed_crash(at, kind == 1);
            }
            2 => {
                let (power, down_milliseconds) = (self.random.chance(30), milliseconds);
                self.step(at, What::Crash { power, down_milliseconds });
            }
            3 => self.step(at, What::Stop { down_milliseconds: milliseconds }),
            4 | 5 => self.armed_failure(at),
            6 => self.armed_hang(at),
            7 => {
                let name = self.random.index(4);
                let volume = self.random.chance(30).then(|| volume_name(self.random.pick(&NAMES)));
                let running = self.random.chance(50);
                self.step(at, What::ContainerMade { name, path: there, volume, running });
                self.step(end, What::ContainerGone { name });
            }
            8 => {
                self.step(at, What::FileOpened { path: there.clone() });
                self.step(end, What::FileClosed { path: there });
            }
            9 => {
                self.step(at, What::NamespaceMade { path: there.clone() });
                self.step(end, What::NamespaceGone { path: there });
            }
            10 => {
                let forgets = self.random.chance(40);
                self.step(at, What::BrokerAway { milliseconds, forgets });
            }
            11 => self.step(at, What::Reconnect),
            12 => self.step(at, What::EngineSilent { milliseconds }),
            13 => {
                let what = match self.random.between(0, 2) {
                    0 => What::StoreAway { store, milliseconds },
                    1 => What::StoreFull { store, milliseconds },
                    _ => What::VolumeDamaged { store, which: self.random.index(4) },
                };
                self.step(at, what);
            }
            14 => {
                let what = if self.random.chance(50) {
                    What::JournalFull { milliseconds }
                } else {
                    What::JournalBroken { milliseconds: milliseconds.min(2_000) }
                };
                self.step(at, what);
            }
            // A fault during the start that follows a crash.
            15 => {
                let power = self.random.chance(30);
                let down = self.armed_crash(at, power);
                let again = at + down + self.random.between(0, 400);
                match self.random.between(0, 2) {
                    0 => self.armed_failure(again),
                    1 => self.armed_hang(again),
                    _ => {
                        self.armed_crash(again, power);
                    }
                }
            }
            16 | 17 => {
                let milliseconds = self.random.pick(&CLOCK_STEPS_MILLISECONDS);
                self.step(at, What::ClockStepped { milliseconds });
            }
            18 => self.step(at, What::Paused { milliseconds }),
            KIND_MAX.. => {
                self.step(at, What::ForeignMounted { path: there.clone() });
                self.step(end, What::ForeignUnmounted { path: there });
            }
        }
    }

    /// Arms a crash. Returns the downtime after it, in milliseconds.
    fn armed_crash(&mut self, at: u64, power: bool) -> u64 {
        let down_milliseconds = self.random.pick(&[20, 400, 3_000, 15_000, 30_000]);
        self.arm(at, Fault::Crash { power, down_milliseconds });
        down_milliseconds
    }

    fn armed_failure(&mut self, at: u64) {
        let codes = [FailureCode::Internal, FailureCode::NoSpace, FailureCode::StoreUnavailable];
        let fault = if self.random.chance(20) { Fault::Panic } else { Fault::Fail(self.random.pick(&codes)) };
        self.arm(at, fault);
    }

    fn armed_hang(&mut self, at: u64) {
        let milliseconds = self.random.pick(&[700, 5_000, 19_000, 24_000, 45_000]);
        self.arm(at, Fault::Hang { milliseconds });
    }

    fn arm(&mut self, at: u64, fault: Fault) {
        let on = match self.random.between(0, 9) {
            0..=2 => None,
            3 | 4 => Some(self.random.pick(&Call::ALL)),
            _ => Some(self.random.pick(&Call::CHANGING)),
        };
        let most = if on.is_some() { 4 } else { 60 };
        let countdown = self.random.between(0, most);
        self.step(at, What::Arm(Armed { fault, on, countdown }));
    }
}
