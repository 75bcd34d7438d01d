// The keyboard. A page says what its list can do; everything else is the same on all pages.

import { useLayoutEffect } from './vendor/hooks.js';

export const PLACES = [
  ['o', 'overview', 'Overview'],
  ['t', 'tasks', 'Tasks'],
  ['w', 'workflows', 'Workflows'],
  ['p', 'pools', 'Pools'],
  ['j', 'jobs', 'Jobs'],
  ['h', 'handlers', 'Handlers'],
  ['s', 'schedules', 'Schedules'],
  ['q', 'host', 'Host'],
];

export const HELP = [
  ['/', 'search'],
  ['j k', 'move down, up'],
  ['Enter', 'open'],
  ['x', 'select'],
  ['c', 'cancel'],
  ['r', 'retry'],
  ['p', 'pause a job, or resume it'],
  ['Esc', 'leave the search, clear the selection, close'],
  ...PLACES.map(([key, , name]) => [`g ${key}`, `go to ${name}`]),
  ['?', 'this list'],
];

let doings = {};

/** What the keys do on this page: `move(by)`, `open()`, `select()`, `cancel()`, `retry()`, `pause()`, `clear()`. A part of a page that
    has no keys of its own says null. */
export function useKeys(some) {
  // With the page itself: an effect that comes after the paint would leave the keys, for a moment, with what
  // they did on the page before.
  useLayoutEffect(() => {
    if (some) doings = some;
  });
  useLayoutEffect(() => () => {
    if (some) doings = {};
  }, []);
}

const NAMES = { j: ['move', 1], ArrowDown: ['move', 1], k: ['move', -1], ArrowUp: ['move', -1], x: ['select'], c: ['cancel'], r: ['retry'], p: ['pause'], Escape: ['clear'] };

/** Listen. `go(place)` changes the page, `help()` shows the list. */
export function start(go, help) {
  let after = -Infinity;
  addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
    const into = event.target;
    if (into.closest('input, textarea, select')) {
      if (event.key === 'Escape') into.blur();
      return;
    }
    const then = performance.now() - after < 1500;
    after = -Infinity;
    if (then) {
      const place = PLACES.find(([key]) => key === event.key);
      if (place) {
        event.preventDefault();
        go(place[1]);
        return;
      }
    }
    if (event.key === 'g') {
      after = performance.now();
    } else if (event.key === '?') {
      event.preventDefault();
      help();
    } else if (event.key === '/') {
      const search = document.querySelector('[data-search]');
      if (search) {
        event.preventDefault();
        search.focus();
        search.select();
      }
    } else if (event.key === 'Enter') {
      // A button or a link that has the focus knows itself what to do.
      if (!into.closest('a, button, summary') && doings.open) {
        event.preventDefault();
        doings.open();
      }
    } else if (NAMES[event.key]) {
      const [name, ...values] = NAMES[event.key];
      if (doings[name]) {
        event.preventDefault();
        doings[name](...values);
      }
    }
  });
}
