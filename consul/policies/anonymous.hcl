# Who has no token (the web UI before a login, DNS): sees nodes and services, no keys.
node_prefix "" {
  policy = "read"
}
service_prefix "" {
  policy = "read"
}
