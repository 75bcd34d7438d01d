//! What a tool is: its name and what a model is told of it, what it takes and gives, and what it does.
//!
//! Each noun's file declares its tools with [`tool!`] and lists them; [`super`] finds and calls them. The schema
//! of the arguments is derived and made plain ([`super::schemas`]). Answers have no schema: it would be four
//! fifths of the list, and a model reads the answer itself.

use std::future::Future;
use std::sync::Arc;

use rmcp::RoleServer;
use rmcp::model::{ProgressNotificationParam, ToolAnnotations};
use rmcp::service::RequestContext;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::answer::{Text, Trouble};
use super::schemas::input_schema;
use super::{Answering, Door};

/// What a call may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Reads,
    /// It adds something, twice when it is called twice.
    Adds,
    /// It changes something, and a second call changes no more.
    Changes,
    /// It ends something.
    Ends,
    /// It stops the host, which has to be allowed.
    Stops,
}

/// A tool.
pub trait Tool: 'static {
    /// By which it is called.
    const NAME: &'static str;
    /// For people.
    const TITLE: &'static str;
    /// When to use it, what it answers, and its bounds: for a model.
    const ABOUT: &'static str;
    /// What it may change.
    const EFFECT: Effect;
    /// What it takes.
    type Input: DeserializeOwned + JsonSchema + Send + 'static;
    /// What it gives.
    type Output: Serialize + Send + 'static;

    /// Do it.
    fn call(
        door: Arc<Door>,
        input: Self::Input,
        call: Call,
    ) -> impl Future<Output = Result<Self::Output, Trouble>> + Send;
}

/// One that can be found and called.
pub struct Known {
    /// By which it is called.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// What it may change.
    pub effect: Effect,
    /// Read the arguments, and do it.
    pub call: fn(Arc<Door>, Box<RawValue>, Call) -> Answering,
    about: fn() -> rmcp::model::Tool,
}

impl Known {
    /// A tool.
    pub fn of<T: Tool>() -> Known {
        Known {
            name: T::NAME,
            title: T::TITLE,
            effect: T::EFFECT,
            call: answered::<T>,
            about: described::<T>,
        }
    }

    /// The names of its arguments.
    pub fn arguments(&self) -> Vec<String> {
        let described = self.described();
        let properties = described.input_schema.get("properties");
        let properties = properties.and_then(serde_json::Value::as_object);
        properties
            .into_iter()
            .flat_map(|properties| properties.keys().cloned())
            .collect()
    }

    /// As a client is told of it.
    pub fn described(&self) -> rmcp::model::Tool {
        (self.about)()
    }
}

fn answered<T: Tool>(door: Arc<Door>, arguments: Box<RawValue>, call: Call) -> Answering {
    Box::pin(async move {
        let input = serde_json::from_str(arguments.get()).map_err(|error| {
            Trouble::new(format!(
                "the arguments of {} cannot be read: {error}",
                T::NAME
            ))
            .hint("the tool's inputSchema says what it takes; there are no other arguments")
        })?;
        Text::of(&T::call(door, input, call).await?)
    })
}

fn described<T: Tool>() -> rmcp::model::Tool {
    let effect = T::EFFECT;
    let reads = effect == Effect::Reads;
    let hints = ToolAnnotations::from_raw(
        None,
        Some(reads),
        Some(matches!(effect, Effect::Ends | Effect::Stops)),
        Some(effect != Effect::Adds),
        // What a handler may reach outside, its manifest says.
        Some(!reads),
    );
    rmcp::model::Tool::new(T::NAME, T::ABOUT, Arc::new(input_schema::<T::Input>()))
        .with_title(T::TITLE)
        .with_annotations(hints)
}

/// The call of a tool, as its client sees it.
pub struct Call(pub RequestContext<RoleServer>);

impl Call {
    /// Ends when the client takes the call back.
    pub async fn cancelled(&self) {
        self.0.ct.cancelled().await;
    }

    /// Whether the client wants to hear how far it is.
    pub fn wants_progress(&self) -> bool {
        self.0.meta.get_progress_token().is_some()
    }

    /// Tell how far it is.
    pub async fn progress(&self, done: u64, total: Option<u64>, message: String) {
        let Some(token) = self.0.meta.get_progress_token() else {
            return;
        };
        let mut told = ProgressNotificationParam::new(token, done as f64).with_message(message);
        if let Some(total) = total {
            told = told.with_total(total as f64);
        }
        // Who does not hear it asks again.
        let _ = self.0.peer.notify_progress(told).await;
    }
}

/// Declare a tool: its type, name, title and effect, what it says of itself, and the function that does it.
macro_rules! tool {
    ($type:ident, $name:literal, $title:literal, $effect:ident, $input:ty => $output:ty, $function:path, $about:expr) => {
        struct $type;

        impl $crate::mcp::tool::Tool for $type {
            const NAME: &'static str = $name;
            const TITLE: &'static str = $title;
            const ABOUT: &'static str = $about;
            const EFFECT: $crate::mcp::tool::Effect = $crate::mcp::tool::Effect::$effect;
            type Input = $input;
            type Output = $output;

            async fn call(
                door: std::sync::Arc<$crate::mcp::Door>,
                input: $input,
                call: $crate::mcp::tool::Call,
            ) -> Result<$output, $crate::mcp::answer::Trouble> {
                $function(door, input, call).await
            }
        }
    };
}

pub(super) use tool;
