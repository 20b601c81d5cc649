//! DockerCoins' programs as their containers run them: processes, ports and signals, with a real redis.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod hasher;
mod rng;
mod stack;
mod webui;
mod worker;
