// Batch jobs, how far they are and what failed in them; and the steps of workflows that have items.

import { useState } from '../vendor/hooks.js';
import { anyTask, query, send, useLive } from '../api.js';
import { useKeys } from '../keys.js';
import { Act, Command, Empty, Facts, Head, Loading, Problem, Progress, Status, TaskLink, Time, html, length, number } from '../parts.js';
import { List } from './groups.js';

const PAGE = 100;

const ENDED = ['COMPLETED', 'FAILED', 'CANCELLED'];
const over = (job) => ENDED.includes(job.status);
const hrefOf = (job) => `#/job/${job.job_id}`;
const wants = (told) => anyTask(told) || told.changed.has('jobs') || told.changed.has('handlers');

const stop = (job) => send('POST', `/v1/jobs/${job.job_id}/stop`);
const resume = (job) => send('POST', `/v1/jobs/${job.job_id}/resume`);
const cancel = (job) => send('POST', `/v1/tasks/${job.job_id}/cancel`);
const retry = (job) => send('POST', `/v1/tasks/${job.job_id}/retry`);

/** What a key or a button does with a job where it stands now; null where that is nothing. */
const turn = (job) => (over(job) ? null : job.paused ? resume : stop);

function Acts({ job, quiet, onDone, onProblem }) {
  const kind = quiet ? 'quiet' : '';
  const act = (run, name, kind, title) => html`<${Act} kind=${kind} run=${() => run(job)} onDone=${onDone} onProblem=${onProblem} title=${title}>${name}<//>`;
  if (over(job)) return job.status === 'COMPLETED' ? null : act(retry, 'Retry', quiet ? 'quiet' : 'main', 'Runs those units again that did not complete (r)');
  return html`${job.paused ? act(resume, 'Resume', quiet ? 'quiet' : 'main', 'Lets its units start again (p)') : act(stop, 'Pause', kind, 'Lets no more units start; those that run come to their end (p)')}
    ${act(cancel, 'Cancel', `${kind} danger`, 'Ends it, and what runs of it (c)')}`;
}

const ended = (progress) => progress.completed + progress.failed + progress.cancelled + progress.skipped;

/** Three digits say enough. */
const rate = (job) => (job.rate_per_s === null ? '' : `${job.rate_per_s >= 10 ? number(Math.round(job.rate_per_s)) : job.rate_per_s.toPrecision(2)}/s`);
const left = (job) => (job.seconds_left === null ? '' : job.seconds_left < 60 ? `${job.seconds_left} s` : length(job.seconds_left * 1000));

function Bar({ job }) {
  const { progress } = job;
  return html`<${Progress} label=${job.name} done=${progress.completed} failed=${progress.failed} other=${progress.cancelled + progress.skipped} total=${progress.total} />`;
}

