//! Tests of faults: each has the right class, costs few requests, and everything works again afterwards.

use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use onecred::ipc::{Class, Fetch, Resolve};
use onecred::resolver::service_account::Leniency;
use onecred_integration::fake_account::{FakeAccount, Fault, Kind, Options, TlsFault};

use crate::Case;
use crate::bench::{DB, ask, configured, fake, open, resolver, resolver_with, run, value};

pub(crate) const CASES: &[Case] = &[
    ("each_fault_at_each_step_has_its_class", each_fault_at_each_step_has_its_class),
    ("each_spoiled_reply_has_its_class", each_spoiled_reply_has_its_class),
    (
        "an_answer_without_an_end_takes_no_more_than_its_process",
        an_answer_without_an_end_takes_no_more_than_its_process,
    ),
    ("a_passing_fault_passes", a_passing_fault_passes),
    ("a_session_that_ends_is_made_anew", a_session_that_ends_is_made_anew),
    ("a_limit_is_kept_to", a_limit_is_kept_to),
    ("no_answer_is_given_up_in_time", no_answer_is_given_up_in_time),
    ("tls_is_verified", tls_is_verified),
    ("tokens_that_cannot_work_say_so", tokens_that_cannot_work_say_so),
    ("a_budget_ends", a_budget_ends),
];

const LOGIN: [&str; 4] =
    ["/api/v3/auth/start", "/api/v2/auth", "/api/v2/auth/confirm-key", "/api/v2/auth/complete"];
const STEPS: [&str; 4] = [
    "/api/v2/account/keysets",
    "/api/v1/vaults",
    "/api/v1/vault/vaultmine",
    "/api/v1/vault/vaultmineaaaaaaaaaaaaaaaaa/item/",
];

