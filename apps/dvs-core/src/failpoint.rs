//! Ending the process on demand, between the steps that adapters do not see. Only tests build with it.

/// Ends the process at once when the test says `return(kill)` of this point.
pub fn between(point: &'static str) {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(point, |what: Option<String>| {
        if what.as_deref() == Some("kill") {
            let own = rustix::process::getpid();
            let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
        }
    });
    let _ = point;
}
