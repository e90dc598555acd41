//! The steps of the login, and the resulting sessions.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::envelope::{Key, base64url, random};
use super::keys::{Keys, id};
use super::srp::{Exchange, exchange};

/// All sessions by ID.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<String, Session>>);

#[derive(Debug)]
struct Session {
    account: Keys,
    exchanged: Option<Exchange>,
    confirmed: bool,
}

/// A failed step: status and reason.
pub(super) type Refusal = (u16, &'static str);

const NO_SESSION: Refusal = (401, "no such session");

impl Sessions {
    /// Step 1: opens a session for an account, which is identified by its email and secret key.
    pub(super) fn start(&self, account: Keys, asked: &Value) -> Result<Value, Refusal> {
        if asked["email"] != account.email.as_str() || asked["skid"] != account.key_id.as_str() {
            return Err((401, "unknown account or secret key"));
        }
        let session = id(&random::<16>()).to_uppercase();
        let answer = json!({ "status": "ok", "sessionID": session, "accountKeyFormat": "A3",
            "accountKeyUuid": account.key_id, "userAuth": account.method() });
        self.lock().insert(session, Session { account, exchanged: None, confirmed: false });
        Ok(answer)
    }

    /// Step 2: exchanges public values.
    pub(super) fn exchange(&self, session: &str, asked: &Value) -> Result<Value, Refusal> {
        let mut sessions = self.lock();
        let session = sessions.get_mut(session).ok_or(NO_SESSION)?;
        let client_public = asked["userA"].as_str().unwrap_or_default();
        let made = exchange(&session.account.identity(), client_public).ok_or((400, "userA is no number"))?;
        let answer = json!({ "userB": made.public });
        session.exchanged = Some(made);
        Ok(answer)
    }

    /// Step 3: both sides prove that they have the same key.
    pub(super) fn confirm(&self, session: &str, asked: &Value) -> Result<Value, Refusal> {
        let mut sessions = self.lock();
        let session = sessions.get_mut(session).ok_or(NO_SESSION)?;
        let made = session.exchanged.as_ref().ok_or((400, "no keys were exchanged"))?;
        if asked["clientVerifyHash"] != base64url(&made.client_proof) {
            return Err((401, "the client's proof is wrong"));
        }
        session.confirmed = true;
        Ok(json!({ "serverVerifyHash": base64url(&made.server_proof) }))
    }

    /// The account and key of a session that is logged in.
    pub(super) fn key(&self, session: &str) -> Result<(Keys, Key), Refusal> {
        let sessions = self.lock();
        let session = sessions.get(session).filter(|session| session.confirmed).ok_or(NO_SESSION)?;
        let exchanged = session.exchanged.as_ref().ok_or(NO_SESSION)?;
        Ok((session.account.clone(), exchanged.key))
    }

    pub(super) fn end(&self, session: &str) {
        self.lock().remove(session);
    }

    pub(super) fn end_all(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
