#!/bin/sh
# Starts Consul's agent, in its container or on the host itself, and first makes it forget what ran before the Docker
# Engine was started. Then looks after its configuration.
#
# The agent remembers its services, so that its own restart costs none. But when the engine or the host was restarted,
# every container was, and has another port now: what the agent remembers, and what the servers still list, would send
# clients of one service to another one. So then both are dropped; registrator registers what really runs.
#
# Arguments: those of `consul agent`. Environment: NODE_NAME, SERVERS (addresses with a space between them); on the host
# itself also CONFIG, DATA and ENGINE_PID, the places of what is mounted into the container.
config=${CONFIG:-/consul/config} data=${DATA:-/consul/data}
engine=$(stat -c '%y' "${ENGINE_PID:-/run/engine.pid}" 2>/dev/null) # written by the engine when it starts
cd "$config" || exit # tls.hcl names its files from here

# ask SERVER METHOD PATH [BODY]: what a server answers; fails if it does not, or refuses.
ask() {
  token=$(cat "$config/agent.token")
  if command -v curl >/dev/null; then
    curl --noproxy '*' --silent --fail --max-time 2 --request "$2" --header "X-Consul-Token: $token" --data "$4" "http://$1:8500/v1/$3"
  else
    # shellcheck disable=SC2016 # for the inner shell
    timeout 2 bash -c 'exec 3<>"/dev/tcp/$0/8500" || exit
      printf "%s /v1/%s HTTP/1.0\r\nX-Consul-Token: %s\r\nContent-Length: %s\r\n\r\n%s" "$1" "$2" "$4" "${#3}" "$3" >&3
      read -r _ status _ <&3 && [ "$status" = 200 ] && cat <&3' "$@" "$token" 2>/dev/null
  fi
}

# Takes this node out of the list of one server, which knows it again as soon as it joins.
deregister() { ask "$1" PUT catalog/deregister "{\"Node\": \"$NODE_NAME\"}" >/dev/null; }

# identity SERVER: under which identity a server lists this node.
identity() { ask "$1" GET "catalog/node/$NODE_NAME" '' | sed -n 's/.*"Node":{"ID":"\([^"]*\)".*/\1/p'; }

# Only once a server was told: what the agent forgets without that stays on their list, and nobody here may remove it. When
# no server answers, as after a power failure of all hosts, registrator removes what the agent remembers.
if [ -n "$engine" ] && [ -e "$data/engine" ] && [ "$(cat "$data/engine")" != "$engine" ]; then
  for server in $SERVERS; do
    if deregister "$server"; then
      rm -rf "$data/services" "$data/checks"
      break
    fi
  done
fi
# Without its disk it has another identity, which the servers refuse as long as they list the old one as alive. A leader
# that has not noticed the end of the old one yet may list it again after that: it is watched for a while.
if [ ! -e "$data/node-id" ]; then
  for server in $SERVERS; do
    deregister "$server" && break
  done
  (
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
      sleep 3
      for server in $SERVERS; do
        listed=$(identity "$server")
        [ -n "$listed" ] || continue
        if [ "$listed" != "$(cat "$data/node-id")" ] && deregister "$server"; then
          kill -HUP $$ # the agent, which takes this shell's place, tells the servers at once who it is
        fi
        break
      done
    done
  ) &
fi
[ -z "$engine" ] || echo "$engine" >"$data/engine"

set -- -data-dir="$data" -config-dir="$config/agent" "$@"
# What changes in the configuration, certificates too, is applied without a restart: since 1.10 the agent sees to that itself.
if consul agent -h 2>&1 | grep -q auto-reload-config; then
  set -- -auto-reload-config "$@"
else
  state() { cat "$config"/agent/* "$config"/*.pem 2>/dev/null | cksum; }
  (
    seen=$(state)
    while sleep 3; do
      now=$(state)
      if [ "$now" != "$seen" ]; then kill -HUP $$; fi # the agent: it takes this shell's place
      seen=$now
    done
  ) &
fi
exec consul agent "$@"
