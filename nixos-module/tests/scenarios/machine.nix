# Packages, metrics and the core.
let
  on = {
    services.onecred.enable = true;
  };
  package = more: {
    services.onecred.package = {
      type = "derivation";
      name = "onecred";
      outPath = "/nix/store/00000000000000000000000000000000-another-onecred";
    }
    // more;
  };
  libraryOf = config: config.services.onecred.rendered.source.library or null;
  core = name: {
    services.onecred.core.package = {
      type = "derivation";
      inherit name;
      outPath = "/nix/store/00000000000000000000000000000000-${name}";
    };
  };
in
{
  "an old Rust" = {
    modules = [
      on
      (package {
        rustVersion = "1.80.1";
        oldestRust = "1.91";
      })
    ];
    faults = [
      "services.onecred.package: onecred needs Rust 1.91 or later, and this nixpkgs has 1.80.1"
    ];
  };
  "a new Rust" = {
    modules = [
      on
      (package {
        rustVersion = "1.100.0";
        oldestRust = "1.91";
      })
    ];
  };
  "a service account has the core" = {
    modules = [ on ];
    holds = config: {
      "its library is configured" =
        builtins.match "/nix/store/.*/lib/onecred/libop_uniffi_core.so" (libraryOf config) != null;
      "and its checksum" =
        builtins.stringLength config.services.onecred.rendered.source.librarySha256 == 64;
    };
  };
  "another core" = {
    modules = [
      on
      (core "my-core")
    ];
    holds = config: {
      "its library is configured" =
        libraryOf config
        == "/nix/store/00000000000000000000000000000000-my-core/lib/onecred/libop_uniffi_core.so";
      "it has no checksum" = !(config.services.onecred.rendered.source ? librarySha256);
    };
  };
  "a library of its own" = {
    modules = [
      on
      { services.onecred.settings.source.library = "/var/lib/onecred/libop_uniffi_core.so"; }
    ];
    holds = config: {
      "it stays" = libraryOf config == "/var/lib/onecred/libop_uniffi_core.so";
      "no core is fetched" = config.services.onecred.core.package == null;
    };
  };
  "Connect needs no core" = {
    modules = [
      on
      {
        services.onecred.settings.source = {
          kind = "connect";
          url = "https://connect.example:8443";
        };
      }
    ];
    holds = config: { "no core is fetched" = config.services.onecred.core.package == null; };
  };
  "sources of several kinds" = {
    modules = [
      on
      {
        services.onecred.sources.a = {
          tokenFile = "/etc/onecred/a";
        };
        services.onecred.sources.b = {
          kind = "connect";
          url = "https://connect.example:8443";
        };
      }
    ];
    holds = config: {
      "the service account has it" = config.services.onecred.rendered.sources.a ? library;
      "Connect does not" = !(config.services.onecred.rendered.sources.b ? library);
      "there is no other source" = !(config.services.onecred.rendered ? source);
    };
  };
  "node exporter" = {
    modules = [
      on
      {
        services.prometheus.exporters.node.enable = true;
        services.onecred.metrics.nodeExporter = true;
      }
    ];
    real = true;
    holds =
      config:
      let
        command = toString config.systemd.services.prometheus-node-exporter.serviceConfig.ExecStart;
        has = part: builtins.replaceStrings [ part ] [ "" ] command != command;
      in
      {
        "it reads the directory" = has "--collector.textfile.directory=/run/onecred-metrics";
        "it collects text files" = has "--collector.textfile ";
        "the directory exists" =
          builtins.elem "d /run/onecred-metrics 0755 root root -" config.systemd.tmpfiles.rules;
        "metrics are written there" =
          (builtins.head config.systemd.services.onecred-metrics.serviceConfig.ReadWritePaths) == "";
      };
  };
  "cross compilation" = {
    modules = [
      on
      {
        nixpkgs.hostPlatform = "aarch64-linux";
        nixpkgs.buildPlatform = "x86_64-linux";
      }
    ];
    real = true;
    holds =
      config:
      let
        inherit (config.services.onecred.package) generator;
        check = config.environment.etc."onecred/secrets.json".source.buildCommand;
        command = "${generator}/bin/onecred check";
      in
      {
        "the build machine's onecred checks" = builtins.replaceStrings [ command ] [ "" ] check != check;
        "it is for the build machine" =
          (generator.stdenv.hostPlatform.system or "x86_64-linux") == "x86_64-linux";
      };
  };
}
