# What a switch does with services whose secrets have another definition.
let
  with' =
    {
      reference ? "op://Servers/api/key",
      content ? "KEY={{key}}\n",
      action ? null,
      more ? { },
    }:
    [
      {
        services.onecred = {
          enable = true;
          secrets.key = {
            inherit reference;
          }
          // (if action == null then { } else { switchAction = action; })
          // more;
          templates."app.env" = {
            inherit content;
          };
        };
        systemd.services.by-name.onecred.credentials.key = "key";
        systemd.services.by-reference.onecred.credentials.key = reference;
        systemd.services.by-file.onecred.environmentFiles = [ "app.env" ];
        systemd.services.by-socket.serviceConfig.LoadCredential = "key:/run/onecred/by-name/key";
        systemd.services.other.serviceConfig.ExecStart = "/bin/true";
      }
    ];
  services = [
    "by-name"
    "by-reference"
    "by-file"
    "by-socket"
    "other"
  ];
  # the services whose triggers differ
  restarted =
    kind: config: evaluate: modules:
    let
      other = (evaluate modules).config;
    in
    builtins.filter (
      name: config.systemd.services.${name}.${kind} != other.systemd.services.${name}.${kind}
    ) services;
in
{
  "another reference" = {
    modules = with' { };
    compared = evaluate: config: {
      "services are restarted" =
        restarted "restartTriggers" config evaluate (with' {
          reference = "op://Servers/api/new";
        }) == [
          "by-name"
          "by-reference"
          "by-file"
          "by-socket"
        ];
      "a template is another one" =
        restarted "restartTriggers" config evaluate (with' {
          content = "KEY={{key}}\nA=b\n";
        }) == [ "by-file" ];
      "an age is not another definition" =
        restarted "restartTriggers" config evaluate (with' {
          more.maxAge = "5m";
        }) == [ ];
      "nothing is reloaded" =
        restarted "reloadTriggers" config evaluate (with' {
          reference = "op://Servers/api/new";
        }) == [ ];
    };
  };
  "a reload instead" = {
    modules = with' { action = "reload"; };
    compared = evaluate: config: {
      "reloaded" =
        restarted "reloadTriggers" config evaluate (with' {
          action = "reload";
          reference = "op://Servers/api/new";
        }) == [
          "by-name"
          "by-socket"
        ];
    };
  };
  "units that are reloaded" = {
    modules = with' { more.reloadUnits = [ "by-n*" ]; };
    holds = config: {
      "no restart" = config.systemd.services.by-name.restartTriggers == [ ];
      "a reload" = builtins.length config.systemd.services.by-name.reloadTriggers == 1;
      "another is restarted" = builtins.length config.systemd.services.by-socket.restartTriggers == 1;
    };
  };
  "nothing at a switch" = {
    modules = with' { action = "none"; } ++ [ { services.onecred.switchAction = "none"; } ];
    holds = config: {
      "no restart" = config.systemd.services.by-name.restartTriggers == [ ];
      "no reload" = config.systemd.services.by-name.reloadTriggers == [ ];
      "nor of files" = config.systemd.services.by-file.restartTriggers == [ ];
    };
  };
}
