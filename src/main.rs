//! The davit binary.
fn main() {}
