//! What the tests of several files use.
#![allow(dead_code, reason = "no test file uses all of it")]

use anyhow::Context as _;
use testkit::database::Database;
use testkit::http_client::Answer;
use testkit::process::{Builder, Service};

/// The room of the specification's vectors.
pub(crate) const ROOM: &str = "648904681423c5abca2077dde957f78af460be70275cc2ce6ea10a3e134461e4";

/// A node with cheap work, an idle machine's price and no DHT, unless set otherwise.
pub(crate) fn node(database: &Database) -> Builder {
    Service::named("mesh")
        .database(&database.url())
        .set("LOAD_FILE", "/dev/null")
        .set("POW_MIN", 8)
        .set("DHT", "off")
        .set("ADDRESS_POSTS", 1_000)
}

/// What a refusal is called.
pub(crate) fn code(answer: &Answer) -> anyhow::Result<String> {
    Ok(answer.json()?["error"].as_str().context("no error")?.to_owned())
}
