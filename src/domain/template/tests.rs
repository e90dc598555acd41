use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value as Json;

use super::oracle::{container, systemd};
use super::*;

fn fill(text: &str, form: Form, values: &[(&str, &[u8])]) -> Result<Vec<u8>, Unfit> {
    let template = Template::parse(text, form).unwrap_or_else(|mistakes| panic!("{text}: {mistakes:?}"));
    let values: BTreeMap<&str, &[u8]> = values.iter().copied().collect();
    let values: Vec<_> =
        template.names.iter().map(|name| SecretValue::new(values[name.as_str()].to_vec())).collect();
    template.fill(&values).map(|value| value.expose().to_vec())
}

fn filled(text: &str, form: Form, values: &[(&str, &str)]) -> String {
    let values: Vec<_> = values.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    String::from_utf8(fill(text, form, &values).expect(text)).expect("text")
}

fn mistake(text: &str, form: Form) -> String {
    let mistakes = Template::parse(text, form).expect_err(text);
    mistakes.into_iter().map(|mistake| mistake.what).collect::<Vec<_>>().join("; ")
}

#[test]
fn placeholders() {
    assert_eq!(filled("a {{x}} b {{ x }}{{y}}", Form::Raw, &[("x", "1"), ("y", "2")]), "a 1 b 12");
    assert_eq!(filled("{{{{x}} {{{{{{x}}}}", Form::Raw, &[("x", "1")]), "{{x}} {{1}}");
    assert_eq!(
        filled("{{ op://v/i t/f }}", Form::Raw, &[("op://v/i t/f", "{{y}}")]),
        "{{y}}",
        "no second round"
    );
    assert_eq!(
        filled("{{x|env}} \"{{x | json}}\"", Form::Raw, &[("x", "a\"$\n")]),
        "\"a\\\"\\$\n\" \"a\\\"$\\n\""
    );
    assert!(Template::parse(&"{{x}}".repeat(512), Form::Raw).is_ok());
    assert!(Template::parse(&"x".repeat(1 << 20), Form::Raw).is_ok());
    assert_eq!(Template::parse("{{b}}{{a}}{{b}}", Form::Raw).expect("valid").names, ["b", "a"]);
    for (text, what) in [
        ("\n {{x", "a {{ in the content is not closed (line 2 of it)"),
        ("{{\nx\n}}\n{{y", "is not closed (line 4 of it)"),
        ("{{}}", "which does not name a secret"),
        ("{{ {x}}", "which does not name a secret"),
        ("{{x | xml}}", "\"xml\" is not valid here"),
        (&"{{x}}".repeat(MAX_PLACEHOLDERS + 1), "has 513 placeholders"),
        (&"x".repeat(MAX_TEXT + 1), "has 1048577 bytes"),
    ] {
        assert!(mistake(text, Form::Raw).contains(what), "{}", mistake(text, Form::Raw));
    }
}

