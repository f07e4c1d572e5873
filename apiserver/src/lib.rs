//! The API server: HTTP, authentication, admission, schema, patches, store.
