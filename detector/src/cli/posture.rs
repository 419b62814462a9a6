//! What the machine of a VM is made of, for people.

use std::io::Write;

use anyhow::Result;
use detector_core::model::{GuestClaims, Posture};

use super::{escape::escape, output::Output};

/// What nobody says is left out.
pub(super) fn print<W: Write>(output: &mut Output<W>, posture: &Posture) -> Result<()> {
    let mut rows = Vec::new();
    let mut row = |name: &'static str, text: Option<String>| {
        rows.extend(text.map(|text| (name, text)));
    };
    let boot = match posture.secure_boot {
        Some(true) => ", secure boot",
        Some(false) => ", no secure boot",
        None => ", secure boot unknown",
    };
    let firmware = posture.firmware.map_or("unknown", |firmware| firmware.as_str());
    let kept = match posture.stored_variables {
        Some(true) => ", variables in a file that no digest covers",
        Some(false) | None => "",
    };
    row("Firmware", Some(format!("{firmware}{boot}{kept}")));
    let version = posture.tpm_version.as_ref().map_or(String::new(), |text| format!(" {text}"));
    row("TPM", posture.tpm.map(|tpm| format!("{}{version}", tpm.as_str())));
    row("Launch", posture.launch_security.map(|launch| launch.as_str().to_owned()));
    let machine = [posture.architecture.as_deref(), posture.machine.as_deref()];
    let machine: Vec<_> = machine.into_iter().flatten().collect();
    row("Machine", (!machine.is_empty()).then(|| machine.join(" ")));
    row("Emulator", posture.emulator.clone());
    row("Kernel", posture.kernel_arguments.clone());
    row("Host's", listed(posture.host_devices.as_deref()));
    row("Memory", listed(posture.shared_memory.as_deref()));
    row("Shares", listed(posture.shared_directories.as_deref()));
    let kinds = posture.devices.as_ref().map(|kinds| {
        let counted = kinds.iter().map(|(kind, count)| match count {
            1 => kind.clone(),
            count => format!("{count} {kind}"),
        });
        counted.collect::<Vec<_>>().join(", ")
    });
    row("Devices", kinds);
    row(
        "Unread",
        posture.raw_arguments.filter(|raw| *raw).map(|_| {
            "arguments reach the hypervisor that its manager has not looked at".to_owned()
        }),
    );
    output.heading("Posture")?;
    for (name, text) in rows.iter().filter(|(_, text)| !text.is_empty()) {
        output.item(&format!("  {name:<8} "), &escape(text))?;
    }
    Ok(())
}

/// What the guest says of itself. What it does not say is left out.
pub(super) fn print_claims<W: Write>(output: &mut Output<W>, claims: &GuestClaims) -> Result<()> {
    output.heading("The guest says (it may lie)")?;
    let os = [claims.os_id.as_deref(), claims.os_version.as_deref()];
    let os: Vec<_> = os.into_iter().flatten().collect();
    let users = claims.users.as_ref().map(|users| users.join(", "));
    let rows = [
        ("OS", (!os.is_empty()).then(|| os.join(" "))),
        ("Kernel", claims.kernel.clone()),
        ("Hostname", claims.hostname.clone()),
        ("Users", users),
    ];
    for (name, text) in rows {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            output.item(&format!("  {name:<8} "), &escape(&text))?;
        }
    }
    Ok(())
}

fn listed(entries: Option<&[String]>) -> Option<String> {
    entries.map(|entries| entries.join(", "))
}
