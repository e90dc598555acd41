# onecred's metrics, for node_exporter.
{
  config,
  lib,
  options,
  ...
}:
let
  cfg = config.services.onecred;
  inherit (cfg.metrics) directory;
in
{
  config = lib.mkIf (cfg.enable && directory != null) {
    systemd.services.onecred-metrics = {
      overrideStrategy = "asDropin";
      stopIfChanged = false;
      # an empty entry resets the package's setting
      unitConfig.ConditionPathIsDirectory = [
        ""
        directory
      ];
      serviceConfig = {
        ExecStart = [
          ""
          "${cfg.package}/bin/onecred metrics --output ${directory}/onecred.prom"
        ];
        ReadWritePaths = [
          ""
          "-${directory}"
        ];
      };
    };
    systemd.timers.onecred-metrics = {
      overrideStrategy = "asDropin";
      wantedBy = [ "timers.target" ];
    };
    systemd.tmpfiles.rules = lib.optional cfg.metrics.nodeExporter "d ${directory} 0755 root root -";
    services = lib.optionalAttrs (options.services ? prometheus) {
      prometheus.exporters.node = lib.mkIf cfg.metrics.nodeExporter {
        enabledCollectors = [ "textfile" ];
        extraFlags = [ "--collector.textfile.directory=${directory}" ];
      };
    };
  };
}
