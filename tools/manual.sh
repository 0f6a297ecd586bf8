#!/usr/bin/env bash
# Writes the manual page, throughline(1), to stdout: what the program says of itself, and where things are.
set -euo pipefail

program=$1
# Text as it stands: nothing in it is an instruction to the formatter.
literal() {
  printf '.nf\n'
  sed -E 's/\\/\\e/g; s/-/\\-/g; s/^([.'\''])/\\\&\1/'
  printf '.fi\n'
}
help() { COLUMNS=78 NO_COLOR=1 "$program" help "$@"; }

printf '.TH THROUGHLINE 1 "%s" "%s" "User Commands"\n' \
  "$(date --utc --date "@${SOURCE_DATE_EPOCH:-$(date +%s)}" +%Y-%m-%d)" "$("$program" --version)"
printf '.SH NAME\nthroughline \\- routes customers'\'' conversations to agents\n'
printf '.SH SYNOPSIS\n'
help | literal
help | awk '/^Commands:/ { on = 1; next } /^$/ { on = 0 } on && /^  [a-z]/ { print $1 }' | while read -r name; do
  [ "$name" = help ] && continue
  printf '.SH THROUGHLINE %s\n' "${name^^}"
  help "$name" | literal
done
cat <<'ROFF'
.SH SIGNALS
.TP
SIGTERM, SIGINT
Drain, within
.IR drain.deadline_ms .
A second one ends at once; nothing acknowledged is lost by that.
.TP
SIGHUP
Read the policy again.
.SH EXIT STATUS
.TP
0
It was done.
.TP
1
It could not be done.
.TP
78
The settings are wrong; each problem is on a line of its own.
.TP
130
A second signal ended it before it was drained.
.SH FILES
.TP
.I /etc/throughline/throughline.toml
Settings that differ from the defaults; policy/ and channels/ are beside it.
.TP
.I /usr/share/doc/throughline/throughline.toml
Every setting with its default.
.TP
.I /usr/share/doc/throughline/examples/channels/
Accounts of every kind of channel, to copy into /etc/throughline/channels/.
.TP
.I /etc/throughline/secrets/
Passwords and keys that the settings refer to: mode 0640, group throughline.
.TP
.I /var/lib/throughline/
Everything that is stored, readable by the user throughline alone.
.SH EXAMPLES
Ask the service of the package how it stands:
.PP
.nf
sudo \-u throughline throughline \-c /etc/throughline/throughline.toml status
.fi
.SH SEE ALSO
.BR systemctl (1)
ROFF
