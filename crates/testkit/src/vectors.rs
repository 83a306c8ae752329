//! The PeerLink vectors: what was sent to the original servers and what they answered.
//!
//! A case is a list of templates and of expectations. [`Script`] fills in the templates of one
//! run of a case: names nobody else uses, the time of day, nonces and real signatures.

mod script;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

pub use script::Script;

/// Everything in `tests/vectors/peerlink.json` but the tables for unit tests.
#[derive(Debug, Deserialize)]
pub struct Vectors {
    /// The `${ts}` of all templates, in milliseconds since the epoch.
    pub ts_fixed: i64,
    /// Signing keys by name.
    pub keys: BTreeMap<String, Key>,
    /// Cases for the relay.
    pub relay: Vec<RelayCase>,
    /// Scenarios for signal.
    pub signal: Vec<SignalCase>,
}

/// A key pair that anybody may know.
#[derive(Debug, Deserialize)]
pub struct Key {
    /// The secret half.
    pub seed_hex: String,
    /// The public half, canonical base64.
    pub public_b64: String,
}

/// How much a case matters (the vectors' `readme` says more).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// The real client depends on it.
    Core,
    /// Documented validation.
    Doc,
    /// An accident of the original, harmless to match.
    Quirk,
    /// Decided by the original's framework.
    Http,
    /// The original is too permissive; better answers exist.
    Lax,
    /// Ends the original's process.
    Crash,
}

/// A signature that a template refers to by name.
#[derive(Debug, Deserialize)]
pub struct Signature {
    /// Whose.
    pub key: String,
    /// What is signed: a template.
    pub msg: String,
    /// Bytes signed behind `msg`, in base64.
    #[serde(default)]
    pub tail_b64: String,
    /// One byte, repeated so often, signed behind all that.
    pub tail_rep: Option<(u8, usize)>,
    /// How the signature is damaged afterwards.
    pub mutate: Option<Mutation>,
}

/// Damage to a signature.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mutation {
    /// One bit of the first byte.
    FlipFirst,
    /// One bit of the last byte.
    FlipLast,
    /// The group order is added to its second half, which leaves the equation true.
    #[serde(rename = "add_L")]
    AddOrder,
    /// The last byte is missing.
    Truncate,
    /// A byte too many.
    Extend,
}

/// Requests in order, and what the original answered.
#[derive(Debug, Deserialize)]
pub struct RelayCase {
    /// A name like `store.ok`.
    pub id: String,
    /// How much it matters.
    pub tier: Tier,
    /// What it is about.
    pub title: String,
    /// Settings it needs, other than the default ones.
    pub profile: Option<String>,
    /// What to send.
    pub steps: Vec<RelayStep>,
    /// One answer for each step that sends something.
    pub expect: Vec<Answer>,
    /// What one real run sent and got.
    pub recorded: Vec<Value>,
}

/// A request, or a pause.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum RelayStep {
    /// Let this many seconds pass: the case is about expiry.
    Sleep {
        /// Seconds.
        sleep: f64,
    },
    /// Send a request on a connection of its own.
    Request(Box<Request>),
}

/// A request template.
#[derive(Debug, Deserialize)]
pub struct Request {
    /// `GET` and the like.
    pub method: String,
    /// Path and query: a template.
    pub path: String,
    /// Header lines to send beside `Host` and the framing.
    pub headers: Vec<(String, String)>,
    /// The body: a template.
    pub body: Option<String>,
    /// The body, as bytes.
    pub body_b64: Option<String>,
    /// The body, as a text filled up to a size.
    pub pad: Option<Pad>,
    /// The body goes out chunked, in pieces of this size.
    pub chunked: Option<usize>,
    /// Signatures for the templates of this and later steps.
    #[serde(default)]
    pub sigs: BTreeMap<String, Signature>,
    /// Places in the answer that differ from run to run.
    #[serde(default)]
    pub volatile: Vec<String>,
    /// Places in the answer that are the server's own.
    #[serde(default)]
    pub loose: Vec<String>,
    /// Other answers that are as good or better.
    #[serde(default)]
    pub alt: Vec<Alternative>,
}

