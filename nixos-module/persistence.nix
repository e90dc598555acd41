# What must survive a reboot on a machine whose root file system does not.
{
  config,
  lib,
  options,
  ...
}:
let
  inherit (builtins) attrNames attrValues filter;
  inherit (lib) concatMap optional optionals;
  cfg = config.services.onecred;

  isTemporary = (config.fileSystems."/".fsType or "") == "tmpfs";
  # the modules impermanence and preservation
  stores =
    optionals (options.environment ? persistence) (
      lib.mapAttrsToList (root: store: store // { inherit root; }) config.environment.persistence
    )
    ++ optionals (options ? preservation) (
      lib.mapAttrsToList (root: store: store // { inherit root; }) (config.preservation.preserveAt or { })
    );
  isImpermanent =
    isTemporary || lib.any (store: store.directories or [ ] != [ ] || store.files or [ ] != [ ]) stores;
  pathOf =
    entry:
    if builtins.isString entry then
      entry
    else
      entry.dirPath or entry.directory or entry.filePath or entry.file or "";
  kept =
    filter (path: path != "/" && (config.fileSystems.${path}.fsType or "") != "tmpfs") (
      attrNames config.fileSystems
    )
    ++ concatMap (
      store: [ store.root ] ++ map pathOf (store.directories or [ ] ++ store.files or [ ])
    ) stores
    # what the configuration creates at each boot
    ++ map (name: "/etc/${name}") (attrNames config.environment.etc);
  isKept =
    path:
    lib.any (one: path == one || lib.hasPrefix "${lib.removeSuffix "/" one}/" path) kept
    || lib.hasPrefix "/run/" path
    || lib.hasPrefix builtins.storeDir path;

  pathsOf =
    key: filter (path: path != null) (map (token: token.${key}) ([ cfg ] ++ attrValues cfg.sources));
  encrypted = pathsOf "tokenCredential";
  # the file of `onecred token set --file`
  usesDefault =
    cfg.tokenFile == null
    && cfg.tokenCredential == null
    && (cfg.settings.source.kind or "service-account") != "file"
    && (cfg.settings ? source || cfg.sources == { })
    && cfg.development.vault == null;
  tokens =
    map toString (pathsOf "tokenFile" ++ encrypted) ++ optional usesDefault "/etc/onecred/token";
  ofKey = optionals (cfg.tokenNeedsHostKey || encrypted == [ ]) [
    "/etc/machine-id"
    "/var/lib/systemd"
  ];
  needed =
    if isTemporary then
      ofKey ++ tokens
    else
      optionals (isImpermanent && cfg.tokenNeedsHostKey && encrypted != [ ]) [ "/var/lib/systemd" ];
  lost = filter (path: !isKept path && !isKept "${path}/credential.secret") (lib.unique needed);
in
{
  config.assertions = lib.mkIf cfg.enable [
    {
      assertion = !cfg.checkPersistence || lost == [ ];
      message = "services.onecred: this machine loses ${builtins.concatStringsSep ", " lost} at reboot; persist each, for example with environment.persistence or fileSystems (for a token that was encrypted with --with-key=tpm2, set services.onecred.tokenNeedsHostKey = false; if you persist them in another way, set services.onecred.checkPersistence = false)";
    }
  ];
}
