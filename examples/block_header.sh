#!/bin/sh
# The nonce of Bitcoin's first block, found again in the two million around it: 2083236893.
bin=$(dirname "$(readlink -f "$0")")/../bin
header=0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e
header=${header}67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d00000000
exec "$bin/zlb-submit" --header "$header" --range 2082236893:+2M
