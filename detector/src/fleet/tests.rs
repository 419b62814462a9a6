use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path};

use data_encoding::BASE64URL_NOPAD;
use detector_core::{
    fleet::{
        Name,
        bundle::{Bundle, seal},
        message::Time,
        subject::Holder,
    },
    model::{Timestamp, Today},
};
use minisign::KeyPair;
use nkeys::KeyPair as NKey;
use serde_json::Value;

use super::{
    Authority, AuthorityError, Found, pack,
    store::{Stays, Store, Taken, configured},
};
use crate::config::{Config, Places};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn found() -> Found {
    Found {
        fleet: name("prod"),
        urls: vec!["tls://127.0.0.1:4222".to_owned()],
        names: vec!["127.0.0.1".to_owned()],
        listen: "127.0.0.1:4222".to_owned(),
        server_directory: None,
    }
}

/// What a token says, once its signature has been looked at.
fn said(token: &str) -> Value {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let bytes = BASE64URL_NOPAD.decode(signed.split_once('.').unwrap().1.as_bytes()).unwrap();
    let said: Value = serde_json::from_slice(&bytes).unwrap();
    let issuer = NKey::from_public_key(said["iss"].as_str().unwrap()).unwrap();
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
    issuer.verify(signed.as_bytes(), &signature).unwrap();
    said
}

fn token(credentials: &str) -> &str {
    credentials.lines().nth(1).unwrap()
}

#[test]
fn who_is_enrolled_has_a_token_for_themselves_and_who_is_revoked_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let at = |seconds: i64| Time::from_second(1_800_000_000 + seconds).unwrap();
    let mut authority = Authority::found(directory.path(), &found(), at(0)).unwrap();
    let host = Holder::Host(name("h1"));
    let path = authority.enrol(&host, at(1)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let user = said(token(&fs::read_to_string(&path).unwrap()));
    let account = said(&authority.account(at(1)).unwrap());
    assert_eq!(user["iss"], account["sub"]);
    assert_eq!(user["nats"]["type"], "user");
    let allowed = user["nats"]["pub"]["allow"].as_array().unwrap();
    assert!(allowed.contains(&"detector.finding.h1".into()), "{allowed:?}");
    assert_eq!(user["nats"]["resp"]["max"], 1);
    assert!(account["nats"]["revocations"].is_null());

    let twice = authority.enrol(&host, at(2)).unwrap_err();
    assert!(matches!(twice, AuthorityError::Enrolled(..)), "{twice}");
    drop(authority);
    // It is all in the directory.
    let mut authority = Authority::open(directory.path()).unwrap();
    authority.revoke(&host, at(3)).unwrap();
    assert!(!path.exists());
    let account = said(&authority.account(at(3)).unwrap());
    let revoked = account["nats"]["revocations"].as_object().unwrap();
    assert_eq!(revoked.keys().collect::<Vec<_>>(), [user["sub"].as_str().unwrap()]);
    // Also for a server that starts anew.
    authority.told(&authority.account(at(3)).unwrap()).unwrap();
    let kept = directory.path().join("server/accounts");
    let kept = kept.join(format!("{}.jwt", account["sub"].as_str().unwrap()));
    assert_eq!(said(&fs::read_to_string(kept).unwrap()), account);
    assert!(matches!(authority.revoke(&host, at(4)), Err(AuthorityError::Unknown(_))));
    // A second life under the same name has another key.
    let again = authority.enrol(&host, at(5)).unwrap();
    let again = said(token(&fs::read_to_string(again).unwrap()));
    assert_ne!(again["sub"], user["sub"]);
    assert_eq!(authority.members().len(), 2);
    drop(authority);
    let twice = Authority::found(directory.path(), &found(), at(6));
    assert!(matches!(twice, Err(AuthorityError::Exists(_))), "{twice:?}");
}

const POLICY: &str = r#"@id("all") permit (principal, action == Action::"join", resource);"#;
const TEMPLATE: &str = "id = \"lab\"\nstatus = \"approved\"\n[[image]]\nrole = \"disk\"\n\
                        sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"\n";
const DAY: u64 = 24 * 60 * 60 * 1000;

struct Signer(KeyPair);

impl Signer {
    fn new() -> Self {
        Self(KeyPair::generate_unencrypted_keypair().unwrap())
    }

