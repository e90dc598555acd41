//! The configuration as it is written: the types of one file. The JSON Schema comes from them, descriptions included.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::at::At;

/// The configuration of onecred: `/etc/onecred/secrets.json`, or a part of it in `/etc/onecred/secrets.d/*.json`.
///
/// The parts are read after `secrets.json`, in the order of their names. Their `secrets`, `rules` and `templates` are appended,
/// their `sources` united; every other key may stand in one of the files only.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Configuration", extend("examples" = [{ "secrets": [{ "name": "db-password", "reference": "op://Servers/postgres/password", "units": ["app"] }] }]))]
pub(crate) struct Written {
    /// The place that secrets come from, where there is one alone. Without it, and without `sources`: a service account.
    pub(crate) source: Option<At<Source>>,
    /// Several places that secrets come from, by name; a secret picks one by its `source`. A `source` beside it goes by the name `default`.
    #[serde(default)]
    pub(crate) sources: BTreeMap<String, At<Source>>,
    /// What holds for every secret and rule that does not say otherwise.
    pub(crate) defaults: Option<At<Defaults>>,
    /// What the provider allows itself.
    pub(crate) limits: Option<At<Limits>>,
    /// Where files may be published.
    pub(crate) publish: Option<At<Publish>>,
    /// The secrets.
    #[serde(default)]
    pub(crate) secrets: Vec<At<Secret>>,
    /// Files put together from secrets.
    #[serde(default)]
    pub(crate) templates: Vec<At<Template>>,
    /// Rules that give many units many secrets at once. The first one counts that matches both unit and credential ID; secrets go before rules.
    #[serde(default)]
    pub(crate) rules: Vec<At<Rule>>,
    /// Whether units that failed because 1Password was away are started again when it is back.
    #[schemars(extend("default" = true))]
    pub(crate) recover: Option<At<bool>>,
    /// What is written to the journal of a unit that asks.
    #[schemars(extend("default" = "refusals"))]
    pub(crate) audit: Option<At<Audit>>,
    /// Whether every unit is refused when onecred starts and the configuration has errors or can't be read. Otherwise the last configuration
    /// that was valid since boot stays active, and with it what it gives to units, even if the new one was meant to take that away.
    #[schemars(extend("default" = false))]
    pub(crate) strict: Option<At<bool>>,
}

/// What is written to the journal of a unit that asks for a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Audit {
    /// Refusals, and waits of more than 2 seconds.
    #[default]
    Refusals,
    /// Every credential that is given out, too.
    All,
}

