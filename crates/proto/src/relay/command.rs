//! The signed writes of a relay, read from their bodies in the order the checks are defined.

use super::{Fields, Proof, Refusal, SignatureText};
use crate::js::{self, Str, Value};

/// Ids one `POST /relay/ack/batch` may name.
pub const ACK_BATCH_MAX: usize = 500;

/// `POST /relay/store`.
#[derive(Debug)]
pub struct Store<'b, 'a> {
    /// Name of the envelope within its mailbox.
    pub id: &'b Str<'a>,
    /// Who sends it.
    pub from: &'b Str<'a>,
    /// Whose mailbox it goes to.
    pub to: &'b Str<'a>,
    /// The sender's time, in milliseconds.
    pub ts: f64,
    /// Seconds the sender wants it kept; signed, otherwise unused.
    pub ttl: f64,
    /// Base64 text.
    pub payload: &'b Str<'a>,
    /// Absent when the signature cannot be right.
    pub proof: Option<Proof<'b, 'a>>,
}

impl<'b, 'a> Store<'b, 'a> {
    /// Reads the fields, refusing the first that is wrong.
    pub fn read(fields: Fields<'b, 'a>) -> Result<Self, Refusal> {
        fields.require(&["id", "from", "to", "ts", "ttl", "payload", "sig", "signingPub"])?;
        let [id, from, to] = fields.strings(["id", "from", "to"], "invalid id/from/to")?;
        let (ts, ttl) = fields.ts_ttl()?;
        let payload = fields.payload()?;
        Ok(Self { id, from, to, ts, ttl, payload, proof: fields.proof() })
    }

    /// What the signature covers, without the payload bytes that follow.
    pub fn signature_text(&self) -> Vec<u8> {
        let names = SignatureText::new().text(self.id).text(self.from).text(self.to);
        names.number(self.ts).number(self.ttl).then_payload()
    }
}

/// `POST /relay/group/store`.
#[derive(Debug)]
pub struct GroupStore<'b, 'a> {
    /// Name of the message in every recipient's mailbox.
    pub id: &'b Str<'a>,
    /// Who sends it.
    pub from: &'b Str<'a>,
    /// Which group it is for.
    pub group_id: &'b Str<'a>,
    /// Whose mailboxes it goes to: trimmed, without blanks, duplicates and the sender, sorted.
    pub recipients: Vec<Str<'b>>,
    /// The sender's time, in milliseconds.
    pub ts: f64,
    /// Seconds the sender wants it kept; signed, otherwise unused.
    pub ttl: f64,
    /// Base64 text.
    pub payload: &'b Str<'a>,
    /// Absent when the signature cannot be right.
    pub proof: Option<Proof<'b, 'a>>,
}

impl<'b, 'a> GroupStore<'b, 'a> {
    /// Reads the fields, refusing the first that is wrong.
    pub fn read(fields: Fields<'b, 'a>) -> Result<Self, Refusal> {
        fields.require(&[
            "id",
            "from",
            "groupId",
            "recipients",
            "ts",
            "ttl",
            "payload",
            "sig",
            "signingPub",
        ])?;
        let [id, from, group_id] =
            fields.strings(["id", "from", "groupId"], "invalid id/from/groupId")?;
        let recipients = fields.get("recipients").and_then(Value::as_array);
        let recipients = recipients.ok_or(Refusal::Invalid("invalid recipients"))?;
        let (ts, ttl) = fields.ts_ttl()?;
        let recipients = js::trim_dedup_sort(recipients, Some(from));
        if recipients.is_empty() {
            return Err(Refusal::Invalid("empty recipients"));
        }
        let payload = fields.payload()?;
        let proof = fields.proof();
        Ok(Self { id, from, group_id, recipients, ts, ttl, payload, proof })
    }

    /// What the signature covers, without the payload bytes that follow.
    pub fn signature_text(&self) -> Vec<u8> {
        let names = SignatureText::new().text(self.id).text(self.from).text(self.group_id);
        names.list(&self.recipients).number(self.ts).number(self.ttl).then_payload()
    }
}

/// `POST /relay/group/members/update`.
#[derive(Debug)]
pub struct MembersUpdate<'b, 'a> {
    /// Name of the update.
    pub id: &'b Str<'a>,
    /// Who sends it; the owner.
    pub from: &'b Str<'a>,
    /// Which group it is about.
    pub group_id: &'b Str<'a>,
    /// The members, owner included: trimmed, without blanks and duplicates, sorted.
    pub members: Vec<Str<'b>>,
    /// The owner's time, in milliseconds.
    pub ts: f64,
    /// Signed, otherwise unused.
    pub ttl: f64,
    /// Absent when the signature cannot be right.
    pub proof: Option<Proof<'b, 'a>>,
}

