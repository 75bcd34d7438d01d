// All tasks: counts by status, a search, a table of any length in pages of the host, several done with at once.

import { useEffect, useMemo, useRef, useState } from '../vendor/hooks.js';
import { anyTask, get, listen, paced, query, send, terminal, unnamed, useLive } from '../api.js';
import { useKeys } from '../keys.js';
import { Command, Empty, Head, Problem, SIGNS, STATUSES, Status, clock, html, length, number, quoted, taskHref, taskName } from '../parts.js';
import { ROWS_MAX, Rows } from '../rows.js';

const PAGE = 100;

/** Requests at once when several tasks are cancelled or retried. */
const TOGETHER = 6;

const WORDS = ['status', 'handler', 'queue', 'key', 'parent', 'id'];

/** `status:failed handler:mail rest` as what the API asks for. A bare word is the beginning of an id when it
    has a digit, and else a handler. */
export function parse(text) {
  const asked = {};
  for (const part of text.split(/\s+/).filter(Boolean)) {
    const [word, ...rest] = part.split(':');
    const value = rest.join(':');
    if (value && WORDS.includes(word)) asked[word] = value;
    else if (!rest.length && /^[0-9a-z]+$/i.test(part) && /\d/.test(part) && part.length > 3) asked.id = part;
    else asked.handler = part;
  }
  return asked;
}

/** Pages of the host's list, kept while they are wanted and looked at again when something moves. */
function usePages(asked) {
  const key = JSON.stringify(asked);
  const [, draw] = useState(0);
  const [problem, setProblem] = useState(null);
  const [news, setNews] = useState(false);
  const counts = useLive(asked.id ? null : query('/v1/tasks/counts', { ...asked, status: null }), { wants: anyTask, rest: 400 });
  const state = useRef(null);
  useEffect(() => {
    const aborter = new AbortController();
    const held = { pages: new Map(), loading: new Set(), stale: new Set(), anchor: null, first: 0, last: 40, top: 0, empty: false };
    state.current = held;
    setProblem(null);
    setNews(false);
    const fetchPage = async (page) => {
      // Pages hang on the first task of the first page, so that new ones push nothing down under the reader.
      const from = page && held.anchor ? { after: held.anchor, skip: page * PAGE - 1 } : { skip: page * PAGE };
      const found = await get(query('/v1/tasks', { ...asked, brief: true, limit: PAGE, ...from }), aborter.signal);
      held.pages.set(page, found.tasks);
      if (!page) {
        held.anchor = asked.parent || asked.id ? null : found.tasks[0]?.id ?? null;
        held.empty = !found.tasks.length;
      }
    };
    const need = async () => {
      const pages = [];
      for (let page = Math.floor(held.first / PAGE); page <= Math.floor(Math.max(held.first, held.last - 1) / PAGE); page += 1) {
        if (!held.loading.has(page) && (!held.pages.has(page) || held.stale.has(page))) pages.push(page);
      }
      await Promise.all(pages.map(async (page) => {
        held.loading.add(page);
        // What becomes stale while it is asked for stays so.
        held.stale.delete(page);
        try {
          await fetchPage(page);
          setProblem(null);
        } catch (error) {
          if (error.name !== 'AbortError') setProblem(error);
        }
        held.loading.delete(page);
      }));
      if (aborter.signal.aborted || !pages.length) return;
      draw((was) => was + 1);
      if (pages.some((page) => held.stale.has(page))) again();
    };
    held.need = need;
    const again = paced(async () => {
      if (held.top === 0) {
        for (const page of held.pages.keys()) held.stale.add(page);
        // At the top, the newest are what is looked at.
        held.anchor = null;
      } else {
        for (const page of held.pages.keys()) if (page) held.stale.add(page);
      }
      await need();
    }, 120);
    held.again = again;
    const stop = listen((told) => {
      const known = new Map();
      for (const [page, tasks] of held.pages) tasks.forEach((task, index) => known.set(task.id, [page, index]));
      let moved = unnamed(told);
      let fresh = false;
      for (const [id, event] of told.tasks) {
        const place = known.get(id);
        if (place) {
          // The word is told; what goes with it is asked for.
          const tasks = held.pages.get(place[0]).slice();
          tasks[place[1]] = { ...tasks[place[1]], status: event.status, pending_reason: undefined };
          held.pages.set(place[0], tasks);
          moved = true;
        } else {
          moved = true;
          fresh = fresh || event.status === 'pending';
        }
      }
      if ((fresh || told.changed.has('tasks')) && held.top > 0) setNews(true);
      if (moved) {
        draw((was) => was + 1);
        again();
      }
    });
    need();
    return () => {
      aborter.abort();
      again.stop();
      stop();
    };
  }, [key]);
  const held = state.current;
  const at = (index) => held?.pages.get(Math.floor(index / PAGE))?.[index % PAGE];
  const statuses = asked.status?.split(',').filter((one) => STATUSES.includes(one)) ?? STATUSES;
  const all = counts.data?.counts;
  const loaded = held ? [...held.pages.values()].reduce((sum, tasks) => sum + tasks.length, 0) : 0;
  // A word of another system, or an id, the host alone can count: what is there is what there is.
  const exact = all && !asked.id && (!asked.status || statuses.length === asked.status.split(',').length);
  const count = exact ? Math.max(loaded ? 1 : 0, statuses.reduce((sum, one) => sum + all[one], 0)) : loaded;
  return {
    at,
    count: held?.empty ? 0 : count,
    counts: all,
    known: Boolean(held?.pages.has(0)),
    problem: problem || counts.problem,
    news,
    view: (first, last, top) => {
      const now = state.current;
      if (!now) return;
      Object.assign(now, { first, last, top });
      if (top === 0 && news) {
        setNews(false);
        now.again();
      }
      now.need();
    },
    reload: () => state.current?.again(),
  };
}

