// Has handlers in five other languages add up a table, and puts their results together:
// {"path": "/data/penguins.csv"} becomes {"language": "TypeScript", "batch", "opened", "started", "ended", "parts": [...]}.
import type { Failure, run } from 'fishway:task/handler@0.2.0';
import { begin, complete } from 'fishway:task/steps@0.2.0';
import { spawn, waitAll } from 'fishway:task/tasks@0.2.0';

const parts = {
  Island: 'summarise-c',
  Sex: 'summarise-go',
  Species: 'summarise-js',
  Stage: 'summarise-python',
  studyName: 'summarise-rust',
};

// A part of the handler that runs once: a replay or a later attempt reads the recorded value.
function step<T>(name: string, work: () => T): T {
  let value = begin(name);
  if (value === undefined) {
    value = JSON.stringify(work());
    complete(name, value);
  }
  return JSON.parse(value);
}

export const handler: { run: typeof run } = {
  run(input) {
    const { path }: { path: string } = JSON.parse(input);
    const opened = step('open', () => Date.now());
    // The same after a wait, though all of this may have been run again for that.
    const batch = crypto.randomUUID();
    const started = Date.now();
    const ids = Object.entries(parts).map(([by, name]) =>
      spawn(name, JSON.stringify({ path, by, batch, at: started, opened }), undefined).id,
    );
    const outcomes = waitAll(ids, undefined);
    const failed = outcomes.find(({ status }) => status !== 'completed');
    if (failed) {
      throw { message: `${failed.handler} did not complete`, retryable: false } satisfies Failure;
    }
    return JSON.stringify({
      language: 'TypeScript',
      batch,
      opened,
      started,
      ended: Date.now(),
      parts: outcomes.map(({ output }) => JSON.parse(output!)),
    });
  },
};
