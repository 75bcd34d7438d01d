// The host: how it stands, and its queues, which can be paused and limited here.

import { useState } from '../vendor/hooks.js';
import { anyTask, send, useLive } from '../api.js';
import { Act, Command, Empty, Facts, Head, Loading, Problem, Time, Warnings, html, length, number, quoted, useNow } from '../parts.js';

export function HostPage() {
  const host = useLive('/v1/host', { wants: (told) => anyTask(told) || told.changed.size > 0, rest: 500 });
  const queues = useLive('/v1/queues', { wants: (told) => told.changed.has('queues') || anyTask(told), rest: 500 });
  const [problem, setProblem] = useState(null);
  const now = useNow(true, 1000);
  if (!host.data) return html`<${Head} title="Host" /><${Loading} of=${host} />`;
  const it = host.data;
  const set = (name, change) => send('PATCH', `/v1/queues/${encodeURIComponent(name)}`, change);
  const limit = async (name, text) => {
    const value = text.trim();
    setProblem(null);
    try {
      await set(name, { concurrency: value === '' ? null : Number(value) });
    } catch (error) {
      setProblem(error);
    }
    queues.reload();
  };
  return html`
    <${Head} title="Host" />
    <${Problem} problem=${problem || host.problem || queues.problem} />
    <${Warnings} all=${it.warnings} />
    <${Facts} all=${[
      ['status', it.stopping ? 'stopping: it takes no more work' : it.status], ['since', it.since && html`<${Time} at=${it.since} />`], ['for', it.since && length(now - Date.parse(it.since))],
      ['version', it.version], ['process', it.pid], ['address', it.url], ['data', html`<code>${it.data}</code>`], ['last heartbeat', it.last_heartbeat_at && html`<${Time} at=${it.last_heartbeat_at} />`],
      ['handlers', html`<a href="#/handlers">${number(it.handler_count)}</a>`], ['broken handlers', it.broken_count ? html`<a href="#/handlers" class="failed">${number(it.broken_count)}</a>` : null], ['files being loaded', it.loading_count || null], ['error', it.error],
    ]} />
    ${it.hosts.length > 0 && html`<section><h2>Hosts</h2><p class="faint">They share the database, newest first.</p>
    <div class="scroll"><table class="hosts"><thead><tr><th class="n">number</th><th>state</th><th>machine</th><th class="n">process</th><th>version</th><th>since</th><th>last heartbeat</th><th class="n">handlers</th><th class="n">running</th></tr></thead>
      <tbody>${it.hosts.map((one) => html`<tr key=${one.number} data-host=${one.number}><td class="n">${one.number}</td><td>${one.status === 'running' ? one.status : html`<strong>${one.status}</strong>`}${one.error && `: ${one.error}`}</td>
        <td><code>${(one.machine || '').slice(0, 8)}</code></td><td class="n">${one.pid}</td><td>${one.version}</td><td><${Time} at=${one.since} /></td><td><${Time} at=${one.last_heartbeat_at} /></td>
        <td class="n">${one.handlers == null ? '' : number(one.handlers)}</td><td class="n running-here">${one.running == null ? '' : number(one.running)}</td></tr>`)}</tbody></table></div></section>`}
    <section><h2>Queues</h2>
    ${!queues.data ? html`<${Loading} of=${queues} />` : !queues.data.queues.length ? html`<${Empty} command="fishway queue set mail --concurrency 4">No queue has a task or was set. This limits one before it has:<//>` : html`
    <div class="scroll"><table><thead><tr><th>queue</th><th>state</th><th class="n">at once</th><th class="n">running</th><th class="n">waiting</th><th class="n">ready</th><th class="n">scheduled</th><th class="n">blocked</th><th class="n">held</th><th class="n">completed</th><th class="n">failed</th><th></th></tr></thead>
      <tbody>${queues.data.queues.map((one) => html`<tr key=${one.name}><td><a href=${`#/tasks?q=queue:${encodeURIComponent(one.name)}`}>${one.name}</a></td>
        <td>${one.paused ? html`<strong>paused</strong>` : 'open'}</td>
        <td class="n"><input class="small" type="number" min="1" aria-label=${`Tasks of ${one.name} that run at once`} placeholder="no limit" value=${one.concurrency ?? ''} onChange=${(event) => limit(one.name, event.target.value)} /></td>
        <td class="n">${number(one.tasks?.running)}</td><td class="n">${number(one.tasks?.waiting)}</td><td class="n">${number(one.pending?.ready)}</td><td class="n">${number(one.pending?.scheduled)}</td><td class="n">${number(one.pending?.blocked)}</td><td class="n">${number(one.pending?.held)}</td><td class="n">${number(one.tasks?.completed)}</td><td class=${`n ${one.tasks?.failed ? 'failed' : 'faint'}`}>${number(one.tasks?.failed)}</td>
        <td class="n"><${Act} kind="quiet" run=${() => set(one.name, { paused: !one.paused })} onDone=${queues.reload} onProblem=${setProblem}>${one.paused ? 'resume' : 'pause'}<//></td></tr>`)}</tbody></table></div>
    ${queues.data.next ? html`<p class="faint">Only the first ${queues.data.queues.length} are shown; fishway queue list shows all.</p>` : ''}`}
    </section>
    <${Command} line="fishway status" /><${Command} line=${`fishway queue pause ${quoted(queues.data?.queues[0]?.name || 'default')}`} />`;
}
