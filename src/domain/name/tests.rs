use super::*;
use proptest::prelude::*;

#[test]
fn unit_names() {
    for good in [
        "a.service",
        r"tpl@a\x2fb.service",
        "dev-sda1.device",
        "x@.service",
        "_memory.service",
        "a.b@c.d.mount",
    ] {
        assert_eq!(UnitName::parse(good).expect(good).as_str(), good);
    }
    for wrong in [
        "",
        "a",
        ".service",
        "@x.service",
        "a/b.service",
        "a b.service",
        "a.svc",
        "ä.service",
        &"a".repeat(260),
    ] {
        assert!(UnitName::parse(wrong).is_err(), "{wrong}");
    }
    assert_eq!(UnitName::parse_lenient("app@1").expect("lenient").as_str(), "app@1.service");
    assert_eq!(UnitName::parse_lenient("data.mount").expect("lenient").as_str(), "data.mount");
    let unit = UnitName::parse(r"tpl@a\x2fb.service").expect("valid");
    assert_eq!((unit.prefix(), unit.instance()), ("tpl", Some(r"a\x2fb")));
    assert_eq!(unit.template().as_deref(), Some("tpl@.service"));
}

#[test]
fn lengths() {
    let name = |len: usize| "a".repeat(len);
    for (longest, parses) in [
        (
            255,
            &(|len: usize| UnitName::parse(&format!("{}.service", name(len - 8))).is_ok())
                as &dyn Fn(usize) -> bool,
        ),
        (255, &|len| CredentialId::parse(&name(len)).is_ok()),
        (128, &|len| SecretName::parse(&name(len)).is_ok()),
        (128, &|len| SourceName::parse(&name(len)).is_ok()),
        (16, &|len| Claim::parse(format!("{}/unit/a.service/x", name(len)).as_bytes()).is_some()),
    ] {
        let results: Vec<_> = [longest - 1, longest, longest + 1, longest + 2].map(parses).into();
        assert_eq!(results, [true, true, false, false], "{longest}");
    }
}

#[test]
fn unescaping() {
    assert_eq!(unescape(r"a\x2fb-c").as_deref(), Some("a/b/c"));
    for wrong in [r"\", r"\x", r"\x2", r"\xzz", r"\x+1", r"\xff"] {
        assert_eq!(unescape(wrong), None, "{wrong}");
    }
}

#[test]
fn claims() {
    let claim = Claim::parse(br"3f00aa11/unit/tpl@a\x2fb.service/db-password").expect("a claim");
    assert_eq!(claim.unit.as_str(), r"tpl@a\x2fb.service");
    assert_eq!(claim.credential.as_str(), "db-password");
    let wrong: [&[u8]; 8] = [
        b"",
        b"/unit/a.service/x",
        b"zz/unit/a.service/x",
        b"aa/cryptsetup/vol",
        b"aa/unit/a.service",
        b"aa/unit/a.service/",
        b"aa/unit/a.service/x/y",
        b"aa/unit/a\xff.service/x",
    ];
    for wrong in wrong {
        assert_eq!(Claim::parse(wrong), None, "{}", String::from_utf8_lossy(wrong));
    }
}

#[test]
fn cgroups() {
    let unit = |text: &str| unit_of_cgroup(text, "").map(|u| u.to_string());
    assert_eq!(unit("0::/system.slice/app.service\n").as_deref(), Some("app.service"));
    assert_eq!(
        unit("0::/system.slice/system-tpl.slice/tpl@1.service/sub/x.service\n").as_deref(),
        Some("tpl@1.service")
    );
    assert_eq!(unit("0::/system.slice/_memory.service\n").as_deref(), Some("memory.service"));
    assert_eq!(unit("0::/system.slice/__x.service\n").as_deref(), Some("_x.service"));
    assert_eq!(unit("0::/../app.service\n").as_deref(), Some("app.service"));
    assert_eq!(unit("0::/../../system.slice/app.service\n").as_deref(), Some("app.service"));
    assert_eq!(unit("0::/..app.service\n"), None);
    assert_eq!(unit("0::/system.slice/sub/app.service\n"), None);
    assert_eq!(unit("1:name=systemd:/system.slice/app.service\n"), None);
    assert_eq!(unit("0::/\n"), None);
    let user = "/user.slice/user-1000.slice/user@1000.service";
    assert_eq!(unit(&format!("0::{user}/app.slice/a.service")).as_deref(), Some("user@1000.service"));
    let below = unit_of_cgroup(&format!("0::{user}/app.slice/a.service"), user);
    assert_eq!(below.expect("a user's unit").as_str(), "a.service");
    assert_eq!(unit_of_cgroup("0::/system.slice/a.service", user), None);
}

proptest! {
    #[test]
    fn parsers_are_total(text in "\\PC*", bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let _ = (UnitName::parse(&text), UnitName::parse_lenient(&text), CredentialId::parse(&text));
        let _ = (SecretName::parse(&text), unescape(&text), unit_of_cgroup(&text, ""), Claim::parse(&bytes));
    }

    #[test]
    fn a_claim_reads_back(unit in "[a-z@_.\\\\-]{1,20}", id in "[ -.0-9;-~]{1,20}") {
        if let (Ok(unit), Ok(credential)) = (UnitName::parse_lenient(&unit), CredentialId::parse(&id)) {
            let text = format!("1f/unit/{unit}/{credential}");
            prop_assert_eq!(Claim::parse(text.as_bytes()), Some(Claim { unit, credential }));
        }
    }
}
