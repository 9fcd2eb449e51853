//! Real data sets: what they are (`datasets/*.yaml`), whether they are here, how to get and to check them.
//!
//! Downloads go to the Hub's own cache, in its own layout, so that a copy another program fetched is found and a copy fetched
//! here serves others. Digests come from the manifest, never from the server.

mod cache;
mod fetch;
mod files;
mod hub;
mod manifest;

pub use cache::path_in_cache;
pub(crate) use cache::snapshot;
pub use fetch::{FetchError, Progress, fetch};
pub(crate) use files::judge;
pub use files::{FileReport, Listing, Verdict, list, sha256_of_file, verify};
pub use hub::{Hub, HubError};
pub use manifest::{
    AlsoKnown, Archive, HubSource, Manifest, ManifestFile, PictureCounts, manifest, manifests,
};
