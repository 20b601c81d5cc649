# TLS between Consul's agents, for clusters that are set up with it. Newer Consuls write these settings inside `tls {}`
# and still read them here. start.sh starts the agent where the files are.
ca_file   = "ca.pem"
cert_file = "cert.pem"
key_file  = "key.pem"

verify_incoming_rpc    = true # nobody without a certificate of ours speaks to a server
verify_outgoing        = true
verify_server_hostname = true # a client's certificate does not make a server
