//! Real data sets: what they are (`datasets/*.yaml`), whether they are here, how to get and to check them.
//!
//! Downloads go to the Hub's own cache, in its own layout, so that a copy another program fetched is found and a copy fetched
//! here serves others ([`sd_core::weights::hub`]). Digests come from the manifest; the server's must be the same.

mod fetch;
mod files;
mod manifest;

pub use fetch::fetch;
pub(crate) use fetch::snapshot;
pub(crate) use files::judge;
pub use files::{FileReport, Listing, Verdict, list, sha256_of_file, verify};
pub use manifest::{
    AlsoKnown, Archive, HubSource, Manifest, ManifestFile, PictureCounts, manifest, manifests,
};
pub use sd_core::weights::hub::{FetchError, Hub, HubError, Progress, path_in_cache};
