//! Which values each key accepts, as docs/configuration.md says.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::{Problem, Settings, SourceKind, from_text};
use crate::domain::secret::MaxAge;

fn load(config: &Value) -> Result<Settings, Vec<String>> {
    let loaded = from_text(Path::new("secrets.json"), &config.to_string());
    loaded
        .map(|loaded| loaded.settings)
        .map_err(|report| report.problems.into_iter().map(|problem| problem.what).collect())
}

fn with_secret(key: &str, value: Value) -> Value {
    json!({ "secrets": [{ "name": "a", "reference": "op://v/i/f", "units": ["app"], key: value }] })
}

fn with_source(source: Value) -> Value {
    json!({ "source": source, "secrets": [{ "name": "a", "reference": "op://v/i/f", "units": ["app"] }] })
}

fn with_account(key: &str, value: Value) -> Value {
    with_source(json!({ "kind": "service-account", key: value }))
}

#[test]
fn quantities_have_bounds() {
    let with_limit = |key: &str, value: Value| {
        let mut config = with_secret("name", json!("a"));
        config["limits"] = json!({ key: value });
        config
    };
    let with_after = |_: &str, value: Value| {
        let wave = json!({ "units": ["app"], "after": value });
        json!({ "secrets": [{ "name": "a", "reference": "op://v/i/f", "units": ["app"], "restartUnits": ["app"], "wave": wave }] })
    };
    type Config<'a> = &'a dyn Fn(&str, Value) -> Value;
    let tables: [(&str, Config<'_>, [Value; 2], [Value; 2]); 6] = [
        ("maxAge", &with_secret, [json!("1s"), json!("30d")], [json!("999ms"), json!("30d 1ms")]),
        ("refresh", &with_secret, [json!("1m"), json!("30d")], [json!("59s"), json!("30d 1ms")]),
        ("deadline", &with_secret, [json!("1s"), json!("10m")], [json!("999ms"), json!("10m 1ms")]),
        ("after", &with_after, [json!("1s"), json!("1d")], [json!("999ms"), json!("1d 1ms")]),
        ("storeSize", &with_limit, [json!("1MiB"), json!("4GiB")], [json!("1048575B"), json!("4294967297B")]),
        ("connections", &with_limit, [json!(1), json!(512)], [json!(0), json!(513)]),
    ];
    for (key, config, accepted, refused) in tables {
        for value in accepted {
            assert_eq!(load(&config(key, value.clone())).err(), None, "{key} {value}");
        }
        for value in refused {
            let errors = load(&config(key, value.clone())).expect_err(key);
            assert!(
                matches!(&errors[..], [one] if one.contains("out of range")),
                "{key} {value}: {errors:?}"
            );
        }
    }
}

#[test]
fn limits_are_applied() {
    let settings = load(&json!({ "limits": { "storeSize": "2MiB", "connections": 7 } })).expect("valid");
    assert_eq!((settings.limits.store_bytes, settings.limits.connections), (2 << 20, 7));
}

#[test]
fn a_root_counts_once() {
    let settings =
        load(&json!({ "publish": { "roots": ["/run/app", "/run/secrets", "/run/app"] } })).expect("valid");
    let roots: Vec<_> = settings.roots.iter().map(|root| root.to_str().expect("text")).collect();
    assert_eq!(roots, ["/run/secrets", "/run/onecred/files", "/run/app"]);
}

#[test]
fn words_for_durations() {
    let settings = |key, value: &str| load(&with_secret(key, json!(value))).expect("valid");
    let max_age = |value| settings("maxAge", value).policy.secrets().next().expect("one").wanted.max_age;
    assert_eq!(max_age("session"), MaxAge::Session);
    assert_eq!(max_age("always"), MaxAge::Always);
    assert_eq!(max_age("2m"), MaxAge::Age(Duration::from_secs(120)));
    let refresh = |value| settings("refresh", value).policy.secrets().next().expect("one").rotation.refresh;
    assert_eq!((refresh("off"), refresh("2m")), (None, Some(Duration::from_secs(120))));
}

#[test]
fn the_default_source() {
    let connect = json!({ "kind": "connect", "url": "https://connect.example" });
    let source = |sources: Value| {
        let config = json!({ "sources": sources, "secrets": [{ "name": "a", "reference": "op://v/i/f", "units": ["app"] }] });
        load(&config).map(|settings| settings.policy.secrets().next().expect("one").wanted.source.to_string())
    };
    assert_eq!(source(json!({ "only": connect })), Ok("only".into()), "the single one, whatever its name");
    assert_eq!(source(json!({ "default": connect, "other": connect })), Ok("default".into()));
    let errors = source(json!({ "one": connect, "other": connect })).expect_err("no default");
    assert!(errors[0].starts_with("missing \"source\""), "{errors:?}");
}

#[test]
fn service_accounts() {
    let sum = "0123456789abcdef".repeat(4);
    let tables: [(&str, &[&str], &[&str]); 3] = [
        (
            "librarySha256",
            &[&sum, &sum.to_uppercase()],
            &["", &sum[1..], &format!("{sum}0"), &sum.replace('f', "g")],
        ),
        (
            "allowedHosts",
            &["op.example.com", "*.example.com", "localhost", "a-1.b2"],
            &[
                "",
                "*",
                "*.",
                "*.com",
                ".com",
                "a..b",
                "a.",
                "-a.com",
                "a.-b",
                "A.com",
                "a_b.com",
                "a/b",
                "a.com:443",
                "https://a.com",
            ],
        ),
        (
            "proxy",
            &["http://proxy.example:3128", "https://proxy.example"],
            &[
                "proxy.example:3128",
                "ftp://proxy.example",
                "http://",
                "unix:/run/x",
                "socks5://proxy.example",
            ],
        ),
    ];
    for (key, accepted, refused) in tables {
        let config = |value: &str| {
            with_account(key, if key == "allowedHosts" { json!([value]) } else { json!(value) })
        };
        for value in accepted {
            let settings = load(&config(value)).unwrap_or_else(|errors| panic!("{key} {value}: {errors:?}"));
            let SourceKind::ServiceAccount(account) = &settings.sources.values().next().expect("one").kind
            else {
                panic!("another kind")
            };
            let checked = [
                account.library_sha256.clone(),
                account.allowed_hosts.first().cloned(),
                account.proxy.clone(),
            ];
            let expected = if key == "librarySha256" { value.to_lowercase() } else { (*value).to_owned() };
            assert_eq!(checked.into_iter().flatten().collect::<Vec<_>>(), [expected], "{key}");
        }
        for value in refused {
            assert_eq!(load(&config(value)).expect_err(value).len(), 1, "{key} {value}");
        }
    }
    let shared = |budget: u32, hosts: u32| {
        load(&with_source(json!({ "kind": "service-account", "budget": budget, "hosts": hosts }))).is_ok()
    };
    for (budget, hosts, accepted) in [
        (10, 9, true),
        (10, 10, true),
        (10, 11, false),
        (0, 1, false),
        (1, 0, false),
        (10_000_000, 1, true),
        (10_000_001, 1, false),
    ] {
        assert_eq!(shared(budget, hosts), accepted, "{budget} calls, {hosts} hosts");
    }
}

#[test]
fn items_of_the_other_form() {
    for (item, accepted) in [
        ("v/i", true),
        ("v", false),
        ("v/i/f", false),
        ("v/", false),
        ("/i", false),
        ("v/i?x", false),
        ("op://v/i", false),
    ] {
        let config = json!({ "secrets": [{ "name": "a", "opItem": item, "units": ["app"] }] });
        let errors = load(&config).err().unwrap_or_default().join("\n");
        let says_form =
            ["the form is VAULT/ITEM", "has the form VAULT/ITEM"].iter().any(|it| errors.contains(it));
        assert_eq!((errors.is_empty(), says_form), (accepted, !accepted), "{item}: {errors}");
    }
    for (field, accepted) in [("f", true), ("s/f", true), ("s/s/f", false), ("", false), ("?x", false)] {
        let config =
            json!({ "secrets": [{ "name": "a", "opItem": "v/i", "opField": field, "units": ["app"] }] });
        assert_eq!(load(&config).is_ok(), accepted, "{field}");
    }
}

#[test]
fn urls_of_connect_servers() {
    let config = |url: &str, insecure: bool| {
        with_source(json!({ "kind": "connect", "url": url, "insecure": insecure }))
    };
    let longest = format!("unix:/{}", "s".repeat(106));
    for (url, base) in [
        ("https://connect.example:8443", "https://connect.example:8443"),
        ("https://connect.example/", "https://connect.example"),
        ("https://connect.example/v1/", "https://connect.example"),
        ("https://connect.example/below/v1", "https://connect.example/below"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://a.localhost", "http://a.localhost"),
        ("http://localhost.", "http://localhost."),
        ("http://127.0.0.2:8080", "http://127.0.0.2:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("unix:/run/connect/api.sock", "unix:/run/connect/api.sock"),
        (&longest, &longest),
    ] {
        let settings = load(&config(url, false)).unwrap_or_else(|errors| panic!("{url}: {errors:?}"));
        let kind = &settings.sources.values().next().expect("one").kind;
        assert!(matches!(kind, SourceKind::Connect { url, insecure: false, .. } if url == base), "{kind:?}");
    }
    let unencrypted =
        ["http://connect.example", "http://localhost.example", "http://192.0.2.1", "http://[::2]"];
    for url in unencrypted {
        let errors = load(&config(url, false)).expect_err(url);
        assert!(
            matches!(&errors[..], [one] if one.contains("unencrypted over the network")),
            "{url}: {errors:?}"
        );
        assert!(load(&config(url, true)).is_ok(), "{url} is allowed explicitly");
    }
    for url in [
        "connect.example:8443",
        "ftp://connect.example",
        "https://",
        "https://user@connect.example",
        "https://:password@connect.example",
        "https://connect.example/?x",
        "https://connect.example/#x",
        "unix:",
        "unix:api.sock",
        "unix:/run/api.sock?x",
        "unix:/run/api.sock#x",
        "unix:/run/api%20.sock",
        &format!("{longest}s"),
    ] {
        assert!(load(&config(url, true)).is_err(), "{url}");
    }
    for (url, insecure, warned) in [
        ("https://connect.example", true, true),
        ("unix:/run/api.sock", true, true),
        ("http://connect.example", true, false),
        ("https://connect.example", false, false),
        ("unix:/run/api.sock", false, false),
    ] {
        let text = config(url, insecure).to_string();
        let loaded = from_text(Path::new("secrets.json"), &text).unwrap_or_else(|report| panic!("{report}"));
        let about =
            loaded.warnings.iter().any(|warning| warning.what.starts_with("\"insecure\" has no effect"));
        assert_eq!(about, warned, "{url} {insecure}: {:?}", loaded.warnings);
    }
}

#[test]
fn users_of_connect_servers() {
    let users = |user: &str| {
        load(&with_source(json!({ "kind": "connect", "url": "unix:/run/api.sock", "connectUsers": [user] })))
    };
    let longest = "u".repeat(32);
    for user in ["connect", "999", "a_b-c.d", &longest] {
        let settings = users(user).unwrap_or_else(|errors| panic!("{user}: {errors:?}"));
        let kind = &settings.sources.values().next().expect("one").kind;
        assert!(matches!(kind, SourceKind::Connect { users, .. } if users[..] == [user]), "{kind:?}");
    }
    for user in ["", "-x", "a b", "ä", "a/b", &format!("{longest}u")] {
        let errors = users(user).expect_err(user);
        assert!(matches!(&errors[..], [one] if one.contains("is not a user name")), "{user}: {errors:?}");
    }
}

#[test]
fn published_files() {
    let file = |key: &str, value: Value| {
        let mut config = with_secret("target", json!("/run/secrets/a"));
        config["secrets"][0][key] = value;
        let texts =
            |problems: Vec<Problem>| problems.into_iter().map(|problem| problem.to_string()).collect();
        match from_text(Path::new("secrets.json"), &config.to_string()) {
            Ok(loaded) => texts(loaded.warnings),
            Err(report) => texts(report.problems),
        }
    };
    let (longest, too_long) = ("n".repeat(58), "n".repeat(59)); // 83 bytes with `onecred-file@`, `.service` and `file`
    let tables: [(&str, Value, &[&str], &[&str]); 9] = [
        ("mode", json!("0777"), &["lets other users write the secret"], &["set-user-ID"]),
        ("mode", json!("1400"), &["has a set-user-ID, set-group-ID or sticky bit"], &[]),
        ("links", json!(["/usr/lib/x"]), &["is in none of /etc, /run, /var/lib, /opt and /root"], &[]),
        ("links", json!(["/etc"]), &["is in none of /etc, /run, /var/lib, /opt and /root"], &[]),
        ("target", json!("/run/x"), &["is not in a directory for published files"], &["allow its directory"]),
        (
            "target",
            json!("/run/x/y"),
            &["allow its directory: \"publish\": { \"roots\": [\"/run/x\"] }"],
            &[],
        ),
        (
            "target",
            json!("/srv/x/y"),
            &["is not in a directory for published files"],
            &["allow its directory"],
        ),
        ("name", json!(longest), &[], &["the name is too long"]),
        ("name", json!(too_long), &["the name is too long for systemd"], &[]),
    ];
    for (key, value, said, unsaid) in tables {
        let problems: Vec<String> = file(key, value.clone());
        let all = problems.join("\n");
        assert!(said.iter().all(|text| all.contains(text)), "{key} {value}: {all}");
        assert!(!unsaid.iter().any(|text| all.contains(text)), "{key} {value}: {all}");
    }
}
