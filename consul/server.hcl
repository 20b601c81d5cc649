# Consul on one node: a server that elects itself. Accepted by Consul 1.8 (Debian's) and by today's.
# The web UI is switched on by the flag -ui (see Dockerfile): the setting is named `ui` there and `ui_config` here.

node_name        = "node1"
server           = true
bootstrap_expect = 1
data_dir         = "/consul/data" # on a volume: services, keys and the node's identity outlive the container

# HTTP, DNS and the UI on every address of the container; docker-compose.yml publishes HTTP on the host's loopback only.
client_addr = "0.0.0.0"

# SIGTERM is a restart, not a farewell: a server that left its own cluster would not elect itself again.
leave_on_terminate      = false
skip_leave_on_interrupt = true

performance {
  raft_multiplier = 1 # elections take one second instead of five; meant for machines that are not starved
}

telemetry {
  prometheus_retention_time = "60s" # /v1/agent/metrics?format=prometheus
  disable_hostname          = true
}

disable_update_check = true # nothing calls home
log_level            = "warn"
