//! Generated from the WIT files: what every plugin has, and the part of each kind of driver.

#![allow(missing_docs, clippy::all, clippy::pedantic)]

pub mod base {
    wit_bindgen::generate!({
        world: "davit:plugin/base",
        path: ["../wit/plugin"],
        generate_all,
        additional_derives: [PartialEq],
        pub_export_macro: true,
        default_bindings_module: "davit_plugin::bindings::base",
    });
}

pub mod network {
    wit_bindgen::generate!({
        inline: "
            package davit:sdk-network;
            world network {
                import davit:network/ipam@0.1.0;
                import davit:network/inspect@0.1.0;
                import davit:network/plan@0.1.0;
                export davit:network/driver@0.1.0;
            }
        ",
        path: ["../wit/plugin", "../wit/network"],
        generate_all,
        with: { "davit:plugin/types@0.1.0": crate::bindings::base::davit::plugin::types },
        additional_derives: [PartialEq],
        pub_export_macro: true,
        default_bindings_module: "davit_plugin::bindings::network",
    });
}

pub mod storage {
    wit_bindgen::generate!({
        inline: "
            package davit:sdk-storage;
            world storage {
                import davit:storage/inspect@0.1.0;
                import davit:storage/plan@0.1.0;
                export davit:storage/controller@0.1.0;
                export davit:storage/node@0.1.0;
            }
        ",
        path: ["../wit/plugin", "../wit/storage"],
        generate_all,
        with: { "davit:plugin/types@0.1.0": crate::bindings::base::davit::plugin::types },
        additional_derives: [PartialEq],
        pub_export_macro: true,
        default_bindings_module: "davit_plugin::bindings::storage",
    });
}
