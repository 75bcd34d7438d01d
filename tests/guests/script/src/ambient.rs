//! Steps that call WASI interfaces that concern a task.
//!
//! | step | does |
//! |---|---|
//! | `config` KEY | a value of `wasi:config/store`, under the name of each of its drafts; null if there is none |
//! | `config-all` | all of them, as an object |
//! | `wasi-log` `{level, context, message}` | writes by `wasi:logging`, with and without a version |

use serde_json::{Map, Value, json};

mod drafts {
    wit_bindgen::generate!({
        inline: "
            package test:drafts;

            world drafts {
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
        world: "test:drafts/drafts",
        generate_all,
    });
}

mod candidates {
    wit_bindgen::generate!({
        inline: "
            package test:candidates;

            world candidates {
                import wasi:config/store@0.2.0-rc.1;
                import wasi:logging/logging;
            }

            package wasi:config@0.2.0-rc.1 {
                interface store {
                    variant error { upstream(string), io(string) }
                    get: func(key: string) -> result<option<string>, error>;
                    get-all: func() -> result<list<tuple<string, string>>, error>;
                }
            }

            package wasi:logging {
                interface logging {
                    enum level { trace, debug, info, warn, error, critical }
                    log: func(level: level, context: string, message: string);
                }
            }
        ",
        world: "test:candidates/candidates",
        generate_all,
    });
}

use candidates::wasi::config::store as candidate;
use candidates::wasi::logging::logging as unversioned;
use drafts::wasi::config::store as draft;
use drafts::wasi::logging::logging as versioned;

/// Run a step, if it is one of these.
pub fn perform(name: &str, argument: &Value) -> Option<Value> {
    Some(match name {
        "config" => {
            let key = argument.as_str().unwrap_or_default();
            json!([draft::get(key).unwrap(), candidate::get(key).unwrap()])
        }
        "config-all" => {
            let all = draft::get_all().unwrap();
            assert_eq!(all, candidate::get_all().unwrap());
            let all = all.into_iter().map(|(key, value)| (key, json!(value)));
            Value::Object(all.collect::<Map<_, _>>())
        }
        "wasi-log" => {
            let text = |key: &str| argument[key].as_str().unwrap_or_default();
            let (context, message) = (text("context"), text("message"));
            match text("level") {
                "trace" => versioned::log(versioned::Level::Trace, context, message),
                "debug" => versioned::log(versioned::Level::Debug, context, message),
                "info" => unversioned::log(unversioned::Level::Info, context, message),
                "warn" => unversioned::log(unversioned::Level::Warn, context, message),
                "error" => versioned::log(versioned::Level::Error, context, message),
                _ => versioned::log(versioned::Level::Critical, context, message),
            }
            Value::Null
        }
        _ => return None,
    })
}
