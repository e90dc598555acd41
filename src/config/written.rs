//! The types of one configuration file. The JSON Schema and its descriptions are generated from them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::at::At;

/// The configuration of onecred: `/etc/onecred/secrets.json`, or a part of it in `/etc/onecred/secrets.d/*.json`.
///
/// The parts are read after `secrets.json`, in alphabetical order. Their `secrets`, `rules` and `templates` are appended, and their
/// `sources` are merged. Every other key may appear in only one of the files.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Configuration", extend("examples" = [{ "secrets": [{ "name": "db-password", "reference": "op://Servers/postgres/password", "units": ["app"] }] }]))]
pub(crate) struct Written {
    /// The source of all secrets, if there is only one. Without `source` and `sources`, it is a service account.
    pub(crate) source: Option<At<Source>>,
    /// Several sources, by name. A secret selects one with its `source`. If `source` is set too, it has the name `default`.
    #[serde(default)]
    pub(crate) sources: BTreeMap<String, At<Source>>,
    /// Defaults for all secrets and rules.
    pub(crate) defaults: Option<At<Defaults>>,
    /// Limits of the provider.
    pub(crate) limits: Option<At<Limits>>,
    /// Directories in which files may be published.
    pub(crate) publish: Option<At<Publish>>,
    /// The secrets.
    #[serde(default)]
    pub(crate) secrets: Vec<At<Secret>>,
    /// Files that contain secrets.
    #[serde(default)]
    pub(crate) templates: Vec<At<Template>>,
    /// Rules that grant many secrets to many units. The first rule that matches both the unit and the credential ID applies. Secrets take
    /// precedence over rules.
    #[serde(default)]
    pub(crate) rules: Vec<At<Rule>>,
    /// Whether units that failed because 1Password was unreachable are started again once it is reachable.
    #[schemars(extend("default" = true))]
    pub(crate) recover: Option<At<bool>>,
    /// Which requests are logged to the journal of the unit.
    #[schemars(extend("default" = "refusals"))]
    pub(crate) audit: Option<At<Audit>>,
    /// Whether all units are refused if the configuration has errors or cannot be read when onecred starts. If false, the last
    /// configuration that was valid since boot stays active, including access that the new configuration was meant to remove.
    #[schemars(extend("default" = false))]
    pub(crate) strict: Option<At<bool>>,
}

/// Which requests for a credential are logged to the journal of the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Audit {
    /// Refusals, and waits of more than 2 seconds.
    #[default]
    Refusals,
    /// Also every credential that is delivered.
    All,
}

/// A source of secrets.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("allOf" = super::source_keys::keys_of_kinds()))]
pub(crate) struct Source {
    /// The type of the source.
    #[schemars(extend("default" = "service-account"))]
    pub(crate) kind: Option<At<Kind>>,
    /// Connect: the server's base URL. Valid schemes are https, plain http to a loopback address of this host, `unix:` with the path of a socket,
    /// and with `insecure` any http. On this host, the server must run as root or as a user in `connectUsers`.
    #[schemars(example = "https://connect.example:8443", example = "unix:/run/connect/api.sock")]
    pub(crate) url: Option<At<String>>,
    /// Connect: allow plain http to other hosts, and do not check which user runs the server on this host. Others can then read and change
    /// the token and all secrets in transit.
    #[schemars(extend("default" = false))]
    pub(crate) insecure: Option<At<bool>>,
    /// Connect: the users besides root that may run the server on this host, by name or numeric ID. Any local user can listen on a port
    /// that no server uses, so onecred checks the user at the other end of a connection before it sends the token.
    #[serde(default)]
    #[schemars(example = ["opconnect"])]
    pub(crate) connect_users: Vec<At<String>>,
    /// Service account and Connect: a PEM file with the certificate authorities to trust instead of those of the system. The resolver must
    /// be able to read it.
    #[schemars(example = "/etc/onecred/connect-ca.pem")]
    pub(crate) ca_file: Option<At<String>>,
    /// File: the path of the vault file. The resolver must be able to read it.
    #[schemars(example = "/etc/onecred/vault.json")]
    pub(crate) path: Option<At<String>>,
    /// Service account: the library of 1Password's SDK core, libop_uniffi_core.so. It must be owned by root. Default: onecred searches
    /// `/usr/lib/onecred`, `/usr/lib/x86_64-linux-gnu/onecred`, `/usr/local/lib/onecred` and `/var/lib/onecred`.
    #[schemars(example = "/var/lib/onecred/libop_uniffi_core.so")]
    pub(crate) library: Option<At<String>>,
    /// Service account: the SHA-256 that the library must have, in hexadecimal.
    #[schemars(extend("pattern" = "^[0-9a-fA-F]{64}$"))]
    pub(crate) library_sha256: Option<At<String>>,
    /// Service account: hosts to which the token may be sent, in addition to `*.1password.com`, `*.1password.ca` and `*.1password.eu`.
    #[serde(default)]
    #[schemars(example = ["op.example.com"])]
    pub(crate) allowed_hosts: Vec<At<String>>,
    /// Service account: the proxy for connections to 1Password. Proxy settings in the environment are ignored.
    #[schemars(example = "http://proxy.example:3128")]
    pub(crate) proxy: Option<At<String>>,
    /// Service account: the maximum number of calls in 24 hours by all machines together. A quarter is reserved for values that units need
    /// to start.
    #[schemars(example = 800, range(min = 1, max = 10_000_000), extend("default" = 800))]
    pub(crate) budget: Option<At<u64>>,
    /// Service account: how many machines share the `budget`. Each may use an equal part of it.
    #[schemars(example = 1, range(min = 1, max = 10_000_000), extend("default" = 1))]
    pub(crate) hosts: Option<At<u64>>,
    /// Service account and Connect: the credential of the resolver's unit that contains the token, as in its `LoadCredential=ID:FILE`.
    /// Default: `token` for `source`, `NAME.token` for an entry of `sources`.
    #[schemars(example = &"token")]
    pub(crate) token: Option<At<String>>,
}

