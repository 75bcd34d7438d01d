//! The same requests by the crate `wstd`.

use serde_json::{Value, json};
use wstd::future::FutureExt;
use wstd::http::{Body, BodyExt, Client, Error, Request, Response};
use wstd::time::Duration;

use crate::Input;

pub fn run(input: &Input) -> Value {
    wstd::runtime::block_on(async {
        let at = |path: &str| format!("{}{path}", input.base);
        json!({
            "get": said(asked(get(&at("/get"))).await),
            "post": said(post(&at("/post")).await),
            "missing": said(missing(&at("/missing")).await),
            "stream": said(parts(&at("/stream"), &at("/seen")).await),
            "refused": said(text(&input.refused).await),
            "untrusted": said(text(&input.untrusted).await),
            "timeout": said(timeout(&at("/slow")).await),
            "broken": said(text(&at("/broken")).await),
            "closed": said(text(&at("/closed")).await),
        })
    })
}

fn said(result: Result<Value, Error>) -> Value {
    result.unwrap_or_else(|error| json!(format!("{error:#}")))
}

fn get(url: &str) -> Request<Body> {
    Request::get(url).body(Body::empty()).unwrap()
}

async fn send(request: Request<Body>) -> Result<Response<Body>, Error> {
    Client::new().send(request).await
}

async fn asked(request: Request<Body>) -> Result<Value, Error> {
    let mut got = send(request).await?;
    let status = got.status().as_u16();
    Ok(json!({ "status": status, "json": got.body_mut().json::<Value>().await? }))
}

async fn post(url: &str) -> Result<Value, Error> {
    let body = Body::from_json(&json!({ "item": "lamp", "count": 2 }))?;
    let request = Request::post(url).header("content-type", "application/json");
    asked(request.body(body)?).await
}

async fn missing(url: &str) -> Result<Value, Error> {
    let mut got = send(get(url)).await?;
    let status = got.status().as_u16();
    Ok(json!({ "status": status, "text": got.body_mut().str_contents().await? }))
}

async fn text(url: &str) -> Result<Value, Error> {
    let mut got = send(get(url)).await?;
    Ok(Value::from(got.body_mut().str_contents().await?))
}

/// A timer of the handler, and not a limit of the host.
async fn timeout(url: &str) -> Result<Value, Error> {
    let got = send(get(url)).timeout(Duration::from_millis(100)).await;
    Ok(Value::from(got??.status().as_u16()))
}

async fn parts(stream: &str, seen: &str) -> Result<Value, Error> {
    let mut body = send(get(stream)).await?.into_body().into_boxed_body();
    let mut parts = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(part) = frame?.into_data() {
            parts.push(String::from_utf8_lossy(&part).into_owned());
            // The server continues after a report of the first part.
            if parts.len() == 1 {
                send(get(seen)).await?;
            }
        }
    }
    Ok(json!(parts))
}
