//! What somebody may have meant who mistyped a name.

/// Names that are less alike than this (Jaro and Winkler's measure, 0 to 1) are no help.
const ALIKE: f64 = 0.8;
/// Longer names are not typed, and comparing them takes the square of their length.
const LONGEST: usize = 128;

/// ` (did you mean "web1"?)`, for an error that says what was not found; nothing where no name is close.
pub(crate) fn did_you_mean<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match closest(typed, known) {
        Some(name) => format!(" (did you mean {name:?}?)"),
        None => String::new(),
    }
}

fn closest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if typed.len() > LONGEST {
        return None;
    }
    let typed = typed.to_lowercase();
    known
        .into_iter()
        .filter(|name| name.len() <= LONGEST)
        .map(|name| (strsim::jaro_winkler(&typed, &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        // The first of those that are equally close, so that the answer is always the same.
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_understood() {
        let known = ["web1", "web2", "database", "vnet3", ""];
        let cases = [
            ("wbe1", Some("web1")),
            ("WEB2", Some("web2")),
            ("web", Some("web1")),
            ("databse", Some("database")),
            ("vnet", Some("vnet3")),
            ("", Some("")),
            ("mail", None),
            ("52:54:00:00:00:01", None),
        ];
        for (typed, expected) in cases {
            assert_eq!(closest(typed, known), expected, "{typed}");
        }
        assert_eq!(did_you_mean("wbe1", known), " (did you mean \"web1\"?)");
        assert_eq!(did_you_mean("mail", known), "");
        let long = "x".repeat(LONGEST + 1);
        assert_eq!(closest(&long, [long.as_str()]), None);
    }
}
