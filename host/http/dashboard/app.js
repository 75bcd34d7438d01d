// The shell: routes, navigation, theme, the form for the token, help. Routes are behind the #, so that a link
// to any page and any search can be kept, and the back button leads back.

import { options, render } from './vendor/preact.js';
import { useEffect, useRef, useState } from './vendor/hooks.js';
import { feed, onDenied, setToken, useFeedState } from './api.js';
import { HELP, PLACES, start } from './keys.js';
import { html } from './parts.js';
import { Overview } from './pages/overview.js';
import { Tasks } from './pages/tasks.js';

// What changes between two frames is drawn once.
options.debounceRendering = (draw) => (document.hidden ? setTimeout(draw) : requestAnimationFrame(draw));

// The pages that most begin with are here at once, the others when they are first wanted.
const PAGES = {
  overview: Overview,
  tasks: Tasks,
  task: () => import('./pages/task.js').then((it) => it.TaskPage),
  workflows: () => import('./pages/workflows.js').then((it) => it.Workflows),
  workflow: () => import('./pages/workflow.js').then((it) => it.WorkflowPage),
  pools: () => import('./pages/groups.js').then((it) => it.Pools),
  jobs: () => import('./pages/jobs.js').then((it) => it.Jobs),
  job: () => import('./pages/jobs.js').then((it) => it.JobPage),
  handlers: () => import('./pages/handlers.js').then((it) => it.Handlers),
  schedules: () => import('./pages/schedules.js').then((it) => it.Schedules),
  host: () => import('./pages/host.js').then((it) => it.HostPage),
};
const LATER = new Set(Object.keys(PAGES).filter((name) => !['overview', 'tasks'].includes(name)));
const AT_HOME = { task: 'tasks', workflow: 'workflows', job: 'jobs' };

function route() {
  const [path, search = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const [name, ...rest] = path.split('/');
  const values = Object.fromEntries(new URLSearchParams(search));
  let of = '';
  try {
    of = decodeURIComponent(rest.join('/'));
  } catch {
    // An address that nobody here made.
  }
  return { name: Object.hasOwn(PAGES, name) ? name : 'overview', of, values };
}

const THEMES = ['auto', 'light', 'dark'];

function useTheme() {
  const [theme, set] = useState(localStorage.getItem('fishway.theme') || 'auto');
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
    localStorage.setItem('fishway.theme', theme);
    dispatchEvent(new Event('fishway-theme'));
  }, [theme]);
  return [theme, () => set(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length])];
}

/** A dialog of the browser: it holds the focus, and Escape closes it. */
function Dialog({ open, onClose, label, children }) {
  const box = useRef(null);
  useEffect(() => {
    if (open && !box.current.open) box.current.showModal();
    if (!open && box.current.open) box.current.close();
  }, [open]);
  return html`<dialog ref=${box} aria-label=${label} onClose=${onClose}>${open ? children : null}</dialog>`;
}

function TokenForm({ onDone }) {
  const [wrong, setWrong] = useState(null);
  const field = useRef(null);
  const submit = async (event) => {
    event.preventDefault();
    try {
      await setToken(field.current.value.trim());
      onDone();
    } catch (problem) {
      setWrong(problem.message);
    }
  };
  return html`
    <form onSubmit=${submit}>
      <h2>This host demands a token</h2>
      <p>It is in the host's token file: <code>http.token</code> in the data directory, where no other was named. It is kept until this tab is closed.</p>
      <label>Token <input type="password" ref=${field} autocomplete="off" spellcheck=${false} required autofocus /></label>
      ${wrong ? html`<p class="problem" role="alert">${wrong}</p>` : null}
      <button type="submit" class="main">Enter</button>
    </form>`;
}

function Help() {
  return html`<h2>Keys</h2><dl class="keys">${HELP.map(([key, what]) => html`<div><dt>${key.split(' ').map((one) => html`<kbd>${one}</kbd> `)}</dt><dd>${what}</dd></div>`)}</dl>
    <form method="dialog"><button class="main">Close</button></form>`;
}

const FEED = { live: ['live', 'changes are shown as they happen'], connecting: ['connecting', 'the host is asked for its changes'], lost: ['no connection', 'the host does not answer; it is asked again and again'] };

function App() {
  const [at, setAt] = useState(route());
  const [pages, setPages] = useState({ overview: () => Overview, tasks: () => Tasks });
  const [help, setHelp] = useState(false);
  const [token, setTokenAsked] = useState(false);
  const [visit, setVisit] = useState(0);
  const [theme, nextTheme] = useTheme();
  const state = useFeedState();
  useEffect(() => {
    const move = () => setAt(route());
    addEventListener('hashchange', move);
    start((place) => {
      location.hash = `#/${place}`;
    }, () => setHelp(true));
    onDenied(() => setTokenAsked(true));
    feed.start();
    return () => removeEventListener('hashchange', move);
  }, []);
  useEffect(() => {
    if (LATER.has(at.name) && !pages[at.name]) {
      PAGES[at.name]().then((page) => setPages((all) => ({ ...all, [at.name]: () => page })));
    }
  }, [at.name]);
  const place = AT_HOME[at.name] || at.name;
  const Page = pages[at.name]?.();
  const [word, title] = FEED[state];
  return html`
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.getElementById('main').focus(); }}>To the content</a>
    <nav aria-label="Pages">
      <a class="brand" href="#/overview"><img src="/dashboard/icon.svg" alt="" width="24" height="24" /> <span>Fishway</span></a>
      <ul>${PLACES.map(([key, name, label]) => html`<li><a href=${`#/${name}`} aria-current=${place === name ? 'page' : null} title=${`g ${key}`}>${label}</a></li>`)}</ul>
      <div class="side">
        <span class=${`feed ${state}`} role="status" title=${title}>${word}</span>
        <button type="button" class="quiet" onClick=${nextTheme} title="Light, dark, or as the system has it">theme: ${theme}</button>
        <button type="button" class="quiet" onClick=${() => setHelp(true)} title="?">keys</button>
      </div>
    </nav>
    <main id="main" tabindex="-1" class=${`page-${at.name}`}>
      ${Page ? html`<${Page} key=${`${at.name}/${at.of}/${visit}`} of=${at.of} values=${at.values} />` : html`<p class="faint" aria-busy="true">…</p>`}
    </main>
    <${Dialog} open=${help} onClose=${() => setHelp(false)} label="Keys"><${Help} /><//>
    <${Dialog} open=${token} onClose=${() => setTokenAsked(false)} label="Token">
      <${TokenForm} onDone=${() => { setTokenAsked(false); setVisit(visit + 1); }} />
    <//>`;
}

const root = document.getElementById('app');
root.textContent = '';
render(html`<${App} />`, root);
performance.mark('fishway-interactive');
