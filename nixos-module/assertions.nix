# Reports mistakes during evaluation that would fail at boot or make a token world-readable. Messages never contain possible secrets.
{
  config,
  lib,
  ...
}:
let
  inherit (lib)
    concatLists
    concatMap
    mapAttrsToList
    optional
    ;
  own = import ./lib.nix { inherit lib; };
  cfg = config.services.onecred;

  fault = message: {
    assertion = false;
    inherit message;
  };
  services = lib.filterAttrs (
    _: unit: unit.onecred.credentials != { } || unit.onecred.environmentFiles != [ ]
  ) config.systemd.services;
  declared = kind: mapAttrsToList (name: written: { inherit kind name written; }) cfg.${kind};
  all = declared "secrets" ++ declared "templates";
  # the names of all entries, each with the options that have it
  places = lib.zipAttrs (
    map ({ kind, name, ... }: { ${name} = "services.onecred.${kind}"; }) all
    ++
      concatMap
        (
          kind:
          concatMap (
            entry: optional (entry ? name) { ${entry.name} = "services.onecred.settings.${kind}"; }
          ) (cfg.settings.${kind} or [ ])
        )
        [
          "secrets"
          "templates"
        ]
  );
  isKnown = name: places ? ${name};
  twice = mapAttrsToList (
    name: where:
    fault "services.onecred: the name ${name} is in ${builtins.concatStringsSep " and " (builtins.sort builtins.lessThan where)}; a name may be declared once"
  ) (lib.filterAttrs (_: where: builtins.length where > 1) places);

  # services with credentials
  ofService =
    service: unit:
    let
      place = "systemd.services.${service}.onecred";
      credential =
        id: what:
        let
          where = "${place}.credentials.${id}";
        in
        optional (own.looksLikeReference what && !own.isReference what) (
          fault "${where}: invalid secret reference; the form is op://VAULT/ITEM/[SECTION/]FIELD, with letters, digits, spaces and _.-"
        )
        ++ map (said: fault "${where}: ${said}") (own.emptyPartSaid what)
        ++ optional (!own.looksLikeReference what && !isKnown what) (
          fault "${where}: neither a secret reference (op://…) nor the name of an entry of services.onecred.secrets or templates"
        )
        ++ tooLong where {
          unit = "${service}.service";
          inherit id;
        };
      file =
        name:
        optional (!isKnown name) (
          fault "${place}.environmentFiles: ${name} is not in services.onecred.secrets or templates"
        );
    in
    optional (!cfg.enable) (
      fault "${place}: onecred is not enabled; set services.onecred.enable = true"
    )
    ++ concatLists (mapAttrsToList credential unit.onecred.credentials)
    ++ concatMap file unit.onecred.environmentFiles;

  tooLong =
    where: claim:
    optional (own.isTooLong claim) (
      fault "${where}: unit ${claim.unit} and credential ID ${claim.id} have more than ${toString own.longest} bytes together, the limit of systemd; use a shorter ID"
    );

  # modules with their own LoadCredential= lines
  hardCoded =
    service: unit:
    let
      place = key: "systemd.services.${service}.serviceConfig.${key}";
      asked = key: where: own.askedAt where (unit.serviceConfig.${key} or [ ]);
      long =
        key: where:
        concatMap (
          id:
          lib.optionals (!(unit.onecred.credentials ? ${id})) (
            tooLong (place key) {
              unit = "${service}.service";
              inherit id;
            }
          )
        ) (asked key where);
      lines = key: unit.serviceConfig.${key} or [ ];
      crossed =
        key: where: right:
        optional (asked key where != [ ]) (
          fault "${place key}: ${where} does not work with this setting; use ${right}"
        );
      crossedByName =
        key: where: right:
        map (
          { name, ... }:
          fault "${place key}: ${where name} does not work with this setting; use services.onecred.secrets.${name}.${right}"
        ) (own.namedAt where (lines key));
      unknownByName =
        key: where:
        concatMap (
          { id, name }:
          optional (!isKnown name) (
            fault "${place key}: ${name} is not in services.onecred.secrets or templates"
          )
          ++ tooLong (place key) {
            unit = "${service}.service";
            inherit id;
          }
        ) (own.namedAt where (lines key));
    in
    unknownByName "LoadCredential" own.socketOf
    ++ unknownByName "LoadCredentialEncrypted" own.sealedSocketOf
    ++ crossedByName "LoadCredential" own.sealedSocketOf "socketPath"
    ++ crossedByName "LoadCredentialEncrypted" own.socketOf "sealedSocketPath"
    ++ long "LoadCredential" own.socket
    ++ long "LoadCredentialEncrypted" own.sealedSocket
    ++ crossed "LoadCredential" own.sealedSocket "config.services.onecred.socket"
    ++ crossed "LoadCredentialEncrypted" own.socket "config.services.onecred.sealedSocket";

  # secrets and templates
  ofEntry =
    {
      kind,
      name,
      written,
    }:
    let
      place = "services.onecred.${kind}.${name}";
      spellings = builtins.filter (key: written.${key} or null != null) [
        "reference"
        "opItem"
      ];
    in
    optional (!own.isName name) (
      fault "${place}: a name has up to 128 letters, digits and ._@-, and begins with a letter, a digit or _"
    )
    ++ lib.optionals (kind == "secrets") (
      optional (builtins.length spellings != 1) (fault "${place}: set one of reference and opItem")
      ++ optional (written.reference != null && !own.isReference written.reference) (
        fault "${place}.reference: invalid secret reference; the form is op://VAULT/ITEM/[SECTION/]FIELD, with letters, digits, spaces and _.-"
      )
    )
    ++ concatMap (
      unit:
      optional
        (builtins.match ".*[.](socket|timer|target|path|mount|automount|swap|slice|scope)" unit != null)
        (
          fault "${place}.services: ${unit} is not a service; add onecred-file@${name}.service to its requires and after"
        )
    ) written.services
    ++ concatMap (entry: tooLong "${place}.units" (own.grant name entry)) written.units
    ++ owner place written;

  owner =
    place: written:
    let
      parts = lib.splitString ":" (if written.owner == null then "root" else written.owner);
      user = builtins.head parts;
      group = if builtins.length parts > 1 then builtins.elemAt parts 1 else written.group;
      isNumber = text: builtins.match "[0-9]+" text != null;
    in
    optional (!isNumber user && !(config.users.users ? ${user})) (
      fault "${place}.owner: user ${user} does not exist in users.users; for a service with DynamicUser, use systemd.services.<name>.onecred.credentials"
    )
    ++ optional (group != null && !isNumber group && !(config.users.groups ? ${group})) (
      fault "${place}.owner: group ${group} does not exist in users.groups"
    );

  # tokens
  tokens = [
    {
      place = "services.onecred";
      token = cfg;
    }
  ]
  ++ mapAttrsToList (name: token: {
    place = "services.onecred.sources.${name}";
    inherit token;
  }) cfg.sources;
  ofToken =
    { place, token }:
    optional (token.tokenFile != null && own.inStore token.tokenFile) (
      fault "${place}.tokenFile: the Nix store is world-readable; set the path as a string, to a file that exists only on the machine"
    )
    ++ optional (token.tokenFile != null && own.holdsToken (toString token.tokenFile)) (
      fault "${place}.tokenFile: this is a token, not the path of a file; it is now in the Nix store, so revoke it"
    )
    ++ optional (token.tokenFile != null && token.tokenCredential != null) (
      fault "${place}: set one of tokenFile and tokenCredential"
    );

  inText = optional (own.holdsToken (builtins.toJSON cfg.rendered)) (
    fault "services.onecred: the configuration contains a token of 1Password, and the Nix store is world-readable; revoke the token, and keep the new one in a file: services.onecred.tokenFile"
  );
  oldRust =
    optional
      (
        cfg.package ? rustVersion
        && builtins.compareVersions cfg.package.rustVersion cfg.package.oldestRust < 0
      )
      (
        fault "services.onecred.package: onecred needs Rust ${cfg.package.oldestRust} or later, and this nixpkgs has ${cfg.package.rustVersion}; use a newer nixpkgs, or set services.onecred.package to a package that was built with one"
      );
in
{
  assertions =
    concatLists (mapAttrsToList ofService services)
    ++ lib.optionals cfg.enable (
      oldRust
      ++ twice
      ++ concatLists (mapAttrsToList hardCoded config.systemd.services)
      ++ concatMap ofEntry all
      ++ concatMap ofToken tokens
      ++ inText
    );
}
