# What confd may do: read what runs where, and say what its load balancers serve.
agent_prefix "" {
  policy = "read"
}
node_prefix "" {
  policy = "read"
}
service_prefix "" {
  policy = "read"
}
key_prefix "" {
  policy = "read" # templates may ask for any key; name prefixes here to allow less
}

# What is served, as keys that vanish with the session that holds them.
session_prefix "" {
  policy = "write"
}
key_prefix "ambassadors/" {
  policy = "write"
}
