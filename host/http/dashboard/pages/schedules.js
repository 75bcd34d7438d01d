// Tasks at set times.

import { useState } from '../vendor/hooks.js';
import { anyTask, send, useLive } from '../api.js';
import { Act, Command, Empty, Head, Loading, Problem, Status, TaskLink, Time, html, length, number, useNow } from '../parts.js';

export function Schedules() {
  const look = useLive('/v1/schedules', { wants: (told) => told.changed.has('schedules') || anyTask(told), rest: 500 });
  const [problem, setProblem] = useState(null);
  const now = useNow(true, 1000);
  if (!look.data) return html`<${Head} title="Schedules" /><${Loading} of=${look} />`;
  const act = (one, verb, label, kind = 'quiet') => html`<${Act} kind=${kind} run=${() => send('POST', `/v1/schedules/${encodeURIComponent(one.name)}/${verb}`)} onDone=${look.reload} onProblem=${setProblem}>${label}<//>`;
  const { schedules } = look.data;
  return html`
    <${Head} title="Schedules" />
    <${Problem} problem=${problem || look.problem} />
    ${schedules.length ? html`<div class="scroll"><table><thead><tr><th>name</th><th>state</th><th>runs</th><th>when</th><th class="n">next</th><th class="n">in</th><th>last</th><th class="n">runs so far</th><th class="n">left out</th><th></th></tr></thead>
      <tbody>${schedules.map((one) => html`<tr key=${one.name}><td>${one.name}</td><td class=${one.state === 'active' ? '' : one.state === 'damaged' ? 'failed' : 'faint'}>${one.state}</td><td>${one.task_type}</td>
        <td>${one.cron ? html`<code>${one.cron}</code> <span class="faint">${one.zone}</span>` : `every ${length(one.every_ms)}`}</td>
        <td class="n"><${Time} at=${one.state === 'active' ? one.next_at : null} /></td><td class="n">${one.state === 'active' && one.next_at ? length(Math.max(0, Date.parse(one.next_at) - now)) : ''}</td>
        <td>${one.last_task_id ? (one.last_task_status ? html`<${Status} status=${one.last_task_status} /> <${TaskLink} id=${one.last_task_id} />` : html`<span class="faint">deleted</span>`) : '–'}</td>
        <td class="n">${number(one.runs)}</td><td class="n">${number(one.skipped)}</td>
        <td class="n">${act(one, 'trigger', 'run now')} ${one.state === 'paused' ? act(one, 'resume', 'resume') : act(one, 'pause', 'pause')}</td></tr>`)}</tbody></table></div>`
    : html`<${Empty} command=${'fishway schedule add report --cron "30 9 * * mon-fri" HANDLER'}>There are no schedules. This adds one:<//>`}
    ${look.data.next ? html`<p class="faint">Only the first ${schedules.length} are shown. This shows all:</p>` : ''}
    <${Command} line="fishway schedule list" />`;
}
