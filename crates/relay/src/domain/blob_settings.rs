//! What blobs may use, as the operator sets it.

use std::time::Duration;

/// Whether uploads have to come from members of their group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BlobMembership {
    /// Anybody may upload for any group, as with the original relay.
    Off,
    /// Where this relay knows a group's members, the sender has to be one.
    Known,
}

/// Limits of blobs; sizes of 0 mean none.
#[derive(clap::Args, Clone, Debug)]
pub struct BlobArgs {
    /// Whether the sender of a blob has to be a member of its group
    #[arg(
        long,
        env = "BLOB_MEMBERSHIP",
        value_enum,
        default_value = "known",
        help_heading = "Blobs"
    )]
    pub blob_membership: BlobMembership,
    /// Largest blob, all chunks together
    #[arg(long, env = "BLOB_MAX_BYTES", value_parser = service::size::parse, default_value = "1100mb", help_heading = "Blobs")]
    pub blob_max_bytes: u64,
    /// Longest life of a blob; a longer `ttl` is cut to this
    #[arg(long, env = "BLOB_MAX_TTL", value_parser = service::duration::parse, default_value = "30d", help_heading = "Blobs")]
    pub blob_max_ttl: Duration,
    /// Bytes of readable blobs one sender may have
    #[arg(long, env = "BLOB_SENDER_BYTES", value_parser = service::size::parse, default_value = "16gb", help_heading = "Blobs")]
    pub blob_sender_bytes: u64,
    /// Readable blobs one sender may have
    #[arg(long, env = "BLOB_SENDER_COUNT", default_value_t = 10_000, help_heading = "Blobs")]
    pub blob_sender_count: u64,
    /// Bytes of chunks from one address that no signature covers yet
    #[arg(long, env = "BLOB_UNSIGNED_BYTES", value_parser = service::size::parse, default_value = "8gb", help_heading = "Blobs")]
    pub blob_unsigned_bytes: u64,
    /// Unfinished uploads from one address
    #[arg(long, env = "BLOB_UNSIGNED_COUNT", default_value_t = 1_000, help_heading = "Blobs")]
    pub blob_unsigned_count: u64,
    /// Disk space of all blobs of all relays on the database
    #[arg(long, env = "BLOB_DISK_BYTES", value_parser = service::size::parse, default_value = "64gb", help_heading = "Blobs")]
    pub blob_disk_bytes: u64,
    /// Look-ups of unknown blobs one address may make a second, with bursts of sixty times as many
    #[arg(long, env = "BLOB_MISSES", default_value_t = 20, help_heading = "Blobs")]
    pub blob_misses: u32,
    /// Uploads and completions that may use the database at the same time
    #[arg(long, env = "BLOB_LANES", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=256), help_heading = "Blobs")]
    pub blob_lanes: u32,
}
