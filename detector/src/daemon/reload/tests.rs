use std::{fs, path::Path, time::Duration};

use minisign::KeyPair;
use tokio::time::timeout;

use super::*;
use crate::daemon::files::{PolicySource, Templates};

/// A template that nobody has signed.
const UNSIGNED: &str = "id = \"a\"\nstatus = \"approved\"\n[[image]]\nrole = \"disk\"\n\
    sha256 = \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"\n";

/// Whoever asks while a reload is under way waits for what comes of it: what a configuration that is not used makes of
/// the templates is heard by nobody, nor is what they said before by one that is.
#[tokio::test(flavor = "multi_thread")]
async fn templates_are_read_by_the_configuration_that_holds() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    for name in ["templates", "state"] {
        fs::create_dir(at(name)).unwrap();
    }
    fs::write(at("templates").join("a.toml"), UNSIGNED).unwrap();
    let key = KeyPair::generate_unencrypted_keypair().unwrap().pk.to_base64();
    let parse = |signed: bool| {
        let [templates, state, policy, inventory] =
            ["templates", "state", "policy", "inventory"].map(at);
        let text = format!(
            "[paths]\ntemplates = {templates:?}\nstate = {state:?}\npolicy = {policy:?}\n\
             inventory = {inventory:?}\n[registry]\ntrusted_keys = [{key:?}]\n\
             require_signature = {signed}\n"
        );
        Config::parse(&text, Path::new("test")).unwrap()
    };
    for holds in [false, true] {
        let (running, wanted) = (parse(false), parse(true));
        let fresh = Fresh {
            templates: Templates::new(running.manifests(true).unwrap(), &running.paths.templates),
            policy: PolicySource::new(&running.paths.policy),
        };
        let alerts = Alerts::spawn(&running.alerts, (&at("state"), None), |_| true).unwrap();
        let (metrics, _exported) = watch::channel(running.metrics.clone());
        let supervisor = Supervisor::of_this_process().unwrap();
        let load: Load = Box::new(move || Ok(wanted.clone()));
        let reloader = Reloader::new(running, load, fresh.clone(), (metrics, alerts), supervisor);
        let count = |registry: Option<Registry>| registry.unwrap().templates.len();

        let (before, turn) = fresh.templates.fresh().await;
        assert_eq!(count(before), 1);
        drop(turn);
        let Input::Reload { loaded, .. } = reloader.load(1).await else { panic!() };
        assert_eq!(count(loaded.config.as_ref().unwrap().registry.clone()), 0);
        let mut asked = Box::pin(fresh.templates.fresh());
        let early = timeout(Duration::from_millis(100), &mut asked).await;
        assert!(early.is_err(), "{holds}: nobody knows yet whether it holds");
        loaded.holds.try_send(holds).unwrap();
        let (after, _turn) = asked.await;
        assert_eq!(count(after), usize::from(!holds), "{holds}");
    }
}

/// What has been read by the rules before is told before they are others.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_waits_for_who_has_read_the_templates() {
    let place = tempfile::tempdir().unwrap();
    let config = Config::default();
    let templates = Templates::new(config.manifests(false).unwrap(), place.path());
    let (_registry, turn) = templates.fresh().await;
    let mut change = Box::pin(templates.change());
    assert!(timeout(Duration::from_millis(100), &mut change).await.is_err());
    drop(turn);
    change.await;
}
