//! Texts that guests may have chosen, on their way to a terminal or to whoever prints what it is sent.

use std::{borrow::Cow, io};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};

/// Makes what would act on a terminal visible: control characters, marks that reorder or hide text
/// (bidirectional, zero-width), and the backslash, so that what is shown is unambiguous.
pub fn escape(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_debug());
        }
    }
    shown
}

/// Writes JSON whose strings hold no character that acts on a terminal; a parser reads them as they
/// were.
pub struct Visible<F>(pub F);

impl<F: Formatter> Formatter for Visible<F> {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        to: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let shown: Cow<'_, str> = if fragment.chars().all(|c| c == '\\' || is_plain(c)) {
            fragment.into()
        } else {
            let mut shown = String::with_capacity(fragment.len());
            for c in fragment.chars() {
                if c == '\\' || is_plain(c) {
                    shown.push(c);
                } else {
                    let mut units = [0; 2];
                    let units = c.encode_utf16(&mut units);
                    shown.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
                }
            }
            shown.into()
        };
        to.write_all(shown.as_bytes())
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.begin_array(to)
    }
    fn end_array<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.end_array(to)
    }
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        to: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_array_value(to, first)
    }
    fn end_array_value<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.end_array_value(to)
    }
    fn begin_object<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.begin_object(to)
    }
    fn end_object<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.end_object(to)
    }
    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        to: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_object_key(to, first)
    }
    fn begin_object_value<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.begin_object_value(to)
    }
    fn end_object_value<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.end_object_value(to)
    }
}

/// JSON on one line that acts on no terminal.
pub fn json(value: &impl Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    let formatter = Visible(CompactFormatter);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    String::from_utf8(bytes).map_err(|error| serde_json::Error::io(io::Error::other(error)))
}

/// Shown as it is. `escape_debug` knows what prints; quotes it escapes for other reasons.
fn is_plain(c: char) -> bool {
    matches!(c, '"' | '\'') || (c != '\\' && c.escape_debug().len() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_made_visible() {
        let cases = [
            ("web1", "web1"),
            ("Büro 'x' \"y\" 日本", "Büro 'x' \"y\" 日本"),
            ("\u{1b}[31mred", r"\u{1b}[31mred"),
            ("a\r\nb\tc\0", r"a\r\nb\tc\0"),
            ("\u{202e}gpj.exe", r"\u{202e}gpj.exe"),
            ("\u{2066}x\u{2069}", r"\u{2066}x\u{2069}"),
            ("zero\u{200b}width\u{feff}", r"zero\u{200b}width\u{feff}"),
            ("\u{9b}31m\u{7f}", r"\u{9b}31m\u{7f}"),
            (r"C:\x", r"C:\\x"),
            ("line\u{2028}break", r"line\u{2028}break"),
        ];
        for (text, expect) in cases {
            assert_eq!(escape(text), expect);
            let json = json(&text).unwrap();
            assert!(json.chars().all(|c| c == '\\' || is_plain(c)), "{json}");
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
