//! The node agent: images, containers, networks, volumes, probes and logs.
