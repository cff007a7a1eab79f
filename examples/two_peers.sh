#!/bin/sh
# Two peers on this machine share a search; whichever port is free will do.
bin=$(dirname "$(readlink -f "$0")")/../bin
log=$(mktemp -d)
trap 'kill $first $second 2>/dev/null; wait; rm -r "$log"' EXIT

endpoint() { # of the peer that writes to file $1, once it says where it listens
    until grep -qs listening "$1"; do sleep 0.1; done
    sed -n 's/.* listening on \([^,]*\),.*/\1/p' "$1"
}

"$bin/zlb-peer" --listen 'tcp://127.0.0.1:*' --slots 1 >"$log/first" & first=$!
one=$(endpoint "$log/first")
"$bin/zlb-peer" --listen 'tcp://127.0.0.1:*' --slots 1 --peer "$one" >"$log/second" & second=$!
two=$(endpoint "$log/second")

"$bin/zlb-submit" --peer "$one" --peer "$two" --range '0:2**32' --difficulty 20 --lowest
