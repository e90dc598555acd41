# The published files of all entries, and the units that read them.
{
  lib,
  entries,
  root,
  # other paths that lead to files
  others ? [ ],
}:
let
  own = import ./lib.nix { inherit lib; };
  inherit (builtins)
    baseNameOf
    concatMap
    dirOf
    elem
    filter
    listToAttrs
    match
    ;
  published = filter (entry: entry.target or null != null) entries;
  names = map (entry: entry.name) published;
  set =
    values:
    listToAttrs (
      map ({ path, name }: {
        name = path;
        value = name;
      }) values
    );
  paths =
    others
    ++ concatMap (
      {
        name,
        target,
        links ? [ ],
        ...
      }:
      map (path: { inherit path name; }) (links ++ [ target ])
    ) published;
  byPath = set paths;
  # The directories of files and of other paths, with what is in them. A directory that also has other files says nothing.
  directories = builtins.mapAttrs (_: map (one: one.name)) (
    builtins.groupBy (one: one.directory) (
      concatMap ({ path, name }: map (directory: { inherit directory name; }) (above path)) (
        filter (one: match "(/run|.*/opnix)/.*" one.path != null) paths
      )
    )
  );
  above =
    path:
    let
      directory = dirOf path;
    in
    if
      elem directory [
        "/"
        "/run"
        "/var"
        "/var/lib"
        "/etc"
      ]
    then
      [ ]
    else
      [ directory ] ++ above directory;

  # A template unit names a file for each instance: /run/secrets/%i.env. systemd replaces the specifier in dependencies too.
  ofInstances =
    path:
    let
      base = baseNameOf path;
      pattern = builtins.concatStringsSep ".+" (
        map lib.escapeRegex (lib.splitString "%i" (builtins.replaceStrings [ "%I" ] [ "%i" ] base))
      );
      isOne = entry: entry.target == "${dirOf path}/${entry.name}" && match pattern entry.name != null;
    in
    lib.optional (match ".*%[iI].*" base != null && lib.any isOne published) base;

  # The names whose files a path is, or contains.
  ofPath =
    path: if byPath ? ${path} then [ byPath.${path} ] else directories.${path} or (ofInstances path);
in
{
  inherit byPath names;
  targets = listToAttrs (
    map (entry: {
      inherit (entry) name;
      value = entry.target;
    }) published
  );
  # The names of the files that a text mentions.
  mentioned =
    text: if published == [ ] then [ ] else lib.unique (concatMap ofPath (own.pathsIn text));
  # Paths that would be those of entries that are not published.
  missing =
    let
      unpublished = set (
        map (entry: {
          path = "${root}/${entry.name}";
          inherit (entry) name;
        }) (filter (entry: !elem entry.name names) entries)
      );
    in
    text:
    if unpublished == { } then
      [ ]
    else
      map (path: unpublished.${path}) (
        filter (path: unpublished ? ${path} && !(byPath ? ${path})) (own.pathsIn text)
      );
}
