//! The archive format that the kernel unpacks its first file system from ("newc").

/// An archive in the making.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    pub fn directory(&mut self, path: &str) -> &mut Self {
        self.entry(path, 0o040_755, &[])
    }

    pub fn executable(&mut self, path: &str, content: &[u8]) -> &mut Self {
        self.entry(path, 0o100_755, content)
    }

    pub fn file(&mut self, path: &str, content: &[u8]) -> &mut Self {
        self.entry(path, 0o100_644, content)
    }

    pub fn finish(&mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        std::mem::take(&mut self.bytes)
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> &mut Self {
        self.entries += 1;
        let size = content.len() as u32;
        let name = path.len() as u32 + 1;
        // ino, mode, uid, gid, nlink, mtime, size, device ×2, rdev ×2, length of the name, check
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        self
    }

    fn pad(&mut self) {
        let whole = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(whole, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_end_with_the_trailer() {
        let bytes = Archive::default().directory("d").file("d/f", b"hello").finish();
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.starts_with(b"070701"));
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("070701").count(), 3);
        assert!(text.contains("d/f\0") && text.contains("hello") && text.contains("TRAILER!!!"));
    }
}
