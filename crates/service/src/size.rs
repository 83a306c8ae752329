//! Sizes in settings: `1048576`, `64kb`, `20mb`, `1gb`; 1 kb is 1,024 bytes.

/// Reads a size in bytes; use as `value_parser = service::size::parse`.
///
/// # Errors
/// Anything but a whole number followed by `b`, `kb`, `mb`, `gb` (any case) or nothing, and
/// whatever does not fit.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| expected(text))?;
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        "t" | "tb" => 40,
        _ => return Err(expected(text)),
    };
    number.checked_mul(1 << shift).ok_or_else(|| expected(text))
}

/// Like [`parse`], for limits on what is held in memory.
///
/// # Errors
/// As [`parse`], and more than this machine can address.
pub fn parse_usize(text: &str) -> Result<usize, String> {
    parse(text)?.try_into().map_err(|_| expected(text))
}

fn expected(text: &str) -> String {
    format!("`{text}` is not a size; write it like 65536, 64kb, 20mb or 1gb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024_in_any_case() {
        for (text, bytes) in [
            ("1048576", 1 << 20),
            ("20mb", 20_971_520),
            ("64KB", 65_536),
            ("1 gb", 1 << 30),
            ("7b", 7),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for text in ["", "mb", "-1", "1.5mb", "1pb", "99999999999tb"] {
            assert!(parse(text).is_err_and(|why| why.contains("20mb")), "{text}");
        }
    }
}
