// All workflows, newest first.

import { useState } from '../vendor/hooks.js';
import { anyTask, query, useLive } from '../api.js';
import { useKeys } from '../keys.js';
import { Command, Empty, Head, Loading, Problem, Progress, Status, Time, html, length, number, quoted } from '../parts.js';

export function Workflows({ values }) {
  const [limit, setLimit] = useState(50);
  const [cursor, setCursor] = useState(null);
  const name = values.q || '';
  const look = useLive(query('/v1/workflows', { limit, name, status: values.status }), {
    wants: anyTask,
    patch: (data, told) => (data.tasks.some((task) => told.tasks.has(task.id)) ? { ...data, tasks: data.tasks.map((task) => (told.tasks.has(task.id) ? { ...task, status: told.tasks.get(task.id).status } : task)) } : data),
    rest: 200,
  });
  const tasks = look.data?.tasks || [];
  useKeys({
    move: (by) => setCursor((was) => Math.max(0, Math.min(tasks.length - 1, was === null ? 0 : was + by))),
    open: () => tasks[cursor] && (location.hash = `#/workflow/${tasks[cursor].id}`),
  });
  const search = (event) => {
    location.hash = event.target.value ? `#/workflows?q=${encodeURIComponent(event.target.value)}` : '#/workflows';
  };
  return html`
    <${Head} title="Workflows" />
    <div class="bar"><input type="search" data-search aria-label="Search workflows by name" placeholder="the name of a workflow   ( / )" value=${name} onChange=${search} /></div>
    <${Problem} problem=${look.problem} />
    ${!look.data ? html`<${Loading} of=${look} />` : !tasks.length ? html`<${Empty} command=${name ? undefined : 'fishway workflow run FILE'}>${name ? 'No workflow has this name.' : 'There are no workflows yet. A JSON or TOML file makes one:'}<//>` : html`
    <div class="scroll"><table><thead><tr><th>status</th><th>name</th><th>id</th><th class="wide">jobs</th><th class="n">completed</th><th class="n">failed</th><th class="n">ran</th><th class="n">submitted</th></tr></thead>
      <tbody>${tasks.map((task, index) => html`<tr key=${task.id} class=${cursor === index ? 'at' : ''} aria-selected=${String(cursor === index)}>
        <td><${Status} status=${task.status} /></td><td><a href=${`#/workflow/${task.id}`}>${task.workflow.name}</a></td><td><span class="id faint">${task.id}</span></td>
        <td class="wide"><${Progress} label=${task.workflow.name} done=${task.workflow.completed} failed=${task.workflow.failed} other=${task.workflow.cancelled + task.workflow.skipped} total=${task.workflow.total} /></td>
        <td class="n">${number(task.workflow.completed)} of ${number(task.workflow.total)}</td><td class=${`n ${task.workflow.failed ? 'failed' : 'faint'}`}>${number(task.workflow.failed)}</td>
        <td class="n">${length(task.duration_ms)}</td><td class="n"><${Time} at=${task.created_at} /></td></tr>`)}</tbody></table></div>
    ${look.data.next && limit < 1000 ? html`<button type="button" onClick=${() => setLimit(Math.min(1000, limit * 4))}>more</button>` : null}`}
    <${Command} line=${`fishway workflow list${name ? ` --name ${quoted(name)}` : ''}`} />`;
}
