//! How results are printed: tables for people, JSON for programs.

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    Format, Global,
    escape::{Visible, escape},
};

/// A terminal of fewer columns than this wraps lines better than a table does.
const NARROWEST: u16 = 60;

/// Where results go, and how.
pub(super) struct Output<W = io::Stdout> {
    to: W,
    format: Format,
    /// Colours, and tables cut to the width of the terminal.
    terminal: bool,
    /// A document on each line, where one comes after another.
    in_lines: bool,
    /// Columns to wrap sentences at.
    width: Option<usize>,
    now: Timestamp,
}

/// What a word means to an administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Attention,
    Bad,
}

/// A cell of a table, not escaped yet.
pub(super) struct Text(pub(super) String, pub(super) Tone);

impl<T: Into<String>> From<T> for Text {
    fn from(text: T) -> Self {
        Self(text.into(), Tone::Plain)
    }
}

impl Output {
    pub(super) fn new(global: &Global) -> Self {
        let terminal = io::stdout().is_terminal();
        let columns = if terminal { Table::new().width() } else { None };
        let width = columns.filter(|columns| *columns >= NARROWEST).map(usize::from);
        let in_lines = global.watch.is_some();
        let (format, now) = (global.output, Timestamp::now());
        Self { to: io::stdout(), format, terminal, in_lines, width, now }
    }
}

impl<W: Write> Output<W> {
    #[cfg(test)]
    pub(super) fn to(to: W, format: Format, now: Timestamp) -> Self {
        Self { to, format, terminal: false, in_lines: false, width: None, now }
    }

    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether there is room for more columns.
    pub(super) fn is_wide(&self) -> bool {
        self.format == Format::Wide
    }

    /// Prints one JSON document.
    pub(super) fn json(&mut self, value: &impl Serialize) -> Result<()> {
        if self.in_lines {
            return self.json_line(value);
        }
        let formatter = Visible(serde_json::ser::PrettyFormatter::new());
        let mut to = serde_json::Serializer::with_formatter(&mut self.to, formatter);
        value.serialize(&mut to).map_err(io_error)?;
        writeln!(self.to)?;
        Ok(())
    }

    /// Prints a JSON document on a line of its own, at once.
    pub(super) fn json_line(&mut self, value: &impl Serialize) -> Result<()> {
        let formatter = Visible(serde_json::ser::CompactFormatter);
        let mut to = serde_json::Serializer::with_formatter(&mut self.to, formatter);
        value.serialize(&mut to).map_err(io_error)?;
        writeln!(self.to)?;
        Ok(self.to.flush()?)
    }

    /// Prints a table of which the last columns are for wide terminals.
    pub(super) fn wide_table(
        &mut self,
        header: &[&str],
        more: &[&str],
        rows: impl IntoIterator<Item = (Vec<Text>, Vec<Text>)>,
    ) -> Result<()> {
        let wide = self.is_wide();
        let whole = |(mut row, more): (Vec<Text>, Vec<Text>)| {
            if wide {
                row.extend(more);
            }
            row
        };
        let rows = rows.into_iter().map(whole).collect();
        if wide { self.table(&[header, more].concat(), rows) } else { self.table(header, rows) }
    }

