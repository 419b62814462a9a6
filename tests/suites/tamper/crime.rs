//! What somebody can do who has the daemon's own capabilities.

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use detector::bpf::{Hook, Method, PinPaths};
use detector_common::learned::OwnerKey;
use detector_common::maps;
use detector_tests::bpf;
use detector_tests::pins::PinRoot;
use detector_tests::scene::{PATIENCE, Scene};
use detector_tests::wait;
use nix::net::if_::if_nametoindex;

pub(super) struct Crime<'a> {
    pub(super) scene: &'a Scene,
}

/// What lasts as long as this value does.
pub(super) enum Deed {
    Done,
    Attached(#[expect(dead_code, reason = "it is there as long as it is open")] OwnedFd),
}

impl Crime<'_> {
    pub(super) fn ifindex(&self, interface: &str) -> u32 {
        let find = || Ok(if_nametoindex(interface)?);
        self.scene.host().network().run(find).unwrap()
    }

    pub(super) fn pins(&self) -> PinPaths {
        PinPaths::new(&self.scene.host().inside("/sys/fs/bpf/detector".as_ref()))
    }

    pub(super) fn link(&self, interface: &str, hook: Hook) -> PathBuf {
        self.pins().link(self.ifindex(interface), hook)
    }

    /// Whether a program is on the interface, and its pin in its place where it has one.
    pub(super) fn is_guarded(&self, interface: &str) -> bool {
        Hook::BOTH.into_iter().all(|hook| match bpf::method() {
            Method::Tcx => self.link(interface, hook).exists(),
            Method::Clsact => {
                let found = || Ok(bpf::program_of_filter(interface, hook).is_ok());
                self.scene.host().network().run(found).unwrap()
            }
        })
    }

    /// Takes our programs off.
    pub(super) fn detach(&self, interface: &str) {
        for hook in Hook::BOTH {
            match bpf::method() {
                Method::Tcx => bpf::detach(&self.link(interface, hook)).unwrap(),
                Method::Clsact => {
                    self.tool("tc", &format!("filter del dev {interface} {}", hook.as_str()));
                }
            }
        }
    }

    /// Takes our programs off and leaves nothing by which they could be found.
    pub(super) fn strip(&self, interface: &str) {
        if bpf::method() == Method::Clsact {
            return self.tool("tc", &format!("qdisc del dev {interface} clsact"));
        }
        self.detach(interface);
        for hook in Hook::BOTH {
            // It may be on its way back already.
            let _ = std::fs::remove_file(self.link(interface, hook));
        }
    }

    /// A program of somebody else ahead of ours, which passes everything on past it.
    pub(super) fn go_ahead(&self, interface: &str) -> Deed {
        const TC_ACT_OK: i32 = 0;
        let program = bpf::load(&bpf::returns(TC_ACT_OK)).unwrap();
        if bpf::method() == Method::Tcx {
            let ifindex = self.ifindex(interface);
            let attach = || bpf::attach_first(program.as_fd(), ifindex, Hook::Ingress);
            return Deed::Attached(self.scene.host().network().run(attach).unwrap());
        }
        self.filter(interface, "prio 1 handle 2", program.as_fd());
        Deed::Done
    }

    /// The same behind ours, which decides nothing.
    pub(super) fn go_behind(&self, interface: &str) -> Deed {
        let program = bpf::load(&bpf::returns(bpf::NEXT)).unwrap();
        if bpf::method() == Method::Tcx {
            let ifindex = self.ifindex(interface);
            let attach = || bpf::attach(program.as_fd(), ifindex, Hook::Ingress);
            return Deed::Attached(self.scene.host().network().run(attach).unwrap());
        }
        self.filter(interface, "prio 9", program.as_fd());
        Deed::Done
    }

    /// Puts a program into the list of filters.
    fn filter(&self, interface: &str, place: &str, program: BorrowedFd<'_>) {
        let root = PinRoot::new().unwrap();
        std::fs::create_dir_all(root.path()).unwrap();
        let pin = root.path().join("filter");
        bpf::pin(program, &pin).unwrap();
        let pin = pin.display();
        let words =
            format!("filter add dev {interface} ingress {place} bpf da object-pinned {pin}");
        self.tool("tc", &words);
    }

    pub(super) fn xdp(&self, interface: &str) -> Deed {
        const XDP_DROP: i32 = 1;
        let ifindex = self.ifindex(interface);
        let attach = || bpf::attach_xdp(&bpf::returns(XDP_DROP), ifindex);
        Deed::Attached(self.scene.host().network().run(attach).unwrap())
    }

    pub(super) fn unpin(&self, map: &str) {
        std::fs::remove_file(self.pins().map(map)).unwrap();
    }

    /// Removes every pin, however many of them are put back meanwhile.
    pub(super) fn remove_pins(&self) {
        let pins = self.pins();
        wait::until("no pins", PATIENCE, || match std::fs::remove_dir_all(pins.version()) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(None),
            removed => Ok(Some(removed?)),
        })
        .unwrap();
    }

    /// Makes every address that somebody has or that is protected nobody's.
    pub(super) fn forget_addresses(&self) {
        let owners = bpf::open_pin(&self.pins().map(maps::ADDRESS_OWNERS)).unwrap();
        let keys = bpf::keys::<OwnerKey>(owners.as_fd()).unwrap();
        assert!(!keys.is_empty());
        keys.iter().for_each(|key| bpf::remove(owners.as_fd(), key).unwrap());
    }

    pub(super) fn tool(&self, program: &str, words: &str) {
        self.scene.host().network().tool(program, words).unwrap();
    }
}
