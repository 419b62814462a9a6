//! The demo's story as a test: real guests under a real libvirt, from their first frame to the
//! daemon's death.

#[test]
fn the_whole_story() {
    detector_tests::demo::play(false).unwrap();
}
