#!/bin/sh
# A hashcash stamp of 20 bits for a resource, somebody@example.org say; Debian's `hashcash` checks it if it is installed.
bin=$(dirname "$(readlink -f "$0")")/../bin
resource=${1:?usage: hashcash.sh RESOURCE}
random=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n') # so that nobody else has spent the same stamp
prefix="1:20:$(date -u +%y%m%d):$resource::$random:"

hit=$("$bin/zlb-submit" --quiet --algo sha1 --match leading --difficulty 20 --prefix "$prefix") || exit
stamp=$prefix${hit%%	*}
echo "$stamp"

if command -v hashcash >/dev/null; then
    hashcash -cyq -u -b 20 -r "$resource" "$stamp" >/dev/null || { echo "hashcash refuses it" >&2; exit 1; }
fi
