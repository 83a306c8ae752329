//! Which metrics an expression of PromQL asks for, as far as the project's dashboards and rules use it.

/// A metric and the labels it is asked for by: `(label, value)` for `label="value"`, with an empty
/// value for other comparisons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// The metric's name.
    pub metric: String,
    /// What it is narrowed by.
    pub labels: Vec<(String, String)>,
}

/// Words that look like metrics and are none.
const WORDS: [&str; 6] = ["and", "or", "unless", "bool", "offset", "inf"];
/// Words that are followed by a list of labels.
const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Every selector of `expression`, in order.
///
/// # Panics
/// When a bracket or quote is not closed.
pub fn selectors(expression: &str) -> Vec<Selector> {
    let mut found = Vec::new();
    let mut rest = expression;
    let mut grouping = false;
    while let Some(first) = rest.chars().next() {
        if first == '(' && grouping {
            rest = &rest[rest.find(')').expect("a list of labels ends") + 1..];
            grouping = false;
        } else if first == '[' {
            rest = &rest[rest.find(']').expect("a range ends") + 1..];
        } else if first.is_ascii_alphabetic() || first == '_' {
            let name = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':');
            let (word, after) = rest.split_at(rest.find(name).unwrap_or(rest.len()));
            let after = after.trim_start();
            rest = after;
            if GROUPING.contains(&word) {
                grouping = true;
            } else if !after.starts_with('(')
                && !after.starts_with("by (")
                && !WORDS.contains(&word)
            {
                let mut labels = Vec::new();
                if let Some(inside) = after.strip_prefix('{') {
                    let (list, after) = inside.split_once('}').expect("a selector ends");
                    labels = matchers(list);
                    rest = after;
                }
                found.push(Selector { metric: word.to_owned(), labels });
            }
        } else if first.is_ascii_digit() {
            // 0.99, 64e9, 5m
            let number = |c: char| !(c.is_ascii_alphanumeric() || c == '.');
            rest = &rest[rest.find(number).unwrap_or(rest.len())..];
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    found
}

fn matchers(list: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = list;
    while let Some((label, after)) = rest.split_once(['=', '!']) {
        let exact = after.starts_with('"') && rest.as_bytes().get(label.len()) == Some(&b'=');
        let (_, after) = after.split_once('"').expect("a value is quoted");
        let (value, after) = after.split_once('"').expect("a quote ends");
        let value = if exact { value } else { "" };
        found.push((label.trim_matches([',', ' ']).to_owned(), value.to_owned()));
        rest = after;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(expression: &str) -> Vec<String> {
        selectors(expression).into_iter().map(|selector| selector.metric).collect()
    }

    #[test]
    fn metrics_are_told_from_functions_labels_and_numbers() {
        assert_eq!(
            names("sum by (job, le) (rate(a_total{b=\"c\"}[5m])) > 0.9 * 64e9"),
            ["a_total"]
        );
        assert_eq!(
            names("sum (x) / y:rate5m and z == 0 or w > bool 1"),
            ["x", "y:rate5m", "z", "w"]
        );
        assert_eq!(
            names("histogram_quantile(0.99, sum(rate(h_bucket[$__rate_interval])))"),
            ["h_bucket"]
        );
        assert_eq!(names("time() - start{job=\"$job\"}"), ["start"]);
    }

    #[test]
    fn labels_are_read() {
        let found = selectors("a{b=\"c\",d=~\"e|f\", g!=\"h\"} + i");
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(found[0].labels, [label("b", "c"), label("d", ""), label("g", "")]);
        assert!(found[1].labels.is_empty());
    }
}
