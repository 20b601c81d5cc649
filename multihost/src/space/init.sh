# shellcheck shell=bash
# The first process of a node: prepares what a freshly booted machine has, then collects the dead until it is killed.
# Arguments: the node's name, and its folder.
set -e
name=$1 files=$2
hostname "$name"
ip link set lo up
mount -t tmpfs -o mode=755 run /run # sockets and pid files at their usual places, this node's alone
mkdir -p /run/lock /run/engine
for file in hosts hostname; do
  if [ -e "$files/$file" ]; then mount --bind "$files/$file" "/etc/$file"; fi
done
: >"$files/made"
while :; do sleep 3600 & wait $!; done