/// The types of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A 1Password service account.
    #[default]
    ServiceAccount,
    /// A 1Password Connect server.
    Connect,
    /// A JSON file in the format of Connect, as a vault for development and tests. Its values are stored in plain text.
    File,
}

/// Defaults for all secrets and rules.
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

/// Limits of the provider.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Limits {
    /// The maximum size of all fetched values in memory, from `1MiB` to `4GiB`, and that of all published files. onecred enforces the limit,
    /// because a ramfs has none, and sets `MemoryMax=` accordingly. The machine must have enough memory for both. `K`, `M` and `G` are
    /// accepted too.
    #[schemars(example = "64MiB", extend("default" = "64MiB"))]
    pub(crate) store_size: Option<At<String>>,
    /// How many connections are served at the same time, 1 to 512. Further ones wait.
    #[schemars(example = 512, range(min = 1, max = 512), extend("default" = 512))]
    pub(crate) connections: Option<At<u64>>,
}

/// Directories in which files may be published.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Publish {
    /// Directories for targets, in addition to `/run/secrets` and `/run/onecred/files`. Each must be below `/run` and a mount point of a
    /// ramfs, or of a tmpfs with `noswap`. Grant the provider write access with a `ReadWritePaths=` drop-in.
    #[serde(default)]
    #[schemars(example = ["/run/app-secrets"])]
    pub(crate) roots: Vec<At<String>>,
}

