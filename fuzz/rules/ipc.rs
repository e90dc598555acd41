//! What the fuzzer tries on the wire: whatever the other half says, what comes of it is within its limits and fit to be shown.

use std::os::fd::OwnedFd;

use super::client::{FetchedMeta, metadata_of, unpack};
use super::packet;
use super::server::pack;
use super::*;
use crate::fuzzing::{Input, again};

/// An answer to a fetch: its metadata, and the bytes that come along.
pub(crate) fn wire(data: &[u8]) {
    let mut input = Input(data);
    let (json, values) = (input.upto(0), input.rest());
    again::<Question>(json);
    let Ok(Some(meta)) = meta_of(json) else { return };
    // the same again, from what it was read into
    let Ok(once) = serde_json::to_vec(&meta) else { panic!("what was read can't be written") };
    let copy = || serde_json::from_slice::<FetchedMeta>(&once).unwrap_or_else(|error| panic!("{error}"));
    let lengths: Vec<Option<usize>> =
        copy().fields.iter().map(|field| field.as_ref().ok().map(|value| value.len)).collect();
    let whole =
        lengths.iter().flatten().try_fold(0_usize, |sum, len| sum.checked_add(*len)) == Some(values.len());
    let fetched = match unpack(meta, sealed(values)) {
        Ok(fetched) => fetched,
        Err(_) => return,
    };
    assert!(whole, "lengths of {lengths:?} for {} bytes", values.len());
    assert!(fetched.id.vault.len() <= 64 && fetched.id.item.len() <= 64 && !fetched.id.item.contains('/'));
    let mut rest = values;
    for (field, len) in fetched.fields.iter().zip(&lengths) {
        match (field, len) {
            (Ok(got), Some(len)) => {
                let (bytes, after) = rest.split_at(*len);
                rest = after;
                assert!(got.value.expose() == bytes, "another value");
            }
            (Err(failure), None) => is_fit(failure),
            _ => panic!("a value in the place of a failure"),
        }
    }
    // and back over the wire as our own resolver would say it
    let shown = |fetched: &Fetched| {
        let field = |field: &Result<FetchedValue, Failure>| match field {
            Ok(got) => Ok((got.value.expose().to_vec(), got.expires)),
            Err(failure) => Err(failure.clone()),
        };
        (
            fetched.id.clone(),
            fetched.version,
            fetched.vault_version,
            fetched.fields.iter().map(field).collect::<Vec<_>>(),
        )
    };
    let before = shown(&fetched);
    let most = metadata_of(fetched.fields.len());
    let Ok(packet) = pack(Ok(fetched)) else { panic!("an answer can't be packed") };
    let meta = packet::read_meta(packet.meta, most).ok().and_then(|meta| meta_of(&meta).ok().flatten());
    let Some(Ok(back)) = meta.map(|meta| unpack(meta, packet.values)) else {
        panic!("our own answer makes no sense")
    };
    assert_eq!(shown(&back), before);
}

/// Answers to the other questions.
pub(crate) fn answers(data: &[u8]) {
    again::<Question>(data);
    if let Some(Ok(checked)) = again::<Result<Checked, Failure>>(data) {
        for state in checked.items {
            if let ItemState::Gone(failure) | ItemState::Unknown(failure) = state {
                is_fit(&failure.sanitized());
            }
        }
    }
    if let Some(Ok(probed)) = again::<Result<Probed, Failure>>(data) {
        let Probed { at, vaults, .. } = probed.sanitized();
        vaults
            .iter()
            .flat_map(|vault| [&vault.name, &vault.id])
            .chain([&at])
            .for_each(|text| is_shown(text, 200));
    }
    match again::<Result<Status, Failure>>(data) {
        Some(Ok(status)) => {
            for source in status.sanitized().sources {
                is_shown(&source.kind, 100);
                source.core.iter().chain(source.calls.keys()).for_each(|text| is_shown(text, 100));
                source.last_failure.iter().for_each(is_fit);
            }
        }
        Some(Err(failure)) => is_fit(&failure.sanitized()),
        None => {}
    }
}

fn meta_of(json: &[u8]) -> Result<Option<FetchedMeta>, ()> {
    let read = serde_json::from_slice::<Result<FetchedMeta, Failure>>(json);
    match read.map_err(drop)? {
        Ok(meta) => Ok(Some(meta)),
        Err(failure) => {
            is_fit(&failure.sanitized());
            Ok(None)
        }
    }
}

fn sealed(values: &[u8]) -> Option<OwnedFd> {
    if values.is_empty() { None } else { packet::sealed("fuzz", [values].into_iter()).ok() }
}

fn is_shown(text: &str, most: usize) {
    assert!(text.chars().count() <= most && !text.contains(char::is_control), "{text:?}");
}

/// A failure fits in a line of the journal, and asks to be left alone for a reasonable time.
fn is_fit(failure: &Failure) {
    is_shown(&failure.cause, 600);
    is_shown(&failure.remedy, 600);
    assert!(failure.retry_after.is_none_or(|wait| wait <= LONGEST_WAIT));
}
