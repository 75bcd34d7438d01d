// A workflow as a graph: laid out by dagre, drawn as SVG. The layout is made anew only when jobs or edges are
// others; what a job is like changes in place.

import { useMemo } from './vendor/hooks.js';
import { Graph, layout } from './vendor/dagre.js';
import { SIGNS, html, length, taskLength } from './parts.js';

const WIDTH = 184;
const HEIGHT = 58;

/** Room for a line in a box. */
const ROOM = WIDTH - 22;

/** A graph that is not much wider than the page is made to fit; a wider one is scrolled. */
const FITTED_MAX = 1250;

/** Jobs that are drawn; more are neither legible nor laid out in a moment. */
export const DRAWN_MAX = 400;

const pen = document.createElement('canvas').getContext('2d');
const kept = new Map();

/** As much of a text as a box has room for. */
function cut(text, font) {
  const name = `${font} ${text}`;
  if (kept.has(name)) return kept.get(name);
  pen.font = `${font} ${getComputedStyle(document.body).fontFamily}`;
  let shown = text.slice(0, 100);
  for (let most = shown.length; most > 1 && pen.measureText(shown).width > ROOM; most -= 1) shown = `${text.slice(0, most - 1)}…`;
  // Times go on: what was measured for one is not wanted for ever.
  if (kept.size > 4000) kept.clear();
  kept.set(name, shown);
  return shown;
}

function laidOut(shape) {
  const graph = new Graph({ multigraph: false });
  graph.setGraph({ rankdir: 'LR', nodesep: 16, ranksep: 40, marginx: 8, marginy: 8 });
  graph.setDefaultEdgeLabel(() => ({}));
  const { ids, edges } = JSON.parse(shape);
  ids.forEach((id) => graph.setNode(id, { width: WIDTH, height: HEIGHT }));
  edges.forEach(([from, to]) => graph.hasNode(from) && graph.hasNode(to) && graph.setEdge(from, to));
  layout(graph);
  const box = graph.graph();
  return {
    width: Math.max(box.width || 0, WIDTH),
    height: Math.max(box.height || 0, HEIGHT),
    places: new Map(ids.map((id) => [id, graph.node(id)])),
    lines: graph.edges().map((edge) => ({ from: edge.v, to: edge.w, points: graph.edge(edge).points })),
  };
}

function path(points) {
  let text = `M${points[0].x},${points[0].y}`;
  for (let index = 1; index < points.length - 1; index += 1) {
    const { x, y } = points[index];
    const next = points[index + 1];
    const last = index === points.length - 2;
    text += `Q${x},${y} ${last ? next.x : (x + next.x) / 2},${last ? next.y : (y + next.y) / 2}`;
  }
  if (points.length === 2) text += `L${points[1].x},${points[1].y}`;
  return text;
}

/** What a job says below its name: why it waits, or how it went. */
export function saying(job, names, now) {
  const why = job.why?.[0];
  if (why?.tasks?.length) {
    const named = why.tasks.map((id) => names.get(id) || id);
    const more = why.tasks.length > 2 ? ` and ${why.tasks.length - 2} more` : '';
    return `${why.reason === 'blocked' ? 'after' : 'for'} ${named.slice(0, 2).join(', ')}${more}`;
  }
  if (why?.until) return `for ${length(Math.max(0, Date.parse(why.until) - now))}`;
  if (why) return why.sentence;
  if (job.error) return job.error;
  const group = job.pool || job.workflow;
  const ran = length(taskLength(job, now));
  return group ? `${group.completed} of ${group.spawned ?? group.total ?? '?'}${ran ? ` · ${ran}` : ''}` : ran;
}

export function Dag({ jobs, names, now, at, onOpen }) {
  const shape = JSON.stringify({ ids: jobs.map((job) => job.id), edges: jobs.flatMap((job) => job.depends_on.map((link) => [link.id, job.id])) });
  const { width, height, places, lines } = useMemo(() => laidOut(shape), [shape]);
  const by = new Map(jobs.map((job) => [job.id, job]));
  const ways = new Map(jobs.flatMap((job) => job.depends_on.map((link) => [`${link.id} ${job.id}`, link])));
  return html`<div class="dag" tabindex="0" role="group" aria-label="Graph of the workflow">
    <svg class=${width <= FITTED_MAX ? 'fitted' : ''} width=${width} height=${height} viewBox=${`0 0 ${width} ${height}`}>
      <defs><marker id="tip" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse"><path d="M0,0.5 8,4 0,7.5z" class="tip" /></marker></defs>
      ${lines.map((line) => {
        const link = ways.get(`${line.from} ${line.to}`);
        const from = by.get(line.from);
        const kind = link && (link.optional || link.on !== 'success') ? ' other' : '';
        return html`<path key=${`${line.from} ${line.to}`} class=${`edge ${from.status}${kind}`} d=${path(line.points)} marker-end="url(#tip)"><title>${`${from.key || from.id}, on ${link?.on || 'success'}${link?.optional ? ', optional' : ''}`}</title></path>`;
      })}
      ${jobs.map((job) => {
        const place = places.get(job.id);
        if (!place) return null;
        const says = saying(job, names, now);
        const name = job.key || job.task_type;
        return html`<a key=${job.id} href=${`#/task/${job.id}`} class=${`job ${job.status}${at === job.id ? ' at' : ''}`} data-key=${job.key} data-status=${job.status} aria-label=${`${name}: ${job.status}${says ? `, ${says}` : ''}`} transform=${`translate(${place.x - WIDTH / 2},${place.y - HEIGHT / 2})`}>
          <title>${`${name}\n${job.task_type}\n${job.status}${says ? `\n${(job.why || []).map((why) => why.sentence).join('\n') || says}` : ''}`}</title>
          <rect width=${WIDTH} height=${HEIGHT} rx="7" /><rect class="edge-of" width="4" height=${HEIGHT - 14} x="0" y="7" rx="2" />
          <text class="name" x="14" y="21">${cut(name, '600 13px')}</text>
          <text class="word" x="14" y="36">${SIGNS[job.status]} ${job.status}${job.pending_reason ? ` · ${job.pending_reason}` : ''}</text>
          <text class="says" x="14" y="50">${cut(says || '', '11.5px')}</text>
        </a>`;
      })}
    </svg></div>`;
}
