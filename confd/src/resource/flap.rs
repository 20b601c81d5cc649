//! The table of a resource that says when an instance comes and goes too often.

use std::time::Duration;

use serde::Deserialize;

use crate::units::Span;

/// When an instance that comes and goes is left out.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Flap {
    /// So many times it may go, lately; 0 = as often as it likes.
    pub limit: u32,
    /// The time after which an instance's going counts only half.
    pub half_life: Span,
}

impl Flap {
    /// Returns the penalty below which an instance is let in again.
    #[must_use]
    pub fn release(&self) -> f64 {
        f64::from(self.limit) / 2.0
    }

    /// Returns the largest penalty.
    #[must_use]
    pub fn most(&self) -> f64 {
        f64::from(self.limit) * 2.0
    }
}

impl Default for Flap {
    fn default() -> Self {
        Self { limit: 6, half_life: Span(Duration::from_mins(1)) }
    }
}
