//! API types of davit's own kinds and the value types Kubernetes leaves as strings.
