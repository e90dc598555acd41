#!/bin/sh
# Kills the provider as often as it is told, each process once, each a little later or earlier in its life than the one before.
kills=0 last=0
while [ "$kills" -lt "$1" ]; do
	main=$(systemctl show --value -p MainPID onecred.service)
	[ "$main" != 0 ] && [ "$main" != "$last" ] || continue
	sleep "0.0$((kills * 37 % 90 + 10))"
	if kill -KILL "$main"; then kills=$((kills + 1)); fi
	last=$main
done
echo "$kills" >/srv/out/kills
