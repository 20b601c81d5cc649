# shellcheck shell=bash
# What every set-up script shares: clear lines, and progress with the time it took.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CARGO_TARGET_DIR="$PWD/target" # whatever the user has set: what is built is looked for there
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:$HOME/.cargo/bin # where dockerd and cargo may be, whoever calls

# Ports and the like may be set in .env, which Compose reads too.
if [ -e .env ]; then
  set -a
  # shellcheck source=/dev/null
  . ./.env
  set +a
fi

# The addresses that docker-compose.yml publishes.
export webui="http://localhost:${WEBUI_PORT:-8000}" consul="http://localhost:${CONSUL_PORT:-8500}" stats="http://localhost:${STATS_PORT:-8404}"

say() { printf '==> %s\n' "$*"; }

# die WHAT WAY_OUT: one line, what is wrong and what to do about it.
die() {
  printf 'make: %s; %s\n' "$1" "$2" >&2
  exit 1
}

has() { command -v "$1" >/dev/null; }

# step TEXT COMMAND...: runs something long; shows the time it takes, and its output only if it fails.
step() {
  local text=$1 start=$SECONDS status=0 log pid
  shift
  log=$(mktemp)
  set -m # a process group of its own, so that ending it ends all of it
  "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  set +m
  # shellcheck disable=SC2064 # these are the values that are meant
  trap "kill -- -$pid 2>/dev/null; rm -f '$log'; exit 130" INT TERM
  [ -t 1 ] || printf '    %s ...\n' "$text"
  while kill -0 "$pid" 2>/dev/null; do
    [ ! -t 1 ] || printf '\r\033[K    %s ... %d s  \033[2m%.60s\033[0m' "$text" $((SECONDS - start)) "$(tail -n 1 "$log" | tr -d '\r\033')"
    sleep 0.2
  done
  wait "$pid" || status=$?
  trap - INT TERM
  [ ! -t 1 ] || printf '\r\033[K'
  if [ "$status" -ne 0 ]; then
    tail -n 30 "$log" >&2
    rm -f "$log"
    die "failed after $((SECONDS - start)) s: $text" "the lines above say why"
  fi
  rm -f "$log"
  printf '    %s: done in %d s\n' "$text" $((SECONDS - start))
}

# fetch URL: what it answers, or failure; never waits long. It is on this machine: no proxy is asked.
fetch() { curl --noproxy '*' --silent --fail --max-time 5 "$1" 2>/dev/null; }

# reachable: whether a Docker Engine answers.
reachable() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# find_stack: sets `stack` to the Compose command for what runs: `make up`'s, or `make ambassadors`'.
find_stack() {
  reachable || die "no Docker Engine answers" "try: make up"
  for one in "docker compose" "docker compose --file dockercoins/compose.ambassadors.yml"; do
    read -ra stack <<<"$one"
    [ -z "$("${stack[@]}" ps --quiet)" ] || return 0
  done
  die "nothing runs" "try: make up"
}

# What `ready` and `status` read off the running system.

# instances SERVICE: how many of it Consul's catalog lists.
instances() { fetch "$consul/v1/catalog/service/$1" | grep -o '"ServiceID":' | wc -l; }

# servers [SERVICE]: the ambassador's servers, of one service or of all, as `backend server address status weight sessions`.
servers() {
  fetch "$stats/;csv;norefresh" | awk -F, -v service="${1:-}" '
    NR == 1 { sub(/^# /, ""); for (i = 1; i <= NF; i++) column[$i] = i; next }
    $2 == "FRONTEND" || $2 == "BACKEND" || NF < 2 || !index($1, service) { next }
    { gsub(/ /, "-", $column["status"])
      if ($column["addr"] == "") $column["addr"] = "-"
      print $1, $2, $column["addr"], $column["status"], $column["weight"], $column["stot"] }'
}

# serving SERVICE: how many of its servers get traffic.
serving() { servers "$1" | awk '$4 ~ /^(UP|no-check)/ && $5 > 0 { n++ } END { print n + 0 }'; }

# hashes: how many were mined so far, and the clock it was read off.
hashes() { fetch "$webui/json" | sed -nE 's/.*"hashes":"([0-9]+)".*"now":([0-9.]+).*/\1 \2/p'; }

# rate SECONDS: hashes per second over that time; a worker reports every 1.2 s, so 12 is a good length.
rate() {
  local before after
  before=$(hashes)
  sleep "$1"
  after=$(hashes)
  awk -v b="$before" -v a="$after" 'BEGIN {
    if (split(b, x, " ") < 2 || split(a, y, " ") < 2) { print "?"; exit }
    printf "%.1f\n", (y[1] - x[1]) / (y[2] - x[2]) }'
}
