//! Drivers by name, swapped while calls run.

/// The loaded drivers.
#[derive(Debug, Default)]
pub struct Registry {}
