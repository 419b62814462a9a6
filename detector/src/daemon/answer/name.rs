use uuid::Uuid;

/// How to name the VM in a command that is shown to be typed: by its name where a shell takes that
/// as one plain word, else by its UUID.
pub(in crate::daemon) fn operand(name: &str, uuid: Uuid) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !name.is_empty() && !name.starts_with('-') && name.chars().all(plain) {
        name.to_owned()
    } else {
        uuid.to_string()
    }
}