export function Tasks({ values }) {
  const text = values.q || '';
  const asked = useMemo(() => parse(text), [text]);
  const pages = usePages(asked);
  const [cursor, setCursor] = useState(null);
  const [chosen, setChosen] = useState(new Map());
  const [said, setSaid] = useState(null);
  const [problem, setProblem] = useState(null);
  const typed = useRef(0);
  const search = (next, keep) => {
    const to = next ? `#/tasks?q=${encodeURIComponent(next)}` : '#/tasks';
    if (keep) location.hash = to;
    else {
      history.replaceState(null, '', to);
      dispatchEvent(new HashChangeEvent('hashchange'));
    }
    setCursor(null);
    setChosen(new Map());
  };
  const type = (event) => {
    clearTimeout(typed.current);
    const next = event.target.value;
    typed.current = setTimeout(() => search(next, false), 120);
  };
  const toggle = (status) => {
    const now = asked.status ? asked.status.split(',') : [];
    const next = now.includes(status) ? now.filter((one) => one !== status) : [...now, status];
    const rest = text.split(/\s+/).filter((part) => part && !part.startsWith('status:'));
    search([...(next.length ? [`status:${next.join(',')}`] : []), ...rest].join(' '), true);
  };
  const choose = (task) => {
    if (!task) return;
    const next = new Map(chosen);
    if (!next.delete(task.id)) next.set(task.id, task);
    setChosen(next);
  };
  const act = async (verb) => {
    const tasks = chosen.size ? [...chosen.values()] : [pages.at(cursor)].filter(Boolean);
    if (!tasks.length) return;
    const todo = tasks.map((task) => task.id);
    let done = 0;
    let first = null;
    setProblem(null);
    const work = async () => {
      for (let id = todo.pop(); id; id = todo.pop()) {
        try {
          await send('POST', `/v1/tasks/${id}/${verb}`);
          done += 1;
        } catch (error) {
          first = first || error;
        }
      }
    };
    await Promise.all(Array.from({ length: TOGETHER }, work));
    const words = { cancel: 'cancelled', retry: 'retried' };
    setSaid(`${number(done)} of ${number(tasks.length)} ${words[verb]}`);
    setProblem(first);
    if (!first) setChosen(new Map());
    pages.reload();
  };
  const chooseAll = async () => {
    const next = new Map(chosen);
    try {
      const found = await get(query('/v1/tasks', { ...asked, brief: true, limit: 1000 }));
      found.tasks.forEach((task) => next.set(task.id, task));
      setChosen(next);
    } catch (error) {
      setProblem(error);
    }
  };
  const open = (index) => {
    const task = pages.at(index);
    if (task) location.hash = taskHref(task.id);
  };
  useKeys({
    move: (by) => setCursor((was) => Math.max(0, Math.min(pages.count - 1, was === null ? 0 : was + by))),
    open: () => cursor !== null && open(cursor),
    select: () => cursor !== null && choose(pages.at(cursor)),
    cancel: () => act('cancel'),
    retry: () => act('retry'),
    clear: () => setChosen(new Map()),
  });
  const line = ['fishway list', ...Object.entries({ status: asked.status, handler: asked.handler, queue: asked.queue, parent: asked.parent }).filter(([, value]) => value).map(([name, value]) => `--${name} ${quoted(value)}`)].join(' ');
  const live = [...chosen.values()].filter((task) => !terminal(task.status)).length;
  return html`
    <${Head} title="Tasks">${pages.known ? html`<span class="faint">${number(pages.count)}</span>` : html`<span class="faint" aria-busy=${String(!pages.problem)}>…</span>`}<//>
    <div class="bar">
      <input type="search" data-search key=${values.q === undefined ? 'none' : 'some'} aria-label="Search tasks" placeholder="status: handler: queue: key: parent: or the beginning of an id   ( / )" value=${text} onInput=${type} spellcheck=${false} autocomplete="off"
        onKeyDown=${(event) => { if (event.key === 'Enter') { clearTimeout(typed.current); search(event.target.value, true); event.target.blur(); setCursor(0); } }} />
    </div>
    <div class="chips" role="group" aria-label="Statuses">${STATUSES.map((status) => html`
      <button type="button" class=${`chip ${status}`} aria-pressed=${String(Boolean(asked.status?.split(',').includes(status)))} onClick=${() => toggle(status)}><span class="sign" aria-hidden="true">${SIGNS[status]}</span> ${status} <b>${pages.counts ? number(pages.counts[status]) : ''}</b></button>`)}</div>
    <${Problem} problem=${problem || pages.problem} />
    <div class="bar bulk" role="toolbar" aria-label="Selected tasks">
      <span role="status">${said && !chosen.size ? said : `${number(chosen.size)} selected`}</span>
      <button type="button" disabled=${!pages.count} onClick=${chooseAll} title="at most 1,000">select ${pages.count > 1000 ? 'the first 1\u202f000' : 'all'}</button>
      <button type="button" disabled=${!chosen.size} onClick=${() => setChosen(new Map())}>none</button>
      <button type="button" class="danger" disabled=${!live} onClick=${() => act('cancel')} title="c">Cancel${live ? ` ${number(live)}` : ''}</button>
      <button type="button" disabled=${chosen.size === live} onClick=${() => act('retry')} title="r">Retry${chosen.size - live ? ` ${number(chosen.size - live)}` : ''}</button>
      ${pages.news ? html`<button type="button" class="news" onClick=${() => { const box = document.querySelector('.rows'); box.scrollTop = 0; }}>↑ there are new tasks</button>` : null}
    </div>
    ${pages.known && !pages.count ? html`<${Empty} command=${text ? undefined : "fishway submit HANDLER '{}'"}>${text ? 'No task is like that.' : 'There are no tasks yet. Submit one:'}<//>` : html`
    <${Rows} label="Tasks" count=${pages.count} at=${cursor} onView=${pages.view} head=${html`
      <span role="columnheader" class="c-x"></span><span role="columnheader" class="c-status">status</span><span role="columnheader" class="c-id">id</span><span role="columnheader" class="c-name">handler</span><span role="columnheader" class="c-key">key</span><span role="columnheader" class="c-queue">queue</span><span role="columnheader" class="c-try n">try</span><span role="columnheader" class="c-long n">ran</span><span role="columnheader" class="c-time n">submitted</span><span role="columnheader" class="c-error">error</span>`}
      row=${(index) => {
        const task = pages.at(index);
        if (!task) return html`<div class="row wanted" role="row" aria-rowindex=${index + 2} key=${index}></div>`;
        return html`<div class=${`row${cursor === index ? ' at' : ''}${chosen.has(task.id) ? ' chosen' : ''}`} role="row" aria-rowindex=${index + 2} aria-selected=${String(chosen.has(task.id))} key=${index} onClick=${(event) => { setCursor(index); if (!event.target.closest('a, input')) open(index); }} data-id=${task.id}>
          <span role="cell" class="c-x"><input type="checkbox" tabindex="-1" aria-label=${`Select ${task.id}`} checked=${chosen.has(task.id)} onClick=${(event) => event.stopPropagation()} onChange=${() => choose(task)} /></span>
          <span role="cell" class="c-status"><${Status} status=${task.damage ? 'damaged' : task.status} reason=${task.damage ? null : task.pending_reason} /></span>
          <span role="cell" class="c-id"><a class="id" tabindex="-1" href=${taskHref(task.id)}>${task.id}</a></span>
          <span role="cell" class="c-name" title=${taskName(task)}>${taskName(task)}</span>
          <span role="cell" class="c-key" title=${task.key}>${task.key}</span>
          <span role="cell" class="c-queue">${task.queue}</span>
          <span role="cell" class="c-try n">${task.attempt > 1 ? task.attempt : ''}</span>
          <span role="cell" class="c-long n">${length(task.duration_ms)}</span>
          <span role="cell" class="c-time n">${clock(task.created_at)}</span>
          <span role="cell" class="c-error" title=${task.damage || task.error}>${task.damage || task.error}</span>
        </div>`;
      }} />`}
    ${pages.count > ROWS_MAX ? html`<p class="faint">The newest ${number(ROWS_MAX)} are shown; a search finds the others.</p>` : null}
    <${Command} line=${line} />`;
}
