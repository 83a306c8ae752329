//! The JSON of successful answers.

use proto::js::{self, Str};
use proto::relay::{GroupStore, MembersUpdate};

use crate::config::Config;

const PROTOCOL: &str = "\"service\":\"peerlink-relay\",\"protocolVersion\":\"1\"";

/// Default of `--source-code-url`: nothing is claimed that was not configured.
const PROJECT: &str = "Switchyard";

/// `GET /health`
pub(crate) fn health(config: &Config, now_ms: i64) -> Vec<u8> {
    format!("{{\"ok\":true,\"ts\":{now_ms},\"source\":{}}}", source_text(config)).into_bytes()
}

/// `GET /.well-known/peerlink-source`
pub(crate) fn source(config: &Config) -> Vec<u8> {
    source_text(config).into_bytes()
}

/// `POST /relay/probe`
pub(crate) fn probe(now_ms: i64) -> Vec<u8> {
    format!("{{\"ok\":true,{PROTOCOL},\"ts\":{now_ms}}}").into_bytes()
}

/// `POST /relay/probe` by a client that speaks another version.
pub(crate) const UNSUPPORTED_VERSION: &str =
    "{\"error\":\"unsupported protocol version\",\"supported\":[\"1\"]}";

/// `GET /relay/capabilities`
pub(crate) fn capabilities(config: &Config, now_ms: i64) -> Vec<u8> {
    const FEATURES: &str = "\"features\":{\"health\":true,\"probe\":true,\"store\":true,\"fetch\":true,\
        \"ack\":true,\"groupStore\":true,\"groupMembersUpdate\":true,\"blobUpload\":true,\
        \"blobChunkUpload\":true,\"blobDownload\":true}";
    const AUTH: &str = "\"auth\":{\"storeRequiresEd25519Signature\":true,\
        \"ackRequiresEd25519Signature\":true,\"groupStoreRequiresEd25519Signature\":true,\
        \"groupMembersUpdateRequiresEd25519Signature\":true,\
        \"blobUploadRequiresEd25519Signature\":true,\
        \"blobUploadCompleteRequiresEd25519Signature\":true}";
    const QUERY: &str = "\"query\":{\"fetchRecipientParam\":\"to\",\"fetchCursorParam\":\"cursor\",\
        \"fetchLimitParam\":\"limit\"}";
    let source = source_text(config);
    format!(
        "{{\"ok\":true,{PROTOCOL},\"source\":{source},{FEATURES},{AUTH},{QUERY},\"ts\":{now_ms}}}"
    )
    .into_bytes()
}

/// `POST /relay/store`
pub(crate) fn stored(stored: bool) -> &'static str {
    if stored {
        "{\"ok\":true,\"stored\":true,\"duplicate\":false}"
    } else {
        "{\"ok\":true,\"stored\":false,\"duplicate\":true}"
    }
}

/// `POST /relay/group/store`
pub(crate) fn fanned_out(message: &GroupStore<'_, '_>, stored: u64) -> Vec<u8> {
    let mut out = b"{\"ok\":true,\"groupId\":".to_vec();
    js::string(message.group_id, &mut out);
    let recipients = message.recipients.len() as u64;
    let duplicate = recipients.saturating_sub(stored);
    out.extend_from_slice(
        format!(",\"recipients\":{recipients},\"stored\":{stored},\"duplicate\":{duplicate}}}")
            .as_bytes(),
    );
    out
}

/// `POST /relay/group/members/update`
pub(crate) fn members_updated(update: &MembersUpdate<'_, '_>) -> Vec<u8> {
    let mut out = b"{\"ok\":true,\"groupId\":".to_vec();
    js::string(update.group_id, &mut out);
    out.extend_from_slice(b",\"ownerPeerId\":");
    js::string(update.from, &mut out);
    out.extend_from_slice(format!(",\"members\":{}}}", update.members.len()).as_bytes());
    out
}

/// `POST /relay/ack`
pub(crate) const ACKED: &str = "{\"ok\":true}";

/// `POST /relay/ack/batch`
pub(crate) fn acked(ids: usize) -> Vec<u8> {
    format!("{{\"ok\":true,\"acked\":{ids}}}").into_bytes()
}

fn source_text(config: &Config) -> String {
    let mut out = format!("{{\"project\":\"{PROJECT}\",\"version\":").into_bytes();
    js::string(&Str::from(config.source_version.as_str()), &mut out);
    out.extend_from_slice(b",\"license\":\"MIT OR Apache-2.0\",\"source\":");
    js::string(&Str::from(config.source_code_url.as_str()), &mut out);
    out.push(b'}');
    String::from_utf8(out).expect("settings are UTF-8")
}
