// Lines and bars over time, by uPlot, in the colours of the theme.

import { useEffect, useRef, useState } from './vendor/hooks.js';
import uPlot from './vendor/uplot.js';
import { clock, html, length } from './parts.js';

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** `times` in seconds; `lines` are `{ label, colour, values, bars }`, a colour being the name of a variable. */
export function Chart({ title, times, lines, lengths, note }) {
  const box = useRef(null);
  const plot = useRef(null);
  const [theme, setTheme] = useState(0);
  useEffect(() => {
    const again = () => setTheme((was) => was + 1);
    const dark = matchMedia('(prefers-color-scheme: dark)');
    addEventListener('fishway-theme', again);
    dark.addEventListener('change', again);
    return () => {
      removeEventListener('fishway-theme', again);
      dark.removeEventListener('change', again);
    };
  }, []);
  const data = [times, ...lines.map((line) => line.values)];
  useEffect(() => {
    const axis = { stroke: colour('--faint'), grid: { stroke: colour('--line'), width: 1 }, ticks: { show: false }, font: '11px system-ui' };
    const value = (shown) => (shown === null || shown === undefined ? '–' : lengths ? length(shown) : String(shown));
    const made = new uPlot({
      width: box.current.clientWidth,
      height: 150,
      padding: [8, 20, 0, 0],
      cursor: { y: false, points: { size: 6 } },
      legend: { live: true },
      scales: { x: { time: true }, y: { range: (_, low, high) => [0, Math.max(high || 0, lengths ? 10 : 4) * 1.1] } },
      axes: [{ ...axis, space: 60, size: 28, values: (_, all) => all.map((at) => clock(new Date(at * 1000)).slice(-8, -3)) }, { ...axis, size: lengths ? 62 : 44, values: (_, all) => all.map((one) => (lengths ? length(one) : String(one))) }],
      series: [
        { value: (_, at) => (at ? new Date(at * 1000).toLocaleTimeString() : '–') },
        ...lines.map((line) => ({
          label: line.label,
          stroke: colour(line.colour),
          fill: line.bars ? `${colour(line.colour)}55` : undefined,
          dash: line.dash,
          width: 1.5,
          points: { show: !line.bars, size: 4 },
          spanGaps: false,
          paths: line.bars ? uPlot.paths.bars({ size: [0.8, 20] }) : undefined,
          value: (_, one) => value(one),
        })),
      ],
    }, data, box.current);
    plot.current = made;
    const observer = new ResizeObserver(() => box.current && made.setSize({ width: box.current.clientWidth, height: 150 }));
    observer.observe(box.current);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [theme]);
  useEffect(() => {
    plot.current?.setData(data);
  });
  return html`<figure class="chart"><figcaption>${title}${note ? html` <small>${note}</small>` : null}</figcaption><div ref=${box} role="img" aria-label=${title}></div></figure>`;
}
