//! Who may say what is the server's to refuse; who is revoked is cut off.

use std::time::Duration;

use detector_core::fleet::subject::{self, Holder};
use detector_tests::nats::{Nats, name};
use detector_tests::scene::{PATIENCE, Scene};
use detector_tests::wait;
use futures::StreamExt;

#[test]
fn a_host_speaks_and_listens_for_itself_only() {
    let scene = Scene::new().unwrap();
    let nats = Nats::found(scene.host()).unwrap();
    let holders = ["h1", "h2"].map(|host| Holder::Host(name(host).unwrap()));
    let [one, other] = holders
        .each_ref()
        .map(|holder| nats.connect(holder, &nats.enrol(holder).unwrap()).unwrap());
    let monitor = nats.monitor().unwrap();
    let of = |host: &str| {
        let host = name(host).unwrap();
        [
            subject::key(subject::HOSTS, host.as_str()),
            subject::key(subject::VMS, &format!("{host}.0")),
            subject::finding(&host),
            subject::audit(&host),
        ]
    };
    for place in of("h1") {
        assert!(one.keeps(&place), "{place}");
    }
    for place in of("h2").into_iter().chain([subject::key(subject::POLICY, subject::ANNOUNCED)]) {
        one.await_refusal(&place).unwrap();
    }
    for asked in [
        "$JS.API.STREAM.INFO.detector-findings",
        "$JS.API.STREAM.PURGE.detector-findings",
        "$JS.API.STREAM.DELETE.KV_detector-hosts",
        "$JS.API.DIRECT.GET.KV_detector-hosts.$KV.detector-hosts.h1",
        "$JS.API.CONSUMER.NAMES.detector-audit",
        "$SYS.REQ.SERVER.PING",
    ] {
        one.await_refusal(asked).unwrap();
    }
    // What is not there is an answer, of a bucket that hosts may ask for.
    let request = one.client.request(subject::ask(subject::ANNOUNCED), "".into());
    let answer = one.run(async { tokio::time::timeout(PATIENCE, request).await }).unwrap().unwrap();
    assert_eq!(answer.status, Some(async_nats::StatusCode::NOT_FOUND));

    // What is meant for another is not heard, neither commands nor answers.
    let inbox = holders[1].inbox();
    let spy = |subject: String| one.run(one.client.subscribe(subject)).unwrap();
    let mut spies = [
        spy(subject::commands(&name("h2").unwrap())),
        spy(format!("{inbox}.>")),
        spy("detector.>".to_owned()),
        spy(">".to_owned()),
    ];
    one.run(one.client.flush()).unwrap();
    assert!(other.keeps(&subject::finding(&name("h2").unwrap())));
    monitor.run(monitor.client.publish("detector.command.h2.desk", "{}".into())).unwrap();
    monitor.run(monitor.client.flush()).unwrap();
    for spy in &mut spies {
        let heard =
            one.run(async { tokio::time::timeout(Duration::from_millis(200), spy.next()).await });
        assert!(!matches!(heard, Ok(Some(_))), "{heard:?}");
    }
    let kept = monitor.kept(subject::FINDINGS).unwrap();
    assert_eq!(kept.len(), 2, "one of each");
}

/// A server answers where whoever asks says, without asking whether they may speak there. What can be put where another
/// host speaks is never what that host would say.
#[test]
fn what_a_server_is_made_to_say_elsewhere_is_no_message() {
    let scene = Scene::new().unwrap();
    let nats = Nats::found(scene.host()).unwrap();
    let holder = Holder::Host(name("h1").unwrap());
    let one = nats.connect(&holder, &nats.enrol(&holder).unwrap()).unwrap();
    let monitor = nats.monitor().unwrap();
    let own = subject::finding(&name("h1").unwrap());
    let said = one.client.publish_with_reply(own, "detector.finding.h2", "{}".into());
    one.run(said).unwrap();
    one.run(one.client.flush()).unwrap();
    let kept = wait::until("the message", PATIENCE, || {
        let kept = monitor.kept(subject::FINDINGS)?;
        Ok((!kept.is_empty()).then_some(kept))
    })
    .unwrap();
    let fleet = name("lab").unwrap();
    for message in kept {
        let read = detector_core::fleet::message::open::<serde_json::Value>(&message, &fleet, None);
        assert!(read.is_err(), "{}", String::from_utf8_lossy(&message));
    }
}