/// A secret: its reference in 1Password, and the units that may load it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["reference"] }, { "required": ["opItem"] }], "dependentRequired" = { "opField": ["opItem"] }, "examples" = [{ "name": "db-password", "reference": "op://Servers/postgres/password", "units": ["app"] }]))]
pub(crate) struct Secret {
    /// The name: letters, digits and any of `._@-`. It is also the credential ID, unless `units` sets another one.
    #[schemars(required, example = "db-password")]
    pub(crate) name: Option<At<String>>,
    /// The secret reference, as copied from the 1Password apps: `op://VAULT/ITEM/[SECTION/]FIELD`, with names or IDs. With `?attribute=otp`
    /// at the end, the value is the current code of a one-time password. With `?ssh-format=openssh`, it is the private key in OpenSSH
    /// format.
    #[schemars(example = "op://Servers/postgres/password")]
    pub(crate) reference: Option<At<String>>,
    /// Instead of `reference`: the vault and item, as `VAULT/ITEM`.
    #[schemars(example = "Infrastructure Secrets/openai-api-key")]
    pub(crate) op_item: Option<At<String>>,
    /// With `opItem`: the field, as `FIELD` or `SECTION/FIELD`.
    #[schemars(example = &"password", extend("default" = "password"))]
    pub(crate) op_field: Option<At<String>>,
    /// The units that may load the secret, by name or glob (`*`, `?`, `[…]`). The suffix `.service` is optional. `UNIT/ID` sets the
    /// credential ID for that unit; otherwise it is the secret's name. A name takes precedence over a glob. The unit name and the ID may
    /// have at most 83 bytes together, a limit of systemd.
    #[serde(default)]
    #[schemars(example = ["app", "web@*.service", "opencode.service/openai-key"])]
    pub(crate) units: Vec<At<String>>,
    /// The source, by its name. Required if there are several.
    pub(crate) source: Option<At<String>>,
    /// A file to which the secret is also published, for programs that read a fixed path. It must be below `/run/secrets`,
    /// `/run/onecred/files` or one of `publish.roots`. Order units that read it after `onecred-file@NAME.service`.
    #[schemars(example = "/run/secrets/openai-api-key")]
    pub(crate) target: Option<At<String>>,
    /// With `target`: symbolic links to the file, for programs that require another path, below `/etc`, `/run`, `/var/lib`, `/opt` or
    /// `/root`. Their directories must belong to root and be writable only by root. The provider needs a drop-in to write there; the error
    /// message shows it.
    #[serde(default)]
    #[schemars(example = ["/etc/app/key.pem"])]
    pub(crate) links: Vec<At<String>>,
    /// With `links`: whether missing directories of links are created. They belong to root with mode 0755, and are removed when they are
    /// empty and no longer configured. Directories of the target are always created.
    #[schemars(extend("default" = false))]
    pub(crate) make_directories: Option<At<bool>>,
    /// With `target`: the file's owner, as `USER` or `USER:GROUP`, by name or number.
    #[schemars(example = "opencode:opencode", extend("default" = "root"))]
    pub(crate) owner: Option<At<String>>,
    /// With `target`: the file's group, if `owner` does not set it. Default: the owner's primary group.
    #[schemars(example = &"opencode")]
    pub(crate) group: Option<At<String>>,
    /// With `target`: the file's permissions in octal. Only the owner may have write permission.
    #[schemars(example = "0400", extend("default" = "0400", "pattern" = "^0?[0-7]{3}$"))]
    pub(crate) mode: Option<At<String>>,
    /// How long a cached value is served before it is compared with 1Password again: a duration from `1s` to `30d` (`30s`, `5m`, `1h 30m`).
    /// `session`: the value is not compared again until the next boot. `always`: it is compared at every request.
    #[schemars(example = "30s", extend("default" = "30s"))]
    pub(crate) max_age: Option<At<String>>,
    /// How long a unit waits while 1Password is unreachable before it is refused: a duration from `1s` to `10m`. Set it lower than the
    /// unit's `TimeoutStartSec=` (90 s by default).
    #[schemars(example = "60s", extend("default" = "60s"))]
    pub(crate) deadline: Option<At<String>>,
    /// Whether an empty field is a valid value. If false, units are refused an empty value, because it is nearly always a mistake.
    #[schemars(extend("default" = false))]
    pub(crate) allow_empty: Option<At<bool>>,
    /// Whether all line feeds and carriage returns at the end of the value are removed. Spaces are kept. If nothing is left, the value
    /// counts as empty.
    #[schemars(extend("default" = false))]
    pub(crate) trim: Option<At<bool>>,
    /// How often onecred compares the secret with 1Password even if no unit requests it: a duration from `1m` to `30d`, or `off`. One check
    /// compares all secrets of a source, and a secret that has changed is fetched at once, whatever its interval. Its file is published
    /// again, and `restartUnits`, `reloadUnits` and `signalUnits` take effect.
    #[schemars(example = "15m", extend("default" = "off"))]
    pub(crate) refresh: Option<At<String>>,
    /// Units to restart when the secret changes, by name or glob.
    #[serde(default)]
    #[schemars(example = ["app@*.service"])]
    pub(crate) restart_units: Vec<At<String>>,
    /// Units to reload when the secret changes, by name or glob.
    #[serde(default)]
    #[schemars(example = ["nginx"])]
    pub(crate) reload_units: Vec<At<String>>,
    /// Units that receive a signal when the secret changes, by name or glob, each with the signal: `SIGHUP`, `SIGUSR1`, `SIGUSR2`,
    /// `SIGINT`, `SIGQUIT`, `SIGTERM`, `SIGCONT` or `SIGWINCH`. The main process receives it.
    #[serde(default)]
    #[schemars(extend("examples" = [{ "app": "SIGHUP" }]))]
    pub(crate) signal_units: BTreeMap<String, At<String>>,
    /// Units that are restarted, reloaded or signalled first. The others follow only if these are still active after a delay.
    pub(crate) wave: Option<At<Wave>>,
}

/// Units that get a new value of a secret or template first.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("examples" = [{ "units": ["app@1"], "after": "10m" }]))]
pub(crate) struct Wave {
    /// The units, by name or glob. Each must also be in `restartUnits`, `reloadUnits` or `signalUnits`.
    #[schemars(required, example = ["app@1"])]
    pub(crate) units: Option<Vec<At<String>>>,
    /// How long they must be active before the others follow: a duration from `1s` to `1d`. If one of them fails, the others keep the old
    /// value.
    #[schemars(required, example = "10m")]
    pub(crate) after: Option<At<String>>,
}

