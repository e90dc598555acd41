# A time span of systemd, such as "1h 30min" or "900", as onecred writes durations. The result is within the limits of `refresh`.
{ lib }:
let
  # JSON has no leading zeros
  number = text: builtins.fromJSON (builtins.head (builtins.match "0*([0-9]+)" text));
  seconds = {
    "" = 1;
    s = 1;
    sec = 1;
    second = 1;
    seconds = 1;
    m = 60;
    min = 60;
    minute = 60;
    minutes = 60;
    h = 3600;
    hr = 3600;
    hour = 3600;
    hours = 3600;
    d = 86400;
    day = 86400;
    days = 86400;
    w = 604800;
    week = 604800;
    weeks = 604800;
    M = 2629800;
    month = 2629800;
    months = 2629800;
    y = 31557600;
    year = 31557600;
    years = 31557600;
  };
in
text:
let
  parts = builtins.filter builtins.isList (builtins.split "([0-9]+) *([A-Za-z]*)" text);
  isSpan = builtins.match " *(([0-9]+) *([A-Za-z]*) *)+" text != null;
  isKnown = lib.all (part: seconds ? ${builtins.elemAt part 1}) parts;
  total = builtins.foldl' (
    sum: part: sum + number (builtins.elemAt part 0) * seconds.${builtins.elemAt part 1}
  ) 0 parts;
  limited =
    if total < 60 then
      60
    else if total > 2592000 then
      2592000
    else
      total;
in
# onecred reports a span that it does not know
if isSpan && isKnown then "${toString limited}s" else text
