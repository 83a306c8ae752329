//! Checking JSON without building it: members as ranges of the text, to be passed on unparsed.

use smallvec::SmallVec;

use super::lex::{Lexer, number_value, unescape};
use super::{DEPTH_CEILING, ParseError, Str, Value, number, parse, write};

/// Members of an object which are looked at when deciding whether it is printed canonically;
/// larger objects are parsed and printed instead.
const FEW: usize = 16;

/// What kind of value a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// The text of one checked value.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    text: &'a [u8],
    canonical: bool,
}

impl<'a> Raw<'a> {
    /// The text as it came, without blanks around it.
    pub fn text(&self) -> &'a [u8] {
        self.text
    }

    /// Whether `JSON.stringify` would print exactly [`Raw::text`]. May be `false` for a text of
    /// which that is true, never the other way round.
    pub fn is_canonical(&self) -> bool {
        self.canonical
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        match self.text.first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') => Kind::Null,
            _ => Kind::Number,
        }
    }

    /// Builds the value.
    pub fn value(&self) -> Value<'a> {
        parse(self.text, DEPTH_CEILING).expect("the scanner has checked this text")
    }

    /// Builds the value if it is a string.
    pub fn string(&self) -> Option<Str<'a>> {
        match (self.kind(), self.text) {
            (Kind::String, [b'"', inside @ .., b'"'])
                if self.canonical && !inside.contains(&b'\\') =>
            {
                Some(Str::from_wtf8(inside))
            }
            (Kind::String, _) => match self.value() {
                Value::String(text) => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// Appends `JSON.stringify` of the value: the text itself where that is the same.
    pub fn write(&self, out: &mut Vec<u8>) {
        if self.canonical {
            out.extend_from_slice(self.text);
        } else {
            write(&self.value(), out);
        }
    }
}

/// Members of one object, values unparsed.
#[derive(Clone, Debug, Default)]
pub struct Members<'a>(SmallVec<[(Str<'a>, Raw<'a>); 8]>);

impl<'a> Members<'a> {
    /// The last value given for a key. Takes time linear in the number of members.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Raw<'a>> {
        let key = key.as_ref();
        self.0.iter().rev().find(|(name, _)| name.as_bytes() == key).map(|(_, raw)| *raw)
    }

    /// All members in the order of the text, repeated keys included.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Str<'a>, Raw<'a>)> {
        self.0.iter().map(|(key, raw)| (key, *raw))
    }
}

/// A frame looked at from outside.
#[derive(Clone, Debug)]
pub struct Scanned<'a> {
    /// Members of the frame.
    pub members: Members<'a>,
    /// Members of the member that was asked for, if it is an object.
    pub inner: Option<Members<'a>>,
}

/// Checks one JSON text completely and lists the members of the object it is, and in the same
/// pass those of its member `inner`. `None`: JSON, but not an object.
///
/// # Errors
/// As [`parse()`], which accepts and refuses the same texts.
pub fn scan<'a>(
    text: &'a [u8],
    max_depth: usize,
    inner: &[u8],
) -> Result<Option<Scanned<'a>>, ParseError> {
    let mut scanner = Scanner { lexer: Lexer::new(text)?, inner };
    let depth = max_depth.min(DEPTH_CEILING);
    if scanner.lexer.peek() != Some(b'{') {
        scanner.skip(depth)?;
        scanner.lexer.end()?;
        return Ok(None);
    }
    let mut scanned = Scanned { members: Members::default(), inner: None };
    scanner.object(depth, Some((&mut scanned.members, Some(&mut scanned.inner))))?;
    scanner.lexer.end()?;
    Ok(Some(scanned))
}

/// As [`scan`], without looking into a member.
///
/// # Errors
/// As [`parse()`].
pub fn scan_object(text: &[u8], max_depth: usize) -> Result<Option<Members<'_>>, ParseError> {
    // No member can have a key that is not UTF-8, so nothing is looked into.
    scan(text, max_depth, b"\xff").map(|scanned| scanned.map(|scanned| scanned.members))
}

struct Scanner<'a, 'k> {
    lexer: Lexer<'a>,
    inner: &'k [u8],
}

type Wanted<'w, 'a> = Option<(&'w mut Members<'a>, Option<&'w mut Option<Members<'a>>>)>;