#[test]
fn references_without_braces() {
    let remedy = |text: &str| Template::parse(text, Form::Raw).map_err(|all| all[0].remedy.clone());
    let fixes = [
        ("password op://Servers/app/password\n", "{{op://Servers/app/password}}"),
        ("A=op://v/i/s/f?attribute=otp\n", "{{op://v/i/s/f?attribute=otp}}"),
        ("a: \"op://My Vault/i/f\"", "{{op://My Vault/i/f}}"),
        ("a: 'op://My Vault/i/f' # x", "{{op://My Vault/i/f}}"),
        ("see op://v/i/f.", "{{op://v/i/f}}"),
        ("(op://v/i/f)", "{{op://v/i/f}}"),
        ("{{x}}op://v/i/f", "{{op://v/i/f}}"),
        ("A=op://${APP_ENV}/app/password", "with names in place of variables such as ${NAME}"),
        ("op://", "for the value write {{op://VAULT/ITEM/FIELD}}"),
        ("'op://v/i/f", "{{op://v/i/f}}"),
    ];
    for (text, fix) in fixes {
        let said = remedy(text).expect_err(text);
        assert!(
            said.contains(fix) && said.ends_with("write {{\"op://\"}} in place of op://"),
            "{text}: {said}"
        );
    }
    assert!(
        mistake("a\n# op://v/i/f\n{{x}}\nop://v/i/g", Form::Env)
            .contains("op://v/i/f (line 2 of it) without braces")
    );
    assert!(
        mistake("a\n# op://v/i/f\n{{x}}\nop://v/i/g", Form::Env)
            .contains("op://v/i/g (line 4 of it) without braces")
    );
    let many = Template::parse(&"op://v/i/f ".repeat(9_999), Form::Raw).expect_err("many");
    assert!(many.len() <= 20, "{}", many.len());
    for fine in ["loop://x/y/z", "https://op.example/", "OP://v/i/f", "shop://", "op:/", "x-op://v/i/f"] {
        assert!(Template::parse(fine, Form::Raw).is_ok(), "{fine}");
    }
}

