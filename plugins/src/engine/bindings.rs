//! Generated from the WIT files: the host's side of every interface, and callers of the exports.

#![allow(
    missing_debug_implementations,
    unreachable_pub,
    clippy::too_many_lines,
    reason = "generated code"
)]

wasmtime::component::bindgen!({
    inline: "
        package davit:host;
        world host {
            include davit:network/network-driver@0.1.0;
            import davit:storage/inspect@0.1.0;
            import davit:storage/plan@0.1.0;
            export davit:storage/controller@0.1.0;
            export davit:storage/node@0.1.0;
        }
    ",
    path: ["wit/plugin", "wit/network", "wit/storage"],
    with: {
        "davit:network/plan.plan": crate::imports::NetworkPlanHandle,
        "davit:storage/plan.plan": crate::imports::StoragePlanHandle,
    },
    imports: {
        "davit:network/inspect": async,
        "davit:storage/inspect": async,
    },
    exports: { default: async },
});