/// A place that secrets come from.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("allOf" = super::source_keys::keys_of_kinds()))]
pub(crate) struct Source {
    /// What it is.
    #[schemars(extend("default" = "service-account"))]
    pub(crate) kind: Option<At<Kind>>,
    /// Connect: the server's base URL: https; plain http to a loopback address of this host; `unix:` and the path of a socket; or any
    /// http with `insecure`. On this host the server must run as root or as one of `connectUsers`.
    #[schemars(example = "https://connect.example:8443", example = "unix:/run/connect/api.sock")]
    pub(crate) url: Option<At<String>>,
    /// Connect: let plain http leave this host, and on this host do not check which user answers. The token and every secret can then be read
    /// and changed on the way.
    #[schemars(extend("default" = false))]
    pub(crate) insecure: Option<At<bool>>,
    /// Connect: the users besides root who may run the server on this host, by name or numeric ID. Any local user can listen on a port
    /// where no server does, so the user of a connection's other end is checked before the token is sent.
    #[serde(default)]
    #[schemars(example = ["opconnect"])]
    pub(crate) connect_users: Vec<At<String>>,
    /// Service account and Connect: a PEM file with the certificate authorities to trust instead of the system's. The resolver has to be able to read it.
    #[schemars(example = "/etc/onecred/connect-ca.pem")]
    pub(crate) ca_file: Option<At<String>>,
    /// File: the vault's file. The resolver has to be able to read it.
    #[schemars(example = "/etc/onecred/vault.json")]
    pub(crate) path: Option<At<String>>,
    /// Service account: the library of 1Password's SDK core, libop_uniffi_core.so. It has to be root's. Default: it is looked for
    /// below `/usr/lib/onecred`, `/usr/lib/x86_64-linux-gnu/onecred`, `/usr/local/lib/onecred` and `/var/lib/onecred`.
    #[schemars(example = "/var/lib/onecred/libop_uniffi_core.so")]
    pub(crate) library: Option<At<String>>,
    /// Service account: the SHA-256 that the library must have, in hexadecimal.
    #[schemars(extend("pattern" = "^[0-9a-fA-F]{64}$"))]
    pub(crate) library_sha256: Option<At<String>>,
    /// Service account: hosts that its token may be sent to, besides `*.1password.com`, `*.1password.ca` and `*.1password.eu`.
    #[serde(default)]
    #[schemars(example = ["op.example.com"])]
    pub(crate) allowed_hosts: Vec<At<String>>,
    /// Service account: a proxy on the way to 1Password. No other is used, whatever the environment says.
    #[schemars(example = "http://proxy.example:3128")]
    pub(crate) proxy: Option<At<String>>,
    /// Service account: the most calls in a day, by all `hosts` together. A quarter is kept back for what units can't start without.
    #[schemars(example = 800, range(min = 1, max = 10_000_000), extend("default" = 800))]
    pub(crate) budget: Option<At<u64>>,
    /// Service account: how many machines share `budget`; each has its part of it.
    #[schemars(example = 1, range(min = 1, max = 10_000_000), extend("default" = 1))]
    pub(crate) hosts: Option<At<u64>>,
    /// Service account and Connect: the credential of the resolver's unit that holds the token, as in its `LoadCredential=ID:FILE`.
    /// Default: `token` for `source`, `NAME.token` for one of `sources`.
    #[schemars(example = &"token")]
    pub(crate) token: Option<At<String>>,
}

/// The kinds of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A 1Password service account.
    #[default]
    ServiceAccount,
    /// A 1Password Connect server.
    Connect,
    /// A JSON file in Connect's shapes: a vault for development and tests. Its values are as safe as the file.
    File,
}

/// What holds for every secret and rule that does not say otherwise.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Defaults {
    /// The source, by its name.
    pub(crate) source: Option<At<String>>,
    /// See a secret's `maxAge`.
    #[schemars(example = "30s", extend("default" = "30s"))]
    pub(crate) max_age: Option<At<String>>,
    /// See a secret's `deadline`.
    #[schemars(example = "60s", extend("default" = "60s"))]
    pub(crate) deadline: Option<At<String>>,
    /// See a secret's `refresh`.
    #[schemars(example = "15m", extend("default" = "off"))]
    pub(crate) refresh: Option<At<String>>,
    /// See a secret's `owner`.
    #[schemars(example = "root:root", extend("default" = "root"))]
    pub(crate) owner: Option<At<String>>,
    /// See a secret's `mode`.
    #[schemars(example = "0400", extend("default" = "0400"))]
    pub(crate) mode: Option<At<String>>,
}

/// What the provider allows itself.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Limits {
    /// The most that snapshots of secrets may take in memory, from `1MiB` to `4GiB`; a ramfs has no limit of its own. `K`, `M` and `G` are understood too.
    #[schemars(example = "64MiB", extend("default" = "64MiB"))]
    pub(crate) store_size: Option<At<String>>,
    /// The most connections that are answered at once, 1 to 512; further ones wait.
    #[schemars(example = 512, range(min = 1, max = 512), extend("default" = 512))]
    pub(crate) connections: Option<At<u64>>,
}

/// Where files may be published.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Publish {
    /// Directories that targets may be in, besides `/run/secrets` and `/run/onecred/files`: each below `/run`, and a mount point of a ramfs, or of a
    /// tmpfs with `noswap`. The provider has to be let write there, by a drop-in with `ReadWritePaths=`.
    #[serde(default)]
    #[schemars(example = ["/run/app-secrets"])]
    pub(crate) roots: Vec<At<String>>,
}

