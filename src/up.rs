//! All in one process.
