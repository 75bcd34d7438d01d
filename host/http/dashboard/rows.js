// A table of any length: only the rows that can be seen are in the document.

import { useLayoutEffect, useRef, useState } from './vendor/hooks.js';
import { html } from './parts.js';

/** The height of a row; the style sheet has the same. */
export const ROW = 34;

/** Rows above and below what can be seen. */
const SPARE = 8;

/** Browsers draw nothing in a box that is higher than some 17 million pixels. */
export const ROWS_MAX = 400000;

/** `count` rows, drawn by `row(index)`. `at` is the row that the keyboard is on; `onView(first, last)` hears
    what can be seen. */
export function Rows({ count, row, head, at, onView, label }) {
  const box = useRef(null);
  const [view, setView] = useState({ first: 0, last: 40 });
  const shown = Math.min(count, ROWS_MAX);
  const look = () => {
    const element = box.current;
    if (!element) return;
    const first = Math.max(0, Math.floor(element.scrollTop / ROW) - SPARE);
    const last = Math.min(shown, Math.ceil((element.scrollTop + element.clientHeight) / ROW) + SPARE);
    setView((was) => (was.first === first && was.last === last ? was : { first, last }));
    onView?.(first, last, element.scrollTop);
  };
  useLayoutEffect(look, [count]);
  const looking = useRef(look);
  looking.current = look;
  useLayoutEffect(() => {
    // It is called later, when there may be other rows than now.
    const observer = new ResizeObserver(() => looking.current());
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  useLayoutEffect(() => {
    const element = box.current;
    if (!element || at === null || at === undefined) return;
    const room = element.clientHeight - ROW;
    if (at * ROW < element.scrollTop) element.scrollTop = at * ROW;
    else if (at * ROW > element.scrollTop + room - ROW) element.scrollTop = at * ROW - room + ROW;
  }, [at]);
  const rows = [];
  for (let index = view.first; index < Math.min(view.last, shown); index += 1) rows.push(row(index));
  return html`
    <div class="rows" role="table" aria-label=${label} aria-rowcount=${count + 1} tabindex="0" ref=${box} onScroll=${look}>
      <div class="row head" role="row" aria-rowindex="1">${head}</div>
      <div class="rows-all" role="rowgroup" style=${{ height: `${shown * ROW}px` }}>
        <div class="rows-shown" role="presentation" style=${{ transform: `translateY(${view.first * ROW}px)` }}>${rows}</div>
      </div>
    </div>`;
}