    fn key(&self) -> String {
        self.0.pk.to_base64()
    }

    fn sealed(&self, version: u64, files: &[(&str, &str)]) -> Vec<u8> {
        self.sealed_for(version, files, 0)
    }

    /// One that can be withdrawn for so many seconds.
    fn sealed_for(&self, version: u64, files: &[(&str, &str)], withdraw: u64) -> Vec<u8> {
        let files: BTreeMap<_, _> =
            files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let (created, expires) =
            (Time::UNIX_EPOCH, Time::from_second(10 * DAY as i64 / 1000).unwrap());
        let bundle = Bundle {
            fleet: name("prod"),
            version,
            created,
            expires,
            note: String::new(),
            withdraw,
            files,
        };
        self.seal(&bundle.to_text().unwrap())
    }

    fn seal(&self, text: &[u8]) -> Vec<u8> {
        let signature = minisign::sign(None, &self.0.sk, text, None, None).unwrap().into_string();
        seal(&signature, text).unwrap()
    }
}

fn config(state: &Path, key: &str, more: &str) -> (Places, Config) {
    let path = state.join("config.toml");
    let text = format!(
        "[paths]\nstate = {state:?}\n[fleet]\nservers = [\"tls://127.0.0.1:4222\"]\nname = \"prod\"\nhost = \"h1\"\n\
         trusted_keys = [{key:?}]\n{more}"
    );
    fs::write(&path, text).unwrap();
    let places = Places { config: Some(path), ..Places::default() };
    let config = places.load().unwrap();
    (places, config)
}

fn day(days: u64) -> Today {
    Today { earliest: Timestamp(days * DAY), latest: Timestamp(days * DAY) }
}

#[test]
fn a_bundle_is_taken_once_and_no_older_one_comes_back() {
    let state = tempfile::tempdir().unwrap();
    let (signer, stranger) = (Signer::new(), Signer::new());
    let (places, config) = config(state.path(), &signer.key(), "[flood]\nbelow = 3000\n");
    let store = || Store::new(&config).unwrap();
    let take = |file: &[u8], days| store().take(file, day(days));
    let own = configured(&places, false).unwrap();
    assert_eq!(own, config, "no bundle yet");

    let good = [
        ("policy.cedar", POLICY),
        ("templates/lab.toml", TEMPLATE),
        ("settings.toml", "[flood]\nabove = 5000\n"),
    ];
    let second = signer.sealed(2, &good);
    let refused: Vec<(Vec<u8>, u64, &str)> = vec![
        (stranger.sealed(2, &good), 1, "not trusted"),
        (second.clone(), 11, "expired"),
        (signer.sealed(2, &[("policy.cedar", "permit (")]), 1, "policy"),
        (
            signer.sealed(2, &[("policy.cedar", POLICY), ("templates/x.toml", "id = 7")]),
            1,
            "x.toml",
        ),
        (
            signer.sealed(2, &[("policy.cedar", POLICY), ("settings.toml", "user = \"root\"")]),
            1,
            "user",
        ),
        (
            signer.sealed(
                2,
                &[("policy.cedar", POLICY), ("settings.toml", "[network]\nuplinks = [\"eth0\"]")],
            ),
            1,
            "not for a fleet",
        ),
        (
            String::from_utf8(second.clone())
                .unwrap()
                .replace("above = 5000", "above = 5001")
                .into_bytes(),
            1,
            "changed",
        ),
        (second[..second.len() - 1].to_vec(), 1, "changed"),
        (b"detector-bundle 9\n".to_vec(), 1, "first line"),
        (signer.seal(b"{}\n"), 1, "cannot be read"),
    ];
    for (file, days, expect) in refused {
        let why = take(&file, days).unwrap_err();
        assert!(why.contains(expect), "{why:?} has no {expect:?}");
        assert_eq!(store().in_force(), Ok(None), "{expect}");
    }

    let Ok(Taken::Instead { version, of }) = take(&second, 1) else { panic!("not taken") };
    assert_eq!((of.version(), store().in_force()), (None, Ok(Some(version))));
    assert_eq!(take(&second, 11), Ok(Taken::Known));
    let by_bundle = configured(&places, false).unwrap();
    assert_eq!(by_bundle.flood.above, 5000);
    assert_eq!(by_bundle.flood.below, 3000, "what a bundle does not say is the host's own");
    assert_eq!(fs::read_to_string(&by_bundle.paths.policy).unwrap(), POLICY);
    assert!(by_bundle.paths.templates.join("lab.toml").exists());
    assert_eq!(store().drift(), Vec::<String>::new());
    // Whoever starts the daemon is root, and what lies there is the daemon's user's.
    let laid_out = state.path().join("fleet/2/settings.toml");
    fs::write(&laid_out, "[paths]\nstate = \"/etc\"\n").unwrap();
    for starting in [true, false] {
        assert_eq!(configured(&places, starting).unwrap(), by_bundle, "by the signed text");
    }
    assert_eq!(store().drift().len(), 1);
    fs::write(&laid_out, "[flood]\nabove = 5000\n").unwrap();

    // Neither an older one nor another one of the same version.
    for (file, expect) in [
        (signer.sealed(1, &good), "lower"),
        (signer.sealed(2, &[("policy.cedar", POLICY)]), "another text"),
    ] {
        let why = take(&file, 1).unwrap_err();
        assert!(why.contains(expect), "{why}");
        assert_eq!(store().in_force(), Ok(Some(version)));
    }
    // One that does not hold is gone for good, and the one before is what holds.
    let third =
        signer.sealed(3, &[("policy.cedar", POLICY), ("settings.toml", "[flood]\nabove = 2000\n")]);
    let Ok(Taken::Instead { of, .. }) = take(&third, 1) else { panic!("not taken") };
    assert!(configured(&places, false).is_err(), "above is less than the host's own `below`");
    assert!(configured(&places, true).is_ok(), "a daemon starts all the same");
    store().go_back(of).unwrap();
    assert_eq!(configured(&places, false).unwrap(), by_bundle);
    assert_eq!(take(&third, 1), Ok(Taken::Known));
    assert_eq!(store().in_force(), Ok(Some(version)));
    // Without templates a host keeps its own.
    let fourth = signer.sealed(4, &[("policy.cedar", POLICY)]);
    assert!(matches!(take(&fourth, 1), Ok(Taken::Instead { .. })));
    assert_eq!(configured(&places, false).unwrap().paths.templates, config.paths.templates);
    store().tidy(Some(version));
    assert!(!state.path().join("fleet/3").exists() && state.path().join("fleet/2").exists());
}

