//! The opaque cursor of `after=`, `next` and `Last-Event-ID`.

use proto::js::Str;

/// A place in a mailbox that stays valid when the envelope there is gone.
///
/// As text: `p` and the number in hex. Text that is anything else stands for the beginning, as
/// unknown cursors do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position(pub(crate) i64);

impl Position {
    /// Reads what [`Position::render`] wrote.
    pub(crate) fn read(text: &Str<'_>) -> Self {
        let number = text.as_str().and_then(|text| text.strip_prefix('p'));
        let number = number.and_then(|hex| i64::from_str_radix(hex, 16).ok());
        Self(number.filter(|number| *number >= 0).unwrap_or(0))
    }

    /// The text for clients to bring back.
    pub(crate) fn render(self) -> String {
        format!("p{:x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_rendered_is_read_and_anything_else_is_the_beginning() {
        for number in [0, 1, 65_536, i64::MAX] {
            assert_eq!(Position::read(&Str::from(Position(number).render())), Position(number));
        }
        for text in ["", "p", "5", "p-5", "pzz", "pffffffffffffffff", "m1"] {
            assert_eq!(Position::read(&Str::from(text)), Position(0), "{text}");
        }
    }
}
