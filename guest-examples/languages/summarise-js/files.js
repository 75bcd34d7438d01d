// Reads files of granted directories.
import { getDirectories } from 'wasi:filesystem/preopens@0.2.12';

export function readText(path) {
  for (const [directory, name] of getDirectories()) {
    if (!path.startsWith(`${name}/`)) continue;
    const file = directory.openAt({ symlinkFollow: true }, path.slice(name.length + 1), {}, { read: true });
    const decoder = new TextDecoder();
    let text = '';
    for (let offset = 0n, end = false; !end; ) {
      const [bytes, last] = file.read(1n << 20n, offset);
      text += decoder.decode(bytes, { stream: !last });
      offset += BigInt(bytes.length);
      end = last;
    }
    return text;
  }
  throw new Error(`${path} is in no directory that was granted`);
}