/// A body filled up with the letter a.
#[derive(Debug, Deserialize)]
pub struct Pad {
    /// Before the filling.
    pub prefix: String,
    /// Behind the filling.
    pub suffix: String,
    /// Bytes in all.
    pub total: usize,
}

/// Another acceptable answer.
#[derive(Debug, Deserialize)]
pub struct Alternative {
    /// Its status.
    pub status: u16,
    /// What speaks for it.
    pub why: String,
}

/// What the original answered.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The whole `Content-Type`.
    pub content_type: Option<String>,
    /// A JSON body: a template.
    pub body: Option<String>,
    /// `html` or `text` when the body is no JSON.
    pub kind: Option<String>,
    /// That body.
    pub text: Option<String>,
    /// Headers that matter.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A page of messages of which only the number is compared,
    pub count: Option<usize>,
    /// and the cursor: a template.
    pub cursor: Option<String>,
    /// A large JSON body, in which long strings are replaced by their hash: templates inside.
    pub shape: Option<Value>,
}

/// What some clients did in turn, and what they saw.
#[derive(Debug, Deserialize)]
pub struct SignalCase {
    /// A name like `reg.v1`.
    pub id: String,
    /// How much it matters.
    pub tier: Tier,
    /// What it is about.
    pub title: String,
    /// What a better server might do instead.
    pub alt: Option<String>,
    /// What the clients do.
    pub actions: Vec<Action>,
    /// For each action what is seen, `null` where nothing is.
    pub expect: Vec<Value>,
    /// What one real run sent and saw.
    pub recorded: Vec<Value>,
}

/// What one client does.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum Action {
    /// Opens a WebSocket.
    Open {
        /// The client's name from here on.
        c: String,
        /// Path and query.
        path: String,
        /// Header lines beside the usual ones, or instead of them.
        #[serde(default)]
        headers: Vec<(String, String)>,
        /// Does not answer when the server closes.
        #[serde(default)]
        noclose: bool,
    },
    /// Sends a text message.
    Send {
        /// Who.
        c: String,
        /// A template.
        text: String,
        /// Signatures for this and later templates.
        #[serde(default)]
        sigs: BTreeMap<String, Signature>,
    },
    /// Sends one frame, however wrong.
    Frame {
        /// Who.
        c: String,
        /// Four bits.
        opcode: u8,
        /// The payload.
        b64: String,
        /// Whether it ends its message.
        fin: bool,
        /// Whether it is masked, as all frames of clients must be.
        mask: bool,
        /// The three reserved bits.
        rsv: u8,
    },
    /// Sends only the header of a frame of this length.
    Header {
        /// Who.
        c: String,
        /// Bytes promised.
        len: u64,
    },
    /// Waits for the next message, control frame or end.
    Recv {
        /// Who.
        c: String,
    },
    /// Sees that nothing comes for a while.
    Quiet {
        /// Who.
        c: String,
        /// How long, in milliseconds.
        ms: u64,
    },
    /// Lets the server catch up.
    Sleep {
        /// How long, in milliseconds.
        ms: u64,
    },
    /// Closes in order.
    Close {
        /// Who.
        c: String,
        /// The close code.
        code: u16,
        /// The reason.
        reason: String,
    },
    /// Resets the connection.
    Abort {
        /// Who.
        c: String,
    },
    /// Waits for any answer or the end of the connection.
    Survive {
        /// Who.
        c: String,
    },
    /// Sees that the server serves others.
    Alive {},
}

impl Vectors {
    /// Reads the file of the repository this was built in.
    ///
    /// # Panics
    /// When it is not there or not of this form: no test could say anything then.
    pub fn load() -> Self {
        let path = crate::process::workspace().join("tests/vectors/peerlink.json");
        let text = std::fs::read(&path).expect("the vectors are part of the repository");
        serde_json::from_slice(&text).expect("the vectors have the form described here")
    }
}
