//! The mounts of this host: whole tables from `/proc/<pid>/mountinfo` (proc_pid_mountinfo(5)), and single mounts by
//! `statmount`, whose cost does not depend on how many mounts there are.
//!
//! A whole table takes milliseconds where thousands of volumes are attached. What runs per job uses [`Mounts`], which
//! reads a table only on kernels that cannot describe single mounts (before Linux 6.13), and there only when it has changed.
//!
//! It changes no mount, and does not depend on what a volume is.

mod lookup;
mod mount;
mod system_calls;
mod table;
mod watched;

pub use lookup::Mounts;
pub use mount::Mount;
pub use system_calls::{UniqueId, unique_id_at};
pub use table::MountTable;
