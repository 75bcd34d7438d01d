// Greets: {"name": "Ada"} becomes {"greeting": "Hello, Ada!"}.
import type { run } from 'fishway:task/handler@0.2.0';

interface Input {
  name?: string;
}

export const handler: { run: typeof run } = {
  run(input) {
    const { name = 'world' }: Input = JSON.parse(input) ?? {};
    console.log(`greeting ${name}`);
    return JSON.stringify({ greeting: `Hello, ${name}!` });
  },
};