    /// Prints a table; every cell is escaped.
    pub(super) fn table(&mut self, header: &[&str], rows: Vec<Vec<Text>>) -> Result<()> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if !self.terminal {
            table.force_no_tty();
        } else if self.width.is_some() {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        table.set_header(header.iter().map(|name| {
            let cell = Cell::new(name);
            if self.colours() { cell.add_attribute(Attribute::Bold) } else { cell }
        }));
        for row in rows {
            table.add_row(row.into_iter().map(|text| self.cell(text)));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for line in table.lines() {
            writeln!(self.to, "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// Prints a line; the caller has escaped what guests may have chosen.
    pub(super) fn line(&mut self, text: &str) -> Result<()> {
        Ok(writeln!(self.to, "{text}")?)
    }

    /// Prints a name and a value in two columns; the value is escaped.
    pub(super) fn field(&mut self, name: &str, value: impl Into<Text>) -> Result<()> {
        let Text(value, tone) = value.into();
        self.wrapped(&format!("{name:<12} "), &escape(&value), tone)
    }

    /// Prints a sentence behind a prefix, below which it goes on; the caller has escaped both.
    pub(super) fn item(&mut self, prefix: &str, text: &str) -> Result<()> {
        self.wrapped(prefix, text, Tone::Plain)
    }

    fn wrapped(&mut self, prefix: &str, text: &str, tone: Tone) -> Result<()> {
        let indent = visible(prefix);
        let room = self.width.map_or(usize::MAX, |width| width.saturating_sub(indent));
        for (number, line) in lines(text, room).iter().enumerate() {
            let line = self.toned(line, tone);
            if number == 0 {
                writeln!(self.to, "{prefix}{line}")?;
            } else {
                writeln!(self.to, "{:indent$}{line}", "")?;
            }
        }
        Ok(())
    }

    /// Prints a heading.
    pub(super) fn heading(&mut self, text: &str) -> Result<()> {
        writeln!(self.to)?;
        self.title(text)
    }

    /// Prints the names of columns.
    pub(super) fn title(&mut self, text: &str) -> Result<()> {
        if self.colours() {
            Ok(writeln!(self.to, "\x1b[1m{text}\x1b[0m")?)
        } else {
            Ok(writeln!(self.to, "{text}")?)
        }
    }

    /// A text in the colour of its tone, where there are colours.
    pub(super) fn toned(&self, text: &str, tone: Tone) -> String {
        let code = match tone {
            _ if !self.colours() => return text.to_owned(),
            Tone::Plain => return text.to_owned(),
            Tone::Good => 32,
            Tone::Attention => 33,
            Tone::Bad => 31,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// How long ago, in the largest unit.
    pub(super) fn ago(&self, at: Timestamp) -> String {
        let seconds = self.now.as_second() - at.as_second();
        match seconds {
            ..0 => at.to_string(),
            0..60 => format!("{seconds} s ago"),
            60..3600 => format!("{} min ago", seconds / 60),
            3600..172_800 => format!("{} h ago", seconds / 3600),
            _ => format!("{} d ago", seconds / 86_400),
        }
    }

    /// How long until then, in the largest unit; nothing of what is over.
    pub(super) fn ahead(&self, at: Timestamp) -> String {
        let seconds = (at.as_second() - self.now.as_second()).max(0);
        match seconds {
            0..120 => format!("in {seconds} s"),
            120..7200 => format!("in {} min", seconds / 60),
            _ => format!("in {} h", seconds / 3600),
        }
    }

    /// A moment, for logs to be compared with, and how long ago that was.
    pub(super) fn when(&self, at: Timestamp) -> String {
        format!("{} ({})", at.strftime("%F %T UTC"), self.ago(at))
    }

    fn colours(&self) -> bool {
        self.terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
    }

    fn cell(&self, Text(text, tone): Text) -> Cell {
        let cell = Cell::new(escape(&text));
        let colour = match tone {
            _ if !self.colours() => return cell,
            Tone::Plain => return cell,
            Tone::Good => Color::Green,
            Tone::Attention => Color::Yellow,
            Tone::Bad => Color::Red,
        };
        cell.fg(colour)
    }
}

/// The columns that a text takes, without its colours.
fn visible(text: &str) -> usize {
    let coloured = text.split('\x1b').skip(1).filter_map(|rest| rest.find('m')).map(|end| end + 2);
    text.chars().count() - coloured.sum::<usize>()
}

/// A text in lines of so many characters. Words are not cut, so that what is copied is whole.
fn lines(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The I/O error beneath, so that a closed pipe is known as one.
fn io_error(error: serde_json::Error) -> anyhow::Error {
    if error.is_io() { io::Error::from(error).into() } else { error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_wrap_between_words() {
        let cases = [
            ("", 10, vec![""]),
            ("one two three", 80, vec!["one two three"]),
            ("one two three", 7, vec!["one two", "three"]),
            ("a /very/long/path b", 6, vec!["a", "/very/long/path", "b"]),
            ("zwölf Boxkämpfer", 5, vec!["zwölf", "Boxkämpfer"]),
        ];
        for (text, room, expect) in cases {
            assert_eq!(lines(text, room), expect, "{text}");
        }
        assert_eq!(visible("  \x1b[31mFAILED\x1b[0m x"), 10);
    }
}
