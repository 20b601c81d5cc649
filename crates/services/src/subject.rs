//! What shapes the instances of one container.

use crate::container::Container;
use crate::labels::Labels;
use crate::model::{Node, Options};

/// Everything that shapes the instances of one container.
pub(crate) struct Subject<'a> {
    /// The container.
    pub(crate) container: &'a Container,
    /// The container whose network it uses, mostly itself.
    pub(crate) network: &'a Container,
    /// What it says about itself.
    pub(crate) labels: &'a Labels<'a>,
    /// What the operator says.
    pub(crate) options: &'a Options,
    /// Where it runs.
    pub(crate) node: &'a Node,
}
