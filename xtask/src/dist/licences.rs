//! The licences of what is linked into the program.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Product;
use crate::process;

/// Beginnings of the names of files that licences, notices and names of authors are in.
const FILES: [&str; 6] = ["license", "licence", "copying", "copyright", "notice", "unlicense"];

/// A text with each dependency, its licence, and every notice that comes with it, each once.
pub(super) fn of_dependencies(product: &Product, name: &str) -> Result<String> {
    let mut cargo = process::cargo();
    cargo
        .args(["metadata", "--locked", "--format-version=1"])
        .args(["--filter-platform", &product.machine.target])
        .current_dir(&product.source);
    let metadata: Value = serde_json::from_str(&process::quiet(&mut cargo)?)?;
    let packages: BTreeMap<_, _> = each(&metadata["packages"])
        .filter_map(|package| Some((package["id"].as_str()?, package)))
        .collect();
    let product = packages.iter().find(|(_, package)| package["name"] == name);
    let (product, _) = product.context("cargo metadata does not know of the product")?;

    let mut list = "Libraries that are part of the program, and their licences\n\n".to_owned();
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for id in linked(&metadata, product) {
        let package = packages.get(id).context("a dependency is no package")?;
        let word = |key: &str| package[key].as_str().unwrap_or_default();
        if package["source"].is_null() {
            continue;
        }
        let name = format!("{} {}", word("name"), word("version"));
        writeln!(list, "{name}: {}", word("license"))?;
        for text in notices(Path::new(word("manifest_path")))? {
            texts.entry(text).or_default().push(name.clone());
        }
    }
    for (text, names) in texts {
        write!(list, "\n{}\n{}:\n\n{}\n", "-".repeat(80), names.join(", "), text.trim_end())?;
    }
    Ok(list)
}

/// What is linked, by identifiers: neither what builds nor what tests it.
fn linked<'a>(metadata: &'a Value, product: &'a str) -> BTreeSet<&'a str> {
    let nodes: BTreeMap<_, _> = each(&metadata["resolve"]["nodes"])
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();
    let mut found = BTreeSet::new();
    let mut open = vec![product];
    while let Some(id) = open.pop() {
        let Some(node) = nodes.get(id).filter(|_| found.insert(id)) else { continue };
        let normal = |dep: &&Value| each(&dep["dep_kinds"]).any(|kind| kind["kind"].is_null());
        open.extend(each(&node["deps"]).filter(normal).filter_map(|dep| dep["pkg"].as_str()));
    }
    found
}

fn notices(manifest: &Path) -> Result<Vec<String>> {
    let directory = manifest.parent().unwrap_or(manifest);
    let mut paths: Vec<_> = std::fs::read_dir(directory)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            path.is_file() && FILES.iter().any(|file| name.starts_with(file))
        })
        .collect();
    paths.sort();
    let read = |path| std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(paths.iter().map(read).collect::<Result<_, _>>()?)
}

fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
