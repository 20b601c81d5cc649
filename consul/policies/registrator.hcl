# What registrator may do, on any node: one policy for all of them. `registrator acl-policy` prints a narrower one, for its own node.
agent_prefix "" {
  policy = "read"
}
service_prefix "" {
  policy = "write" # any container may name its service as it likes
}

# The keys, and the session that holds them.
session_prefix "" {
  policy = "write"
}
key_prefix "services/" {
  policy = "write"
}
key_prefix "services-events/" {
  policy = "write"
}
