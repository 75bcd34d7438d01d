//! What wasmtime makes of the guest contract in `wit/`.

#![allow(missing_docs)]

wasmtime::component::bindgen!({
    path: "wit",
    world: "task-handler",
    imports: { default: async | trappable },
    exports: { default: async },
});

/// The same of page generators: their imports are those of handlers, and fewer.
pub mod generator {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "page-generator",
        imports: { default: async | trappable },
        exports: { default: async },
        with: {
            "fishway:task/types@0.1.0": super::fishway::task::types,
            "fishway:task/context@0.1.0": super::fishway::task::context,
            "fishway:task/checkpoints@0.1.0": super::fishway::task::checkpoints,
        },
    });
}
