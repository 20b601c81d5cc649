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

# Takes this node out of the list of one server, which knows it again as soon as it joins.
deregister() {
  body="{\"Node\": \"$NODE_NAME\"}" token=$(cat "$config/agent.token")
  if command -v curl >/dev/null; then
    curl --silent --fail --max-time 2 --request PUT --header "X-Consul-Token: $token" --data "$body" "http://$1:8500/v1/catalog/deregister"
  else
    # shellcheck disable=SC2016 # for the inner shell
    timeout 2 bash -c 'exec 3<>"/dev/tcp/$1/8500" || exit
      printf "PUT /v1/catalog/deregister HTTP/1.0\r\nX-Consul-Token: %s\r\nContent-Length: %s\r\n\r\n%s" "$2" "${#3}" "$3" >&3
      grep -q "^HTTP/1.. 200" <&3' bash "$1" "$token" "$body" 2>/dev/null
  fi
}

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
# Without its disk it has another identity, which the servers would refuse as long as they list the old one as alive.
if [ ! -e "$data/node-id" ]; then
  for server in $SERVERS; do
    deregister "$server" && break
  done
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
