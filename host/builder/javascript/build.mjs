// Makes a component of a JavaScript or TypeScript handler. Run by `fishway build`, with one argument: what
// to build, as JSON. Lies beside the node_modules that has its tools.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { componentize } from '@bytecodealliance/componentize-js';
import { build } from 'esbuild';

const asked = JSON.parse(process.argv[2]);
const place = dirname(fileURLToPath(import.meta.url));
const modules = join(place, 'node_modules');

function fail(text) {
  console.error(text);
  process.exit(1);
}

// The contract as type declarations, for the compiler and for editors.
const bindgen = join(modules, '@bytecodealliance/jco-transpile/vendor/js-component-bindgen-component.js');
const { $init, generateTypes } = await import(bindgen);
await $init;
const declared = generateTypes(asked.world, {
  wit: { tag: 'source', val: asked.text },
  world: asked.world,
  guest: true,
  features: { tag: 'list', val: [] },
  tlaCompat: false,
  asyncMode: { tag: 'sync' },
  flagsAsBigint: false,
  variantsInlineCases: false,
  useNamespaceObjects: false,
  enumValuesScreamingSnakeCase: false,
});
// Exports of a handler may be async: the engine awaits them.
const exported = new Set(asked.exports.map((name) => `interfaces/${name}.d.ts`).concat(`${asked.world}.d.ts`));
for (const [name, bytes] of declared) {
  let text = Buffer.from(bytes).toString();
  if (exported.has(name)) text = text.replace(/^(\s*export function .*\)): (.*);$/gm, '$1: $2 | Promise<$2>;');
  const path = join(asked.project, 'bindings', name);
  if (existsSync(path) && readFileSync(path, 'utf8') === text) continue;
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

if (asked.typescript) {
  const tsc = join(modules, '.bin/tsc');
  const checked = spawnSync(tsc, ['--noEmit', '--pretty', 'false'], { cwd: asked.project, encoding: 'utf8' });
  if (checked.error) fail(`tsc: ${checked.error.message}`);
  if (checked.status !== 0) fail(checked.stdout + checked.stderr);
}

// One module, which imports nothing but what the host gives.
const host = {
  name: 'host',
  setup(bundler) {
    bundler.onResolve({ filter: /^[a-z][a-z0-9-]*:[a-z][a-z0-9-]*\// }, ({ path }) =>
      path.startsWith('node:') ? undefined : { path, external: true },
    );
  },
};
mkdirSync(dirname(asked.bundle), { recursive: true });
try {
  await build({
    entryPoints: [asked.entry],
    outfile: asked.bundle,
    bundle: true,
    format: 'esm',
    platform: 'neutral',
    // What a package has for browsers needs nothing of Node.
    mainFields: ['browser', 'module', 'main'],
    conditions: ['worker', 'browser'],
    target: 'es2023',
    charset: 'utf8',
    logLevel: 'error',
    plugins: [host],
    inject: [join(place, 'fetch.mjs')],
  });
} catch {
  process.exit(1);
}

try {
  const { component } = await componentize({
    sourcePath: asked.bundle,
    witPath: asked.wit,
    worldName: asked.world,
    // A handler sends requests, but serves none.
    disableFeatures: ['fetch-event'],
  });
  writeFileSync(asked.module, component);
} catch (error) {
  fail(error.message);
}
