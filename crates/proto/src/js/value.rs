//! JSON values with JavaScript's idea of an object.

use super::Str;

/// Members up to this count are compared pairwise when an object is closed; above, they are sorted.
const FEW: usize = 16;

/// Any JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// Any number; too large ones are infinite, `-0` keeps its sign until printed.
    Number(f64),
    /// A string, borrowed from the text unless it held an escape.
    String(Str<'a>),
    /// An array.
    Array(Vec<Value<'a>>),
    /// An object.
    Object(Object<'a>),
}

impl<'a> Value<'a> {
    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&Str<'a>> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The items, if it is an array.
    pub fn as_array(&self) -> Option<&[Value<'a>]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The members, if it is an object.
    pub fn as_object(&self) -> Option<&Object<'a>> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// Whether JavaScript takes it for true in a condition: not `null`, `false`, `0` or `""`.
    pub fn is_truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Number(number) => *number != 0.0 && !number.is_nan(),
            Self::String(text) => !text.is_empty(),
            Self::Array(_) | Self::Object(_) => true,
        }
    }

    /// The same value, free of the buffer it was read from.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Number(number) => Value::Number(number),
            Self::String(text) => Value::String(text.into_owned()),
            Self::Array(items) => Value::Array(items.into_iter().map(Value::into_owned).collect()),
            Self::Object(object) => Value::Object(Object(
                object.0.into_iter().map(|(k, v)| (k.into_owned(), v.into_owned())).collect(),
            )),
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::String(text.into())
    }
}

impl From<f64> for Value<'_> {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

/// Members of a JSON object in the order JavaScript lists them.
///
/// Invariant: no key twice; array indexes first and ascending, then the order of first mention.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object<'a>(Vec<(Str<'a>, Value<'a>)>);

impl<'a> Object<'a> {
    /// Puts members in order: of a repeated key, the last value at the first position.
    pub fn from_members(mut members: Vec<(Str<'a>, Value<'a>)>) -> Self {
        if members.len() <= FEW {
            drop_repeated_few(&mut members);
        } else {
            drop_repeated(&mut members);
        }
        if members.iter().any(|(key, _)| array_index(key).is_some()) {
            // Stable: keys that are no index keep their order, after all indexes.
            members.sort_by_key(|(key, _)| array_index(key).unwrap_or(u64::MAX));
        }
        Self(members)
    }

    /// The value of a member. Takes time linear in the number of members.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<&Value<'a>> {
        let key = key.as_ref();
        self.0.iter().find(|(name, _)| name.as_bytes() == key).map(|(_, value)| value)
    }

    /// Sets a member: in place when it exists, else behind the others (array indexes apart).
    /// Takes time linear in the number of members.
    pub fn insert(&mut self, key: Str<'a>, value: Value<'a>) {
        if let Some(member) = self.0.iter_mut().find(|(name, _)| *name == key) {
            member.1 = value;
            return;
        }
        let at = array_index(&key).map_or(self.0.len(), |new| {
            self.0.partition_point(|(name, _)| array_index(name).is_some_and(|old| old < new))
        });
        self.0.insert(at, (key, value));
    }

    /// Takes a member out.
    pub fn remove(&mut self, key: impl AsRef<[u8]>) -> Option<Value<'a>> {
        let key = key.as_ref();
        let at = self.0.iter().position(|(name, _)| name.as_bytes() == key)?;
        Some(self.0.remove(at).1)
    }

    /// The members in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Str<'a>, &Value<'a>)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> FromIterator<(Str<'a>, Value<'a>)> for Object<'a> {
    fn from_iter<I: IntoIterator<Item = (Str<'a>, Value<'a>)>>(members: I) -> Self {
        Self::from_members(members.into_iter().collect())
    }
}

type Member<'a> = (Str<'a>, Value<'a>);

fn drop_repeated_few(members: &mut Vec<Member<'_>>) {
    let mut at = 1;
    while at < members.len() {
        match members[..at].iter().position(|(key, _)| *key == members[at].0) {
            Some(first) => members[first].1 = members.remove(at).1,
            None => at += 1,
        }
    }
}

/// Sorting finds repetitions in n log n whatever the keys are; a hash table would need a secret.
fn drop_repeated(members: &mut Vec<Member<'_>>) {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|a, b| members[*a].0.as_bytes().cmp(members[*b].0.as_bytes()));
    let mut keep = vec![true; members.len()];
    let mut moves = Vec::new();
    for same in order.chunk_by(|a, b| members[*a].0 == members[*b].0) {
        // The sort is stable, so positions ascend within a run of equal keys.
        if let [first, .., last] = same {
            moves.push((*first, *last));
            same[1..].iter().for_each(|at| keep[*at] = false);
        }
    }
    for (first, last) in moves {
        members[first].1 = std::mem::replace(&mut members[last].1, Value::Null);
    }
    let mut keep = keep.into_iter();
    members.retain(|_| keep.next().unwrap_or(true));
}

/// The number a key stands for, if JavaScript treats it as an array index.
pub(super) fn array_index(key: &Str<'_>) -> Option<u64> {
    match key.as_bytes() {
        [b'0'] => Some(0),
        digits @ [b'1'..=b'9', ..] if digits.len() <= 10 => {
            let index = digits.iter().try_fold(0_u64, |sum, digit| {
                digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0'))
            });
            index.filter(|index| *index < u64::from(u32::MAX))
        }
        _ => None,
    }
}
