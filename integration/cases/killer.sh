#!/bin/sh
# Kills the provider a given number of times: first the running one, then each next one slightly later or earlier in its life.
kills=0 last=0
while [ "$kills" -lt "$1" ]; do
	main=$(systemctl show --value -p MainPID onecred.service)
	[ "$main" != 0 ] && [ "$main" != "$last" ] || { sleep 0.01; continue; }
	[ "$kills" = 0 ] || sleep "0.0$(((kills + $2) * 37 % 90 + 10))"
	if kill -KILL "$main"; then kills=$((kills + 1)); fi
	last=$main
done
echo "$kills" >>/srv/out/kills
