//! What the blobs of one relay count.

use prometheus::{
    IntCounter, IntCounterVec, IntGauge, Registry, register_int_counter_vec_with_registry,
    register_int_counter_with_registry, register_int_gauge_with_registry,
};

pub(crate) struct BlobMetrics {
    pub(crate) stored: IntCounter,
    pub(crate) duplicates: IntCounter,
    pub(crate) uploads_begun: IntCounter,
    pub(crate) bytes_in: IntCounter,
    pub(crate) bytes_out: IntCounter,
    pub(crate) misses: IntCounter,
    /// By what was exceeded: `size`, `sender`, `address`, `disk`, `misses`.
    pub(crate) refused: IntCounterVec,
    pub(crate) disk_bytes: IntGauge,
}

impl BlobMetrics {
    pub(crate) fn register(to: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            stored: register_int_counter_with_registry!(
                "relay_blobs_stored_total",
                "Blobs that became readable.",
                to
            )?,
            duplicates: register_int_counter_with_registry!(
                "relay_blobs_duplicate_total",
                "Uploads whose id was taken.",
                to
            )?,
            uploads_begun: register_int_counter_with_registry!(
                "relay_blob_uploads_begun_total",
                "Chunked uploads begun.",
                to
            )?,
            bytes_in: register_int_counter_with_registry!(
                "relay_blob_bytes_in_total",
                "Decoded bytes of chunks and blobs that were committed.",
                to
            )?,
            bytes_out: register_int_counter_with_registry!(
                "relay_blob_bytes_out_total",
                "Decoded bytes of blobs read for downloads.",
                to
            )?,
            misses: register_int_counter_with_registry!(
                "relay_blob_misses_total",
                "Look-ups of blobs that are not there.",
                to
            )?,
            refused: register_int_counter_vec_with_registry!(
                "relay_blob_refused_total",
                "Requests refused, by what they exceeded.",
                &["limit"],
                to
            )?,
            disk_bytes: register_int_gauge_with_registry!(
                "relay_blob_disk_bytes",
                "Disk space of all blobs as last measured, with what came in since.",
                to
            )?,
        })
    }
}
