//! The model: what a service instance is, and how a Docker container becomes instances. Pure.
