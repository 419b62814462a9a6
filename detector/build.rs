//! Embeds the kernel object that `cargo xtask build-ebpf` has built.

use std::{env, fs, path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    println!("cargo::rerun-if-env-changed=DETECTOR_EBPF_OBJECT");
    let object = env::var_os("DETECTOR_EBPF_OBJECT").map_or_else(
        || {
            // Asked when it runs: the script itself may have been built in another checkout.
            let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
            let workspace = here.join("..");
            workspace.join("target/ebpf/detector-ebpf.o")
        },
        PathBuf::from,
    );
    println!("cargo::rerun-if-changed={}", object.display());

    let embedded = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("detector-ebpf");
    match fs::copy(&object, &embedded) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            println!(
                "cargo::error=no kernel object to embed at {}: {error}. Build it with `cargo xtask \
                 build-ebpf`, or name one in DETECTOR_EBPF_OBJECT.",
                object.display()
            );
            ExitCode::FAILURE
        }
    }
}
