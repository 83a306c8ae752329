//! What replicas tell each other: `REPLICA:NUMBERS`, where numbers of posts are runs such as
//! `7,9-12`, or `*` for all of late.

pub(crate) use crate::store::post::{Which, Written};

/// Channels of NOTIFY.
pub(crate) const POSTS: &str = "mesh_post";
pub(crate) const INTEREST: &str = "mesh_interest";
pub(crate) const ACKS: &str = "mesh_ack";

/// Bytes of one payload; Postgres takes 8,000.
const PAYLOAD: usize = 7_500;
/// Numbers one payload may stand for.
const NUMBERS: usize = 10_000;

/// Payloads that tell of posts with these numbers.
pub(crate) fn announce(replica: &str, mut numbers: Vec<i64>) -> Vec<String> {
    numbers.sort_unstable();
    numbers.dedup();
    let mut payloads = Vec::new();
    let mut current = format!("{replica}:");
    let head = current.len();
    let runs = numbers.chunk_by(|before, after| *after == before.saturating_add(1));
    for run in runs {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let text = if first == last { first.to_string() } else { format!("{first}-{last}") };
        if current.len() + text.len() + 1 > PAYLOAD {
            payloads.push(std::mem::replace(&mut current, format!("{replica}:")));
        }
        if current.len() > head {
            current.push(',');
        }
        current.push_str(&text);
    }
    if current.len() > head {
        payloads.push(current);
    }
    payloads
}

/// A payload that says that anything may have been missed.
pub(crate) fn announce_all(replica: &str) -> String {
    format!("{replica}:*")
}

/// What another replica tells of; nothing when it is this one's own word. What cannot be read
/// stands for all of late.
pub(crate) fn heard(replica: &str, payload: &str) -> Option<Which> {
    let (from, numbers) = payload.split_once(':').unwrap_or(("", payload));
    if from == replica {
        return None;
    }
    let mut all = Vec::new();
    for run in numbers.split(',') {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        let (Ok(first), Ok(last)) = (first.parse::<i64>(), last.parse::<i64>()) else {
            return Some(Which::Recent);
        };
        let length = usize::try_from(last.saturating_sub(first)).unwrap_or(0);
        if all.len().saturating_add(length) > NUMBERS {
            return Some(Which::Recent);
        }
        all.extend(first..=last);
    }
    Some(Which::Numbered(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_travel_as_runs_and_come_back_whole() {
        let told = announce("a", vec![9, 7, 10, 11, 12, 9]);
        assert_eq!(told, ["a:7,9-12"]);
        assert_eq!(heard("b", &told[0]), Some(Which::Numbered(vec![7, 9, 10, 11, 12])));
        assert_eq!(heard("a", &told[0]), None);
        assert_eq!(heard("b", &announce_all("a")), Some(Which::Recent));
        for odd in ["", "a", "a:", "a:x", "a:1-", "a:1-999999999"] {
            assert_eq!(heard("b", odd), Some(Which::Recent), "{odd}");
        }
        let far: Vec<i64> = (0..3_000).map(|at| 1_000_000_000_000 + 2 * at).collect();
        let told = announce("a", far.clone());
        assert!(told.len() > 1 && told.iter().all(|payload| payload.len() <= PAYLOAD));
        let back = told.iter().flat_map(|payload| match heard("b", payload) {
            Some(Which::Numbered(numbers)) => numbers,
            other => panic!("{other:?}"),
        });
        assert_eq!(back.collect::<Vec<_>>(), far);
        assert!(announce("a", Vec::new()).is_empty());
    }
}
