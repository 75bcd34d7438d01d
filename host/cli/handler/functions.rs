//! The functions of a handler: as JSON, and for people.

use serde_json::{Value, json};

use super::super::print_line;
use crate::loader::{Exported, Handler};
use crate::types::{Type, input_schema, schema};

/// Each function with its WIT, and the JSON Schema of what it takes and gives.
pub fn json(handler: &Handler) -> Vec<Value> {
    let function = |exported: &Exported| {
        let function = &exported.function;
        json!({
            "task_type": task_type(handler, exported),
            "name": function.name,
            "interface": exported.interface,
            "wit": function.to_string(),
            "types": function.declarations(),
            "input_schema": input_schema(function),
            "output_schema": output_schema(exported),
        })
    };
    let functions = handler.functions.iter();
    functions.map(|exported| function(exported)).collect()
}

/// Interfaces of other handlers that it calls.
pub fn calls(handler: &Handler) -> Value {
    let wanted = handler.wanted.iter().map(|wanted| {
        let functions = wanted.functions.iter();
        let functions: Vec<String> = functions.map(|one| one.to_string()).collect();
        (wanted.interface.clone(), functions.into())
    });
    Value::Object(wanted.collect())
}

/// A line for each function, below the line of its handler.
pub fn print_lines(handler: &Handler) -> anyhow::Result<()> {
    for exported in &handler.functions {
        let task_type = task_type(handler, exported);
        print_line(&format!("  {task_type}  {}", signature(exported)))?;
    }
    Ok(())
}

/// All of them: their WIT, the types that they name, and the JSON Schema.
pub fn print(handler: &Handler) -> anyhow::Result<()> {
    for exported in &handler.functions {
        let task_type = task_type(handler, exported);
        print_line(&format!("\n{task_type}: {}", signature(exported)))?;
        if let Some(interface) = &exported.interface {
            print_line(&format!("  interface  {interface}"))?;
        }
        for declaration in exported.function.declarations() {
            print_line(&format!("  {declaration}"))?;
        }
        let input = input_schema(&exported.function);
        print_line(&format!("  input      {input}"))?;
        print_line(&format!("  output     {}", output_schema(exported)))?;
    }
    for wanted in &handler.wanted {
        print_line(&format!("\ncalls {}", wanted.interface))?;
        for function in &wanted.functions {
            print_line(&format!("  {function}"))?;
        }
    }
    for why in &handler.left_out {
        print_line(&format!("\n{why}"))?;
    }
    Ok(())
}

fn task_type(handler: &Handler, exported: &Exported) -> String {
    format!("{}/{}", handler.name, exported.name)
}

/// `func(order: order) -> receipt`: the name stands before it already.
fn signature(exported: &Exported) -> String {
    let text = exported.function.to_string();
    match text.split_once(": ") {
        Some((_name, signature)) => signature.to_owned(),
        None => text,
    }
}

fn output_schema(exported: &Exported) -> Value {
    let output: Option<&Type> = exported.function.output();
    output.map_or_else(|| json!({ "type": "null" }), schema)
}
