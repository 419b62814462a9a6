use std::path::Path;

use super::*;
use crate::config::Config;

fn parse(text: &str) -> Result<Alerts, String> {
    let config = Config::parse(text, Path::new("c.toml"));
    config.map(|config| config.alerts).map_err(|error| error.to_string())
}

#[test]
fn the_documented_receivers_are_taken() {
    let docs = include_str!("../../../../docs/alerts.md");
    let examples = docs.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let alerts = parse(&examples.collect::<String>()).unwrap();
    assert_eq!(
        alerts.names().collect::<Vec<_>>(),
        ["journal", "file", "siem", "udp", "hook", "am", "oncall"]
    );
    let [siem, udp] = &alerts.syslog[..] else { panic!("{:?}", alerts.syslog) };
    assert_eq!(siem.address.to_string(), "log.example:6514");
    assert_eq!((siem.format, siem.facility), (SyslogFormat::Ocsf, Facility::Local3));
    assert_eq!((udp.tls.clone(), udp.min_severity), (Tls::default(), Severity::Low));
    let hook = &alerts.webhook[0].url;
    assert_eq!((hook.secure, hook.path.as_str()), (true, "/detector"));
    assert_eq!(hook.address.port, 443);
    assert_eq!(alerts.email[0].security, MailSecurity::Starttls);
    assert_eq!(alerts.alertmanager[0].resend, Duration::from_secs(60));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let syslog = "[[alerts.syslog]]\nname = \"a\"\ntransport = \"udp\"\n";
    let hook = "[[alerts.webhook]]\nname = \"a\"\nsecret_file = \"/s\"\n";
    let mail =
        "[[alerts.email]]\nname = \"a\"\nserver = \"m:25\"\nfrom = \"a@b\"\nto = [\"c@d\"]\n";
    let cases = [
        ("[alerts]\noutbox_mib = 0".to_owned(), "c.toml:2:14: ", "1 to 4096"),
        ("[alerts]\ntimeout = \"0s\"".to_owned(), "c.toml:2:11: ", "\"1s\" to \"5m\""),
        ("[alerts]\nsyslogs = 1".to_owned(), "c.toml:2:1: ", "unknown field `syslogs`"),
        (format!("{syslog}adress = \"x:1\""), "c.toml:4:1: ", "unknown field `adress`"),
        (format!("{syslog}address = \"x\""), "c.toml:4:11: ", "host and port"),
        (format!("{syslog}address = \"[::g]:1\""), "c.toml:4:11: ", "host and port"),
        (format!("{syslog}address = \"x:0\""), "c.toml:4:11: ", "host and port"),
        (format!("{syslog}address = \"x:1\"\nfacility = \"mail\""), "c.toml:5:12: ", "local0"),
        (format!("{syslog}address = \"x:1\"\ntls = {{ ca = \"/c\" }}"), "c.toml:", "over UDP"),
        (
            format!("{syslog}address = \"x:1\"\ntls = {{ ca = \"c\" }}"),
            "c.toml:5:14: ",
            "begins with /",
        ),
        (format!("{hook}url = \"ftp://x/\""), "c.toml:4:7: ", "no URL"),
        (format!("{hook}url = \"https://u:hush@x/\""), "c.toml:4:7: ", "authorization_file"),
        (format!("{hook}url = \"x\"\nname = \"b\""), "c.toml:5:1: ", "duplicate key"),
        (
            format!("{hook}url = \"https://x/\"\ntls = {{ certificate = \"/c\" }}"),
            "c.toml:",
            "both certificate and key",
        ),
        (format!("{mail}security = \"maybe\""), "c.toml:6:12: ", "`starttls`"),
        (
            format!("{mail}security = \"none\"\nusername = \"u\"\npassword_file = \"/p\""),
            "c.toml:",
            "in the clear",
        ),
        (format!("{mail}security = \"tls\"\nusername = \"u\""), "c.toml:", "both username"),
        (mail.replace("a@b", "nobody"), "c.toml:4:8: ", "no address"),
        (
            format!("{mail}security = \"tls\"\n{}", mail.replace("[[", "\n[[")),
            "c.toml:",
            "missing field",
        ),
        ("[[alerts.journald]]\nname = \"a b\"".to_owned(), "c.toml:2:8: ", "no name of a sink"),
        (
            "[[alerts.journald]]\nname = \"a\"\n[[alerts.journald]]\nname = \"a\"".to_owned(),
            "c.toml:",
            "two sinks are called \"a\"",
        ),
    ];
    for (text, place, says) in cases {
        let error = parse(&text).unwrap_err();
        assert!(error.starts_with(place), "{text:?}: {error}");
        assert!(error.contains(says), "{text:?}: {error}");
        assert!(!error.contains("hush"), "{error}");
    }
    let many =
        (0..17).map(|n| format!("[[alerts.journald]]\nname = \"a{n}\"\n")).collect::<String>();
    assert!(parse(&many).unwrap_err().contains("at most 16"));
}