/// A secret: what it is in 1Password, and who may have it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["reference"] }, { "required": ["opItem"] }], "dependentRequired" = { "opField": ["opItem"] }, "examples" = [{ "name": "db-password", "reference": "op://Servers/postgres/password", "units": ["app"] }]))]
pub(crate) struct Secret {
    /// Its name: letters, digits and any of `._@-`. Also the credential ID that units ask for, unless `units` says another.
    #[schemars(required, example = "db-password")]
    pub(crate) name: Option<At<String>>,
    /// The secret reference, as the 1Password apps copy it: `op://VAULT/ITEM/[SECTION/]FIELD`, with names or IDs;
    /// `?attribute=otp` at its end asks for the current code of a one-time password, `?ssh-format=openssh` for a private key in OpenSSH's format.
    #[schemars(example = "op://Servers/postgres/password")]
    pub(crate) reference: Option<At<String>>,
    /// Instead of `reference`: vault and item, as `VAULT/ITEM`.
    #[schemars(example = "Infrastructure Secrets/openai-api-key")]
    pub(crate) op_item: Option<At<String>>,
    /// With `opItem`: the field, as `FIELD` or `SECTION/FIELD`.
    #[schemars(example = &"password", extend("default" = "password"))]
    pub(crate) op_field: Option<At<String>>,
    /// The units that may have it, by name or glob (`*`, `?`, `[…]`); nobody else gets it. `.service` is understood.
    /// `UNIT/ID` says under which credential ID that unit asks; otherwise it is the secret's name.
    /// A unit that is named goes before one that a glob matches. Unit and ID may have 83 bytes together: systemd can't ask for more.
    #[serde(default)]
    #[schemars(example = ["app", "web@*.service", "opencode.service/openai-key"])]
    pub(crate) units: Vec<At<String>>,
    /// The source, by its name, where there are several.
    pub(crate) source: Option<At<String>>,
    /// A file that the secret is published to as well, for programs that read paths: below `/run/secrets`, `/run/onecred/files` or one of `publish.roots`.
    /// What reads it is ordered after `onecred-file@NAME.service`.
    #[schemars(example = "/run/secrets/openai-api-key")]
    pub(crate) target: Option<At<String>>,
    /// With `target`: symbolic links to the file, for programs that insist on a path of theirs, below `/etc`, `/run`, `/var/lib`, `/opt` or `/root`.
    /// Their directories must belong to root and be writable only by root. The provider needs a drop-in to write there; the error shows it.
    #[serde(default)]
    #[schemars(example = ["/etc/app/key.pem"])]
    pub(crate) links: Vec<At<String>>,
    /// With `links`: whether missing directories of links are created. They belong to root with mode 0755, and are removed when they are empty and
    /// no longer configured. Directories of the target are always created.
    #[schemars(extend("default" = false))]
    pub(crate) make_directories: Option<At<bool>>,
    /// With `target`: the file's owner, as `USER` or `USER:GROUP`, by name or number.
    #[schemars(example = "opencode:opencode", extend("default" = "root"))]
    pub(crate) owner: Option<At<String>>,
    /// With `target`: the file's group, where `owner` names none. Default: the owner's own.
    #[schemars(example = &"opencode")]
    pub(crate) group: Option<At<String>>,
    /// With `target`: the file's permissions in octal. Nobody but the owner may be let write.
    #[schemars(example = "0400", extend("default" = "0400", "pattern" = "^0?[0-7]{3}$"))]
    pub(crate) mode: Option<At<String>>,
    /// How old the secret may get before it is compared with 1Password again: a duration from `1s` to `30d` (`30s`, `5m`, `1h 30m`);
    /// `session`: never, what was fetched stays good until the next boot; `always`: at every request.
    #[schemars(example = "30s", extend("default" = "30s"))]
    pub(crate) max_age: Option<At<String>>,
    /// How long a unit is kept waiting while 1Password can't be reached, before it is refused: a duration from `1s` to `10m`.
    /// Keep it below the unit's `TimeoutStartSec=` (90 s by default).
    #[schemars(example = "60s", extend("default" = "60s"))]
    pub(crate) deadline: Option<At<String>>,
    /// Whether an empty field is a value. Otherwise a unit that asks for it is refused: it is nearly always a mistake, and nobody notices.
    #[schemars(extend("default" = false))]
    pub(crate) allow_empty: Option<At<bool>>,
    /// Whether line feeds and carriage returns at the end of the value are left out, however many there are. Spaces stay. A value of which nothing
    /// is left counts as empty.
    #[schemars(extend("default" = false))]
    pub(crate) trim: Option<At<bool>>,
    /// How often the secret is compared with 1Password by itself, and not only when a unit asks: a duration from `1m` to `30d`, or `off`. One check
    /// compares all secrets of a source, and a secret that it finds changed is fetched at once, whatever its interval. What has changed is published anew, and told to
    /// `restartUnits` and `reloadUnits`.
    #[schemars(example = "15m", extend("default" = "off"))]
    pub(crate) refresh: Option<At<String>>,
    /// Units to restart when the secret has changed, by name or glob.
    #[serde(default)]
    #[schemars(example = ["app@*.service"])]
    pub(crate) restart_units: Vec<At<String>>,
    /// Units to reload when the secret has changed, by name or glob.
    #[serde(default)]
    #[schemars(example = ["nginx"])]
    pub(crate) reload_units: Vec<At<String>>,
    /// Units to send a signal when the secret has changed, by name or glob, each with the signal: `SIGHUP`, `SIGUSR1`, `SIGUSR2`, `SIGINT`, `SIGQUIT`,
    /// `SIGTERM`, `SIGCONT` or `SIGWINCH`. The main process gets it.
    #[serde(default)]
    #[schemars(extend("examples" = [{ "app": "SIGHUP" }]))]
    pub(crate) signal_units: BTreeMap<String, At<String>>,
    /// Units that are restarted, reloaded or signalled first. The others follow only if these are still active after a time.
    pub(crate) wave: Option<At<Wave>>,
}

