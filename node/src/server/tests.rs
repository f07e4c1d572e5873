//! The node API over real TLS, and its log parameters.
