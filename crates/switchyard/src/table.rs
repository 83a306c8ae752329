//! A table with aligned columns.

/// Rows of text under a heading; the last column is not padded.
pub(crate) fn render<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = heading.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut lines = vec![line(heading, &widths)];
    lines.extend(rows.iter().map(|row| line(row.each_ref().map(String::as_str), &widths)));
    lines.join("\n")
}

fn line<const N: usize>(cells: [&str; N], widths: &[usize; N]) -> String {
    let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
    padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["signal".into(), "ws://h:3000".into()], ["é".into(), "x".into()]];
        assert_eq!(render(["name", "url"], &rows), "name    url\nsignal  ws://h:3000\né       x");
    }
}
