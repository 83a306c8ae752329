//! The list of channels as it goes over the wire, made once for all who ask for it.

use bytes::Bytes;
use proto::pad::{tcp, ws};

use super::hub::Generation;

/// The list of one generation's channels: its length is always known, its bytes are made when
/// somebody asks.
#[derive(Debug)]
pub(crate) struct Listing {
    generation: Generation,
    /// Length of the encoded list, in bytes.
    length: usize,
    made: Option<Bytes>,
}

impl Listing {
    /// The empty list.
    pub(crate) fn new(generation: Generation) -> Self {
        let length = match generation {
            Generation::WebSocket => 0,
            Generation::Encrypted => 2,
        };
        Self { generation, length, made: None }
    }

    /// What one name adds to the list, in bytes: its NUL, or its length in front.
    fn cost(&self, name: &[u8]) -> usize {
        name.len()
            + match self.generation {
                Generation::WebSocket => 1,
                Generation::Encrypted => 2,
            }
    }

    pub(crate) fn added(&mut self, name: &[u8]) {
        self.length += self.cost(name);
        self.made = None;
    }

    pub(crate) fn removed(&mut self, name: &[u8]) {
        self.length -= self.cost(name);
        self.made = None;
    }

    /// The body of the answer, from the names in order of registration; `None` when it does not fit a packet.
    pub(crate) fn body<'n>(&mut self, names: impl Iterator<Item = &'n [u8]>) -> Option<Bytes> {
        if self.made.is_none() && self.fits() {
            self.made = self.make(names);
        }
        self.made.clone()
    }

    fn fits(&self) -> bool {
        self.length
            <= match self.generation {
                Generation::WebSocket => ws::BODY_MAX,
                Generation::Encrypted => tcp::BODY_MAX,
            }
    }

    fn make<'n>(&self, names: impl Iterator<Item = &'n [u8]>) -> Option<Bytes> {
        let mut body = Vec::with_capacity(self.length);
        match self.generation {
            Generation::WebSocket => {
                for name in names {
                    ws::push_channel(name, &mut body).ok()?;
                }
            }
            Generation::Encrypted => {
                let names: Vec<&[u8]> = names.collect();
                tcp::push_channels(names.into_iter(), &mut body).ok()?;
            }
        }
        Some(body.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(generation: Generation, names: &[&[u8]]) -> Option<Bytes> {
        let mut listing = Listing::new(generation);
        for name in names {
            listing.added(name);
        }
        listing.body(names.iter().copied())
    }

    #[test]
    fn each_generation_has_its_own_form() {
        let names: [&[u8]; 2] = [b"room", b"x"];
        assert_eq!(&list(Generation::WebSocket, &names).unwrap()[..], b"room\0x\0");
        assert_eq!(&list(Generation::Encrypted, &names).unwrap()[..], b"\x02\0\x04\0room\x01\0x");
        assert_eq!(&list(Generation::WebSocket, &[]).unwrap()[..], b"");
        assert_eq!(&list(Generation::Encrypted, &[]).unwrap()[..], b"\0\0");
    }

    #[test]
    fn a_list_longer_than_a_packet_is_not_made_until_it_fits_again() {
        for (generation, longest) in
            [(Generation::WebSocket, ws::BODY_MAX - 1), (Generation::Encrypted, tcp::BODY_MAX - 4)]
        {
            let name = vec![b'n'; longest];
            let body = list(generation, &[&name]).unwrap();
            assert!(body.len() == ws::BODY_MAX || body.len() == tcp::BODY_MAX);
            let mut listing = Listing::new(generation);
            listing.added(&name);
            listing.added(b"");
            assert_eq!(listing.body([&name[..], b""].into_iter()), None);
            listing.removed(b"");
            assert_eq!(listing.body([&name[..]].into_iter()), Some(body));
        }
    }
}