impl<'a> Scanner<'a, '_> {
    /// Passes over a value; whether its text is canonical.
    fn skip(&mut self, depth: usize) -> Result<bool, ParseError> {
        match self.lexer.peek() {
            Some(b'{') => self.object(depth, None),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.lexer.string().map(|raw| raw.canonical),
            Some(b'-' | b'0'..=b'9') => self.lexer.number().map(is_canonical_number),
            Some(b't') => self.lexer.word(b"true").map(|()| true),
            Some(b'f') => self.lexer.word(b"false").map(|()| true),
            Some(b'n') => self.lexer.word(b"null").map(|()| true),
            _ => self.lexer.error(),
        }
    }

    fn array(&mut self, depth: usize) -> Result<bool, ParseError> {
        let depth = depth.checked_sub(1).ok_or(ParseError::TooDeep)?;
        self.lexer.at += 1;
        let mut tight = Tight::after(&self.lexer);
        if self.lexer.peek() == Some(b']') {
            let canonical = tight.holds(&self.lexer);
            self.lexer.at += 1;
            return Ok(canonical);
        }
        let mut canonical = true;
        loop {
            self.lexer.peek();
            canonical &= tight.holds(&self.lexer);
            canonical &= self.skip(depth)?;
            tight = Tight::after(&self.lexer);
            self.lexer.peek();
            canonical &= tight.holds(&self.lexer);
            if self.lexer.closes(b']')? {
                return Ok(canonical);
            }
            tight = Tight::after(&self.lexer);
        }
    }

    fn object(&mut self, depth: usize, mut wanted: Wanted<'_, 'a>) -> Result<bool, ParseError> {
        let depth = depth.checked_sub(1).ok_or(ParseError::TooDeep)?;
        self.lexer.at += 1;
        let mut tight = Tight::after(&self.lexer);
        if self.lexer.peek() == Some(b'}') {
            let canonical = tight.holds(&self.lexer);
            self.lexer.at += 1;
            return Ok(canonical);
        }
        let mut keys: SmallVec<[&'a [u8]; FEW]> = SmallVec::new();
        let mut canonical = true;
        loop {
            self.lexer.peek();
            canonical &= tight.holds(&self.lexer);
            let key = self.lexer.string()?;
            canonical &= key.canonical && keys.len() < FEW && is_new_name(key.inside, &keys);
            if canonical {
                keys.push(key.inside);
            }
            tight = Tight::after(&self.lexer);
            self.lexer.expect(b':')?;
            canonical &= tight.passed(&self.lexer);
            tight = Tight::after(&self.lexer);
            self.lexer.peek();
            canonical &= tight.holds(&self.lexer);
            let start = self.lexer.at;
            let mut member = None;
            let plain = if let Some((members, inner)) = &mut wanted {
                let name = Str::from(unescape(&key));
                let plain = match inner.as_deref_mut() {
                    Some(inner) if name.as_bytes() == self.inner => {
                        self.look_inside(depth, inner)?
                    }
                    _ => self.skip(depth)?,
                };
                member = Some((members, name));
                plain
            } else {
                self.skip(depth)?
            };
            if let Some((members, name)) = member {
                let text = &self.lexer.text[start..self.lexer.at];
                members.0.push((name, Raw { text, canonical: plain }));
            }
            canonical &= plain;
            tight = Tight::after(&self.lexer);
            self.lexer.peek();
            canonical &= tight.holds(&self.lexer);
            if self.lexer.closes(b'}')? {
                return Ok(canonical);
            }
            tight = Tight::after(&self.lexer);
        }
    }

    /// The member that was asked for: lists its members if it is an object. The last one counts.
    fn look_inside(
        &mut self,
        depth: usize,
        found: &mut Option<Members<'a>>,
    ) -> Result<bool, ParseError> {
        *found = None;
        if self.lexer.peek() != Some(b'{') {
            return self.skip(depth);
        }
        let members = found.insert(Members::default());
        self.object(depth, Some((members, None)))
    }
}

/// Remembers a position, to see whether blanks followed it.
struct Tight(usize);

impl Tight {
    fn after(lexer: &Lexer<'_>) -> Self {
        Self(lexer.at)
    }

    fn holds(&self, lexer: &Lexer<'_>) -> bool {
        lexer.at == self.0
    }

    /// Exactly one byte was consumed since.
    fn passed(&self, lexer: &Lexer<'_>) -> bool {
        lexer.at == self.0 + 1
    }
}

/// A key that printing leaves where it stands: not an array index, not a repetition.
fn is_new_name(key: &[u8], before: &[&[u8]]) -> bool {
    !key.first().is_some_and(u8::is_ascii_digit) && !before.contains(&key)
}

fn is_canonical_number(text: &[u8]) -> bool {
    match text {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] if rest.len() < 15 && rest.iter().all(u8::is_ascii_digit) => true,
        _ if text.len() > 24 => false,
        _ => {
            let mut printed = Vec::with_capacity(24);
            number(number_value(text), &mut printed);
            printed == text
        }
    }
}
