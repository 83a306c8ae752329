//! One client's connection, of either generation, as a stream of activated packets.

#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]