fn garbage() -> Kind {
    Kind::Body { code: 200, content_type: "application/json".into(), text: r#"{"hunter2":"canary"}"#.into() }
}

fn each_fault_at_each_step_has_its_class() {
    run(async {
        let mut wrong = Vec::new();
        for step in LOGIN.into_iter().chain(STEPS) {
            for (fault, class) in [
                (Fault::status(401), Class::Denied),
                (Fault::status(403), Class::Denied),
                (Fault::status(429), Class::Limited),
                (Fault::status(500), Class::Away),
                (Fault::status(503), Class::Away),
                (Fault::of(Kind::Close { at: 0 }), Class::Away),
                (Fault::of(Kind::Reset { at: 90 }), Class::Away),
                (Fault::of(Kind::MalformedJson), Class::Malformed),
                (Fault::of(garbage()), Class::Malformed),
            ] {
                let fake = fake();
                let fault = if LOGIN.contains(&step) || step == STEPS[0] {
                    fault.exactly_on(step)
                } else {
                    fault.on(step)
                };
                fake.control.fail(&fault).unwrap();
                let got = value(&resolver(&fake), DB).await;
                let asked = fake.control.take_requests().unwrap().len();
                match got {
                    Err(failure) if failure.class == class => {
                        assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
                        assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
                    }
                    got => wrong.push(format!("{step} {:?}: {got:?}", fault.kind)),
                }
                if asked > 16 {
                    wrong.push(format!("{step} {:?}: {asked} requests", fault.kind));
                }
            }
        }
        for (kind, on) in [(Kind::WrongSignature, LOGIN[2]), (Kind::WrongKey, STEPS[1])] {
            let fake = fake();
            fake.control.fail(&Fault::of(kind.clone()).on(on)).unwrap();
            match value(&resolver(&fake), DB).await {
                Err(failure) if matches!(failure.class, Class::Malformed | Class::Denied) => {}
                got => wrong.push(format!("{on} {kind:?}: {got:?}")),
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}

/// The reply is changed on its way, or is not an answer at all.
fn each_spoiled_reply_has_its_class() {
    let page =
        || Kind::Body { code: 200, content_type: "text/html".into(), text: "<p>hunter2 canary</p>".into() };
    let nothing = || Kind::Body { code: 200, content_type: "application/json".into(), text: String::new() };
    let elsewhere = || Kind::Redirect { code: 302, to: "http://127.0.0.1:1/".into() };
    let spoiled = [
        (Kind::Truncate { at: 30 }, Class::Away),
        (Kind::Huge { bytes: 100 << 20, declared: true }, Class::Malformed),
        (Kind::Gzip, Class::Malformed),
        (Kind::GzipBomb { mib: 1024 }, Class::Malformed),
        (elsewhere(), Class::Away),
        (Kind::Deep { depth: 100_000 }, Class::Malformed),
        (Kind::DuplicateKeys, Class::Malformed),
        (page(), Class::Malformed),
        (nothing(), Class::Malformed),
    ];
    let statuses = [400, 405, 408, 413, 451, 504, 599];
    let statuses = statuses.map(|code| (Fault::status(code), Class::Away));
    let spoiled = spoiled.map(|(kind, class)| (Fault::of(kind), class));
    run(async {
        let mut wrong = Vec::new();
        for (step, most) in [(LOGIN[0], 1), (STEPS[1], 5), (STEPS[3], 8)] {
            let mut rows: Vec<(Fault, Class)> = spoiled.iter().chain(&statuses).cloned().collect();
            if step == STEPS[1] {
                rows.push((Fault::status(404), Class::Malformed)); // which does not mean that a vault is gone
            }
            if step == STEPS[3] {
                let item =
                    [(Fault::of(Kind::OtherItem), Class::Malformed), (Fault::status(404), Class::Away)];
                rows.extend(item);
                rows.push((Fault::of(Kind::InvalidUtf8), Class::Malformed));
            }
            for (fault, class) in rows {
                let fake = fake();
                fake.control.fail(&fault.clone().on(step)).unwrap();
                let got = value(&resolver(&fake), DB).await;
                let asked = fake.control.take_requests().unwrap().len();
                let said = format!("{got:?}");
                if !got.is_err_and(|failure| failure.class == class && !failure.remedy.is_empty())
                    || asked > most + 1
                    || said.contains("hunter2")
                    || said.contains("canary")
                {
                    wrong.push(format!("{step} {:?}: {asked} calls, {said}", fault.kind));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}

/// The core reads an endless answer. Its process has a memory limit, and is replaced.
fn an_answer_without_an_end_takes_no_more_than_its_process() {
    run(async {
        let fake = fake();
        let endless = Kind::Huge { bytes: 1 << 40, declared: false };
        fake.control.fail(&Fault::of(endless).exactly_on(STEPS[1]).times(1)).unwrap();
        let resolver = resolver(&fake);
        let patient = || Fetch { patience: Duration::from_secs(120), ..ask(DB) };
        match resolver.fetch(patient()).await {
            Ok(_) => {}
            Err(failure) => {
                assert_eq!(failure.class, Class::Away, "{failure}");
                resolver.fetch(patient()).await.unwrap();
            }
        }
        // of the largest process that has ended
        let most = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss() / 1024;
        assert!((100..600).contains(&most), "{most} MiB");
    });
}

fn a_passing_fault_passes() {
    run(async {
        for fault in [Fault::status(503), Fault::of(Kind::Reset { at: 0 })] {
            let fake = fake();
            fake.control.fail(&fault.times(1)).unwrap();
            let resolver = resolver(&fake);
            let failure = value(&resolver, DB).await.unwrap_err();
            assert_eq!(failure.class, Class::Away, "{failure}");
            assert_eq!(value(&resolver, DB).await.unwrap(), "hunter2", "and the asker asks again");
        }
        let fake = fake();
        fake.control.fail(&Fault::status(403).on(STEPS[1]).times(1)).unwrap();
        assert_eq!(value(&resolver(&fake), DB).await.unwrap(), "hunter2", "a first 403 is doubted");
    });
}

fn a_session_that_ends_is_made_anew() {
    run(async {
        let fake = fake();
        let resolver = resolver(&fake);
        for after in [0, 1, 2] {
            fake.control
                .fail(&Fault::of(Kind::EndSession).on("/api/v1/vault").after(after).times(1))
                .unwrap();
            assert_eq!(value(&resolver, DB).await.unwrap(), "hunter2");
        }
    });
}

fn a_limit_is_kept_to() {
    run(async {
        let fake = fake();
        fake.control.fail(&Fault::status(429).on("/api/v1/vaults")).unwrap();
        let resolver = resolver(&fake);
        let failure = value(&resolver, DB).await.unwrap_err();
        assert_eq!(failure.class, Class::Limited, "{failure}");
        let wait = failure.retry_after.unwrap();
        assert!(wait >= Duration::from_secs(60), "{wait:?}");
        fake.control.take_requests().unwrap();
        let failure = value(&resolver, "op://My Vault/otp/password").await.unwrap_err();
        assert_eq!(failure.class, Class::Limited, "{failure}");
        assert!(fake.control.requests().unwrap().is_empty());
    });
}

fn no_answer_is_given_up_in_time() {
    run(async {
        for on in [LOGIN[0], STEPS[1]] {
            let fake = fake();
            fake.control.fail(&Fault::of(Kind::Hang).on(on)).unwrap();
            let (began, resolver) = (Instant::now(), resolver(&fake));
            let failure =
                resolver.fetch(Fetch { patience: Duration::from_secs(1), ..ask(DB) }).await.unwrap_err();
            assert_eq!(failure.class, Class::Away);
            assert!(began.elapsed() < Duration::from_secs(2));
        }
        let fake = fake();
        let token = fake.control.token().unwrap();
        drop(fake);
        let failure = value(&resolver_with(configured(), Some(token)), DB).await.unwrap_err();
        assert_eq!(failure.class, Class::Away, "{failure}");
    });
}

fn tls_is_verified() {
    run(async {
        let strict = Leniency { owner: Some(nix::unistd::geteuid().as_raw()), ..Leniency::default() };
        let with = |fake: &FakeAccount, ca: bool, hosts: &[&str]| {
            let mut configured = configured();
            configured.ca_file = fake.ca().filter(|_| ca).map(Into::into);
            configured.allowed_hosts = hosts.iter().map(ToString::to_string).collect();
            open(configured, Some(fake.control.token().unwrap()), &strict)
        };
        let folder = tempfile::tempdir().unwrap();
        let options = Options { tls: Some(folder.path().into()), ..Options::default() };
        let fake = FakeAccount::start(options.clone()).unwrap();
        assert_eq!(value(&with(&fake, true, &["localhost"]), DB).await.unwrap(), "hunter2");
        fake.control.take_requests().unwrap();
        let failure = value(&with(&fake, true, &[]), DB).await.unwrap_err();
        assert!(failure.class == Class::Denied && failure.cause.contains("localhost"), "{failure}");
        let failure = value(&with(&fake, false, &["localhost"]), DB).await.unwrap_err();
        assert_eq!(failure.class, Class::Away, "{failure}");
        let early = TlsFault::NotYetValid { seconds: 86_400 };
        for fault in [TlsFault::Expired, early, TlsFault::WrongHost, TlsFault::UnknownCa] {
            let fake = FakeAccount::start(Options { tls_fault: Some(fault), ..options.clone() }).unwrap();
            let failure = value(&with(&fake, true, &["localhost"]), DB).await.unwrap_err();
            assert_eq!(failure.class, Class::Away, "{failure}");
        }
        assert!(
            fake.control.requests().unwrap().is_empty(),
            "nothing is said before the certificate is right"
        );
    });
}

fn tokens_that_cannot_work_say_so() {
    run(async {
        let fake = fake();
        let token = fake.control.token().unwrap();
        let failure = value(&resolver_with(configured(), None), DB).await.unwrap_err();
        assert!(
            failure.class == Class::NoToken && failure.to_string().contains("onecred token set"),
            "{failure}"
        );
        for wrong in ["ops_x", &token[..token.len() - 40], "ghp_abc"] {
            let failure = value(&resolver_with(configured(), Some(wrong.into())), DB).await.unwrap_err();
            assert_eq!(failure.class, Class::Denied, "{failure}");
            assert!(!failure.to_string().contains(&wrong[4..]), "{failure}");
        }
        let failure = value(&open(configured(), Some(token), &Leniency::default()), DB).await.unwrap_err();
        assert_eq!(failure.class, Class::Denied, "plain http is for tests: {failure}");
        assert!(fake.control.requests().unwrap().is_empty());
        fake.control.set_token("of another account").unwrap();
        let other = fake.control.token().unwrap();
        fake.control.set_token("fake-token").unwrap();
        let resolver = resolver_with(configured(), Some(other));
        let failure = value(&resolver, DB).await.unwrap_err();
        assert_eq!(failure.class, Class::Denied, "{failure}");
        let asked = fake.control.take_requests().unwrap().len();
        value(&resolver, DB).await.unwrap_err();
        assert_eq!(fake.control.take_requests().unwrap().len(), 0, "it was denied after {asked} requests");
    });
}

fn a_budget_ends() {
    run(async {
        let fake = fake();
        let mut configured = configured();
        configured.budget = 10;
        let resolver = resolver_with(configured, Some(fake.control.token().unwrap()));
        for reference in [DB, "op://My Vault/multi/f1", "op://My Vault/sixty/password"] {
            value(&resolver, reference).await.unwrap();
        }
        let failure = value(&resolver, "op://My Vault/otp/password").await.unwrap_err();
        assert!(failure.class == Class::Limited && failure.cause.contains("10 calls"), "{failure}");
        assert!(fake.control.requests().unwrap().len() <= 12);
    });
}
