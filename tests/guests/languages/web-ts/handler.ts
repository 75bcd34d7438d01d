// Sends the requests that tests/web.rs expects of each language, and returns the results.
import type { run } from 'fishway:task/handler@0.2.0';

interface Input {
  base: string;
  refused: string;
  untrusted: string;
}

async function said<T>(work: () => Promise<T>): Promise<T | string> {
  try {
    return await work();
  } catch (error) {
    return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  }
}

async function parts(base: string): Promise<string[]> {
  const response = await fetch(`${base}/stream`);
  const decoder = new TextDecoder();
  const seen: string[] = [];
  for await (const part of response.body!) {
    seen.push(decoder.decode(part));
    // The server continues after a report of the first part.
    if (seen.length === 1) await fetch(`${base}/seen`);
  }
  return seen;
}

export const handler: { run: typeof run } = {
  async run(input) {
    const { base, refused, untrusted }: Input = JSON.parse(input);
    const post: RequestInit = {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ item: 'lamp', count: 2 }),
    };
    const asked = async (path: string, options?: RequestInit) => {
      const response = await fetch(base + path, options);
      return { status: response.status, json: await response.json() };
    };
    const missing = async () => {
      const response = await fetch(`${base}/missing`);
      return { status: response.status, text: await response.text() };
    };
    const text = async (url: string, options?: RequestInit) => (await fetch(url, options)).text();
    return JSON.stringify({
      get: await said(() => asked('/get')),
      post: await said(() => asked('/post', post)),
      missing: await said(missing),
      stream: await said(() => parts(base)),
      refused: await said(() => text(refused)),
      untrusted: await said(() => text(untrusted)),
      timeout: await said(() => text(`${base}/slow`, { signal: AbortSignal.timeout(100) })),
      broken: await said(() => text(`${base}/broken`)),
      closed: await said(() => text(`${base}/closed`)),
    });
  },
};
