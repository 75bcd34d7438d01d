// How the host fares: what there is, what ended when and how long that took, which handlers fail.

import { anyTask, query, useLive } from '../api.js';
import { Chart } from '../charts.js';
import { Command, Empty, Head, Loading, Problem, SIGNS, STATUSES, Status, TaskLink, Time, Warnings, html, length, number, taskName } from '../parts.js';

const MINUTES = [5, 15, 60, 360, 1440];

export function Overview({ values }) {
  const minutes = MINUTES.includes(Number(values.minutes)) ? Number(values.minutes) : 15;
  const look = useLive(query('/v1/overview', { minutes }), { wants: anyTask, rest: 1000 });
  const failed = useLive('/v1/tasks?status=failed&limit=8&brief=true', { wants: anyTask, rest: 500 });
  const running = useLive('/v1/tasks?status=running,waiting&limit=8&brief=true', { wants: anyTask, rest: 500 });
  const host = useLive('/v1/host', { wants: (told) => told.changed.has('handlers') });
  const head = html`<${Head} title="Overview">
      <label class="inline">the last <select value=${minutes} onChange=${(event) => { location.hash = `#/overview?minutes=${event.target.value}`; }}>
        ${MINUTES.map((one) => html`<option value=${one} selected=${one === minutes}>${one < 60 ? `${one} minutes` : one === 60 ? 'hour' : `${one / 60} hours`}</option>`)}
      </select></label>
    <//><${Warnings} all=${host.data?.warnings} />`;
  if (!look.data) return html`${head}<${Loading} of=${look} />`;
  const { counts, moments, handlers, moment_ms: moment } = look.data;
  const all = STATUSES.reduce((sum, status) => sum + counts[status], 0);
  if (!all) return html`${head}<${Fresh} />`;
  const since = Date.parse(look.data.since);
  const times = moments.map((_, index) => (since + index * moment) / 1000);
  const known = Date.parse(look.data.known_since);
  const part = (name, of) => moments.map((one) => one[name]?.[of] ?? null);
  const note = known > since ? `the newest 20\u202f000 tasks alone` : null;
  return html`${head}
    <${Problem} problem=${look.problem} />
    <ul class="tiles" aria-label="Tasks by status">${STATUSES.map((status) => html`
      <li><a class=${`tile ${status}${counts[status] ? '' : ' none'}`} href=${`#/tasks?q=status:${status}`}><b>${number(counts[status])}</b><span><span class="sign" aria-hidden="true">${SIGNS[status]}</span> ${status}</span></a></li>`)}</ul>
    <div class="charts">
      <${Chart} title=${`Tasks that ended, in each ${length(moment)}`} note=${note} times=${times} lines=${[
        { label: 'completed', colour: '--completed', values: moments.map((one) => one.completed), bars: true },
        { label: 'failed', colour: '--failed', values: moments.map((one) => one.failed), bars: true },
      ]} />
      <${Chart} title="How long they ran" times=${times} lengths=${true} lines=${[
        { label: 'half within', colour: '--accent', values: part('duration_ms', 'median') },
        { label: '95 % within', colour: '--waiting', values: part('duration_ms', 'p95'), dash: [4, 3] },
      ]} />
      <${Chart} title="How long they waited in their queue" times=${times} lengths=${true} lines=${[
        { label: 'half within', colour: '--accent', values: part('wait_ms', 'median') },
        { label: '95 % within', colour: '--waiting', values: part('wait_ms', 'p95'), dash: [4, 3] },
      ]} />
    </div>
    <section><h2>Handlers</h2>
      ${handlers.length ? html`<div class="scroll"><table><thead><tr><th>handler</th><th class="n">completed</th><th class="n">failed</th><th class="n">failed of all</th><th class="n">half run within</th><th class="n">95 %</th><th class="n">half wait</th></tr></thead>
      <tbody>${handlers.slice(0, 20).map((one) => html`<tr><td><a href=${`#/tasks?q=handler:${encodeURIComponent(one.handler)}`}>${one.handler}</a></td>
        <td class="n">${number(one.completed)}</td><td class=${`n ${one.failed ? 'failed' : 'faint'}`}>${one.failed ? html`<a href=${`#/tasks?q=${encodeURIComponent(`status:failed handler:${one.handler}`)}`}>${number(one.failed)}</a>` : '0'}</td>
        <td class="n">${one.completed + one.failed ? `${((100 * one.failed) / (one.completed + one.failed)).toFixed(one.failed ? 1 : 0)} %` : '–'}</td>
        <td class="n">${length(one.duration_ms?.median) || '–'}</td><td class="n">${length(one.duration_ms?.p95) || '–'}</td><td class="n">${length(one.wait_ms?.median) || '–'}</td></tr>`)}</tbody></table></div>`
    : html`<p class="faint">Nothing has run within this time.</p>`}
    </section>
    <div class="halves">
      <section><h2>Under way</h2><${Short} of=${running} none="Nothing runs." /></section>
      <section><h2>Failed last</h2><${Short} of=${failed} none="Nothing has failed." /></section>
    </div>
    <${Command} line="fishway top" />`;
}

function Short({ of, none }) {
  const tasks = of.data?.tasks;
  if (!tasks) return html`<${Loading} of=${of} />`;
  if (!tasks.length) return html`<p class="faint">${none}</p>`;
  return html`<ul class="short">${tasks.map((task) => html`<li key=${task.id}><${Status} status=${task.status} /> <${TaskLink} id=${task.id} name=${task.key || taskName(task)} /> <span class="cut faint">${task.error || ''}</span> <${Time} at=${task.ended_at || task.started_at || task.created_at} /></li>`)}</ul>`;
}

function Fresh() {
  const handlers = useLive('/v1/handlers?limit=20', { wants: (told) => told.changed.has('handlers') });
  const first = handlers.data?.handlers.find((one) => one.kind === 'handler');
  const type = first?.functions.length ? first.functions[0].task_type : first?.name;
  return first
    ? html`<${Empty} command=${`fishway submit ${type} '{}' --wait`}>There are no tasks yet. ${handlers.data.handler_count === 1 ? 'A handler is' : `${number(handlers.data.handler_count)} handlers are`} loaded; submit the first task:<//>`
    : html`<${Empty} command="fishway new hello --lang rust && fishway build hello -o handlers/">There are no tasks and no handlers yet. Drop a component, NAME.wasm, into the handlers directory; it is loaded at once. One to begin with:<//>`;
}
