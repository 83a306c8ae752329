//! Blob requests under the identity policy: who may use which name, and what a payload is.

use proto::base64;
use proto::js::{self, Str};
use proto::relay::Refusal;
use proto::relay_blob::{Common, INVALID_NAMES};

use crate::domain::Rules;
use crate::domain::blob_upload::{Described, UploadKey};
use crate::error::Error;

/// Longest file name or type, in characters.
const LABEL_MAX: usize = 1024;

/// Checks what the policy adds to the wire's own rules, except [`may_name`].
pub(crate) fn check(common: &Common<'_, '_>, rules: &Rules, now_ms: i64) -> Result<(), Error> {
    check_names(common.id, common.from, common.group_id, rules)?;
    let labels = [Some(common.file_name), common.mime_type];
    let short = labels.into_iter().flatten().all(|label| js::utf16_len(label) <= LABEL_MAX);
    if !short && !rules.open() {
        return Err(Refusal::Invalid(INVALID_NAMES).into());
    }
    rules.ts(common.ts, "invalid ts/ttl")?;
    rules.ttl(common.ttl, "invalid ts/ttl")?;
    rules.skew(common.ts, now_ms)
}

/// Checks the names of a chunk or blob.
pub(crate) fn check_names(
    id: &Str<'_>,
    from: &Str<'_>,
    group_id: &Str<'_>,
    rules: &Rules,
) -> Result<(), Error> {
    rules.peer(from, INVALID_NAMES)?;
    rules.id(id, INVALID_NAMES)?;
    rules.id(group_id, INVALID_NAMES)
}

/// Whether `from` may use these names (spec 5.1, 9): some ids name the one peer who may publish
/// under them, and some groups their only members. Under `open` everybody may.
pub(crate) fn may_name(
    id: &Str<'_>,
    from: &Str<'_>,
    group_id: &Str<'_>,
    rules: &Rules,
) -> Result<(), Error> {
    let (id, from, group_id) = (id.as_bytes(), from.as_bytes(), group_id.as_bytes());
    let owner = match (id.strip_prefix(b"prekey:"), id.strip_prefix(b"avatar:")) {
        (Some(peer), _) => Some(peer),
        (_, Some(rest)) => rest.split(|byte| *byte == b':').next(),
        _ => None,
    };
    let foreign = owner.is_some_and(|owner| owner != from);
    let outsider = match (group_id.strip_prefix(b"dm:"), group_id.strip_prefix(b"profile:")) {
        (Some(pair), _) => !pair.split(|byte| *byte == b'|').any(|peer| peer == from),
        (_, Some(peer)) => peer != from,
        _ => false,
    };
    if rules.open() || !(foreign || outsider) {
        return Ok(());
    }
    if foreign {
        return Err(Refusal::Forbidden("blob id belongs to another peer").into());
    }
    Err(Error::SenderNotMember)
}

/// Which upload or blob a request speaks of.
pub(crate) fn upload_key<'a>(
    id: &'a Str<'_>,
    from: &'a Str<'_>,
    group_id: &'a Str<'_>,
) -> UploadKey<'a> {
    UploadKey { id: id.as_bytes(), sender: from.as_bytes(), group_id: group_id.as_bytes() }
}

/// What a signed request says about its blob.
pub(crate) fn described<'a>(common: &Common<'a, '_>) -> Described<'a> {
    Described {
        file_name: common.file_name.as_bytes(),
        mime_type: common.mime_type.map(|text| text.as_bytes()),
        ttl: common.ttl,
    }
}

/// The payload's text as it has to be given back, when encoding the bytes gives another.
pub(crate) fn verbatim(payload: &Str<'_>) -> Option<Vec<u8>> {
    let text = payload.as_bytes();
    if base64::is_canonical(text) && memchr::memchr2(b'-', b'_', text).is_none() {
        return None;
    }
    let mut escaped = Vec::with_capacity(text.len() + 2);
    js::string(payload, &mut escaped);
    escaped.pop();
    escaped.remove(0);
    Some(escaped)
}

#[cfg(test)]
mod tests {
    use identity::Policy;

    use super::*;
    use crate::config::Config;

    fn allowed(policy: Policy, id: &str, from: &str, group: &str) -> bool {
        let address = "--listen=127.0.0.1:0";
        let mut config = Config::for_tests(&[address, "--database-url=postgres://localhost/x"]);
        config.policy.identity_policy = policy;
        let (id, from, group) = (Str::from(id), Str::from(from), Str::from(group));
        may_name(&id, &from, &group, &Rules::new(&config)).is_ok()
    }

    #[test]
    fn names_that_speak_of_a_peer_are_for_that_peer() {
        for (id, group, from, fits) in [
            ("blob:1", "group:1", "a", true),
            ("prekey:a", "profile:a", "a", true),
            ("prekey:a", "profile:b", "b", false),
            ("prekey:a:x", "g", "a", false),
            ("avatar:a:17", "profile:a", "a", true),
            ("avatar:b:17", "profile:a", "a", false),
            ("blob:1", "dm:a|b", "b", true),
            ("blob:1", "dm:a|b", "c", false),
            ("blob:1", "profile:a", "b", false),
        ] {
            assert_eq!(allowed(Policy::Pin, id, from, group), fits, "{id} {group} {from}");
            assert!(allowed(Policy::Open, id, from, group));
        }
    }

    #[test]
    fn only_what_encoding_would_not_give_is_kept_as_text() {
        assert_eq!(verbatim(&Str::from("AA==")), None);
        for (text, kept) in [("AA", "AA"), ("-_-_", "-_-_"), ("A\n\"", "A\\n\\\"")] {
            assert_eq!(verbatim(&Str::from(text)).as_deref(), Some(kept.as_bytes()));
        }
    }
}
