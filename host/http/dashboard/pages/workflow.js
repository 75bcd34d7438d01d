// One workflow: its graph, its jobs over time, and why those wait that do.

import { useMemo, useState } from '../vendor/hooks.js';
import { send, terminal, unnamed, useLive } from '../api.js';
import { DRAWN_MAX, Dag, saying } from '../dag.js';
import { useKeys } from '../keys.js';
import { Act, Command, Empty, Facts, Head, Json, Loading, Problem, Progress, Status, Time, html, length, number, taskHref, taskLength, useNow } from '../parts.js';
import { Rows } from '../rows.js';

export function WorkflowPage({ of, values }) {
  const path = `/v1/workflows/${encodeURIComponent(of)}/graph`;
  const look = useLive(path, {
    wants: (told, data) => unnamed(told) || told.changed.has('queues') || told.changed.has('handlers') || Boolean(data && [...told.tasks.values()].some((one) => one.id === data.workflow.id || one.parent_task_id === data.workflow.id)),
    patch: (data, told) => {
      const same = (task) => told.tasks.get(task.id)?.status === undefined || told.tasks.get(task.id).status === task.status;
      if (same(data.workflow) && data.jobs.every(same)) return data;
      const moved = (task) => (same(task) ? task : { ...task, status: told.tasks.get(task.id).status, pending_reason: undefined, why: [] });
      return { ...data, workflow: moved(data.workflow), jobs: data.jobs.map(moved) };
    },
  });
  const [problem, setProblem] = useState(null);
  const [cursor, setCursor] = useState(null);
  const it = look.data?.workflow;
  const jobs = look.data?.jobs || [];
  const live = Boolean(it) && !terminal(it.status);
  const now = useNow(live, 250);
  const names = useMemo(() => new Map(jobs.map((job) => [job.id, job.key || job.task_type])), [jobs]);
  const small = jobs.length <= DRAWN_MAX && !look.data?.more;
  const view = values.view || 'graph';
  const act = (id, verb) => send('POST', `/v1/tasks/${id}/${verb}`).catch(setProblem);
  const one = cursor === null ? it : jobs[cursor];
  useKeys(it ? {
    move: (by) => setCursor((was) => Math.max(0, Math.min(jobs.length - 1, was === null ? 0 : was + by))),
    open: () => cursor !== null && jobs[cursor] && (location.hash = taskHref(jobs[cursor].id)),
    cancel: () => !terminal(one.status) && act(one.id, 'cancel'),
    retry: () => terminal(one.status) && one.status !== 'completed' && act(one.id, 'retry'),
    clear: () => setCursor(null),
  } : {});
  if (!it) return html`<${Head} title="Workflow" of=${of} /><${Loading} of=${look} />`;
  const group = it.workflow;
  const tab = (name, label) => html`<a class="tab" role="tab" aria-selected=${String(view === name)} href=${`#/workflow/${encodeURIComponent(of)}?view=${name}`}>${label}</a>`;
  return html`
    <${Head} title=${html`${group.name} <${Status} status=${it.status} />`} of=${group.name}>
      <span class="acts"><a class="button" href=${taskHref(it.id)}>as a task</a>
        ${live ? html`<${Act} kind="danger" run=${() => send('POST', `/v1/tasks/${it.id}/cancel`)} onProblem=${setProblem} title="c">Cancel<//>` : null}
        ${!live && it.status !== 'completed' ? html`<${Act} kind="main" run=${() => send('POST', `/v1/tasks/${it.id}/retry`)} onProblem=${setProblem} title="r">Retry<//>` : null}</span>
    <//>
    <${Problem} problem=${problem || look.problem} />
    <${Facts} all=${[
      ['id', html`<span class="id">${it.id}</span>`], ['key', it.key], ['submitted', html`<${Time} at=${it.created_at} />`],
      ['ran', length(taskLength(it, now))], ['jobs', number(group.total)], ['completed', number(group.completed)], ['failed', group.failed ? number(group.failed) : null], ['cancelled', group.cancelled ? number(group.cancelled) : null], ['skipped', group.skipped ? number(group.skipped) : null],
      ['in progress', group.in_flight ? number(group.in_flight) : null], ['note', group.failing ? 'it will have failed when the others have ended' : null],
    ]} />
    <${Progress} label="Jobs" done=${group.completed} failed=${group.failed} other=${group.cancelled + group.skipped} total=${group.total} />
    <div class="tabs" role="tablist" aria-label="How it is shown">${tab('graph', 'Graph')}${tab('time', 'Time')}${tab('input', 'Input and output')}</div>
    ${view === 'graph' ? (small ? (jobs.length ? html`<${Dag} jobs=${jobs} names=${names} now=${now} at=${cursor === null ? null : jobs[cursor]?.id} />` : html`<${Empty}>It has no jobs.<//>`)
    : html`<p class="faint">${number(group.total)} jobs are too many for a picture; the first ${number(jobs.length)} stand in <a href=${`#/workflow/${encodeURIComponent(of)}?view=time`}>time</a>, all of them in <a href=${`#/tasks?q=parent:${it.id}`}>a list</a>.</p>`) : null}
    ${view === 'time' ? html`<${Gantt} workflow=${it} jobs=${jobs} names=${names} now=${now} at=${cursor} />` : null}
    ${view === 'input' ? html`<div class="halves"><section><h2>Input</h2><${Json} value=${it.input} label="Input" /></section><section><h2>Output</h2><${Json} value=${it.output} label="Output" /></section></div>` : null}
    ${view === 'graph' ? html`<${Waiting} jobs=${jobs} names=${names} now=${now} />` : null}
    <${Command} line=${`fishway workflow get ${it.id}`} /><${Command} line=${`fishway trace ${it.id} --follow`} />`;
}

/** The jobs that do not run, and why. */
function Waiting({ jobs, names, now }) {
  const held = jobs.filter((job) => job.why?.length && job.why[0].reason !== 'blocked');
  if (!held.length) return null;
  return html`<section><h2>What waits, and why</h2><ul class="short">${held.slice(0, 20).map((job) => html`<li><${Status} status=${job.status} reason=${job.pending_reason} /> <a href=${taskHref(job.id)}>${job.key || job.id}</a> <span>${job.why.map((why) => why.sentence).join('; ')}${job.why[0].until ? `, for ${length(Math.max(0, Date.parse(job.why[0].until) - now))}` : ''}</span></li>`)}</ul></section>`;
}

/** Jobs over time: hatched until the start, then as long as they ran. */
function Gantt({ workflow, jobs, names, now, at }) {
  const from = Date.parse(workflow.created_at);
  const to = Math.max(from + 1, workflow.ended_at ? Date.parse(workflow.ended_at) : now);
  const share = (time) => (100 * (Math.min(Math.max(time, from), to) - from)) / (to - from);
  const marks = [0, 0.25, 0.5, 0.75, 1];
  return html`<${Rows} label="Jobs over time" count=${jobs.length} at=${at}
    head=${html`<span role="columnheader" class="g-name">job</span><span role="columnheader" class="g-track marks">${marks.map((mark) => html`<small style=${{ left: `${mark * 100}%` }}>${length(mark * (to - from))}</small>`)}</span><span role="columnheader" class="g-long n">ran</span>`}
    row=${(index) => {
      const job = jobs[index];
      const ready = Math.max(from, ...job.depends_on.map((link) => Date.parse(jobs.find((one) => one.id === link.id)?.ended_at || 0) || 0));
      const start = job.started_at ? Date.parse(job.started_at) : terminal(job.status) ? null : to;
      const end = job.ended_at ? Date.parse(job.ended_at) : to;
      return html`<div class=${`row${at === index ? ' at' : ''}`} role="row" aria-rowindex=${index + 2} key=${index} onClick=${() => (location.hash = taskHref(job.id))}>
        <span role="cell" class="g-name"><${Status} status=${job.status} /> <a tabindex="-1" href=${taskHref(job.id)}>${job.key || job.task_type}</a></span>
        <span role="cell" class="g-track">
          ${start === null || start <= ready ? null : html`<i class="bar-of wait" style=${{ left: `${share(ready)}%`, width: `${share(start) - share(ready)}%` }}></i>`}
          ${job.started_at ? html`<i class=${`bar-of ${job.status}`} style=${{ left: `${share(start)}%`, width: `max(2px, ${share(end) - share(start)}%)` }} title=${saying(job, names, now)}></i>` : null}
        </span><span role="cell" class="g-long n">${length(taskLength(job, now)) || (job.why?.length ? saying(job, names, now) : '–')}</span></div>`;
    }} />`;
}
