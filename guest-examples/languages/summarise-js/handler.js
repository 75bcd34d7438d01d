// Adds up the body masses of a table by one of its columns: {"path": "/data/penguins.csv", "by": "Island"} becomes
// {"language": "JavaScript", "by": "Island", "rows": 344, "groups": [{"name", "count", "sum", "min", "max"}, ...]}.
import Papa from 'papaparse';
import { readText } from './files.js';

export const handler = {
  run(input) {
    const { path, by } = JSON.parse(input);
    let text;
    try {
      text = readText(path);
    } catch (error) {
      // Another attempt would meet it again.
      throw { message: `${path}: ${error.payload ?? error.message}`, retryable: false };
    }
    return JSON.stringify(summarise(text, by));
  },
};

function summarise(text, by) {
  const { data } = Papa.parse(text, { header: true, skipEmptyLines: true });
  const groups = new Map();
  for (const row of data) {
    if (row['Body Mass (g)'] === 'NA') continue;
    const mass = Number(row['Body Mass (g)']);
    const group = groups.get(row[by]) ?? { name: row[by], count: 0, sum: 0, min: mass, max: mass };
    group.count += 1;
    group.sum += mass;
    group.min = Math.min(group.min, mass);
    group.max = Math.max(group.max, mass);
    groups.set(row[by], group);
  }
  const sorted = [...groups.values()].sort((one, other) => (one.name < other.name ? -1 : 1));
  return { language: 'JavaScript', by, rows: data.length, groups: sorted };
}