#[test]
fn text_in_quotes_is_itself() {
    assert_eq!(
        filled("# {{\"op://\"}}v/i/f {{ \"{{\" }} {{x}}", Form::Raw, &[("x", "1")]),
        "# op://v/i/f {{ 1"
    );
    assert_eq!(
        filled("# {{\"op://\"}}v/i/f\nA={{\"op://\"}}{{x}}", Form::Env, &[("x", "1")]),
        "# op://v/i/f\nA=op://1\n"
    );
    assert_eq!(
        filled(r#"{"a": "{{"op://"}}v/i/f {{x}}"}"#, Form::Json, &[("x", "\"")]),
        r#"{"a": "op://v/i/f \""}"#
    );
    assert_eq!(filled("{{\"a | b\"}}", Form::Raw, &[]), "a | b");
    for (text, name) in [(r#"{{""}}"#, r#""""#), (r#"{{"a"b"}}"#, r#""a"b""#)] {
        assert_eq!(Template::parse(text, Form::Raw).expect(text).names, [name], "it is a name");
    }
    assert_eq!(
        Template::parse("{{\"op://\"}}v/i/f", Form::Raw).expect("valid").names,
        [""; 0],
        "it names nothing"
    );
    assert!(mistake("{{\"a\" | json | x}}", Form::Raw).contains("is not valid here"));
}

#[test]
fn environment_files() {
    let written = |text| filled(text, Form::Env, &[("x", "a'b\"c$`\\ \n#")]);
    assert_eq!(written("A=1 # x\nB={{x}}\n"), "A=1 # x\nB=\"a'b\\\"c\\$\\`\\\\ \n#\"\n");
    assert_eq!(systemd(&written("U=p://u:{{x}}@h/ d \nB=2"))["U"], "p://u:a'b\"c$`\\ \n#@h/ d");
    assert_eq!(systemd(&written("U='it \\{{x}}\"'\"{{x}}\" "))["U"], "it \\a'b\"c$`\\ \n#\"a'b\"c$`\\ \n#");
    assert_eq!(systemd(&written("; c\nJ={\"k\": \"{{x|json}}\"}"))["J"], r#"{"k": "a'b\"c$`\\ \n#"}"#);
    assert_eq!(written("no variable\nB={{x}}"), "no variable\nB=\"a'b\\\"c\\$\\`\\\\ \n#\"\n");
    assert_eq!(systemd(&written("U=a\\\nb{{x}}"))["U"], "aba'b\"c$`\\ \n#");
    assert_eq!(systemd(&written("U=\"\\$ \\a \\ä {{x}}\""))["U"], "$ \\a \\ä a'b\"c$`\\ \n#");
    let lines = |text| filled(text, Form::Env, &[("x", "A=1\nB=2"), ("y", "3"), ("z", "Z=1\n\n")]);
    assert_eq!(lines("{{x | raw}} \nC={{y}}"), "A=1\nB=2 \nC=3\n");
    assert_eq!(lines("{{z | raw | trim}}\nC={{y}}"), "Z=1\nC=3\n");
    assert_eq!(lines("{{x | raw}}\nC={{y}}"), "A=1\nB=2\nC=3\n");
    for (text, what) in [
        ("{{x}}=1", "is in the place of a variable name (line 1)"),
        ("\nexport A={{x}}", "not accept the variable name \"export A\" (line 2)"),
        ("# {{x}}", "stands in a comment"),
        ("A=\\{{x}}", "a \\ stands before {{x}}"),
        ("A=\"\\{{x}}\"", "a \\ stands before {{x}}"),
        ("A=\"{{x}}", "a quote is not closed"),
        ("A={{x|raw}}", "can't be raw within a variable"),
        ("{{x|raw}} b", "is not alone on its line"),
        ("# a\\\nA={{x}}", "a comment ends in \\"),
    ] {
        assert!(mistake(text, Form::Env).contains(what), "{}", mistake(text, Form::Env));
    }
    let long = vec![b'a'; 128 << 10];
    for (value, why) in
        [(&b"a\0"[..], "NUL"), (b"\xff", "UTF-8"), ("\u{fffe}".as_bytes(), "noncharacter"), (&long, "longer")]
    {
        assert!(fill("A={{x}}", Form::Env, &[("x", value)]).expect_err(why).why.contains(why));
        assert_eq!(fill("{{x}}", Form::Raw, &[("x", value)]).as_deref(), Ok(value), "raw takes any bytes");
    }
}

/// What a shell reads from an environment file.
fn shell(file: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.env");
    std::fs::write(&path, file).unwrap();
    let mut command = std::process::Command::new("sh");
    let output = command.args(["-c", r#". "$1"; printf %s "$A""#, "sh"]).arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn harmless_values_have_no_quotes_so_that_every_reader_takes_them() {
    for value in [
        "",
        "plainpw",
        "a-Z_0.9/:@%+,=^x",
        "postgres://u@h:5432/db?",
        "a b",
        "$HOME",
        "~",
        "#a",
        "a;b",
        "ä",
        "'",
        "\"",
        "\\",
        "`id`",
        "*",
    ] {
        let text = |form| filled("A={{x}}\nB=1\n", form, &[("x", value)]);
        let file = text(Form::Env);
        assert_eq!((systemd(&file)["A"].as_str(), shell(&file).as_str()), (value, value), "{file}");
        let harmless =
            value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./:@%+,=^".contains(&byte));
        assert_eq!(!file.contains('"'), harmless, "{file}");
        if harmless {
            assert_eq!(container(&file)["A"], value);
        }
        assert_eq!(container(&text(Form::Container))["A"], value, "containers take everything literally");
    }
    let text = filled("A=p://{{x}}@h\nB='{{y}}'\n", Form::Env, &[("x", "u"), ("y", "a b")]);
    assert_eq!(text, "A=p://u@h\nB=\"a b\"\n", "each variable by its own value");
}

#[test]
fn environment_files_for_containers() {
    let written = |text| filled(text, Form::Container, &[("x", "a'b\"c$`\\ #"), ("y", "A=1\nB=2")]);
    assert_eq!(written("# c\n U = \"p://{{x}}@h\" \n"), "# c\n U=p://a'b\"c$`\\ #@h\n");
    assert_eq!(written("A=\"it is\" \nB=\\$c"), "A=it is\nB=$c\n", "what has no placeholder, too");
    assert_eq!(written("J={{x|json}}\n"), "J=a'b\\\"c$`\\\\ #\n");
    assert_eq!(written("{{y | raw}}\n"), "A=1\nB=2\n");
    for (text, what) in [
        ("; c\nA=1", "starts with ;"),
        ("A\nB=1", "has no ="),
        ("A=\"1\n2\"", "several lines"),
        ("A={{x|raw}}", "can't be raw within a variable"),
        ("export A=1", "not accept the variable name"),
    ] {
        assert!(mistake(text, Form::Container).contains(what), "{}", mistake(text, Form::Container));
    }
    for value in ["a\nb", "a\rb", "a\n"] {
        let unfit = fill("A={{x}}", Form::Container, &[("x", value.as_bytes())]).expect_err(value);
        assert!(unfit.why.contains("several lines"), "{}", unfit.why);
    }
}

#[test]
fn json_files() {
    let written = |text| filled(text, Form::Json, &[("x", "a\"\\\n\u{1}"), ("n", "5")]);
    assert_eq!(
        written(r#"{"a": {{x}}, "b": "u:{{x}}\"{{x}}", "c": {{n|raw}}}"#),
        r#"{"a": "a\"\\\n\u0001", "b": "u:a\"\\\n\u0001\"a\"\\\n\u0001", "c": 5}"#
    );
    assert_eq!(filled("[{{x}}]", Form::Json, &[("x", "\r\t\u{7f}")]), r#"["\r\t\u007f"]"#);
    assert_eq!(filled(r#"["u:{{n|raw}}"]"#, Form::Json, &[("n", r"\n")]), r#"["u:\n"]"#);
    assert!(mistake("{ {{n|raw}}: 1 }", Form::Json).contains("the content is not JSON"), "a key is a string");
    assert!(mistake("{\"a\": {{x}}", Form::Json).contains("the content is not JSON"));
    assert!(mistake(r#"{"a": "\{{x}}"}"#, Form::Json).contains("a \\ stands before"));
    assert!(mistake(r#"{"a": {{x|env}}}"#, Form::Json).contains("stands in a JSON file"));
    assert!(fill("[{{x}}]", Form::Json, &[("x", b"\xff")]).expect_err("not UTF-8").why.contains("UTF-8"));
}

#[test]
fn a_value_makes_no_file_without_bounds() {
    let text = "{{x}}".repeat(3);
    let large = vec![b'x'; SecretValue::MAX];
    let unfit = fill(&text, Form::Raw, &[("x", &large)]).expect_err("more than anything takes");
    assert!(unfit.why.contains("4 MiB"), "{}", unfit.why);
    assert_eq!(fill("{{x}}", Form::Raw, &[("x", &large)]).map(|file| file.len()), Ok(SecretValue::MAX));
    // 31 variables of 128 KiB, each with its name, its = and the end of its line, and one more
    let value = vec![b'x'; (128 << 10) - 3];
    for (last, fits) in [("A", true), ("AB", true), ("ABC", false), ("ABCD", false)] {
        let text = format!("{}{last}={{{{x}}}}", "A={{x}}\n".repeat(31));
        assert_eq!(fill(&text, Form::Env, &[("x", &value)]).is_ok(), fits, "{last}");
    }
    for (bytes, fits) in [((128 << 10) - 2, true), ((128 << 10) - 1, false), (128 << 10, false)] {
        assert_eq!(fill("A={{x}}", Form::Env, &[("x", &vec![b'x'; bytes])]).is_ok(), fits, "{bytes}");
    }
}

#[test]
fn line_ends_at_the_end_are_left_out_where_that_is_said() {
    let v: &[(&str, &[u8])] = &[("v", b" a\n\nb \r\n\n")];
    for (text, form, expected) in [
        ("<{{v | trim}}>", Form::Raw, "< a\n\nb >"),
        ("{{v}}", Form::Raw, " a\n\nb \r\n\n"),
        ("\"{{ v | trim | json }}\"", Form::Raw, "\" a\\n\\nb \""),
        ("\"{{v|json|trim}}\"", Form::Raw, "\" a\\n\\nb \""),
        ("A={{v | trim}}c\n", Form::Env, "A=\" a\n\nb c\"\n"),
        ("[{{v | trim}}, \"{{v | trim}}\"]", Form::Json, "[\" a\\n\\nb \", \" a\\n\\nb \"]"),
        ("k: {{v | trim}}", Form::Yaml, "k: \" a\\n\\nb \""),
        ("k = {{v | trim}}", Form::Toml, "k = \" a\\n\\nb \""),
    ] {
        let filled = fill(text, form, v).expect(text);
        assert_eq!(str::from_utf8(&filled), Ok(expected), "{text}");
    }
    let empty = fill("{{v | trim}}", Form::Raw, &[("v", b"\r\n")]).expect_err("nothing");
    assert!(empty.why.contains("empty after trim"), "{}", empty.why);
    for wrong in ["{{v | trim | trim}}", "{{v | json | env}}", "{{v | }}", "{{v | Trim}}"] {
        assert!(Template::parse(wrong, Form::Raw).is_err(), "{wrong}");
    }
}

#[test]
fn forms() {
    assert_eq!(Form::of("/run/secrets/app.env"), Some(Form::Env));
    assert_eq!((Form::of("a.json"), Form::of("a.conf"), Form::of("env")), (Some(Form::Json), None, None));
}

proptest! {
    #[test]
    fn systemd_reads_back_what_was_put_in(value in "(\\PC|[\\\\\"'$`#;= \t\r\n\u{b}\u{1b}]){0,12}", before in "[a-z'\"$#= ]{0,4}", other in "(\\PC|[\\\\\"'`$\n]){0,6}") {
        prop_assume!(!value.contains('\0') && !other.contains('\0'));
        let before = format!("x{before}");
        let text = format!("A={{{{v}}}}\nB={before}{{{{v}}}}-{{{{o}}}}\nC=\"q{{{{v}}}}\" ''\nD={{{{v}}}}{{{{o}}}} \nE=end");
        let Ok(file) = fill(&text, Form::Env, &[("v", value.as_bytes()), ("o", other.as_bytes())]) else { return Ok(()) };
        let read = systemd(str::from_utf8(&file).expect("text"));
        let expected = [("A", value.clone()), ("B", format!("{before}{value}-{other}")), ("C", format!("q{value}")), ("D", format!("{value}{other}")), ("E", "end".to_owned())];
        prop_assert_eq!(read, expected.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
    }

    #[test]
    fn literal_text_means_what_it_means_to_systemd(literal in "[ab\"'\\\\$` \t#]{0,10}") {
        let Ok(template) = Template::parse(&format!("A={literal}{{{{v}}}}\nB=1\n"), Form::Env) else { return Ok(()) };
        let file = template.fill(&[SecretValue::new(b"v".to_vec())]).expect("fits");
        // a letter instead of the placeholder, which ends neither quotes nor whitespace
        let plain = format!("A={literal}v\nB=1\n");
        prop_assert_eq!(systemd(str::from_utf8(file.expose()).expect("text")), systemd(&plain));
    }

    #[test]
    fn json_reads_back_what_was_put_in(value in "(\\PC|[\\\\\"\n\t\u{1}\0]){0,12}") {
        let file = fill(r#"{"a": {{v}}, "b": "<{{v}}>", "{{v}}k": 1}"#, Form::Json, &[("v", value.as_bytes())]).expect("fits");
        let read: Json = serde_json::from_slice(&file).expect("JSON");
        prop_assert_eq!(&read["a"], &Json::from(value.clone()));
        prop_assert_eq!(&read["b"], &Json::from(format!("<{value}>")));
        prop_assert_eq!(&read[format!("{value}k")], &Json::from(1));
    }

    #[test]
    fn no_text_makes_it_panic(text in "(\\PC|[{}|\\\\\"'=\n# a]){0,30}") {
        for form in [Form::Env, Form::Container, Form::Json, Form::Yaml, Form::Toml, Form::Raw] {
            let _ = Template::parse(&text, form);
        }
    }
}
