# Consul on every node of a cluster, servers and clients. Accepted by Consul 1.8 (Debian's) and by today's.
# What differs from node to node is in node.json, what nobody else may read in secrets.json, both beside this
# file. The web UI is switched on by the flag -ui (the setting is named `ui` there and `ui_config` here).

datacenter = "dc1"
data_dir   = "/consul/data" # on a volume: the node's identity and its services outlive the container

# SIGTERM is a restart, not a farewell: services stay registered meanwhile. `consul leave` says farewell.
leave_on_terminate      = false
skip_leave_on_interrupt = true

# A node that is gone for good leaves the list by itself after this time, the shortest that Consul accepts.
# Its instances get no traffic long before: the node's health is part of theirs.
reconnect_timeout = "8h"

# Who has no token sees nodes and services, and changes nothing (policies/anonymous.hcl).
acl {
  enabled        = true
  default_policy = "deny"
  down_policy    = "extend-cache" # without a leader, what was allowed stays allowed
}

performance {
  raft_multiplier = 2 # a leader that is silent for two seconds is replaced; 1 for machines of Consul's own
}

limits {
  http_max_conns_per_client = 1000 # confd holds a query open for each service, in the same host's name as all others
}

telemetry {
  prometheus_retention_time = "60s" # /v1/agent/metrics?format=prometheus
  disable_hostname          = true
}

disable_update_check = true # nothing calls home
log_level            = "warn"
