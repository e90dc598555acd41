//! What the fuzzer tries on service accounts: what the core and its worker say, and where a token would go.

use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::json;

use super::super::connect::Claims;
use super::items::{self, All, CoreItem, CoreOverview, CoreVault, OneOfAll};
use super::token::{Hosts, Token};
use super::worker::Refused;
use super::{verdict, worker};
use crate::domain::secret::SecretValue;
use crate::fuzzing::{Input, text};
use crate::resolver::items::model::{FullItem, ItemOverview, Vault};
use crate::resolver::service_account::sdk::{CoreError, said};

/// What the core brings: lists, items, batches of such, and errors.
pub(crate) fn core(data: &[u8]) {
    let vaults: Option<Vec<Vault>> =
        read::<Vec<CoreVault>>(data).map(|list| list.into_iter().map(Vault::from).collect());
    let items: Option<Vec<ItemOverview>> =
        read::<Vec<CoreOverview>>(data).map(|list| list.into_iter().map(ItemOverview::from).collect());
    assert!(
        vaults.is_none_or(|list| list.len() <= data.len())
            && items.is_none_or(|list| list.len() <= data.len())
    );
    let one = read::<CoreItem>(data).into_iter();
    let one = one.chain(read::<OneOfAll>(data).and_then(|one| one.content));
    let all = read::<All>(data).into_iter().flat_map(|all| all.individual_responses);
    for item in one.chain(all.filter_map(|one| one.content)) {
        let (id, vault) = (item.id().to_owned(), item.vault_id().to_owned());
        let item = FullItem::from(item);
        assert!(item.id == id && item.vault.is_some_and(|known| known.id == vault));
        assert_eq!(item.fields.iter().filter(|field| field.purpose == "NOTES").count(), 1);
        assert!(item.version.is_some());
    }
    // an error's payload, and its words
    let mut input = Input(data);
    let framed =
        [&[0, 0, 0, 1], u32::try_from(data.len()).unwrap_or_default().to_be_bytes().as_slice(), data]
            .concat();
    assert!(!matches!(said(&framed), CoreError::Broken(_)) || str::from_utf8(data).is_err());
    let _ = said(data);
    let (name, message) = (text(input.upto(0)).into_owned(), text(input.rest()).into_owned());
    let (failure, _) = verdict::of("my.1password.com", "a thing", &Refused::Core { name, message });
    let told = failure.to_string();
    assert!(!told.contains("ops_") && !told.contains(char::is_control) && told.len() < 4_000, "{told}");
    assert!(!told.contains(['"', '`']), "what is quoted may be anything: {told}");
    worker::fuzz(data);
}

fn read<T: serde::de::DeserializeOwned>(json: &[u8]) -> Option<T> {
    let read = items::parse::<T>(json);
    if let Err(why) = &read {
        assert!(
            why.starts_with("it does not have the form of the core's answers (line ") && why.len() < 100,
            "{why}"
        );
    }
    read.ok()
}

/// A token, or the address in one: it goes to hosts that it may go to, and every reader of URLs agrees on which that is.
pub(crate) fn token(data: &[u8]) {
    let mut input = Input(data);
    let made = input.byte() == b'+';
    let address = text(input.rest());
    let secret = match made {
        true => {
            let json = json!({ "signInAddress": address, "userAuth": {}, "email": "a@b", "srpX": "", "muk": {}, "secretKey": "" });
            format!("ops_{}", Base64UrlUnpadded::encode_string(json.to_string().as_bytes())).into_bytes()
        }
        false => data.to_vec(),
    };
    let secret = SecretValue::new(secret);
    let _ = Claims::read(&secret);
    let allowed = vec!["op.example".to_owned(), "*.op.example".to_owned()];
    for (hosts, insecure_loopback) in [(vec![], false), (allowed.clone(), false), (allowed, true)] {
        let own = hosts.is_empty();
        let read = match Token::read(&secret, &Hosts { allowed: hosts, insecure_loopback }) {
            Ok(token) => token,
            Err(error) => {
                let text = text(secret.expose());
                let secret = text.get(4..).unwrap_or_default();
                let ours = secret.contains(' '); // a token has no spaces: the fuzzer has learned our own words
                assert!(secret.len() < 40 || ours || !error.to_string().contains(secret), "{error}");
                continue;
            }
        };
        let host = read.host();
        let theirs = ["1password.com", "1password.ca", "1password.eu"];
        let is_theirs = theirs
            .iter()
            .any(|domain| host.strip_suffix(domain).is_some_and(|sub| sub.len() > 1 && sub.ends_with('.')));
        let is_allowed = host == "op.example" || host.ends_with(".op.example");
        let is_loopback = host == "localhost" || host == "127.0.0.1";
        assert!(is_theirs || (!own && is_allowed) || (insecure_loopback && is_loopback), "{host}");
        if made && let Ok(url) = url::Url::parse(&address) {
            assert_eq!(url.host_str(), Some(host), "{address}");
            assert!(url.scheme() == "https" || (url.scheme() == "http" && is_loopback && insecure_loopback));
            assert!(url.username().is_empty() && url.query().is_none() && url.fragment().is_none());
        }
    }
}