/// Units that come first when a secret or template has changed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("examples" = [{ "units": ["app@1"], "after": "10m" }]))]
pub(crate) struct Wave {
    /// The units, by name or glob. Each has to be in `restartUnits`, `reloadUnits` or `signalUnits` as well.
    #[schemars(required, example = ["app@1"])]
    pub(crate) units: Option<Vec<At<String>>>,
    /// How long they have to be active before the others follow: a duration from `1s` to `1d`. If one of them fails, the others keep the old value.
    #[schemars(required, example = "10m")]
    pub(crate) after: Option<At<String>>,
}

/// A rule: gives many units many secrets, each by a reference made from the unit's name and the credential ID.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("examples" = [{ "units": ["app@*.service"], "reference": "op://Servers/{instance}/{credential}" }]))]
pub(crate) struct Rule {
    /// The units, by name or glob; `.service` is understood.
    #[schemars(required, example = ["app@*.service"])]
    pub(crate) units: Option<Vec<At<String>>>,
    /// The credential IDs, by name or glob.
    #[schemars(example = ["*"], extend("default" = ["*"]))]
    pub(crate) credentials: Option<Vec<At<String>>>,
    /// The secret reference, with placeholders: `{unit}` is the unit's name without its type (of a unit without `@`),
    /// `{prefix}` what stands before its `@`, `{instance}` what stands after it, `{credential}` the credential ID. What a placeholder stands in is matched by title alone, never by ID,
    /// and a request is refused where a placeholder would be empty or hold a character that a reference can't hold.
    #[schemars(required, example = "op://Servers/{instance}/{credential}")]
    pub(crate) reference: Option<At<String>>,
    /// The source, by its name, where there are several.
    pub(crate) source: Option<At<String>>,
    /// See a secret's `maxAge`.
    #[schemars(example = "30s", extend("default" = "30s"))]
    pub(crate) max_age: Option<At<String>>,
    /// See a secret's `deadline`.
    #[schemars(example = "60s", extend("default" = "60s"))]
    pub(crate) deadline: Option<At<String>>,
}

