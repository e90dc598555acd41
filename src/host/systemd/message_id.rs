//! The MESSAGE_IDs of journal lines. They never change. Each has an entry in `units/catalog/onecred.catalog`,
//! which `journalctl -x` shows.
//!
//! Refusals are grouped by their remedy.

macro_rules! message_ids {
    ($($(#[$doc:meta])* $name:ident = $id:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $id;)*

        /// All message IDs.
        pub const ALL: &[&str] = &[$($name),*];
    };
}

message_ids! {
    /// A unit was refused because the configuration does not grant it the credential.
    NOT_ALLOWED = "b88a7ce0b6de4991b14100dc4a20d957";
    /// A unit was refused because the reference matches nothing, or several things.
    NOT_FOUND = "2cccbe681e5f47aeb949f89bb663e7a2";
    /// A unit was refused because the token is missing, or 1Password rejects it.
    NO_ACCESS = "e80bcd5c705f49bb9b5aacf0033378fe";
    /// A unit was refused because 1Password was unreachable, or limited the calls, until the deadline.
    AWAY = "1458d4be05624cf4902933510b1fb837";
    /// A unit was refused because the value cannot be delivered.
    UNFIT = "26e172e75dbe43198c8bed636bb5b28a";
    /// A unit was refused because of a failure in onecred itself.
    OWN_TROUBLE = "2f7f87d159a94a0d80901452da871a56";
    /// A unit is waiting for its credential.
    WAITING = "47f5864e9f9548678111045b6fdedb20";
    /// A unit received a cached value that could not be confirmed.
    STALE = "54646896e2034e378cbab9b7560e83fa";
    /// A peer that is not systemd, or not the unit that it claims to be, sent a request.
    STRANGER = "02d7fe8b889642d88d475a0b12e44f15";
    /// A unit closed the connection before it had read the whole value.
    HUNG_UP = "a0fe1332d77e499781f39e2e68f7677a";
    /// A unit received its credential; logged only with `"audit": "all"`.
    GRANTED = "85ec5f36f73a44c3909cab5f9345534b";
    /// A value was delivered on D-Bus; logged only with `"audit": "all"`.
    OPENED = "382be0ba90a1486c91b27e2a136f8c0f";
    /// A source cannot be reached or used.
    SOURCE_IN_TROUBLE = "821f3f8989454699b426ae044c76bd53";
    /// Some items of a source cannot be compared with 1Password.
    IN_DOUBT = "7172d6566b4e4b0496b81f4c7ba9e8e3";
    /// A source answers again.
    SOURCE_ANSWERS = "0f691057d42e44daaa11ec625da353da";
    /// The value of a secret has changed.
    CHANGED = "b994dff3aa7c49a2983006872d06f92a";
    /// An administrator's value overrides a secret.
    PUT = "a50ff43bc2a943d5abef0a73f6017fcc";
    /// A secret is overridden with its previous value.
    ROLLED_BACK = "73a257ac30b74288bccb4e40134faac5";
    /// An override was removed.
    RELEASED = "33e5099c942c4e80806ca3e545ee97a6";
    /// A file is not published, or no longer published.
    UNPUBLISHED = "da09953a7f5746b1be1da01956263cf1";
    /// A unit was restarted or reloaded because a secret has changed.
    TOLD = "1aff6b650217451687c6c97cf49971ce";
    /// A unit could not be restarted or reloaded, although a secret has changed.
    NOT_TOLD = "ad58f1f8c961455f99a1a756dc6e5ba8";
    /// The restart or reload of a unit is withheld because the unit would be refused a credential.
    WITHHELD = "85d27b29613743a0b1eafd23a5b88be0";
    /// A unit was started again because the cause of its refusal has passed.
    RECOVERED = "6fe23bc0caa94b179a252d41162ce1a8";
    /// A unit failed because systemd could not decrypt a sealed answer.
    UNDECRYPTED = "919f490e65e74054adfe718f49d7b9f2";
    /// A unit or user has used up its share of the budget of a source, or the whole budget is used up.
    SHARE_USED_UP = "4c1de0a9b0f84d6d9fb2c9e0a3d7715e";
    /// The configuration has errors.
    CONFIGURATION_REJECTED = "e04bc59fb56b466aa99fe40cd5671cc0";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    const CATALOG: &str = include_str!("../../../units/catalog/onecred.catalog");

    /// The catalog entries by ID.
    fn entries() -> BTreeMap<&'static str, String> {
        let mut entries: BTreeMap<&str, String> = BTreeMap::new();
        let mut present = None;
        for line in CATALOG.lines().filter(|line| !line.starts_with('#')) {
            if let Some(id) = line.strip_prefix("-- ") {
                assert!(entries.insert(id, String::new()).is_none(), "{id} is there twice");
                present = Some(id);
            } else if let Some(text) = present.and_then(|id| entries.get_mut(id)) {
                text.push_str(line);
                text.push('\n');
            }
        }
        entries
    }

    #[test]
    fn each_id_has_its_entry_and_each_entry_its_id() {
        let entries = entries();
        assert_eq!(entries.keys().copied().collect::<BTreeSet<_>>(), ALL.iter().copied().collect());
        assert_eq!(entries.len(), ALL.len(), "an ID is used twice");
        for (id, text) in entries {
            assert!(id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{id}");
            let (head, body) =
                text.split_once("\n\n").unwrap_or_else(|| panic!("{id}: no empty line: {text}"));
            assert!(head.starts_with("Subject: ") && head.contains("\nDefined-By: onecred"), "{id}: {head}");
            assert!(body.trim().len() > 80, "{id} explains nothing: {body}");
        }
    }

    #[test]
    fn only_fields_that_are_there_are_filled_in() {
        for (id, text) in entries() {
            for field in text.split('@').skip(1).step_by(2) {
                let of_requests =
                    ["ONECRED_UNIT", "ONECRED_CREDENTIAL", "ONECRED_SECRET", "ONECRED_REFERENCE"];
                let known = match id {
                    SOURCE_IN_TROUBLE | IN_DOUBT | SOURCE_ANSWERS | SHARE_USED_UP => &["ONECRED_SOURCE"][..],
                    OPENED | PUT | ROLLED_BACK | RELEASED => &["ONECRED_SECRET"],
                    CHANGED => &["ONECRED_SECRET", "ONECRED_VERSION"],
                    TOLD | NOT_TOLD => &["ONECRED_UNIT", "ONECRED_SECRET"],
                    WITHHELD => &["ONECRED_UNIT", "ONECRED_SECRET", "ONECRED_CREDENTIAL"],
                    RECOVERED => &["ONECRED_UNIT"],
                    UNPUBLISHED | STRANGER | CONFIGURATION_REJECTED => &[],
                    NOT_ALLOWED | OWN_TROUBLE | HUNG_UP | UNDECRYPTED => &of_requests[..2],
                    _ => &of_requests,
                };
                assert!(known.contains(&field), "{id} has no field {field}");
            }
        }
    }
}
