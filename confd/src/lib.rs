//! Renders proxy configurations from Consul and brings them into running load balancers.
