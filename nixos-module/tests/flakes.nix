# The flakes in the documentation: the list of errors, which should be empty. Their machines are evaluated, and nothing is fetched.
{
  lib,
  # by their positions
  flakes,
  # the file that stands for nixpkgs
  packages,
}:
let
  evaluate = import ./evaluate.nix { inherit lib; };
  onecred = (import ../../flake.nix).outputs { self = onecred; };
  inputs = {
    inherit onecred;
    nixpkgs = {
      outPath = packages;
      lib.nixosSystem = machine: machine;
    };
    deploy-rs.lib.x86_64-linux.activate.nixos = machine: machine;
    # other machines of a flake
    self.nixosConfigurations.web = { };
  };
  # what each machine consists of, by its name
  machinesOf =
    outputs:
    lib.mapAttrs (_: machine: machine.modules) (outputs.nixosConfigurations or { })
    // lib.mapAttrs (_: machine: outputs.colmena.defaults.imports ++ [ machine ]) (
      removeAttrs (outputs.colmena or { }) [
        "meta"
        "defaults"
      ]
    );
  ofMachine =
    modules:
    let
      evaluated = evaluate (
        [
          { services.onecred.enable = true; }
          ./elsewhere.nix
        ]
        ++ modules
      );
    in
    evaluated.faults ++ lib.optional (!evaluated.whole) "not whole";
  ofFlake =
    flake:
    let
      outputs = flake.outputs inputs;
      machines = machinesOf outputs;
    in
    lib.optional (machines == { }) "no machine"
    ++ lib.concatLists (lib.mapAttrsToList (_: ofMachine) machines)
    # what is not the module of a machine
    ++
      builtins.deepSeq
        [
          (outputs.colmena.meta.nixpkgs or null)
          (outputs.deploy or null)
        ]
        [ ];
in
lib.concatLists (
  lib.mapAttrsToList (place: flake: map (what: "${place}: ${what}") (ofFlake flake)) flakes
)
