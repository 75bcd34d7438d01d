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

// A request that the host refuses, or that gets no response, rejects the promise with a TypeError that says so, as
// elsewhere; the engine has one message for all cases of each.
const send = globalThis.fetch;

globalThis.fetch = async function fetch(resource, options) {
  try {
    return await send(resource, options);
  } catch (error) {
    const signal = options?.signal ?? resource?.signal;
    if (signal?.aborted) throw error;
    const { origin } = new URL(resource?.url ?? resource);
    if (/NetworkError/.test(error?.message)) {
      throw new TypeError(`fetch failed: no response from ${origin}; the log of the task says why`, { cause: error });
    }
    if (!/error occurred while using the host API/.test(error?.message)) throw error;
    throw new TypeError(
      `fetch failed: the host has refused the request to ${origin}. A [[grants.http]] of the manifest has to allow it; ` +
        'the log of the task has the lines to add',
      { cause: error },
    );
  }
};
