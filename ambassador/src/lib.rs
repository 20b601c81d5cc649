//! The load balancer next to its clients: HAProxy as PID 1 of its container.
