//! Returns its input, and asks nothing of its host.

wit_bindgen::generate!({
    path: "../../../wit/0.2",
    inline: "package test:echo; world echo { export fishway:task/handler@0.2.0; }",
    world: "test:echo/echo",
    generate_all,
});

struct Echo;

impl exports::fishway::task::handler::Guest for Echo {
    fn run(input: String) -> Result<String, exports::fishway::task::handler::Failure> {
        Ok(input)
    }
}

export!(Echo);
