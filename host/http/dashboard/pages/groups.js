// Pools; and a list of any tasks that contain tasks, with what they hold and how far they are.

import { useState } from '../vendor/hooks.js';
import { anyTask, query, send, terminal, useLive } from '../api.js';
import { useKeys } from '../keys.js';
import { Act, Command, Empty, Head, Loading, Problem, Progress, Status, Time, html, number, taskHref } from '../parts.js';

export function Pools({ values }) {
  return html`<${List} title="Pools" place="pools" kinds=${['pool']} all=${values.all === '1'} line="fishway pool list" none="No pool is there. A handler opens one with pools.open, a workflow with a step that is a pool." />`;
}

/** With `inner` it is a part of a page that has its own keys. */
export function List({ title, place, kinds, all, line, none, inner }) {
  const [problem, setProblem] = useState(null);
  const [cursor, setCursor] = useState(null);
  const ways = { wants: anyTask, rest: 200 };
  const first = useLive(query('/v1/pools', { kind: kinds[0], all: all || null, limit: 200 }), ways);
  const second = useLive(kinds[1] ? query('/v1/pools', { kind: kinds[1], all: all || null, limit: 200 }) : null, ways);
  const looks = kinds[1] ? [first, second] : [first];
  const pools = looks.flatMap((look) => look.data?.tasks || []).sort((a, b) => (a.id < b.id ? 1 : -1));
  useKeys(inner ? null : {
    move: (by) => setCursor((was) => Math.max(0, Math.min(pools.length - 1, was === null ? 0 : was + by))),
    open: () => pools[cursor] && (location.hash = taskHref(pools[cursor].id)),
    cancel: () => pools[cursor] && !terminal(pools[cursor].status) && send('POST', `/v1/tasks/${pools[cursor].id}/cancel`).catch(setProblem),
  });
  const also = html`<label class="inline"><input type="checkbox" checked=${all} onChange=${(event) => { location.hash = `#/${place}${event.target.checked ? '?all=1' : ''}`; }} /> also those that have ended</label>`;
  return html`
    ${inner ? html`<header class="title part"><h2>${title}</h2>${also}</header>` : html`<${Head} title=${title}>${also}<//>`}
    <${Problem} problem=${problem || looks.map((look) => look.problem).find(Boolean)} />
    ${looks.some((look) => !look.data) ? html`<${Loading} of=${looks.find((look) => !look.data)} />` : !pools.length ? html`<${Empty}>${all ? none : html`None is in progress. ${none}`}<//>` : html`
    <div class="scroll"><table><thead><tr><th>status</th><th>name</th><th>kind</th><th>phase</th><th class="wide">progress</th><th class="n">completed</th><th class="n">failed</th><th class="n">in progress</th><th class="n">sources</th><th class="n">at once</th><th class="n">begun</th><th></th></tr></thead>
      <tbody>${pools.map((task, index) => html`<tr key=${task.id} class=${cursor === index ? 'at' : ''}><td><${Status} status=${task.status} /></td><td><a href=${taskHref(task.id)}>${task.pool.name}</a></td><td class="faint">${task.pool.kind}</td><td>${task.pool.phase}</td>
        <td class="wide"><${Progress} label=${task.pool.name} done=${task.pool.completed} failed=${task.pool.failed} other=${task.pool.cancelled + task.pool.skipped} total=${task.pool.total ?? task.pool.spawned} /></td>
        <td class="n">${number(task.pool.completed)}${task.pool.total === null ? '' : ` of ${number(task.pool.total)}`}</td><td class=${`n ${task.pool.failed ? 'failed' : 'faint'}`}>${number(task.pool.failed)}</td><td class="n">${number(task.pool.in_flight)}</td><td class="n">${number(task.pool.sources)}</td><td class="n">${task.pool.concurrency ?? '–'}</td><td class="n"><${Time} at=${task.created_at} /></td>
        <td class="n">${terminal(task.status) ? null : html`<${Act} kind="quiet danger" run=${() => send('POST', `/v1/tasks/${task.id}/cancel`)} onProblem=${setProblem}>Cancel<//>`}</td></tr>`)}</tbody></table></div>`}
    <${Command} line=${line} />`;
}
