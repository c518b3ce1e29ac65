//! What stores have in common: the record of a volume, the options of a store's URL, and how a store in a folder of
//! this host is opened and known again.
//!
//! It knows nothing of where a record lies, of loop devices or of servers.

pub mod id_file;
mod local_folder;
mod options;
pub mod record;
mod space;

pub use local_folder::LocalFolder;
pub use options::{UrlOptions, folder_of, refused};
pub use space::space_at;
