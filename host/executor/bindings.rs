//! The bindings that wasmtime generates from the guest contract in `wit/`: the newest version, and the differences of
//! the older ones.
//!
//! wasmtime compares types structurally, so a function is linked under its name in each version with the same types:
//! see `imports::contract`. If a newer version changes records of an interface, the older interface is generated here,
//! too, in the module of its version: remove the interface from `with` there, and translate between the two in
//! `imports`.

#![allow(missing_docs)]

wasmtime::component::bindgen!({
    path: "wit/0.2",
    world: "task-handler",
    imports: { default: async | trappable },
    exports: { default: async },
});

/// The same of page generators: their imports are those of handlers, and fewer.
pub mod generator {
    wasmtime::component::bindgen!({
        path: "wit/0.2",
        world: "page-generator",
        imports: { default: async | trappable },
        exports: { default: async },
        with: {
            "fishway:task/types@0.2.0": super::fishway::task::types,
            "fishway:task/context@0.2.0": super::fishway::task::context,
            "fishway:task/checkpoints@0.2.0": super::fishway::task::checkpoints,
        },
    });
}

/// 0.1: `imports::v0_1` translates.
pub mod v0_1 {
    wasmtime::component::bindgen!({
        path: "wit/0.1",
        world: "task-handler",
        imports: { default: async | trappable },
        exports: { default: async },
        with: {
            "fishway:task/checkpoints@0.1.0": super::fishway::task::checkpoints,
        },
    });

    pub mod generator {
        wasmtime::component::bindgen!({
            path: "wit/0.1",
            world: "page-generator",
            imports: { default: async | trappable },
            exports: { default: async },
            with: {
                "fishway:task/types@0.1.0": super::fishway::task::types,
                "fishway:task/context@0.1.0": super::fishway::task::context,
                "fishway:task/checkpoints@0.1.0": super::super::fishway::task::checkpoints,
            },
        });
    }
}

/// WASI interfaces that the engine does not provide. `imports::config` and `imports::logging` have their names.
pub mod ambient {
    wasmtime::component::bindgen!({
        path: "wit/0.2",
        world: "fishway:ambient/ambient",
        inline: "
            package fishway:ambient;

            world ambient {
                import wasi:config/store@0.2.0-draft;
                import wasi:logging/logging@0.1.0-draft;
            }

            package wasi:config@0.2.0-draft {
                interface store {
                    variant error { upstream(string), io(string) }
                    get: func(key: string) -> result<option<string>, error>;
                    get-all: func() -> result<list<tuple<string, string>>, error>;
                }
            }

            package wasi:logging@0.1.0-draft {
                interface logging {
                    enum level { trace, debug, info, warn, error, critical }
                    log: func(level: level, context: string, message: string);
                }
            }
        ",
        imports: { default: trappable },
    });
}
