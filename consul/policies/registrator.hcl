# What registrator may do: `registrator acl-policy` prints the same.
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
