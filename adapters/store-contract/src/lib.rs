//! The promises of [`VolumeStore`] as functions: one promise, one function, run against every store.
//!
//! An adapter's test gives a [`Bench`] and calls [`all`] on a runtime with several threads:
//! ```text
//! #[tokio::test(flavor = "multi_thread")]
//! async fn the_fake_store_keeps_the_promises() {
//!     dvs_store_contract::all(&bench).await;
//! }
//! ```
//! Each promise gets a place of its own. A promise that is broken is named, and the others run all the same.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "this crate is a suite of tests: a broken promise must stop its test, and names go to its output"
)]

mod concurrency;
mod content;
mod damage;
mod existence;
mod failing;
mod folder;
mod kit;
mod reach;

pub use concurrency::{
    an_abandoned_create_is_whole_or_nothing, concurrent_creates_and_destroys_of_one_name_agree,
    concurrent_creates_of_different_names_all_succeed, concurrent_creates_of_one_name_make_one_volume,
};
pub use content::{
    a_volume_is_destroyed_by_its_source, a_volume_made_again_is_empty,
    asking_for_a_source_again_gives_the_same, creating_again_leaves_the_content_alone,
    sources_of_unknown_names_are_not_found, the_source_of_a_new_volume_is_the_one_that_is_given_later,
};
pub use damage::{
    a_damaged_entry_hides_no_other, a_damaged_entry_is_neither_created_over_nor_destroyed,
    a_damaged_entry_is_still_damaged_after_reopening,
};
pub use existence::{
    a_created_volume_is_there, creating_other_content_gives_the_original, creating_twice_changes_nothing,
    destroying_leaves_nothing, destroying_twice_finds_nothing_there, lists_are_in_order_of_names,
    reopening_shows_the_same_volumes, unknown_names_are_not_there, volumes_keep_every_field,
};
pub use failing::a_failing_create_leaves_nothing;
pub use folder::FolderBench;
pub use reach::{
    a_place_that_is_away_at_start_is_neither_made_nor_taken_for_empty, a_shared_store_describes_itself_so,
    an_unreachable_place_is_unavailable, an_unreachable_place_works_again_when_it_is_back,
    another_store_in_its_place_is_not_used,
};

use async_trait::async_trait;
use dvs_domain::names::VolumeName;
use dvs_domain::ports::VolumeStore;
use dvs_domain::size::VolumeSize;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// What an adapter's test supplies: places to try the promises on.
#[async_trait]
pub trait Bench: Send + Sync {
    /// A new, empty place. Dropping it removes it, also when the promise was broken.
    async fn place(&self) -> Box<dyn Place>;

    /// How large volumes are. Content is read and compared whole, so: small.
    fn volume_size(&self) -> VolumeSize {
        VolumeSize::from_mebibytes(8).unwrap()
    }
}

/// Where one store has its volumes: a folder, an export.
#[async_trait]
pub trait Place: Send + Sync {
    /// A new instance of the store on this place, as after a restart. The instance before it has been dropped.
    async fn open(&self) -> Arc<dyn VolumeStore>;

    /// Breaks the record of the volume `name`, all copies of it, so that it cannot be read.
    async fn damage(&self, name: &VolumeName);

    /// Makes the place unreachable for the instance that is open.
    async fn make_unreachable(&self);

    /// Makes it reachable again.
    async fn make_reachable(&self);

    /// Puts another store, which is empty, where the unreachable one was. Gives false where a store has no such place.
    async fn put_another(&self) -> bool;

    /// Takes the other store away again.
    async fn take_another_away(&self);

    /// Everything that is there because of volumes: files, loop devices, by any names. The suite only
    /// compares what it was before with what it is after.
    async fn traces(&self) -> BTreeSet<String>;

    /// The ways in which this bench can make a create fail, such as the steps of it. May be empty.
    fn ways_to_fail(&self) -> Vec<&'static str>;

    /// Makes the next create of the instance that is open fail in this way, and only that one.
    async fn fail_next_create(&self, way: &'static str);
}

/// A promise, to be tried on a bench.
type Promise = for<'a> fn(&'a dyn Bench) -> BoxFuture<'a, ()>;

/// Names each promise once, for the list and for the output.
macro_rules! promises {
    ($($promise:ident),* $(,)?) => {
        &[$((stringify!($promise), |bench| $promise(bench).boxed())),*]
    };
}

const PROMISES: &[(&str, Promise)] = promises![
    a_created_volume_is_there,
    volumes_keep_every_field,
    creating_twice_changes_nothing,
    creating_other_content_gives_the_original,
    destroying_leaves_nothing,
    destroying_twice_finds_nothing_there,
    unknown_names_are_not_there,
    lists_are_in_order_of_names,
    reopening_shows_the_same_volumes,
    asking_for_a_source_again_gives_the_same,
    the_source_of_a_new_volume_is_the_one_that_is_given_later,
    a_volume_is_destroyed_by_its_source,
    sources_of_unknown_names_are_not_found,
    creating_again_leaves_the_content_alone,
    a_volume_made_again_is_empty,
    a_damaged_entry_hides_no_other,
    a_damaged_entry_is_neither_created_over_nor_destroyed,
    a_damaged_entry_is_still_damaged_after_reopening,
    concurrent_creates_of_one_name_make_one_volume,
    concurrent_creates_of_different_names_all_succeed,
    concurrent_creates_and_destroys_of_one_name_agree,
    an_abandoned_create_is_whole_or_nothing,
    a_failing_create_leaves_nothing,
    an_unreachable_place_is_unavailable,
    an_unreachable_place_works_again_when_it_is_back,
    a_place_that_is_away_at_start_is_neither_made_nor_taken_for_empty,
    another_store_in_its_place_is_not_used,
    a_shared_store_describes_itself_so,
];

/// Tries every promise, each on a place of its own, and prints its name.
///
/// # Panics
/// At the end, when promises were broken, naming each of them.
pub async fn all(bench: &dyn Bench) {
    let mut broken = Vec::new();
    for (name, promise) in PROMISES {
        eprintln!("promise {name}");
        if AssertUnwindSafe(promise(bench)).catch_unwind().await.is_err() {
            broken.push(*name);
        }
    }
    assert!(broken.is_empty(), "{} of {} promises are broken: {broken:?}", broken.len(), PROMISES.len());
}
