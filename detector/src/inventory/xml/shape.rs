//! Bounds on a description before it is parsed. The parser compares each attribute of an element with
//! all before it, and copies all namespaces in force to each element that declares another: without
//! bounds, a few megabytes of text take hours and gigabytes.

/// libxml2, and so libvirt, takes no more.
const MAX_DEPTH: usize = 256;

const MAX_ATTRIBUTES: usize = 1024;

/// In the whole text.
const MAX_NAMESPACES: usize = 1024;

/// Walks over the tags of a text. Of one that is not well-formed it may say anything but that it is
/// fine where the parser would come further than it.
pub(super) fn check(xml: &str) -> Result<(), String> {
    let (mut depth, mut namespaces) = (0_usize, 0);
    let mut rest = xml;
    while let Some(start) = rest.find('<') {
        rest = &rest[start..];
        let others = [("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>"), ("</", ">")];
        if let Some((begin, end)) = others.into_iter().find(|(begin, _)| rest.starts_with(begin)) {
            let inside = &rest[begin.len()..];
            let length = inside.find(end).ok_or("it ends within a tag")?;
            rest = &inside[length + end.len()..];
            if begin == "</" {
                depth = depth.saturating_sub(1);
            }
            continue;
        }
        if rest.starts_with("<!") {
            return Err("it has a document type, and entities are not expanded".to_owned());
        }
        let tag = tag(rest).ok_or("it ends within a tag")?;
        rest = &rest[tag.len()..];
        let attributes = attributes(tag);
        if attributes > MAX_ATTRIBUTES {
            return Err(format!("an element has more than {MAX_ATTRIBUTES} attributes"));
        }
        namespaces += tag.matches("xmlns").count();
        if namespaces > MAX_NAMESPACES {
            return Err(format!("it declares more than {MAX_NAMESPACES} namespaces"));
        }
        if !tag.ends_with("/>") {
            depth += 1;
        }
        if depth > MAX_DEPTH {
            return Err(format!("its elements are nested more than {MAX_DEPTH} deep"));
        }
    }
    Ok(())
}

/// From the `<` to the `>` that is in no quotes.
fn tag(text: &str) -> Option<&str> {
    let mut quote = None;
    let end = text.bytes().position(|byte| {
        match (quote, byte) {
            (None, b'>') => return true,
            (None, b'\'' | b'"') => quote = Some(byte),
            (Some(open), byte) if open == byte => quote = None,
            _ => {}
        }
        false
    })?;
    text.get(..=end)
}

/// Each has its value in quotes.
fn attributes(tag: &str) -> usize {
    let mut quote = None;
    let mut count = 0;
    for byte in tag.bytes() {
        match quote {
            None if matches!(byte, b'\'' | b'"') => quote = Some(byte),
            Some(open) if open == byte => {
                quote = None;
                count += 1;
            }
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_cost_too_much_is_refused() {
        let nested = |depth: usize| "<a>".repeat(depth) + &"</a>".repeat(depth);
        let attributes = |count: usize| {
            let all: String = (0..count).map(|n| format!(" a{n} = '>'")).collect();
            format!("<a{all}/>")
        };
        let namespaces = |count: usize| {
            let all: String = (0..count).map(|n| format!("<a xmlns:n{n}='x'/>")).collect();
            format!("<d>{all}</d>")
        };
        let cases = [
            (nested(256), ""),
            (nested(257), "256 deep"),
            // Beside each other is not within each other.
            ("<d>".to_owned() + &"<a/><b></b>".repeat(1000) + "</d>", ""),
            ("<!-- <a> ' --><d><![CDATA[<a>\"]]>".to_owned() + &nested(255) + "</d>", ""),
            ("<d><!--</d>-->".to_owned() + &nested(256) + "</d>", "256 deep"),
            ("<d a='/>'>".to_owned() + &nested(256) + "</d>", "256 deep"),
            (attributes(1024), ""),
            (attributes(1025), "1024 attributes"),
            (namespaces(1024), ""),
            (namespaces(1025), "1024 namespaces"),
            (
                "<?xml version='1.0'?><!DOCTYPE d [<!ENTITY a 'b'>]><d>&a;</d>".to_owned(),
                "entities",
            ),
            ("<a b='".to_owned(), "ends"),
            ("<!-- ".to_owned(), "ends"),
        ];
        for (text, expect) in cases {
            let start: String = text.chars().take(40).collect();
            match check(&text) {
                Ok(()) => {
                    assert_eq!(expect, "", "{start}");
                    assert!(roxmltree::Document::parse(&text).is_ok(), "{start}");
                }
                Err(why) => {
                    assert!(!expect.is_empty() && why.contains(expect), "{start}: {why}");
                }
            }
        }
    }
}
