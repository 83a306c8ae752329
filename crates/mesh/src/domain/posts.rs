//! Posts and payments, as handlers see what is kept of them.

pub(crate) use crate::store::post::{From, Paid, Post, since};
