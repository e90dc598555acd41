//! A vault in which every text that a user could have written is unique.

use serde_json::{Value, json};

pub(crate) const VAULT: &str = "Kanarie Tresor";
pub(crate) const VAULT_ID: &str = "kvaultkvaultkvaultkvault23";
pub(crate) const FIRST_ID: &str = "kfirstkfirstkfirstkfirst23";
pub(crate) const FILE_ID: &str = "kfilekfilekfilekfilekfil23";

/// Keys whose values 1Password chooses.
const CHOSEN: [&str; 5] = ["type", "purpose", "category", "state", "t"];
/// IDs and labels that every item has.
const COMMON: [&str; 1] = ["notesPlain"];

/// A vault that has everything, and meets all expectations.
pub(crate) fn vault() -> Value {
    let key = "-----BEGIN PRIVATE KEY-----\nMFMCAQEwBQYDK2VwBCIEIEwq7bOKJ1fTzAtkzNUF7GOAljqpmYf+VeITcPrW3cVR\noSMDIQA43fFsSF6uNIwM8EpVfnYRYxo1OqwCkb/FuxF81D9LNA==\n-----END PRIVATE KEY-----\n";
    let in_section = |id: &str, kind: &str, label: &str, value: &str| json!({ "id": id, "section": { "id": "kabschnitt" }, "type": kind, "label": label, "value": value });
    let sections = json!([{ "id": "kabschnitt", "label": "Kapitel Eins" }]);
    json!({ "vaults": [
        { "id": VAULT_ID, "name": VAULT, "items": [
            { "id": FIRST_ID, "title": "Zugang Nord", "category": "LOGIN", "version": 3, "tags": ["kmarke"], "fields": [
                { "id": "kbenutzer", "type": "STRING", "purpose": "USERNAME", "label": "kname", "value": "kwilhelmine" },
                { "id": "kpasswort", "type": "CONCEALED", "purpose": "PASSWORD", "label": "kgeheim", "value": "kwert-eins-zwei" },
                { "id": "notesPlain", "type": "STRING", "purpose": "NOTES", "label": "notesPlain", "value": "knotiz drei" },
            ] },
            { "id": "ksecondksecondksecondksec2", "title": "Rechner Süd", "category": "SERVER", "version": 1, "sections": sections, "fields": [
                { "id": "notesPlain", "type": "STRING", "purpose": "NOTES", "label": "notesPlain" },
                in_section("kfeldeins", "STRING", "keinfach", "kklartext"),
                in_section("kfeldzwei", "CONCEALED", "küber", "kgrün"),
                in_section("kfelddrei", "URL", "kverweis", "https://kbeispiel.example/kpfad"),
                in_section("kfeldvier", "EMAIL", "kpost", "kpost@kbeispiel.example"),
                in_section("TOTP_kfuenf", "OTP", "kcode", "otpauth://totp/kherr:kfrau?secret=KNQXEYLSMVXGC3DB&issuer=kherr"),
                in_section("kfeldsechs", "DATE", "ktag", "1712345678"),
                in_section("kfeldsieben", "MONTH_YEAR", "kmonat", "203107"),
                in_section("kfeldacht", "MENU", "kwahl", "kzweite"),
                in_section("kfeldneun", "ADDRESS", "kort", "kgasse 4, kstadt, de"),
                in_section("kfeldzehn", "PHONE", "kanruf", "+49 555 0199"),
                in_section("kfeldelf", "CONCEALED", "kdoppelt", "kerster"),
                in_section("kfeldzwoelf", "CONCEALED", "kdoppelt", "kzweiter"),
                in_section("kfeldleer", "CONCEALED", "kleer", ""),
            ] },
            { "id": "kthirdkthirdkthirdkthird23", "title": "Schluessel West", "category": "SSH_KEY", "version": 1, "fields": [
                { "id": "notesPlain", "type": "STRING", "purpose": "NOTES", "label": "notesPlain" },
                { "id": "private_key", "type": "SSHKEY", "label": "kschluessel", "value": key },
                { "id": "public_key", "type": "STRING", "label": "public key", "value": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDjd8WxIXq40jAzwSlV+dhFjGjU6rAKRv8W7EXzUP0s0" },
                { "id": "fingerprint", "type": "STRING", "label": "fingerprint", "value": "SHA256:yJq2zB0PI3WOllGrMfQewMV9EX16vPAfAXniJBlvxC8" },
                { "id": "key_type", "type": "STRING", "label": "key type", "value": "ed25519" },
            ] },
            { "id": "kfourthkfourthkfourthkfou2", "title": "Akte Ost", "category": "DOCUMENT", "version": 1,
              "sections": [{ "id": "kmappe", "label": "Mappe Zwei" }],
              "fields": [{ "id": "notesPlain", "type": "STRING", "purpose": "NOTES", "label": "notesPlain" }],
              "files": [
                { "id": FILE_ID, "name": "kdatei.txt", "content": "kinhalt der datei\n", "section": { "id": "kmappe" } },
                { "id": "kbildkbildkbildkbildkbil23", "name": "kbild.bin", "contentBase64": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=" },
              ] },
            { "id": "kfifthkfifthkfifthkfifth23", "title": "Altes Nord", "category": "LOGIN", "version": 2, "state": "ARCHIVED", "fields": [
                { "id": "kaltfeld", "type": "CONCEALED", "purpose": "PASSWORD", "label": "kaltgeheim", "value": "kaltwert" },
                { "id": "notesPlain", "type": "STRING", "purpose": "NOTES", "label": "notesPlain" },
            ] },
        ] },
        { "id": "kotherkotherkotherkother23", "name": "Kandere Kiste", "items": [] },
    ] })
}

/// Every text of the vault that must not be shown, including dates and months as the resolver formats them.
pub(crate) fn canaries() -> Vec<String> {
    let mut all =
        ["2024-04-05", "07/2031", "7/2031", "kherr", "KNQXEYLSMVXGC3DB"].map(str::to_owned).to_vec();
    collect(&vault(), &mut all);
    all
}

fn collect(json: &Value, all: &mut Vec<String>) {
    match json {
        Value::String(text) if !text.is_empty() && !COMMON.contains(&text.as_str()) => {
            all.push(text.clone());
            // also parts: a line of a key, a word of a title
            let parts =
                text.split(if text.contains("-----") { &['\n'][..] } else { &[' ', '\n', '/', ','][..] });
            let is_telling = |part: &&str| part.len() > 4 && !part.starts_with("-----") && *part != "https:";
            all.extend(parts.filter(is_telling).map(str::to_owned));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, all)),
        Value::Object(entries) => {
            entries
                .iter()
                .filter(|(key, _)| !CHOSEN.contains(&key.as_str()))
                .for_each(|(_, value)| collect(value, all));
        }
        _ => {}
    }
}
