//! End-to-end suites over the real parts.