#[test]
fn what_was_changed_on_the_host_is_told_and_what_cannot_be_told_takes_nothing() {
    let state = tempfile::tempdir().unwrap();
    let signer = Signer::new();
    let (places, config) = config(state.path(), &signer.key(), "");
    let store = Store::new(&config).unwrap();
    let files = [("policy.cedar", POLICY), ("templates/lab.toml", TEMPLATE)];
    store.take(&signer.sealed(1, &files), day(1)).unwrap();
    let place = state.path().join("fleet/1");
    fs::write(place.join("policy.cedar"), "").unwrap();
    fs::write(place.join("templates/rogue.toml"), TEMPLATE).unwrap();
    fs::remove_file(place.join("templates/lab.toml")).unwrap();
    let drift = store.drift();
    assert_eq!(drift.len(), 3, "{drift:?}");
    fs::write(place.join("bundle"), "x").unwrap();
    assert_eq!(store.drift().len(), 1);
    // Of which version it is nobody can say any more, so that anything could be old.
    for text in ["", "{}", r#"{"v":2,"fleet":"prod","highest":null,"in_force":null}"#] {
        fs::write(state.path().join("fleet/standing.json"), text).unwrap();
        let why = store.take(&signer.sealed(9, &files), day(1)).unwrap_err();
        assert!(why.contains("cannot be told"), "{why}");
        assert!(configured(&places, false).is_err(), "a reload changes nothing by it");
        assert!(configured(&places, true).is_ok());
    }
}

#[test]
fn a_host_that_requires_signed_templates_requires_them_of_its_fleet() {
    let state = tempfile::tempdir().unwrap();
    let signer = Signer::new();
    let registry =
        format!("[registry]\nrequire_signature = true\ntrusted_keys = [{:?}]\n", signer.key());
    let (_, config) = config(state.path(), &signer.key(), &registry);
    let store = Store::new(&config).unwrap();
    let unsigned = signer.sealed(1, &[("policy.cedar", POLICY), ("templates/lab.toml", TEMPLATE)]);
    let why = store.take(&unsigned, day(1)).unwrap_err();
    assert!(why.contains("not signed"), "{why}");
    assert_eq!(store.in_force(), Ok(None));
}

