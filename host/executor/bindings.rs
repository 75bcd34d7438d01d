//! What wasmtime makes of the guest contract in `wit/`.

#![allow(missing_docs)]

wasmtime::component::bindgen!({
    path: "wit",
    world: "task-handler",
    imports: { default: async | trappable },
    exports: { default: async },
});
