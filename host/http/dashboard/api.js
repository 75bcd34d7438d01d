// The API as the pages use it: requests, the token, the feed of changes. Nothing here draws.

import { useEffect, useRef, useState } from './vendor/hooks.js';

const TOKEN = 'fishway.token';

/** Why a request was not done: the host's sentence and its hint. */
export class Problem extends Error {
  constructor({ detail, hint, status, problems }) {
    super(detail);
    this.hint = hint;
    this.status = status;
    this.problems = problems || [];
  }
}

let denied = () => {};

/** `tell` is called when the host wants a token, or another one. */
export function onDenied(tell) {
  denied = tell;
}

/** Ask the host whether a token is the right one; then keep it for as long as the tab lives, and read the feed
    with it. One that is not is sent once: the host listens to a few wrong ones in a second and no more. */
export async function setToken(token) {
  await ask('/v1/host', { headers: { Authorization: `Bearer ${token}` } });
  sessionStorage.setItem(TOKEN, token);
  feed.restart();
}

function headers(more) {
  const token = sessionStorage.getItem(TOKEN);
  return { ...more, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Problem({ detail: 'the host does not answer', hint: 'fishway status says how it stands; fishway start starts it', status: 0 });
  }
  const text = await response.text();
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    // Something between us and the host may answer in its own words.
  }
  if (response.ok) return body;
  if (response.status === 401) denied();
  throw new Problem(body && body.detail ? body : { detail: `the host answered ${response.status}`, status: response.status });
}

export function get(path, signal) {
  return ask(path, { headers: headers(), signal });
}

export function send(method, path, body) {
  return ask(path, { method, headers: headers({ 'Content-Type': 'application/json' }), body: JSON.stringify(body ?? {}) });
}

/** A path with a query of those values that there are. */
export function query(path, values) {
  const all = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== undefined && value !== null && value !== '') all.set(name, value);
  }
  const text = all.toString();
  return text ? `${path}?${text}` : path;
}

export const terminal = (status) => !['pending', 'running', 'waiting'].includes(status);

// The feed. What comes between two frames is told as one batch: `tasks` by id, `changed` as a set, and
// `reset` when anything may have changed. It is read by fetch, as an EventSource can bear no token.

const listeners = new Set();
const watchers = new Set();
let batch = null;

export const feed = {
  state: 'connecting',
  last: null,
  aborter: null,
  run: 0,

  start() {
    // A browser has six connections to a host, however many tabs: one that is not seen gives its own back,
    // and goes on where it was when it is seen again.
    const look = () => (document.hidden ? this.pause() : this.restart());
    document.addEventListener('visibilitychange', look);
    addEventListener('pagehide', () => this.pause());
    addEventListener('pageshow', (event) => event.persisted && look());
    look();
  },

  pause() {
    this.run += 1;
    this.aborter?.abort();
  },

  restart() {
    this.pause();
    flush();
    this.read(this.run);
  },

  tell(state) {
    if (this.state === state) return;
    this.state = state;
    watchers.forEach((watcher) => watcher(state));
  },

  async read(run) {
    let rest = 250;
    while (run === this.run) {
      this.aborter = new AbortController();
      try {
        const more = this.last ? { 'Last-Event-ID': this.last } : {};
        const response = await fetch('/v1/events', { headers: headers({ Accept: 'text/event-stream', ...more }), signal: this.aborter.signal });
        if (response.status === 401) {
          denied();
          this.tell('lost');
          return;
        }
        if (!response.ok) throw new Error(response.statusText);
        this.tell('live');
        rest = 250;
        await this.take(response.body.getReader());
      } catch {
        // It broke off, or there is nobody: both are mended by the next try.
      }
      if (run !== this.run) return;
      this.tell('lost');
      await new Promise((done) => setTimeout(done, rest));
      rest = Math.min(rest * 2, 5000);
    }
  },

  async take(reader) {
    const decoder = new TextDecoder();
    let text = '';
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += decoder.decode(value, { stream: true });
      const events = text.split('\n\n');
      text = events.pop();
      events.forEach((event) => this.event(event));
    }
  },

  event(text) {
    let kind = 'message';
    let data = '';
    for (const line of text.split('\n')) {
      if (line.startsWith('event: ')) kind = line.slice(7);
      if (line.startsWith('data: ')) data += line.slice(6);
      if (line.startsWith('id: ')) this.last = line.slice(4);
    }
    if (!['task', 'changed', 'reset'].includes(kind)) return;
    if (!batch) {
      batch = { tasks: new Map(), changed: new Set(), reset: false };
      if (!document.hidden) requestAnimationFrame(flush);
    }
    const told = JSON.parse(data);
    if (kind === 'task') batch.tasks.set(told.id, told);
    if (kind === 'changed') batch.changed.add(told.what);
    if (kind === 'reset') batch.reset = true;
  },
};

function flush() {
  if (!batch || document.hidden) return;
  const told = batch;
  batch = null;
  listeners.forEach((listener) => listener(told));
}

/** Whether a batch says that any task at all may have moved. */
export const anyTask = (told) => told.reset || told.changed.has('tasks') || told.tasks.size > 0;

/** Whether it says so without naming them. */
export const unnamed = (told) => told.reset || told.changed.has('tasks');

export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function useFeedState() {
  const [state, set] = useState(feed.state);
  useEffect(() => {
    set(feed.state);
    watchers.add(set);
    return () => watchers.delete(set);
  }, []);
  return state;
}

/** Calls `run` when it is asked to: at once after a quiet time; a slow one, or one that is asked for
    again and again, rests in between, for as long as it takes itself and no shorter than `rest`. */
export function paced(run, rest) {
  let busy = false;
  let again = false;
  let over = false;
  const go = async () => {
    if (over) return;
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    const began = performance.now();
    await run().catch(() => {});
    const pause = Math.max(rest, 2 * (performance.now() - began));
    setTimeout(() => {
      busy = false;
      if (again && !over) {
        again = false;
        go();
      }
    }, pause);
  };
  go.stop = () => {
    over = true;
  };
  return go;
}

/** What the API says at `path`, kept true. `wants(batch, data)` tells whether to look again; `patch(data,
    batch)` may show at once what a batch itself tells. */
export function useLive(path, { wants = unnamed, patch, rest = 60 } = {}) {
  const [state, set] = useState({ path: null, data: null, problem: null });
  const known = useRef(state);
  const again = useRef(() => {});
  known.current = state;
  const ways = useRef({ wants, patch });
  ways.current = { wants, patch };
  useEffect(() => {
    if (!path) return undefined;
    const aborter = new AbortController();
    const load = paced(async () => {
      try {
        const data = await get(path, aborter.signal);
        if (!aborter.signal.aborted) set({ path, data, problem: null });
      } catch (problem) {
        if (problem.name === 'AbortError') return;
        // What was there stays on the screen, with the problem above it.
        set((was) => ({ path, data: was.path === path ? was.data : null, problem }));
      }
    }, rest);
    const stop = listen((told) => {
      const { data, path: of } = known.current;
      if (of === path && data && ways.current.patch) {
        const patched = ways.current.patch(data, told);
        if (patched !== data) set((was) => (was.path === path ? { ...was, data: patched } : was));
      }
      if (told.reset || ways.current.wants(told, data)) load();
    });
    again.current = load;
    load();
    return () => {
      aborter.abort();
      load.stop();
      stop();
    };
  }, [path]);
  const fresh = state.path === path;
  return { data: fresh ? state.data : null, problem: fresh ? state.problem : null, reload: () => again.current() };
}