/// A file put together from secrets.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Template {
    /// Its name: letters, digits and any of `._@-`. Also the credential ID that units ask for, unless `units` says another.
    #[schemars(required, example = "opencode.env")]
    pub(crate) name: Option<At<String>>,
    /// Its text. `{{NAME}}` stands for the value of the secret of that name, `{{op://VAULT/ITEM/FIELD}}` for what a reference gives. A reference
    /// without braces is an error. `{{{{` is `{{` itself, and `{{"op://"}}` is `op://` itself. A value is escaped by where it stands, as `escape` says; `{{NAME | json}}`, `env`, `yaml`, `toml` or `raw` says otherwise for one place.
    /// `{{NAME | trim}}` leaves line feeds and carriage returns at the end of the value out; `{{NAME | trim | json}}` does both.
    #[schemars(required, example = "OPENAI_API_KEY={{openai-api-key}}\n")]
    pub(crate) content: Option<At<String>>,
    /// What kind of file it is, so that values come out in it exactly as they are. Default: by the ending of `target`, or else of `name`.
    pub(crate) escape: Option<At<Escape>>,
    /// The source of references in the content, by its name, where there are several.
    pub(crate) source: Option<At<String>>,
    /// See a secret's `target`.
    #[schemars(example = "/run/secrets/opencode.env")]
    pub(crate) target: Option<At<String>>,
    /// See a secret's `links`.
    #[serde(default)]
    #[schemars(example = ["/etc/opencode/env"])]
    pub(crate) links: Vec<At<String>>,
    /// See a secret's `makeDirectories`.
    #[schemars(extend("default" = false))]
    pub(crate) make_directories: Option<At<bool>>,
    /// See a secret's `owner`.
    #[schemars(example = &"opencode", extend("default" = "root"))]
    pub(crate) owner: Option<At<String>>,
    /// See a secret's `group`.
    #[schemars(example = &"opencode")]
    pub(crate) group: Option<At<String>>,
    /// See a secret's `mode`.
    #[schemars(example = "0400", extend("default" = "0400", "pattern" = "^0?[0-7]{3}$"))]
    pub(crate) mode: Option<At<String>>,
    /// See a secret's `units`.
    #[serde(default)]
    #[schemars(example = ["opencode"])]
    pub(crate) units: Vec<At<String>>,
    /// How often the values in the content are compared with 1Password by themselves, those of secrets and of references. See a secret's `refresh`.
    #[schemars(example = "15m", extend("default" = "off"))]
    pub(crate) refresh: Option<At<String>>,
    /// Units to restart when one of the values has changed. See a secret's `restartUnits`.
    #[serde(default)]
    #[schemars(example = ["app@*.service"])]
    pub(crate) restart_units: Vec<At<String>>,
    /// Units to reload when one of the values has changed. See a secret's `reloadUnits`.
    #[serde(default)]
    #[schemars(example = ["nginx"])]
    pub(crate) reload_units: Vec<At<String>>,
    /// Units to send a signal when one of the values has changed. See a secret's `signalUnits`.
    #[serde(default)]
    #[schemars(extend("examples" = [{ "app": "SIGHUP" }]))]
    pub(crate) signal_units: BTreeMap<String, At<String>>,
    /// See a secret's `wave`.
    pub(crate) wave: Option<At<Wave>>,
}

/// The kinds of files that templates make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Escape {
    /// A file for `EnvironmentFile=`. The content is read as systemd reads it. A value with a placeholder in it is written in double quotes, unless it has only letters, digits and `_-./:@%+,=^`.
    Env,
    /// An environment file for containers: `podman --env-file`, a quadlet's `EnvironmentFile=`, docker. They keep quotes as part of a value, so that values are written without. A value of several lines is refused.
    Container,
    /// A JSON file. Within a string a placeholder is a part of it, outside of one it is a whole string.
    Json,
    /// A YAML file. Within double quotes a placeholder is a part of the string, outside of quotes it is a whole string. Single quotes, block scalars and text without quotes can't hold one.
    Yaml,
    /// A TOML file. Within double quotes a placeholder is a part of the string, outside of quotes it is a whole string. Single quotes can't hold one.
    Toml,
    /// Any other file: values stand in it as they are.
    Raw,
}
