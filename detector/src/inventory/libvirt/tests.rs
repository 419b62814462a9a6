use detector_core::model::{MediumSource, PowerState, Vm};
use tokio::time::timeout;
use uuid::Uuid;
use virt::{connect::Connect, domain::Domain};

use super::*;

/// Libvirt's own driver for tests: one host for all connections of this process.
const URI: &str = "test:///default";

const OTHER: &str = "<domain type='test'><name>other</name>
    <uuid>5f0b1c3e-8f57-4d8e-9f7a-3a6c1d2e4f50</uuid><memory>1024</memory>
    <os><type>hvm</type></os></domain>";

fn connection(uri: &str) -> Connection {
    Connection {
        uri: uri.to_owned(),
        patience: Connection::PATIENCE,
        context: xml::Shared::default(),
    }
}

async fn next(events: &mut mpsc::Receiver<SourceEvent>) -> SourceEvent {
    timeout(Duration::from_secs(20), events.recv()).await.unwrap().unwrap()
}

/// Waits for the VM to be reported in that state.
async fn reported(events: &mut mpsc::Receiver<SourceEvent>, uuid: Uuid, power: PowerState) -> Vm {
    loop {
        match next(events).await.update {
            Update::Changed(vm) if vm.uuid == uuid && vm.power == power => return vm,
            Update::Changed(_) | Update::Snapshot { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_libvirt_is_followed() {
    let (sender, mut events) = mpsc::channel(4);
    let (tell, told) = std::sync::mpsc::channel();
    let tell = move |said| tell.send(said).unwrap();
    let source = LibvirtSource::spawn(&connection(URI), sender, tell).unwrap();
    assert!(source.name() == URI && source.is_live());
    let event = next(&mut events).await;
    assert_eq!(event.source, URI);
    let Update::Snapshot { vms, refused, .. } = event.update else { panic!("{event:?}") };
    assert_eq!(refused, []);
    let tells = [Told::Pools(vec!["/default-pool".into()]), Told::Leases(vec![])];
    assert_eq!([told.try_recv().unwrap(), told.try_recv().unwrap()], tells);
    let vm = vms.iter().find(|vm| vm.name == "test").unwrap();
    assert_eq!(vm.power, PowerState::Running);
    assert_eq!(vm.nics[0].port.as_deref(), Some("testnet0"));
    let MediumSource::File(file) = &vm.media[0].source else { panic!("{:?}", vm.media) };
    assert_eq!(file.format.as_deref(), Some("raw"));

    let mut connection = Connect::open(Some(URI)).unwrap();
    let other = Domain::define_xml(&connection, OTHER).unwrap();
    let uuid = other.get_uuid().unwrap();
    reported(&mut events, uuid, PowerState::Off).await;
    other.create().unwrap();
    reported(&mut events, uuid, PowerState::Running).await;
    other.suspend().unwrap();
    reported(&mut events, uuid, PowerState::Paused).await;
    other.destroy().unwrap();
    reported(&mut events, uuid, PowerState::Off).await;
    other.undefine().unwrap();
    loop {
        match next(&mut events).await.update {
            Update::Gone(gone) => break assert_eq!(gone, uuid),
            Update::Changed(_) | Update::Snapshot { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    source.resync();
    let event = next(&mut events).await;
    assert!(matches!(event.update, Update::Snapshot { vms, .. } if vms.len() == 1));

    // The thread ends with the source, and closes the channel.
    drop(source);
    assert!(timeout(Duration::from_secs(20), events.recv()).await.unwrap().is_none());
    connection.close().unwrap();
}

#[tokio::test]
async fn a_libvirt_that_is_not_there_is_lost_and_tried_again() {
    let (sender, mut events) = mpsc::channel(4);
    let uri = "qemu+unix:///system?socket=/nonexistent/libvirt-sock";
    let source = LibvirtSource::spawn(&connection(uri), sender, drop).unwrap();
    for _ in 0..2 {
        let event = next(&mut events).await;
        assert!(matches!(event.update, Update::Lost { .. }), "{event:?}");
    }
    drop(source);
    assert!(timeout(Duration::from_secs(20), events.recv()).await.unwrap().is_none());
}

#[tokio::test]
async fn the_thread_ends_when_nobody_listens() {
    let (sender, events) = mpsc::channel(1);
    let signal = Arc::new(Signal::default());
    let worker = Worker::new(&connection(URI), signal, sender, Box::new(drop)).unwrap();
    drop(events);
    let ended = tokio::task::spawn_blocking(move || worker.run());
    timeout(Duration::from_secs(20), ended).await.unwrap().unwrap();
}