impl<'b, 'a> MembersUpdate<'b, 'a> {
    /// Reads the fields, refusing the first that is wrong.
    pub fn read(fields: Fields<'b, 'a>) -> Result<Self, Refusal> {
        fields.require(&[
            "id",
            "from",
            "groupId",
            "ownerPeerId",
            "memberPeerIds",
            "ts",
            "ttl",
            "sig",
            "signingPub",
        ])?;
        let [id, from, group_id, owner] = fields.strings(
            ["id", "from", "groupId", "ownerPeerId"],
            "invalid id/from/groupId/ownerPeerId",
        )?;
        let (ts, ttl) = fields.ts_ttl()?;
        if from != owner {
            return Err(Refusal::Forbidden("only owner can update members"));
        }
        let listed = fields.get("memberPeerIds").and_then(Value::as_array).unwrap_or_default();
        let members = js::trim_dedup_sort(listed, None);
        if members.is_empty() {
            return Err(Refusal::Invalid("empty memberPeerIds"));
        }
        if !members.iter().any(|member| member.as_bytes() == owner.as_bytes()) {
            return Err(Refusal::Invalid("owner must be in memberPeerIds"));
        }
        Ok(Self { id, from, group_id, members, ts, ttl, proof: fields.proof() })
    }

    /// What the signature covers.
    pub fn signature_text(&self) -> Vec<u8> {
        let names = SignatureText::new().text(self.id).text(self.from).text(self.group_id);
        names.text(self.from).list(&self.members).number(self.ts).number(self.ttl).finish()
    }
}

/// `POST /relay/ack`.
#[derive(Debug)]
pub struct Ack<'b, 'a> {
    /// Which envelope.
    pub id: &'b Str<'a>,
    /// Who acknowledges.
    pub from: &'b Str<'a>,
    /// Whose mailbox it is in.
    pub to: &'b Str<'a>,
    /// The acknowledger's time, in milliseconds.
    pub ts: f64,
    /// Absent when the signature cannot be right.
    pub proof: Option<Proof<'b, 'a>>,
}

impl<'b, 'a> Ack<'b, 'a> {
    /// Reads the fields, refusing the first that is wrong.
    pub fn read(fields: Fields<'b, 'a>) -> Result<Self, Refusal> {
        fields.require(&["id", "from", "to", "ts", "sig", "signingPub"])?;
        let [id, from, to] = fields.strings(["id", "from", "to"], "invalid id/from/to")?;
        let ts = fields.number("ts", "invalid ts")?;
        Ok(Self { id, from, to, ts, proof: fields.proof() })
    }

    /// What the signature covers.
    pub fn signature_text(&self) -> Vec<u8> {
        SignatureText::new().text(self.id).text(self.from).text(self.to).number(self.ts).finish()
    }
}

/// `POST /relay/ack/batch`: [`Ack`] for many envelopes of one mailbox under one signature.
///
/// The signature covers `ack-batch|n|id1,id2,…|from|to|ts`: the word and the count keep the text
/// apart from that of any other request, whatever the ids contain. The ids are signed in the order
/// of the request.
#[derive(Debug)]
pub struct AckBatch<'b, 'a> {
    /// Which envelopes, 1 to [`ACK_BATCH_MAX`].
    pub ids: Vec<Str<'b>>,
    /// Who acknowledges.
    pub from: &'b Str<'a>,
    /// Whose mailbox they are in.
    pub to: &'b Str<'a>,
    /// The acknowledger's time, in milliseconds.
    pub ts: f64,
    /// Absent when the signature cannot be right.
    pub proof: Option<Proof<'b, 'a>>,
}

impl<'b, 'a> AckBatch<'b, 'a> {
    /// Reads the fields, refusing the first that is wrong.
    pub fn read(fields: Fields<'b, 'a>) -> Result<Self, Refusal> {
        fields.require(&["ids", "from", "to", "ts", "sig", "signingPub"])?;
        let [from, to] = fields.strings(["from", "to"], "invalid from/to")?;
        let listed = fields.get("ids").and_then(Value::as_array);
        let listed = listed.filter(|ids| (1..=ACK_BATCH_MAX).contains(&ids.len()));
        let listed = listed.ok_or(Refusal::Invalid("invalid ids"))?;
        let ids = listed.iter().map(|id| id.as_str().map(Str::reborrow)).collect::<Option<_>>();
        let ids = ids.ok_or(Refusal::Invalid("invalid ids"))?;
        let ts = fields.number("ts", "invalid ts")?;
        Ok(Self { ids, from, to, ts, proof: fields.proof() })
    }

    /// What the signature covers.
    pub fn signature_text(&self) -> Vec<u8> {
        let count = u32::try_from(self.ids.len()).expect("at most ACK_BATCH_MAX");
        let head = SignatureText::new().text(&Str::from("ack-batch")).number(f64::from(count));
        head.list(&self.ids).text(self.from).text(self.to).number(self.ts).finish()
    }
}