export function Jobs({ values }) {
  const [problem, setProblem] = useState(null);
  const [cursor, setCursor] = useState(null);
  const look = useLive(query('/v1/jobs', { limit: PAGE, status: values.status, after: values.after }), { wants, rest: 250 });
  const jobs = look.data?.jobs || [];
  const at = jobs[cursor];
  const doing = (run) => at && run && run(at).then(look.reload, setProblem);
  useKeys({
    move: (by) => setCursor((was) => Math.max(0, Math.min(jobs.length - 1, was === null ? 0 : was + by))),
    open: () => at && (location.hash = hrefOf(at)),
    pause: () => doing(at && turn(at)),
    cancel: () => doing(at && !over(at) && cancel),
    retry: () => doing(at && over(at) && at.status !== 'COMPLETED' && retry),
  });
  return html`
    <${Head} title="Jobs" />
    <${Problem} problem=${problem || look.problem} />
    <h2>Batch jobs</h2>
    ${!look.data ? html`<${Loading} of=${look} />` : !jobs.length ? html`<${Empty} command="fishway job start HANDLER inputs.jsonl">There are no batch jobs. One runs a handler on each line of a file:<//>` : html`
    <div class="scroll"><table><thead><tr><th>status</th><th>name</th><th>handler</th><th class="wide">progress</th><th class="n">units</th><th class="n">failed</th><th class="n">running</th><th class="n">rate</th><th class="n">left</th><th class="n">begun</th><th></th></tr></thead>
      <tbody>${jobs.map((job, index) => html`<tr key=${job.job_id} class=${cursor === index ? 'at' : ''} data-job=${job.job_id}><td><${Status} status=${job.status.toLowerCase()} /></td>
        <td><a href=${hrefOf(job)}>${job.name}</a></td><td class="faint">${job.handler}</td>
        <td class="wide"><${Bar} job=${job} /></td><td class="n">${number(ended(job.progress))} of ${number(job.progress.total)}</td>
        <td class=${`n ${job.progress.failed ? 'failed' : 'faint'}`}>${job.progress.failed ? html`<a class="failed" href=${hrefOf(job)}>${number(job.progress.failed)}</a>` : 0}</td><td class="n">${number(job.progress.running)}</td>
        <td class="n">${rate(job)}</td><td class="n">${left(job)}</td><td class="n"><${Time} at=${job.created} /></td>
        <td class="n"><${Acts} job=${job} quiet=${true} onDone=${look.reload} onProblem=${setProblem} /></td></tr>`)}</tbody></table></div>
    ${look.data.next ? html`<p><a href=${`#/jobs?after=${look.data.next}`}>older ones</a></p>` : null}`}
    <${Command} line="fishway job list" />
    <${List} title="Steps with many items" inner=${true} place="jobs" kinds=${['map', 'generator']} all=${values.all === '1'} line="fishway workflow list" none="A map or a generator in a workflow runs a handler for each of many items." />`;
}

export function JobPage({ of }) {
  const path = `/v1/jobs/${encodeURIComponent(of)}`;
  const look = useLive(path, { wants, rest: 200 });
  const [problem, setProblem] = useState(null);
  const job = look.data;
  const doing = (run) => run && run(job).then(look.reload, setProblem);
  useKeys(job ? { pause: () => doing(turn(job)), cancel: () => doing(!over(job) && cancel), retry: () => doing(over(job) && job.status !== 'COMPLETED' && retry) } : {});
  if (!job) return html`<${Head} title="Job" of=${of} /><${Loading} of=${look} />`;
  const { progress } = job;
  const all = `#/tasks?q=${encodeURIComponent(`parent:${job.job_id}`)}`;
  return html`
    <${Head} title=${html`${job.name} <${Status} status=${job.status.toLowerCase()} />`} of=${job.name}>
      <span class="acts"><${Acts} job=${job} onDone=${look.reload} onProblem=${setProblem} /></span><//>
    <${Problem} problem=${problem || look.problem} />
    ${job.hint ? html`<ul class="why"><li>${job.hint}</li></ul>` : null}
    ${job.error ? html`<div class="problem"><strong>${job.error}</strong></div>` : null}
    <div class="far"><b>${progress.percentage === null ? '–' : `${progress.percentage} %`}</b><${Bar} job=${job} /></div>
    <p class="faint">${number(ended(progress))} of ${number(progress.total)} units have ended${rate(job) ? `, ${rate(job)}` : ''}${left(job) ? `; ${left(job)} left, if it goes on so` : ''}</p>
    <${Facts} all=${[
      ['id', html`<a class="id" href=${`#/task/${job.job_id}`}>${job.job_id}</a>`],
      ['handler', html`<a href=${`#/handlers/${encodeURIComponent(job.handler)}`}>${job.handler}</a>`], ['made from', job.inputs],
      ['completed', number(progress.completed)], ['failed', progress.failed ? html`<span class="failed">${number(progress.failed)}</span>` : '0'], ['cancelled', progress.cancelled || null], ['skipped', progress.skipped || null],
      ['running', number(progress.running)], ['at once', job.concurrency ?? 'as many as there is room for'], ['a failed unit', { fail: 'fails the job at its end', 'fail-fast': 'ends the job', collect: 'is only counted' }[job.on_failure]],
      ['made', html`<${Time} at=${job.created} />`], ['started', job.started && html`<${Time} at=${job.started} />`], ['ended', job.completed && html`<${Time} at=${job.completed} />`],
    ]} />
    <section><h2>Units <small><a href=${all}>all of them</a></small></h2><${Running} of=${job.job_id} /></section>
    <${Failed} path=${path} count=${progress.failed + progress.cancelled + progress.skipped} id=${job.job_id} />
    <section><h2>On the command line</h2><${Command} line=${`fishway job status ${job.job_id} --watch`} /><${Command} line=${`fishway job results ${job.job_id} --failed`} />
      ${over(job) ? null : html`<${Command} line=${`fishway job ${job.paused ? 'resume' : 'stop'} ${job.job_id}`} />`}</section>`;
}

function Running({ of }) {
  const look = useLive(query('/v1/tasks', { parent: of, status: 'running,waiting', brief: true, limit: 20 }), { wants: anyTask, rest: 300 });
  const tasks = look.data?.tasks;
  if (!tasks) return html`<${Loading} of=${look} />`;
  if (!tasks.length) return html`<p class="faint">None of them runs.</p>`;
  return html`<ul class="short">${tasks.map((task) => html`<li key=${task.id}><${Status} status=${task.status} /> <${TaskLink} id=${task.id} name=${`line ${task.line}`} /> <span class="cut faint">${task.progress?.message || ''}</span> <span class="faint">${length(task.duration_ms)}</span></li>`)}</ul>`;
}

/** What did not complete, in the order of its lines. */
function Failed({ path, count, id }) {
  const [limit, setLimit] = useState(50);
  const look = useLive(count ? query(`${path}/results`, { failed: true, limit }) : null, { wants: anyTask, rest: 500 });
  const units = look.data?.results;
  if (!count) return null;
  return html`<section><h2>Not completed <small>${number(count)}</small></h2><${Problem} problem=${look.problem} />
    ${!units ? null : html`<ul class="short failures">${units.map((unit) => html`<li key=${unit.id}><${Status} status=${unit.status} /> <${TaskLink} id=${unit.id} name=${`line ${number(unit.line)}`} /> <span class="cut failed" title=${unit.error}>${unit.error}</span></li>`)}</ul>
    ${units.length < limit || limit >= 1000 ? null : html`<button type="button" class="quiet" onClick=${() => setLimit(Math.min(1000, limit * 4))}>more</button>`}
    ${count > 1000 ? html`<p><a href=${`#/tasks?q=${encodeURIComponent(`parent:${id} status:failed`)}`}>all of them</a></p>` : null}`}</section>`;
}
