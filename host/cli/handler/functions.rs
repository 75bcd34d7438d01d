//! The functions of a handler, for people.

use super::super::print_line;
use crate::loader::{Exported, Handler};
use crate::types::{Function, input_schema};
use crate::wire::output_schema;

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
        print_line("")?;
        print_line(&format!("{task_type}: {}", signature(exported)))?;
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
        print_line("")?;
        print_line(&format!("calls {}", wanted.interface))?;
        for function in &wanted.functions {
            print_line(&format!("  {function}"))?;
        }
    }
    for why in &handler.left_out {
        print_line("")?;
        print_line(why)?;
    }
    Ok(())
}

/// A line for one function, as the store has it.
pub fn print_row(task_type: &str, function: &Function) -> anyhow::Result<()> {
    print_line(&format!("  {task_type}  {}", plain(function)))
}

fn task_type(handler: &Handler, exported: &Exported) -> String {
    format!("{}/{}", handler.name, exported.name)
}

/// `func(order: order) -> receipt`: the name stands before it already.
fn signature(exported: &Exported) -> String {
    plain(&exported.function)
}

fn plain(function: &Function) -> String {
    let text = function.to_string();
    match text.split_once(": ") {
        Some((_name, signature)) => signature.to_owned(),
        None => text,
    }
}
