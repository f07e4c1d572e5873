//! The WebAssembly plugin host: engine, grants, scopes and typed driver facades.
