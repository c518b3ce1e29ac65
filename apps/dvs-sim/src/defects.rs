//! Finds panics of the agent by a panic hook. Injected panics unwind without the hook.

use std::cell::{Cell, RefCell};
use std::panic;
use std::sync::Once;

thread_local! {
    static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
    static FOUND: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps panics of this thread for [`take`] instead of printing them, until [`unwatch`].
pub(crate) fn watch() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if IS_WATCHED.get() {
                FOUND.with_borrow_mut(|found| {
                    found.get_or_insert_with(|| panic.to_string());
                });
            } else {
                before(panic);
            }
        }));
    });
    IS_WATCHED.set(true);
}

/// The first panic since the last call.
pub(crate) fn take() -> Option<String> {
    FOUND.take()
}

pub(crate) fn unwatch() {
    IS_WATCHED.set(false);
}
