// Adds up the body masses of a table by one of its columns: {"path": "/data/penguins.csv", "by": "Island"} becomes
// {"language": "TypeScript", "by": "Island", "rows": 344, "groups": [{"name", "count", "sum", "min", "max"}, ...]}.
import type { Failure, run } from 'fishway:task/handler@0.2.0';
import Papa from 'papaparse';
import { readText } from './files';

interface Group {
  name: string;
  count: number;
  sum: number;
  min: number;
  max: number;
}

export const handler: { run: typeof run } = {
  run(input) {
    const { path, by }: { path: string; by: string } = JSON.parse(input);
    return JSON.stringify(summarise(read(path), by));
  },
};

function read(path: string): string {
  try {
    return readText(path);
  } catch (error) {
    const { payload, message } = error as { payload?: string; message: string };
    // Another attempt would meet it again.
    throw { message: `${path}: ${payload ?? message}`, retryable: false } satisfies Failure;
  }
}

function summarise(text: string, by: string) {
  const { data } = Papa.parse<Record<string, string>>(text, { header: true, skipEmptyLines: true });
  const groups = new Map<string, Group>();
  for (const row of data) {
    if (row['Body Mass (g)'] === 'NA') continue;
    const [name, mass] = [row[by], Number(row['Body Mass (g)'])];
    const group = groups.get(name) ?? { name, count: 0, sum: 0, min: mass, max: mass };
    group.count += 1;
    group.sum += mass;
    group.min = Math.min(group.min, mass);
    group.max = Math.max(group.max, mass);
    groups.set(name, group);
  }
  const sorted = [...groups.values()].sort((one, other) => (one.name < other.name ? -1 : 1));
  return { language: 'TypeScript', by, rows: data.length, groups: sorted };
}