/// A rule: grants many secrets to many units. The reference is made from the unit's name and the credential ID.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("examples" = [{ "units": ["app@*.service"], "reference": "op://Servers/{instance}/{credential}" }]))]
pub(crate) struct Rule {
    /// The units, by name or glob. The suffix `.service` is optional.
    #[schemars(required, example = ["app@*.service"])]
    pub(crate) units: Option<Vec<At<String>>>,
    /// The credential IDs, by name or glob.
    #[schemars(example = ["*"], extend("default" = ["*"]))]
    pub(crate) credentials: Option<Vec<At<String>>>,
    /// The secret reference, with placeholders: `{unit}` is the unit's name without its type (only for units without `@`), `{prefix}` the
    /// part before the `@`, `{instance}` the part after it, and `{credential}` the credential ID. A part of the reference with a
    /// placeholder matches only titles, never IDs. A request is refused if a placeholder would be empty or contain a character that
    /// references do not allow.
    #[schemars(required, example = "op://Servers/{instance}/{credential}")]
    pub(crate) reference: Option<At<String>>,
    /// The source, by its name. Required if there are several.
    pub(crate) source: Option<At<String>>,
    /// See a secret's `maxAge`.
    #[schemars(example = "30s", extend("default" = "30s"))]
    pub(crate) max_age: Option<At<String>>,
    /// See a secret's `deadline`.
    #[schemars(example = "60s", extend("default" = "60s"))]
    pub(crate) deadline: Option<At<String>>,
}

/// A file that contains secrets.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Template {
    /// The name: letters, digits and any of `._@-`. It is also the credential ID, unless `units` sets another one.
    #[schemars(required, example = "opencode.env")]
    pub(crate) name: Option<At<String>>,
    /// The text of the file. `{{NAME}}` is replaced by the value of the secret NAME, and `{{op://VAULT/ITEM/FIELD}}` by the value of a
    /// reference. A reference without braces is an error. Write `{{{{` for `{{`, and `{{"op://"}}` for `op://`. Values are escaped as
    /// `escape` defines. `{{NAME | json}}`, `env`, `yaml`, `toml` or `raw` selects another escape for one place. `{{NAME | trim}}` removes
    /// line feeds and carriage returns at the end of the value; `{{NAME | trim | json}}` does both.
    #[schemars(required, example = "OPENAI_API_KEY={{openai-api-key}}\n")]
    pub(crate) content: Option<At<String>>,
    /// The type of the file, which determines how values are escaped. Default: the extension of `target`, or else of `name`.
    pub(crate) escape: Option<At<Escape>>,
    /// The source of references in the content, by its name. Required if there are several.
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
    /// How often onecred compares the secrets and references in the content with 1Password. See a secret's `refresh`.
    #[schemars(example = "15m", extend("default" = "off"))]
    pub(crate) refresh: Option<At<String>>,
    /// Units to restart when one of the values changes. See a secret's `restartUnits`.
    #[serde(default)]
    #[schemars(example = ["app@*.service"])]
    pub(crate) restart_units: Vec<At<String>>,
    /// Units to reload when one of the values changes. See a secret's `reloadUnits`.
    #[serde(default)]
    #[schemars(example = ["nginx"])]
    pub(crate) reload_units: Vec<At<String>>,
    /// Units that receive a signal when one of the values changes. See a secret's `signalUnits`.
    #[serde(default)]
    #[schemars(extend("examples" = [{ "app": "SIGHUP" }]))]
    pub(crate) signal_units: BTreeMap<String, At<String>>,
    /// See a secret's `wave`.
    pub(crate) wave: Option<At<Wave>>,
}

/// The types of files that templates produce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Escape {
    /// A file for `EnvironmentFile=`, with the syntax of systemd. A value with a placeholder is written in double quotes, unless it
    /// contains only letters, digits and `_-./:@%+,=^`.
    Env,
    /// An environment file for containers: `podman --env-file`, the `EnvironmentFile=` of a quadlet, or docker. These keep quotes as part
    /// of a value, so values are written without quotes. A value of several lines is refused.
    Container,
    /// A JSON file. A placeholder inside a string becomes a part of it. A placeholder outside of strings becomes a whole string.
    Json,
    /// A YAML file. A placeholder in double quotes becomes a part of the string. A placeholder outside of quotes becomes a whole string.
    /// Single quotes, block scalars and plain scalars cannot contain a placeholder.
    Yaml,
    /// A TOML file. A placeholder in double quotes becomes a part of the string. A placeholder outside of quotes becomes a whole string.
    /// Single quotes cannot contain a placeholder.
    Toml,
    /// Any other file: values are inserted unchanged.
    Raw,
}
