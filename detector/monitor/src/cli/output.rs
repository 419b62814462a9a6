use std::io::{self, Write};

use anyhow::Result;
use comfy_table::{Table, presets};
use detector_core::escape::{Visible, escape};
use serde::Serialize;
use serde_json::ser::PrettyFormatter;

use super::args::Format;

/// Prints one JSON document, or a table of which every cell is escaped.
pub(super) fn print(
    format: Format,
    value: &impl Serialize,
    header: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> Result<()> {
    let mut to = io::stdout().lock();
    if format == Format::Json {
        let formatter = Visible(PrettyFormatter::new());
        value.serialize(&mut serde_json::Serializer::with_formatter(&mut to, formatter))?;
        return Ok(writeln!(to)?);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.force_no_tty();
    table.set_header(header);
    for row in rows {
        table.add_row(row.iter().map(|cell| escape(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for line in table.lines() {
        writeln!(to, "{}", line.trim_end())?;
    }
    Ok(())
}
