//! The functions of `wasi:http`, `wasi:io` and `wasi:clocks` that this room answers itself, in the place of the
//! engine's own.

use std::time::Duration;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::clocks::WasiClocksView;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::bindings::io::streams::{
    Host as _, HostInputStream as _, HostOutputStream as _, StreamError,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, StreamResult, subscribe};
use wasmtime_wasi::runtime::poll_noop;
use wasmtime_wasi_http::RequestOptions;
use wasmtime_wasi_http::p2::body::{HostIncomingBody, HostOutgoingBody};
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};

use super::gates::{HeadGate, Look};
use super::{bodies, codes, requests, timers};
use crate::executor::guest::Guest;

/// The versions by which the engine's own functions are linked.
const OUTGOING: &str = "wasi:http/outgoing-handler@0.2.12";
const TYPES: &str = "wasi:http/types@0.2.12";
const POLL: &str = "wasi:io/poll@0.2.12";
const STREAMS: &str = "wasi:io/streams@0.2.12";
const CLOCK: &str = "wasi:clocks/monotonic-clock@0.2.12";

/// What a guest of `wasi:io` gets of a call that reads.
type Read<T> = wasmtime::Result<(Result<T, StreamError>,)>;

/// Add `wasi:http`, and put what waits in the place of the engine's functions, which have been linked before.
pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    requests_to(linker)?;
    polls_to(linker)?;
    streams_to(linker)?;
    clocks_to(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn requests_to(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    type Asked = (
        Resource<HostOutgoingRequest>,
        Option<Resource<RequestOptions>>,
    );
    linker.instance(OUTGOING)?.func_wrap_async(
        "handle",
        |mut store: StoreContextMut<'_, Guest>, (request, options): Asked| {
            Box::new(async move {
                let answer = requests::handle(store.data_mut(), request, options).await?;
                Ok((answer,))
            })
        },
    )?;
    let mut types = linker.instance(TYPES)?;
    types.func_wrap(
        "[method]outgoing-request.body",
        |mut store: StoreContextMut<'_, Guest>, (request,): (Resource<HostOutgoingRequest>,)| {
            Ok((bodies::open(store.data_mut(), request)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-body.write",
        |mut store: StoreContextMut<'_, Guest>, (body,): (Resource<HostOutgoingBody>,)| {
            Ok((bodies::write(store.data_mut(), body)?,))
        },
    )?;
    types.func_wrap(
        "[method]incoming-body.stream",
        |mut store: StoreContextMut<'_, Guest>, (body,): (Resource<HostIncomingBody>,)| {
            Ok((bodies::read(store.data_mut(), body)?,))
        },
    )?;
    types.func_wrap(
        "http-error-code",
        |mut store: StoreContextMut<'_, Guest>, (error,): (Resource<wasmtime::Error>,)| {
            let error = store.data_mut().table.get(&error)?;
            Ok((codes::of_stream(error),))
        },
    )?;
    types.func_wrap(
        "[method]future-incoming-response.subscribe",
        |mut store: StoreContextMut<'_, Guest>,
         (future,): (Resource<HostFutureIncomingResponse>,)| {
            Ok((head(store.data_mut(), &future)?,))
        },
    )
}

/// A handle to wait for until a response has begun.
fn head(
    guest: &mut Guest,
    future: &Resource<HostFutureIncomingResponse>,
) -> wasmtime::Result<Resource<DynPollable>> {
    let exchanges = guest.http.exchanges.iter();
    let id = match guest.table.get(future)? {
        HostFutureIncomingResponse::Pending(task) => Some(task.id()),
        _ => None,
    };
    // What is no longer pending is ready, whichever exchange it is.
    let found = id.and_then(|id| {
        let mut exchanges = exchanges;
        let found = exchanges.find(|(_, exchange)| exchange.future.1 == id);
        found.map(|(number, _)| *number)
    });
    let gate = HeadGate {
        exchange: found,
        gates: guest.http.gates.clone(),
    };
    let gate = guest.table.push(gate)?;
    subscribe(&mut guest.table, gate)
}

