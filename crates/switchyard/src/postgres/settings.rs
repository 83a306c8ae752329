//! The private cluster's settings, written at every start.

use std::fs;
use std::path::Path;

/// Name of the file, inside the cluster's directory.
pub(super) const FILE: &str = "switchyard.conf";
/// Appended once to `postgresql.conf`; the later file wins.
pub(super) const INCLUDES: &str = "
# Written by `switchyard up` at every start.
include_if_exists = 'switchyard.conf'
# Yours.
include_if_exists = 'local.conf'
";

/// What `local.conf` begins with.
pub(super) const YOURS: &str = "# Your own settings of this server; they win over all others.\n";

/// The settings for a machine with this much memory.
pub(super) fn render(socket: &Path, lz4: bool, memory_kib: u64) -> String {
    let socket = socket.display().to_string().replace('\'', "''");
    let compression = if lz4 { "lz4" } else { "on" };
    let buffers_mb = (memory_kib / 1024 / 8).clamp(64, 2048);
    let cache_mb = (memory_kib / 1024 / 2).max(256);
    format!(
        "# Rewritten at every start: put your own settings into local.conf.\n\
         listen_addresses = ''\n\
         unix_socket_directories = '{socket}'\n\
         unix_socket_permissions = 0700\n\
         port = {port}\n\
         max_connections = 200\n\
         password_encryption = scram-sha-256\n\
         # An answer that promises durability is sent after the commit: never weaken these.\n\
         fsync = on\n\
         full_page_writes = on\n\
         synchronous_commit = on\n\
         wal_compression = {compression}\n\
         max_wal_size = 2GB\n\
         min_wal_size = 256MB\n\
         checkpoint_timeout = 15min\n\
         shared_buffers = {buffers_mb}MB\n\
         effective_cache_size = {cache_mb}MB\n\
         random_page_cost = 1.1\n\
         # Short statements only: compiling or spreading them costs more than it saves.\n\
         jit = off\n\
         max_parallel_workers_per_gather = 0\n\
         # Statements over partitioned tables lock every partition they plan for.\n\
         max_locks_per_transaction = 256\n\
         autovacuum_naptime = 20s\n\
         idle_in_transaction_session_timeout = 60s\n\
         log_destination = stderr\n\
         logging_collector = off\n\
         log_line_prefix = '%q[%d %u] '\n\
         log_min_messages = warning\n\
         log_checkpoints = off\n",
        port = super::PORT
    )
}

/// The machine's memory, or a modest guess.
pub(super) fn memory_kib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("MemTotal:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_in_the_path_stays_inside_its_setting() {
        let text = render(Path::new("/srv/o'brien/run"), true, 8 << 20);
        assert!(text.contains("unix_socket_directories = '/srv/o''brien/run'\n"), "{text}");
        assert!(text.contains("shared_buffers = 1024MB\n"), "{text}");
        assert!(text.contains("synchronous_commit = on\n"), "{text}");
    }
}
