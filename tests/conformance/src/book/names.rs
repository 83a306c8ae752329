//! The placeholders of a recording and what stands for them in this run.

use std::collections::HashMap;

use anyhow::Context as _;
use serde_json::Value;
use testkit::book_client::{escaped, random_fp};

/// What the placeholders of one scenario stand for.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashMap<String, String>,
    /// Names of peers by their fingerprints.
    peers: HashMap<String, String>,
    run: String,
}

impl Names {
    pub(super) fn new() -> Self {
        let run = format!("{:016x}", rand_u64());
        Self { run, ..Self::default() }
    }

    /// Lets `placeholder` stand for `value` from now on.
    pub(super) fn set(&mut self, placeholder: &str, value: &str) {
        self.known.insert(placeholder.to_owned(), value.to_owned());
    }

    /// What `placeholder` stands for, if anything has said so.
    pub(super) fn get(&self, placeholder: &str) -> Option<&str> {
        self.known.get(placeholder).map(String::as_str)
    }

    /// Replaces what stands for a link's token by the next one.
    pub(super) fn exchange(&mut self, old: &str, next: &str) {
        for value in self.known.values_mut().filter(|value| *value == old) {
            next.clone_into(value);
        }
    }

    /// Remembers how a peer is called.
    pub(super) fn call(&mut self, fp: &str, name: &str) {
        self.peers.insert(fp.to_owned(), name.to_owned());
    }

    /// How the peer with this fingerprint is called.
    pub(super) fn of_peer(&self, fp: &str) -> anyhow::Result<&str> {
        self.peers
            .get(fp)
            .map(String::as_str)
            .with_context(|| format!("nobody has told who {fp} is"))
    }

    /// Fills in every placeholder of a text.
    pub(super) fn fill(&mut self, text: &str) -> anyhow::Result<String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find('<') {
            let (before, tail) = rest.split_at(start);
            filled.push_str(before);
            let end = tail.find('>').map(|end| end + 1);
            match end.map(|end| &tail[..end]).filter(|name| is_placeholder(name)) {
                Some(name) => {
                    filled.push_str(&self.value(name)?);
                    rest = &tail[name.len()..];
                }
                None => {
                    filled.push('<');
                    rest = &tail[1..];
                }
            }
        }
        filled.push_str(rest);
        Ok(self.literals(filled))
    }

    /// Fills in every placeholder of every string.
    pub(super) fn fill_json(&mut self, value: &Value) -> anyhow::Result<Value> {
        Ok(match value {
            Value::String(text) if text == "<UNIX_TIME>" => value.clone(),
            Value::String(text) => self.fill(text)?.into(),
            Value::Array(all) => {
                all.iter().map(|value| self.fill_json(value)).collect::<Result<_, _>>()?
            }
            Value::Object(all) => {
                let mut filled = serde_json::Map::new();
                for (name, value) in all {
                    filled.insert(self.fill(name)?, self.fill_json(value)?);
                }
                filled.into()
            }
            other => other.clone(),
        })
    }

    /// Lets a literal of a recording's storage stand for something this run has alone.
    pub(super) fn own_literal(&mut self, literal: &str, value: &str) {
        self.set(literal, value);
    }

    fn value(&mut self, placeholder: &str) -> anyhow::Result<String> {
        if let Some(value) = self.known.get(placeholder) {
            return Ok(value.clone());
        }
        let inner = placeholder.trim_matches(['<', '>']);
        let value = if inner.starts_with("FP_") {
            random_fp()
        } else if let Some(base) = inner.strip_suffix("_URLENCODED") {
            escaped(&self.value(&format!("<{base}>"))?)
        } else if inner.starts_with("EMAIL_") {
            format!("{}.{}@example.org", inner.to_ascii_lowercase(), self.run)
        } else {
            anyhow::bail!("nothing stands for {placeholder} yet");
        };
        self.set(placeholder, &value);
        Ok(value)
    }

    /// Whole words that the recording's storage named, `AA` or `j@example.org`.
    fn literals(&self, text: String) -> String {
        let literals = self.known.iter().filter(|(name, _)| !name.starts_with('<'));
        let mut literals: Vec<_> = literals.collect();
        literals.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        literals.into_iter().fold(text, |text, (name, value)| replace_word(&text, name, value))
    }
}

fn is_placeholder(name: &str) -> bool {
    let inner = name.trim_matches(['<', '>']);
    !inner.is_empty()
        && inner.starts_with(|first: char| first.is_ascii_uppercase())
        && inner.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Replaces `word` where neither neighbour is part of a word.
fn replace_word(text: &str, word: &str, value: &str) -> String {
    let part = |c: char| c.is_ascii_alphanumeric();
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = None;
    while let Some(at) = rest.find(word) {
        let (head, tail) = rest.split_at(at);
        let behind = &tail[word.len()..];
        let last = head.chars().next_back().or(before);
        replaced.push_str(head);
        let whole = !last.is_some_and(part) && !behind.chars().next().is_some_and(part);
        replaced.push_str(if whole { value } else { word });
        before = word.chars().next_back();
        rest = behind;
    }
    replaced.push_str(rest);
    replaced
}

fn rand_u64() -> u64 {
    let fp = random_fp();
    u64::from_str_radix(&fp[..16], 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_and_literals_are_filled_in_as_whole_words() {
        let mut names = Names::new();
        let filled = names.fill("<FP_A> <EMAIL_X> <EMAIL_X_URLENCODED> <html lang=en>").unwrap();
        let parts: Vec<&str> = filled.splitn(4, ' ').collect();
        assert_eq!((parts[0].len(), parts[3]), (64, "<html lang=en>"));
        assert_eq!(parts[1].replace('@', "%40"), parts[2]);
        names.own_literal("AA", "other");
        assert_eq!(names.fill("AA=on&del-AA=on&AAA=1").unwrap(), "other=on&del-other=on&AAA=1");
        assert!(names.fill("<TOKEN>").is_err(), "no mail has come");
    }
}
