// One task: how it stands and why, its attempts over time, what is below it, what went in and came out, its log.

import { useEffect, useRef, useState } from '../vendor/hooks.js';
import { get, listen, paced, query, send, terminal, unnamed, useLive } from '../api.js';
import { useKeys } from '../keys.js';
import { Act, Command, Facts, Head, Json, Loading, Problem, Progress, Status, TaskLink, Time, Why, clock, groupHref, html, length, number, taskHref, taskLength, taskName, useNow } from '../parts.js';

export function TaskPage({ of }) {
  const path = `/v1/tasks/${encodeURIComponent(of)}`;
  const task = useLive(path, {
    wants: (told, data) => unnamed(told) || Boolean(data && (told.tasks.has(data.id) || [...told.tasks.values()].some((one) => one.parent_task_id === data.id))) || told.changed.has('queues') || told.changed.has('handlers'),
    patch: (data, told) => {
      const event = told.tasks.get(data.id);
      return event && event.status !== data.status ? { ...data, status: event.status, pending_reason: undefined, why: [] } : data;
    },
  });
  const [problem, setProblem] = useState(null);
  const it = task.data;
  const act = (verb) => send('POST', `${path}/${verb}`).catch(setProblem);
  useKeys(it ? { cancel: () => !terminal(it.status) && act('cancel'), retry: () => terminal(it.status) && it.status !== 'completed' && act('retry') } : {});
  if (!it) return html`<${Head} title="Task" of=${of} /><${Loading} of=${task} />`;
  const ended = terminal(it.status);
  const group = it.workflow || it.pool;
  return html`
    <${Head} title=${html`${taskName(it)} <${Status} status=${it.status} reason=${it.pending_reason} />`} of=${`${taskName(it)} ${it.id}`}>
      <span class="acts">
        ${it.workflow ? html`<a class="button" href=${`#/workflow/${it.id}`}>graph</a>` : null}
        ${it.pool?.job ? html`<a class="button" href=${groupHref(it)}>job</a>` : null}
        ${ended ? null : html`<${Act} kind="danger" run=${() => send('POST', `${path}/cancel`)} onProblem=${setProblem} title="c">Cancel<//>`}
        ${ended && it.status !== 'completed' ? html`<${Act} kind="main" run=${() => send('POST', `${path}/retry`)} onProblem=${setProblem} title="r">Retry<//>` : null}
      </span>
    <//>
    <${Problem} problem=${problem || task.problem} />
    <${Why} task=${it} />
    ${it.cancel_requested && !ended ? html`<ul class="why"><li>it was asked to stop</li></ul>` : null}
    ${it.error ? html`<div class="problem"><strong>${it.error}</strong>${it.failure ? html`<div class="hint">${it.failure.kind}${it.failure.retryable ? '' : ', not to be tried again'}</div>` : null}${it.failure?.details ? html`<${Json} value=${it.failure.details} label="Details of the failure" />` : null}</div>` : null}
    ${it.progress ? html`<p>${it.progress.message || ''} <span class="faint">${number(it.progress.done)}${it.progress.total ? ` of ${number(it.progress.total)}` : ''}</span><${Progress} label="Progress" done=${it.progress.done} total=${it.progress.total} /></p>` : null}
    ${group ? html`<p><span class="faint">${number(group.completed)} completed, ${number(group.failed)} failed, ${number(group.cancelled)} cancelled, ${number(group.skipped)} skipped, ${number(group.in_flight)} in progress</span><${Progress} label="Members" done=${group.completed} failed=${group.failed} other=${group.cancelled + group.skipped} total=${group.spawned ?? group.total} /></p>` : null}
    <${Facts} all=${[
      ['id', html`<span class="id">${it.id}</span>`],
      ['handler', html`<a href=${`#/tasks?q=handler:${encodeURIComponent(it.task_type)}`}>${it.task_type}</a>`],
      ['key', it.key], ['queue', html`<a href=${`#/tasks?q=queue:${encodeURIComponent(it.queue)}`}>${it.queue}</a>`],
      ['parent', it.parent_task_id && (it.parent_deleted ? `${it.parent_task_id} (deleted)` : html`<${TaskLink} id=${it.parent_task_id} />`)],
      ['another try of', it.retry_of && html`<${TaskLink} id=${it.retry_of} />`],
      ['attempt', it.attempt === null ? null : `${it.attempt}${it.max_attempts ? ` of ${it.max_attempts}` : ''}`], ['restarts', it.restarts || null],
      ['phase', it.phase === 'ingest' ? null : it.phase], ['priority', it.priority || null], ['place', it.task_index], ['line', it.line],
      ['submitted', html`<${Time} at=${it.created_at} />`], ['started', it.started_at && html`<${Time} at=${it.started_at} />`], ['ended', it.ended_at && html`<${Time} at=${it.ended_at} />`],
      ['goes on with', it.on_complete], ['signals unread', it.signals_unread || null],
      ['component', it.component && html`<span class="id" title=${it.component}>${it.component.replace('sha256:', '').slice(0, 12)}</span>`],
    ]} />
    <${Attempts} task=${it} />
    <${Below} task=${it} />
    <${Around} task=${it} />
    <div class="halves">
      <section><h2>Input</h2><${Json} value=${it.input} label="Input" /></section>
      <section><h2>Output</h2>${it.output === null && it.status !== 'completed' ? html`<p class="faint">There is none${ended ? '.' : ' yet.'}</p>` : html`<${Json} value=${it.output} label="Output" />`}</section>
    </div>
    ${it.metadata ? html`<section><h2>Metadata</h2><${Json} value=${it.metadata} label="Metadata" /></section>` : null}
    ${group ? null : html`<${Log} id=${it.id} />`}
    <section><h2>On the command line</h2>
      <${Command} line=${`fishway get ${it.id}`} /><${Command} line=${`fishway trace ${it.id}`} />
      ${group ? null : html`<${Command} line=${`fishway history ${it.id}`} /><${Command} line=${`fishway logs ${it.id}`} />`}
      <${Command} line=${ended ? (it.status === 'completed' ? `fishway delete ${it.id}` : `fishway retry ${it.id}`) : `fishway cancel ${it.id}`} /></section>`;
}

/** Each attempt as a bar between submit and end, or now. */
function Attempts({ task }) {
  const now = useNow(!terminal(task.status), 250);
  if (!task.started_at) return null;
  const failures = task.attempts || [];
  const last = failures.at(-1);
  const again = failures.length && (task.status === 'completed' || ['running', 'waiting'].includes(task.status));
  const from = Date.parse(task.created_at);
  const to = Math.max(from + 1, task.ended_at ? Date.parse(task.ended_at) : now);
  const bars = failures.map((one) => ({ name: `attempt ${one.attempt}${one.phase === 'ingest' ? '' : ` of ${one.phase}`}`, from: Date.parse(one.started_at), to: Date.parse(one.ended_at), status: 'failed', says: one.failure.message }));
  if (!failures.length || again) {
    const began = again ? Date.parse(last.ended_at) : Date.parse(task.started_at);
    bars.push({ name: task.workflow || task.pool ? 'its members' : `attempt ${task.attempt}`, from: began, to: task.ended_at ? Date.parse(task.ended_at) : now, status: task.status, says: again ? 'since the end of the attempt before' : '' });
  }
  const share = (at) => `${(100 * (Math.min(at, to) - from)) / (to - from)}%`;
  return html`<section><h2>Time</h2>
    <ol class="bars" aria-label="Attempts">
      <li><span class="name">until its start</span><span class="track"><i class="bar-of wait" style=${{ left: 0, width: share(Date.parse(task.started_at)) }}></i></span><span class="long">${length(Date.parse(task.started_at) - from)}</span></li>
      ${bars.map((bar) => html`<li><span class="name">${bar.name}</span><span class="track"><i class=${`bar-of ${bar.status}`} style=${{ left: share(bar.from), width: `max(2px, calc(${share(bar.to)} - ${share(bar.from)}))` }}></i></span><span class="long">${length(bar.to - bar.from)}</span><span class="says" title=${bar.says}>${bar.says}</span></li>`)}
    </ol>${task.workflow || task.pool ? null : html`<${Requests} task=${task} from=${from} to=${to} />`}</section>`;
}

/** HTTP requests that have bars: the first ones, as many as a person looks at. */
const REQUESTS_MAX = 50;

/** The HTTP requests of the last run, as bars on the same scale as the attempts. */
function Requests({ task, from, to }) {
  const page = useLive(query(`/v1/tasks/${task.id}/history`, { limit: 200 }), { wants: (told) => unnamed(told) || told.tasks.has(task.id), rest: 150 });
  const all = (page.data?.calls || []).filter((call) => call.request);
  if (!all.length) return null;
  const share = (at) => `${(100 * (Math.max(from, Math.min(at, to)) - from)) / (to - from)}%`;
  const good = ({ status, error }) => !error && status && status < 400;
  const kind = (call) => (!call.request.over ? 'running' : good(call.request) ? 'completed' : 'failed');
  const more = all.length > REQUESTS_MAX || page.data.next;
  return html`<ol class="bars" aria-label="HTTP requests">
    ${all.slice(0, REQUESTS_MAX).map((call) => {
      const began = Date.parse(call.at);
      const ended = call.took_ms === undefined ? to : began + call.took_ms;
      const name = call.subject.replace(/^(\S+) https?:\/\//, '$1 ');
      return html`<li key=${call.number}><span class="name cut" title=${call.subject}>${name}</span><span class="track"><i class=${`bar-of ${kind(call)}`} style=${{ left: share(began), width: `max(2px, calc(${share(ended)} - ${share(began)}))` }}></i></span><span class="long">${length(ended - began)}</span><span class="says" title=${call.answer}>${call.answer}</span></li>`;
    })}
    ${more ? html`<li class="faint">fishway history ${task.id} shows more</li>` : null}
  </ol>`;
}

/** What is below it, level by level as it is opened. */
function Below({ task }) {
  const children = Object.values(task.children || {}).reduce((sum, count) => sum + count, 0);
  if (!children) return null;
  return html`<section><h2>Below it <small><a href=${`#/tasks?q=parent:${task.id}`}>${number(children)} ${children === 1 ? 'task' : 'tasks'}</a></small></h2>
    <ul class="tree" role="tree" aria-label="Tasks below this one"><${Branch} of=${task.id} open=${true} /></ul></section>`;
}

function Branch({ of }) {
  const [limit, setLimit] = useState(50);
  const page = useLive(query(`/v1/tasks/${of}/children`, { limit }), {
    wants: (told, data) => unnamed(told) || [...told.tasks.values()].some((one) => one.parent_task_id === of) || Boolean(data?.nodes.some((node) => told.tasks.has(node.task.id))),
    patch: (data, told) => (data.nodes.some((node) => told.tasks.has(node.task.id)) ? { ...data, nodes: data.nodes.map((node) => (told.tasks.has(node.task.id) ? { ...node, task: { ...node.task, status: told.tasks.get(node.task.id).status, pending_reason: undefined } } : node)) } : data),
    rest: 150,
  });
  if (!page.data) return html`<li><${Loading} of=${page} /></li>`;
  return html`${page.data.nodes.map((node) => html`<${Leaf} key=${node.task.id} node=${node} />`)}
    ${page.data.next && limit < 1000 ? html`<li><button type="button" class="quiet" onClick=${() => setLimit(Math.min(1000, limit * 4))}>more</button></li>` : null}
    ${page.data.next && limit >= 1000 ? html`<li><a href=${`#/tasks?q=parent:${of}`}>all of them</a></li>` : null}`;
}

function Leaf({ node }) {
  const [open, setOpen] = useState(false);
  const { task } = node;
  return html`<li role="treeitem" aria-expanded=${node.has_children ? String(open) : null}>
    <div class="leaf">${node.has_children ? html`<button type="button" class="quiet turn" aria-label=${open ? 'Close' : 'Open'} onClick=${() => setOpen(!open)}>${open ? '▾' : '▸'}</button>` : html`<span class="turn"></span>`}
      <${Status} status=${task.status} reason=${task.pending_reason} /> <a href=${groupHref(task)}>${task.key || taskName(task)}</a> <span class="id faint">${task.id}</span>
      <span class="faint">${length(task.duration_ms)}</span>${node.is_retry ? html`<span class="faint">another try</span>` : null} <span class="cut failed">${task.error}</span></div>
    ${open ? html`<ul role="group"><${Branch} of=${task.id} /></ul>` : null}</li>`;
}

function Around({ task }) {
  const links = useLive(query(`/v1/tasks/${task.id}/dependencies`, { limit: 50 }), { wants: (told, data) => unnamed(told) || Boolean(data && [...data.depends_on, ...data.depended_on_by].some((link) => told.tasks.has(link.id))), rest: 150 });
  const it = links.data;
  if (!it || !(it.depends_on_count + it.depended_on_by_count)) return null;
  const list = (all, count) => html`<ul class="short">${all.map((link) => html`<li><${Status} status=${link.status || 'deleted'} /> <a href=${taskHref(link.id)}>${link.key || link.task_type || link.id}</a>${link.on === 'success' ? '' : html` <span class="faint">on ${link.on}</span>`}${link.optional ? html` <span class="faint">optional</span>` : ''}</li>`)}${count > all.length ? html`<li class="faint">and ${number(count - all.length)} more</li>` : null}</ul>`;
  return html`<div class="halves">
    ${it.depends_on_count ? html`<section><h2>Comes after</h2>${list(it.depends_on, it.depends_on_count)}</section>` : null}
    ${it.depended_on_by_count ? html`<section><h2>Before</h2>${list(it.depended_on_by, it.depended_on_by_count)}</section>` : null}</div>`;
}

const LINES_MAX = 5000;

/** The log, followed until the task has ended. */
function Log({ id }) {
  const [lines, setLines] = useState([]);
  const [problem, setProblem] = useState(null);
  const [cut, setCut] = useState(false);
  const box = useRef(null);
  const low = useRef(true);
  useEffect(() => {
    const aborter = new AbortController();
    let after = '';
    const look = paced(async () => {
      try {
        for (;;) {
          const page = await get(query(`/v1/tasks/${id}/logs`, { after, limit: 1000 }), aborter.signal);
          after = page.next;
          if (!page.lines.length) return;
          setLines((was) => {
            const all = [...was, ...page.lines];
            if (all.length > LINES_MAX) setCut(true);
            return all.slice(-LINES_MAX);
          });
          if (page.lines.length < 1000) return;
        }
      } catch (error) {
        if (error.name !== 'AbortError') setProblem(error);
      }
    }, 100);
    look();
    const stop = listen((told) => (unnamed(told) || told.tasks.has(id)) && look());
    // What a task prints moves nothing, so nobody tells of it: a wait of the host's does, while it is looked at.
    (async () => {
      try {
        for (;;) {
          if (document.hidden) {
            await new Promise((done) => document.addEventListener('visibilitychange', done, { once: true }));
            continue;
          }
          const page = await get(query(`/v1/tasks/${id}/logs`, { after: after || '0.0', limit: 1, wait: '10s' }), aborter.signal);
          if (page.complete || aborter.signal.aborted) return;
          if (page.lines.length) look();
          await new Promise((done) => setTimeout(done, 300));
        }
      } catch {
        // The look above says what is wrong.
      }
    })();
    return () => {
      aborter.abort();
      look.stop();
      stop();
    };
  }, [id]);
  useEffect(() => {
    if (low.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines]);
  const scrolled = () => {
    low.current = box.current.scrollTop + box.current.clientHeight > box.current.scrollHeight - 30;
  };
  return html`<section><h2>Log</h2><${Problem} problem=${problem} />
    ${cut ? html`<p class="faint">The last ${number(LINES_MAX)} lines.</p>` : null}
    ${lines.length ? html`<div class="log" role="log" tabindex="0" ref=${box} onScroll=${scrolled}>${lines.map((line) => html`<div key=${`${line.run}.${line.line}`} class=${line.level}><time>${clock(line.at)}</time> <b>${line.level}</b> <span>${line.message}</span></div>`)}</div>` : html`<p class="faint">It has printed nothing.</p>`}</section>`;
}
