# The seconds of a duration such as "1h 30m", as onecred writes durations. Null for anything else.
let
  each = {
    s = 1;
    sec = 1;
    m = 60;
    min = 60;
    h = 3600;
    d = 86400;
  };
  # JSON has no leading zeros
  number = text: builtins.fromJSON (builtins.head (builtins.match "0*([0-9]+)" text));
  part =
    found:
    let
      value = number (builtins.elemAt found 0);
      unit = builtins.elemAt found 1;
    in
    # less than a second is of no use for any limit
    if unit == "ms" then value / 1000 else value * each.${unit};
in
text:
if
  !builtins.isString text
  || builtins.match "[[:space:]]*([0-9]{1,9} *(ms|sec|s|min|m|h|d)[[:space:]]*)+" text == null
then
  null
else
  builtins.foldl' (sum: found: sum + part found) 0 (
    builtins.filter builtins.isList (builtins.split "([0-9]+) *(ms|sec|s|min|m|h|d)" text)
  )
