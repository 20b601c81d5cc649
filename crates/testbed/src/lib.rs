//! Real servers for tests: Consul, Docker Engine and HAProxy, each on free ports or in a namespace of its own, stopped when dropped.

pub mod browser;
pub mod consul;
pub mod docker;
pub mod haproxy;
pub mod port;
pub mod process;
pub mod tls;