/// Neither with a header nor by an acknowledgement that the server sends to its own interface.
#[test]
fn nobody_removes_what_another_has_said() {
    let scene = Scene::new().unwrap();
    let nats = Nats::found(scene.host()).unwrap();
    let monitor = nats.monitor().unwrap();
    let [one, other] = ["h1", "h2"].map(|host| {
        let holder = Holder::Host(name(host).unwrap());
        nats.connect(&holder, &nats.enrol(&holder).unwrap()).unwrap()
    });
    let audit = |host: &str| subject::audit(&name(host).unwrap());
    let state = |host: &str| subject::key(subject::HOSTS, host);
    for place in [audit("h2"), state("h2")] {
        assert!(other.keeps(&place), "{place}");
    }
    let mut all = async_nats::HeaderMap::new();
    all.insert("Nats-Rollup", "all");
    one.run(one.client.publish_with_headers(state("h1"), all, "{}".into())).unwrap();
    for asks in ["PURGE", "MSG.DELETE"] {
        let asked = format!("$JS.API.STREAM.{asks}.{}", subject::AUDIT);
        one.run(one.client.publish_with_reply(audit("h1"), asked, "{}".into())).unwrap();
    }
    one.run(one.client.flush()).unwrap();
    assert!(one.keeps(&audit("h1")), "whatever was sent before has been seen to");
    assert!(monitor.value(subject::HOSTS, "h2").is_some());
    assert_eq!(monitor.kept(subject::AUDIT).unwrap().len(), 4);
}

#[test]
fn who_is_revoked_is_cut_off_at_once_and_for_good() {
    let scene = Scene::new().unwrap();
    let mut nats = Nats::found(scene.host()).unwrap();
    let holders = ["h1", "h2"].map(|host| Holder::Host(name(host).unwrap()));
    let credentials = holders.each_ref().map(|holder| nats.enrol(holder).unwrap());
    let kept = scene.host().path("kept.creds");
    std::fs::copy(&credentials[0], &kept).unwrap();
    let [one, other] = [0, 1].map(|at| nats.connect(&holders[at], &credentials[at]).unwrap());
    let place = |host: &str| subject::finding(&name(host).unwrap());
    assert!(one.keeps(&place("h1")) && other.keeps(&place("h2")));

    nats.office(&["revoke", "h1"]).unwrap();
    wait::until("it to be cut off", PATIENCE, || {
        let cut_off = one.events().iter().any(|event| event.contains("disconnected"));
        Ok(cut_off.then_some(()))
    })
    .unwrap();
    assert!(!one.keeps(&place("h1")));
    assert!(nats.connect(&holders[0], &kept).is_err(), "the credentials are void");
    assert!(other.keeps(&place("h2")), "nobody else has noticed");
    assert_eq!(other.events().iter().filter(|event| *event == "disconnected").count(), 0);

    // Under the same name, with credentials of their own; no server was told of them.
    let again = nats.connect(&holders[0], &nats.enrol(&holders[0]).unwrap()).unwrap();
    assert!(again.keeps(&place("h1")));
    drop((one, other, again));
    nats.kill().unwrap();
    nats.start().unwrap();
    assert!(nats.connect(&holders[0], &kept).is_err(), "also after a restart of the server");
    assert!(nats.connect(&holders[1], &credentials[1]).is_ok());
    let list = nats.office(&["list"]).unwrap();
    assert!(list.contains("revoked") && list.contains("good"), "{list}");
}