#[test]
fn what_is_withdrawn_is_given_back_while_it_says_so() {
    let state = tempfile::tempdir().unwrap();
    let signer = Signer::new();
    let (_, config) = config(state.path(), &signer.key(), "");
    let store = Store::new(&config).unwrap();
    let policy = [("policy.cedar", POLICY)];
    let number = || store.in_force().unwrap().map(|version| version.number);
    let days = |days: u64| days * DAY / 1000;
    let take = |version, withdraw, today| {
        store.take(&signer.sealed_for(version, &policy, withdraw), today).map(|_| ())
    };
    assert!(store.give_back(day(1)).is_err(), "there is none");
    // One that does not say so stays.
    take(1, 0, day(1)).unwrap();
    let forever = |today, expect: &str| match store.give_back(today) {
        Err(Stays::Forever(why)) => assert!(why.contains(expect), "{why}"),
        other => panic!("{other:?}"),
    };
    forever(day(1), "not to be given back");
    assert_eq!(number(), Some(1));
    // One that does goes while it says so, by a clock that is known.
    take(2, days(2), day(1)).unwrap();
    forever(day(3), "until");
    let unknown = Today { earliest: day(1).earliest, latest: day(5).latest };
    assert!(matches!(store.give_back(unknown), Err(Stays::Still(_))));
    assert_eq!(number(), Some(2));
    let give_back = || {
        let (version, former) = store.give_back(day(2)).unwrap();
        (version.map(|version| version.number), former)
    };
    let (back, former) = give_back();
    assert_eq!((back, number()), (Some(1), Some(1)));
    // Where what was before does not hold any more it stays for now, and can be given back later.
    store.go_back(former).unwrap();
    assert_eq!(number(), Some(2));
    // One that is taken and does not hold leaves it as it was.
    let third = signer.sealed_for(3, &policy, days(2));
    let Ok(Taken::Instead { of, .. }) = store.take(&third, day(2)) else { panic!("not taken") };
    store.go_back(of).unwrap();
    assert_eq!((give_back().0, number()), (Some(1), Some(1)));
    // Once, and it does not come back; nor does anything from before it.
    assert!(store.give_back(day(2)).is_err());
    assert_eq!(store.take(&third, day(2)), Ok(Taken::Known));
    assert!(take(2, days(2), day(2)).unwrap_err().contains("lower"));
    assert_eq!(number(), Some(1));
    assert!(take(1, days(2), day(2)).unwrap_err().contains("lower"));
    // To the host's own files, where there was nothing before.
    let state = tempfile::tempdir().unwrap();
    let (_, config) = super::tests::config(state.path(), &signer.key(), "");
    let store = Store::new(&config).unwrap();
    store.take(&signer.sealed_for(1, &policy, days(2)), day(1)).unwrap();
    assert_eq!(store.give_back(day(1)).unwrap().0, None);
    assert_eq!(store.in_force(), Ok(None));
}

#[test]
fn what_no_host_would_take_is_not_packed() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    let pack = || {
        let bundle = Bundle {
            fleet: name("prod"),
            version: 1,
            created: Time::UNIX_EPOCH,
            expires: Time::MAX,
            note: String::new(),
            withdraw: 0,
            files: BTreeMap::new(),
        };
        pack::pack(directory.path(), bundle)
    };
    assert!(pack().is_err(), "no policy");
    write("policy.cedar", POLICY);
    fs::create_dir(directory.path().join("templates")).unwrap();
    write("templates/lab.toml", TEMPLATE);
    write("templates/.lab.toml.swp", "");
    write("notes.txt", "");
    let bundle = Bundle::parse(&pack().unwrap()).unwrap();
    let names: Vec<_> = bundle.files.keys().collect();
    assert_eq!(names, ["policy.cedar", "templates/lab.toml"]);
    for (file, text) in
        [("policy.cedar", "permit"), ("templates/lab.toml", "id = 1"), ("settings.toml", "x = 1")]
    {
        let before = fs::read_to_string(directory.path().join(file)).unwrap_or_default();
        write(file, text);
        assert!(pack().is_err(), "{file}");
        write(file, &before);
    }
    assert!(pack().is_ok());
}
