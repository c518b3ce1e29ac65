//! A search that ends by itself, and what it has found so far.

use dvs_domain::user::User;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A refusal waits for the search.
const HOLDERS_SECONDS_MAX: u64 = 2;
/// A refusal names fewer.
const HOLDERS_MAX: usize = 64;

/// Shared with the thread that searches.
#[derive(Debug)]
pub(crate) struct Search {
    until: Instant,
    found: Mutex<Vec<User>>,
}

impl Search {
    pub(crate) fn begin() -> Self {
        Self { until: Instant::now() + Duration::from_secs(HOLDERS_SECONDS_MAX), found: Mutex::default() }
    }

    /// When it ends.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// What was found until now.
    pub(crate) fn found(&self) -> Vec<User> {
        self.users().clone()
    }

    pub(super) fn add(&self, user: User) {
        let mut users = self.users();
        if users.len() < HOLDERS_MAX {
            users.push(user);
        }
    }

    /// Whether its time has passed, or enough was found.
    pub(super) fn is_over(&self) -> bool {
        self.until <= Instant::now() || HOLDERS_MAX <= self.users().len()
    }

    fn users(&self) -> MutexGuard<'_, Vec<User>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_ends_with_its_time_and_with_its_number() {
        let search = Search::begin();
        for id in 0..100 {
            assert_eq!(search.is_over(), HOLDERS_MAX <= search.found().len());
            search.add(User::Process { id, name: String::new() });
        }
        assert_eq!(search.found().len(), HOLDERS_MAX);
        let ended = Search { until: Instant::now(), found: Mutex::default() };
        assert!(ended.is_over() && !Search::begin().is_over());
    }
}
