// The bundler puts this before each handler: parts of fetch that its engine lacks.

// `for await (const part of response.body)`.
ReadableStream.prototype[Symbol.asyncIterator] ??= async function* () {
  const reader = this.getReader();
  let over = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      over = done;
      if (done) return;
      yield value;
    }
  } catch (error) {
    over = true;
    throw error;
  } finally {
    // A reader that stops early needs no more.
    if (!over) await reader.cancel();
    reader.releaseLock();
  }
};

// A request that the host refuses rejects the promise with a TypeError, as elsewhere; the engine throws a plain Error
// with one message for all cases.
const send = globalThis.fetch;

globalThis.fetch = async function fetch(resource, options) {
  try {
    return await send(resource, options);
  } catch (error) {
    const signal = options?.signal ?? resource?.signal;
    if (signal?.aborted || !/error occurred while using the host API/.test(error?.message)) throw error;
    const { origin } = new URL(resource?.url ?? resource);
    throw new TypeError(
      `fetch failed: the host has refused the request to ${origin}. A [[grants.http]] of the manifest has to allow it; ` +
        'the log of the task has the lines to add',
      { cause: error },
    );
  }
};
