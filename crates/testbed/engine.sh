#!/bin/sh
# Unpacks a Debian suite's Docker Engine into a folder, without touching the machine's own packages.
# Usage: engine.sh SUITE   (bookworm = Docker 20.10, sid = the newest). The programs are in target/engine-SUITE/bin.
set -eu

suite=$1
folder=$(cd "$(dirname "$0")/../.." && pwd)/target/engine-$suite

mkdir -p "$folder"
exec 9>"$folder/lock"
flock 9
if [ -x "$folder/bin/dockerd" ] && "$folder/bin/dockerd" --version >/dev/null 2>&1; then
    exit 0
fi

work=$(mktemp -d "$folder/unpack.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/sources" "$work/lists/partial" "$work/cache/archives/partial" "$work/root" "$work/bin"
: >"$work/status"
cat >"$work/sources/debian.sources" <<EOF
Types: deb
URIs: ${DEBIAN_MIRROR:-http://deb.debian.org/debian}
Suites: $suite
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
EOF

# An apt of its own. Only the engine comes along: what it is linked with is old enough to be on the machine, and runc,
# which starts itself again from memory, is the machine's own.
apt() {
    apt-get -qq -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$work/sources" \
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
        -o Dir::State::Lists="$work/lists" -o Dir::State::status="$work/status" \
        -o Dir::Cache="$work/cache" -o Acquire::Languages=none -o Debug::NoLocking=true \
        -o APT::Sandbox::User="$(id -un)" "$@"
}
apt update
(cd "$work/cache/archives" && apt download docker.io containerd >/dev/null)
for package in "$work"/cache/archives/*.deb; do
    dpkg-deb --extract "$package" "$work/root"
done
find "$work/root" -type f \( -path '*/bin/*' -o -path '*/sbin/*' -o -path '*/libexec/docker/*' \) -perm -u+x -exec mv -t "$work/bin" {} +
"$work/bin/dockerd" --version >/dev/null

rm -rf "${folder:?}/bin"
mv "$work/bin" "$folder/bin"
