#!/bin/sh
# Unpacks a Debian suite's HAProxy with its libraries into a folder, without touching the machine's own packages.
# Usage: haproxy.sh SUITE   (bookworm = HAProxy 2.6, trixie = 3.0). The program is target/haproxy-SUITE/haproxy.
set -eu

suite=$1
folder=$(cd "$(dirname "$0")/../.." && pwd)/target/haproxy-$suite

mkdir -p "$folder"
exec 9>"$folder/lock"
flock 9
if [ -x "$folder/haproxy" ] && "$folder/haproxy" -v >/dev/null 2>&1; then
    exit 0
fi

work=$(mktemp -d "$folder/unpack.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/sources" "$work/lists/partial" "$work/cache/archives/partial" "$work/root"
: >"$work/status"
cat >"$work/sources/debian.sources" <<EOF
Types: deb
URIs: ${DEBIAN_MIRROR:-http://deb.debian.org/debian}
Suites: $suite
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
EOF

# An apt of its own: no package counts as installed, so all libraries come along, the C library too.
apt() {
    apt-get -qq -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$work/sources" \
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
        -o Dir::State::Lists="$work/lists" -o Dir::State::status="$work/status" \
        -o Dir::Cache="$work/cache" -o Acquire::Languages=none -o Debug::NoLocking=true \
        -o APT::Sandbox::User="$(id -un)" "$@"
}
apt update
apt install --yes --no-install-recommends --download-only haproxy >/dev/null
for package in "$work"/cache/archives/*.deb; do
    dpkg-deb --extract "$package" "$work/root"
done

loader=$(find "$work/root" -name 'ld-linux*.so.*' -type f -printf '%P\n' | head -n 1)
libraries=$(dirname "$loader")
[ -n "$loader" ] || { echo "haproxy.sh: no loader among the packages of $suite" >&2; exit 1; }

# HAProxy starts itself again at a reload, by its first argument: that must be this wrapper, hence --argv0.
cat >"$work/haproxy" <<EOF
#!/bin/sh
exec "$folder/root/$loader" --library-path "$folder/root/$libraries" --argv0 "$folder/haproxy" "$folder/root/usr/sbin/haproxy" "\$@"
EOF
chmod +x "$work/haproxy"
"$work/root/$loader" --library-path "$work/root/$libraries" "$work/root/usr/sbin/haproxy" -v >/dev/null

rm -rf "$folder/root"
mv "$work/root" "$folder/root"
mv "$work/haproxy" "$folder/haproxy"
