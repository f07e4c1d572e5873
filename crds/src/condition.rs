//! The schema of `conditions`, which the bindings give without one.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A list of conditions (`meta/v1`), one of each type.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One aspect of the state of the object.",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {"type": "string", "description": "The aspect, in CamelCase."},
                "status": {"type": "string", "description": "`True`, `False` or `Unknown`."},
                "reason": {"type": "string", "description": "Why, in one word in CamelCase."},
                "message": {"type": "string", "description": "Why, for people. May be empty."},
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When the status changed last.",
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "description": "The generation of the object that the condition speaks of.",
                },
            },
        },
    })
}
