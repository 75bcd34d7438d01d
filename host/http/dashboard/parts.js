// What every page is made of. All text goes through preact, which escapes it, and through shown.js, which spells
// out what it hides; nothing is set as HTML.

import { Fragment, h } from './vendor/preact.js';
import htm from './vendor/htm.js';
import { useEffect, useRef, useState } from './vendor/hooks.js';
import { hides, isolated, safely, spelled } from './shown.js';

export const html = htm.bind(safely(h));
export { Fragment };

export const STATUSES = ['pending', 'running', 'waiting', 'completed', 'failed', 'cancelled', 'expired', 'skipped'];

// A sign repeats the word, for those who do not see the colour; the word is always there.
export const SIGNS = { pending: '○', running: '▶', waiting: '◔', completed: '✓', failed: '✕', cancelled: '⊘', expired: '◷', skipped: '⇥', creating: '○', paused: '‖', damaged: '✕' };

export function Status({ status, reason }) {
  return html`<span class=${`status ${status}`}><span class="sign" aria-hidden="true">${SIGNS[status] || '·'}</span>${status}${reason ? html`<small> ${reason}</small>` : null}</span>`;
}

// Times and lengths.

const two = (number) => String(number).padStart(2, '0');

export function clock(text) {
  if (!text) return '';
  const at = new Date(text);
  const day = at.toDateString() === new Date().toDateString() ? '' : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} `;
  return `${day}${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

export function Time({ at }) {
  return at ? html`<time datetime=${at} title=${at}>${clock(at)}</time>` : html`<span class="faint">–</span>`;
}

export function length(ms) {
  if (ms === null || ms === undefined) return '';
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60000) return `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`;
  const seconds = Math.floor(ms / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${two(Math.floor((seconds % 3600) / 60))} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

export const number = (value) => (value ?? 0).toLocaleString('en').replaceAll(',', '\u202f');

export function bytes(value) {
  if (value < 1024) return `${value} B`;
  const units = ['KiB', 'MiB', 'GiB'];
  let shown = value;
  let unit = -1;
  while (shown >= 1024 && unit < 2) {
    shown /= 1024;
    unit += 1;
  }
  return `${shown.toFixed(shown < 10 ? 1 : 0)} ${units[unit]}`;
}

/** The time, again and again while `on`. */
export function useNow(on, every = 250) {
  const [now, set] = useState(Date.now());
  useEffect(() => {
    if (!on) return undefined;
    const timer = setInterval(() => {
      if (!document.hidden) set(Date.now());
    }, every);
    return () => clearInterval(timer);
  }, [on, every]);
  return now;
}

/** How long a task has run, going on while it does. */
export function taskLength(task, now) {
  if (!task.started_at) return null;
  return Math.max(0, (task.ended_at ? Date.parse(task.ended_at) : now) - Date.parse(task.started_at));
}

// Places.

export const taskHref = (id) => `#/task/${encodeURIComponent(id)}`;
export const groupHref = (task) => (task.workflow ? `#/workflow/${task.id}` : task.pool?.kind === 'job' ? `#/job/${task.id}` : taskHref(task.id));

export function TaskLink({ id, name }) {
  return html`<a class=${name ? '' : 'id'} href=${taskHref(id)}>${name || id}</a>`;
}

export const taskName = (task) => task.workflow?.name || task.pool?.name || task.task_type;

// Blocks.

export function Problem({ problem }) {
  return problem ? html`<div class="problem" role="alert"><strong>${problem.message}</strong>${problem.hint ? html`<div class="hint">${problem.hint}</div>` : null}</div>` : null;
}

/** What somebody should look at, as the host says it. */
export function Warnings({ all }) {
  return (all || []).map((one) => html`<div class="problem" role="alert" key=${one}><strong>${one}</strong></div>`);
}

/** What stands where nothing is, and what to do about it. */
export function Empty({ children, command }) {
  return html`<div class="empty"><p>${children}</p>${command ? html`<${Command} line=${command} />` : null}</div>`;
}

export function Loading({ of }) {
  return of.problem ? html`<${Problem} problem=${of.problem} />` : html`<p class="faint" aria-busy="true">…</p>`;
}

const plain = /^[A-Za-z0-9_@%+=:,./-]+$/;
/** A word as a shell wants it. */
export function quoted(word) {
  if (plain.test(word)) return word;
  // Bash and zsh read the spelling of a hidden character in $'...'.
  if (hides(word)) return `$'${spelled(word.replace(/[\\']/g, '\\$&')).replace(/\\u\{(\w+)\}/g, (_, code) => `\\U${code.padStart(8, '0')}`)}'`;
  return `'${String(word).replaceAll("'", `'\\''`)}'`;
}

/** The same as a command line, to be copied. */
export function Command({ line }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(line);
      setCopied(true);
      setTimeout(() => setCopied(false), 1500);
    } catch {
      // Without a clipboard the line can still be selected.
    }
  };
  return html`<div class="command"><code>${line}</code><button type="button" class="quiet" onClick=${copy} aria-label=${`Copy: ${line}`}>${copied ? 'copied' : 'copy'}</button></div>`;
}

const LINES = 24;
const CHARACTERS = 4000;

/** A payload as text: pretty, and folded when it is long. What it says is somebody else's, and stays text. */
export function Json({ value, label }) {
  const [open, setOpen] = useState(false);
  const text = typeof value === 'string' && value.includes('\n') ? value : JSON.stringify(value, null, 2) ?? 'null';
  const lines = text.split('\n');
  const long = lines.length > LINES || text.length > CHARACTERS;
  const shown = long && !open ? lines.slice(0, LINES).join('\n').slice(0, CHARACTERS) : text;
  return html`
    <pre class="json" tabindex="0" aria-label=${label}>${shown}${long && !open ? '\n…' : ''}</pre>
    ${long ? html`<button type="button" class="quiet" aria-expanded=${String(open)} onClick=${() => setOpen(!open)}>${open ? 'fold' : `show all (${number(lines.length)} lines, ${bytes(text.length)})`}</button>` : null}`;
}

/** `other`: those that ended without a result and did not fail: cancelled or skipped. */
export function Progress({ done, total, failed = 0, other = 0, label }) {
  const share = total ? (100 * done) / total : 0;
  const bad = total ? (100 * failed) / total : 0;
  const rest = total ? (100 * other) / total : 0;
  return html`
    <div class="progress" role="progressbar" aria-label=${label} aria-valuemin="0" aria-valuemax=${total || 0} aria-valuenow=${done}>
      <i class="done" style=${{ width: `${share}%` }}></i><i class="bad" style=${{ width: `${bad}%` }}></i><i class="other" style=${{ width: `${rest}%` }}></i>
    </div>`;
}

/** Names and what they are. Pairs whose value is not there are left out. */
export function Facts({ all }) {
  const there = all.filter(([, value]) => value !== null && value !== undefined && value !== '' && value !== false);
  return html`<dl class="facts">${there.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

export function Head({ title, children, of }) {
  useEffect(() => {
    document.title = `${isolated(of || title)} · Fishway`;
  }, [title, of]);
  return html`<header class="title"><h1>${title}</h1>${children}</header>`;
}

/** Why a task does not run. */
export function Why({ task, names }) {
  const now = useNow((task.why || []).some((why) => why.until), 1000);
  if (!task.why?.length) return null;
  return html`<ul class="why" aria-label="Why it waits">${task.why.map((why) => html`
    <li><span class="sign" aria-hidden="true">◔</span> ${why.sentence}${why.tasks?.length ? html`: ${why.tasks.map((id, index) => html`${index ? ', ' : ''}<${TaskLink} id=${id} name=${names?.get(id)} />`)}` : null}${why.until ? html`, until <${Time} at=${why.until} /> (${length(Math.max(0, Date.parse(why.until) - now))})` : null}</li>`)}</ul>`;
}

/** A button that does something and says when that was not possible. */
export function Act({ run, onDone, onProblem, kind = '', title, children }) {
  const [busy, setBusy] = useState(false);
  const there = useRef(true);
  useEffect(() => () => {
    there.current = false;
  }, []);
  const go = async () => {
    setBusy(true);
    onProblem?.(null);
    try {
      const done = await run();
      onDone?.(done);
    } catch (problem) {
      onProblem?.(problem);
    }
    if (there.current) setBusy(false);
  };
  return html`<button type="button" class=${kind} disabled=${busy} onClick=${go} title=${title}>${children}</button>`;
}