fn polls_to(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut poll = linker.instance(POLL)?;
    poll.func_wrap_async(
        "poll",
        |mut store: StoreContextMut<'_, Guest>, (handles,): (Vec<Resource<DynPollable>>,)| {
            Box::new(async move { Ok((store.data_mut().poll(handles).await?,)) })
        },
    )?;
    poll.func_wrap_async(
        "[method]pollable.block",
        |mut store: StoreContextMut<'_, Guest>, (handle,): (Resource<DynPollable>,)| {
            Box::new(async move {
                store.data_mut().poll(vec![handle]).await?;
                Ok(())
            })
        },
    )?;
    poll.func_wrap_async(
        "[method]pollable.ready",
        |mut store: StoreContextMut<'_, Guest>, (handle,): (Resource<DynPollable>,)| {
            Box::new(async move { Ok((store.data_mut().is_ready(handle.rep()).await?,)) })
        },
    )
}

fn streams_to(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    type Reading = (Resource<DynInputStream>, u64);
    type Splicing = (Resource<DynOutputStream>, Resource<DynInputStream>, u64);
    let mut streams = linker.instance(STREAMS)?;
    streams.func_wrap_async(
        "[method]input-stream.blocking-read",
        |mut store: StoreContextMut<'_, Guest>, (stream, length): Reading| {
            Box::new(async move {
                let guest = store.data_mut();
                guest.await_stream(&stream).await?;
                let read = guest.table.blocking_read(stream, length).await;
                told(guest, read)
            })
        },
    )?;
    streams.func_wrap_async(
        "[method]input-stream.blocking-skip",
        |mut store: StoreContextMut<'_, Guest>, (stream, length): Reading| {
            Box::new(async move {
                let guest = store.data_mut();
                guest.await_stream(&stream).await?;
                let skipped = guest.table.blocking_skip(stream, length).await;
                told(guest, skipped)
            })
        },
    )?;
    streams.func_wrap_async(
        "[method]output-stream.blocking-splice",
        |mut store: StoreContextMut<'_, Guest>, (to, from, length): Splicing| {
            Box::new(async move {
                let guest = store.data_mut();
                guest.await_stream(&from).await?;
                let spliced = guest.table.blocking_splice(to, from, length).await;
                told(guest, spliced)
            })
        },
    )
}

fn told<T>(guest: &mut Guest, result: StreamResult<T>) -> Read<T> {
    Ok((match result {
        Ok(read) => Ok(read),
        Err(error) => Err(guest.table.convert_stream_error(error)?),
    },))
}

fn clocks_to(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut clock = linker.instance(CLOCK)?;
    clock.func_wrap(
        "subscribe-duration",
        |mut store: StoreContextMut<'_, Guest>, (nanos,): (u64,)| {
            let timer = timers::timer(store.data_mut(), Duration::from_nanos(nanos))?;
            Ok((timer,))
        },
    )?;
    clock.func_wrap(
        "subscribe-instant",
        |mut store: StoreContextMut<'_, Guest>, (at,): (u64,)| {
            let guest = store.data_mut();
            let now = monotonic_clock::Host::now(&mut guest.clocks())?;
            let timer = timers::timer(guest, Duration::from_nanos(at.saturating_sub(now)))?;
            Ok((timer,))
        },
    )
}

impl Guest {
    /// Wait until a stream has something to read, where it is the body of a response.
    async fn await_stream(&mut self, stream: &Resource<DynInputStream>) -> wasmtime::Result<()> {
        while self.http.used() {
            let (ready, look) = self.look_at_stream(stream)?;
            if ready || look.wanted.is_empty() {
                break;
            }
            self.await_wanted(look).await?;
        }
        Ok(())
    }

    fn look_at_stream(
        &mut self,
        stream: &Resource<DynInputStream>,
    ) -> wasmtime::Result<(bool, Look)> {
        self.http.gates.take_look();
        let stream = self.table.get_mut(stream)?;
        let ready = poll_noop(std::pin::Pin::new(&mut stream.ready())).is_some();
        Ok((ready, self.http.gates.take_look()))
    }
}
