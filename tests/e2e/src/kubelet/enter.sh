#!/bin/sh
# Becomes a container's first process, as a container runtime does it:
#
#   enter.sh ROOT rw|ro USER MOUNTS COMMAND [ARGUMENT...]
#
# It is started in mount and process namespaces of its own. MOUNTS is a file with lines "SOURCE TARGET rw|ro". USER is
# empty where the machine lets us be nobody else.
set -eu
root=$1 mode=$2 user=$3 mounts=$4
shift 4

mount --bind "$root" "$root"
while read -r source target how; do
  mount --bind -o "$how" "$source" "$root$target"
done <"$mounts"
mount -o "remount,bind,$mode" "$root"
exec setpriv --no-new-privs chroot ${user:+--userspec="$user"} "$root" "$@"
