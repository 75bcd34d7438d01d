// What runs tasks: each component with its digest, its functions, imports, limits and grants; and what could not be
// loaded.

import { useState } from '../vendor/hooks.js';
import { query, useLive } from '../api.js';
import { Command, Empty, Facts, Head, Json, Loading, bytes, html, length, number } from '../parts.js';

export function Handlers({ of }) {
  const [after, setAfter] = useState(null);
  const look = useLive(query('/v1/handlers', { name: of, after: of ? null : after, limit: of ? null : 200 }), { wants: (told) => told.changed.has('handlers') });
  if (!look.data) return html`<${Head} title="Handlers" /><${Loading} of=${look} />`;
  const { handlers: shown, problems, handler_count: count, loading_count: loading, next } = look.data;
  return html`
    <${Head} title=${of || 'Handlers'} of=${of}><button type="button" class="quiet" onClick=${look.reload}>look again</button><//>
    ${loading ? html`<p class="faint" aria-busy="true">${loading === 1 ? '1 file is' : `${number(loading)} files are`} still being loaded.</p>` : null}
    ${problems.map((one) => html`<div class="problem"><strong>${one.file}: ${one.problem}</strong><div class="hint">${one.hint}</div></div>`)}
    ${shown.length ? shown.map((one) => html`<${Handler} key=${one.name} it=${one} open=${Boolean(of) || shown.length === 1} />`)
    : of ? html`<${Empty}>No handler "${of}" is loaded.<//>`
    : html`<${Empty} command="fishway new hello --lang rust && fishway build hello -o handlers/">No handler is loaded. Drop a component, NAME.wasm, into the handlers directory; it is loaded at once. One to begin with:<//>`}
    ${!of && (next || after) ? html`<p class="faint">${number(shown.length)} of ${number(count)} handlers. ${after ? html`<button type="button" class="quiet" onClick=${() => setAfter(null)}>the first</button>` : null} ${next ? html`<button type="button" class="quiet" onClick=${() => setAfter(next)}>the next</button>` : null}</p>` : null}
    <${Command} line=${of ? `fishway handler describe ${of}` : 'fishway handler list'} />`;
}

function Handler({ it, open: first }) {
  const [open, setOpen] = useState(first);
  const { limits, retry, grants } = it;
  const none = html`<span class="faint">none</span>`;
  const list = (all) => (all.length ? html`<ul class="plain">${all.map((one) => html`<li><code>${one}</code></li>`)}</ul>` : none);
  return html`<details class="card" open=${open} onToggle=${(event) => setOpen(event.currentTarget.open)}>
    <summary><b>${it.name}</b> <span class="faint">${it.kind}, ${bytes(it.size_bytes)}, <span class="id" title=${it.digest}>${it.digest.replace('sha256:', '').slice(0, 12)}</span></span> <span class="cut">${it.description || ''}</span></summary>
    ${open ? html`
    <${Facts} all=${[
      ['tasks', html`<a href=${`#/tasks?q=handler:${encodeURIComponent(it.name)}`}>those of it</a>`],
      ['memory', bytes(limits.memory_bytes)], ['timeout', length(limits.timeout_ms)], ['at once', limits.concurrency ?? 'no limit'],
      ['children', number(limits.children)], ['depth', limits.depth], ['host calls', number(limits.calls)], ['log', bytes(limits.log_bytes)],
      ['attempts', `${retry.attempts}, the first rest ${length(retry.backoff_ms)}, then ${retry.factor} times as long, ${length(retry.max_backoff_ms)} at most`],
      ['digest', html`<span class="id">${it.digest}</span>`],
    ]} />
    <div class="halves">
      <section><h3>May touch</h3><${Facts} all=${[
        ['requests', grants.http.length ? html`<ul class="plain">${grants.http.map((one) => html`<li><${Requests} of=${one} /></li>`)}</ul>` : none],
        ['hosts', grants.allowed_outbound_hosts.length ? list(grants.allowed_outbound_hosts) : none],
        ['directories', grants.directories.length ? html`<ul class="plain">${grants.directories.map((one) => html`<li><code>${one.guest}</code> is ${one.host}, ${one.writable ? 'read and written' : 'read only'}</li>`)}</ul>` : none],
        ['environment', grants.env.length ? list(grants.env) : none],
        ['secrets', Object.keys(grants.env_secrets).length ? list(Object.entries(grants.env_secrets).map(([variable, secret]) => `${secret}, as ${variable}`)) : none], ['clock', grants.clock], ['random', grants.random],
      ]} /></section>
      <section><h3>Imports</h3>${list(it.imports)}${Object.keys(it.calls).length ? html`<h3>Calls</h3>${list(Object.entries(it.calls).flatMap(([name, functions]) => functions.map((one) => `${name}: ${one}`)))}` : null}</section>
    </div>
    ${it.functions.length ? html`<section><h3>Task types</h3>${it.functions.map((one) => html`<details><summary><code>${one.task_type}</code> <code class="faint cut">${one.wit}</code></summary><h4>Input</h4><${Json} value=${one.input_schema} label="Schema of the input" /><h4>Output</h4><${Json} value=${one.output_schema} label="Schema of the output" /></details>`)}</section>` : null}
    ${it.left_out.length ? html`<section><h3>Left out</h3>${list(it.left_out)}</section>` : null}` : null}
  </details>`;
}

// One grant of requests: where they go, and what narrows or bounds them. Of secrets and headers there are names alone.
function Requests({ of }) {
  const { retry, rate } = of;
  const said = [
    of.methods.length ? of.methods.join(', ') : 'all methods',
    of.paths.length ? `paths ${of.paths.join(', ')}` : 'all paths',
    of.headers.length ? `adds ${of.headers.join(', ')}` : null,
    of.secrets.length ? `secrets ${of.secrets.join(', ')}` : null,
    `${length(of.timeout_ms)} at most, ${bytes(of.max_request_bytes)} out, ${bytes(of.max_response_bytes)} in`,
    of.record ? null : 'not recorded',
    retry.attempts > 1 ? `${retry.attempts} attempts at ${retry.statuses.join(', ')}` : null,
    rate ? `${number(rate.requests)} in ${length(rate.per_ms)}` : null,
    of.concurrency ? `${number(of.concurrency)} at once` : null,
  ];
  return html`<code>${of.to}</code> ${said.filter(Boolean).join('; ')}`;
}
