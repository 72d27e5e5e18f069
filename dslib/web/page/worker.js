// Networks run here, so that the page never stands still. Messages in: {draw, models, noise, …} or {cancel}; out: see post().
"use strict";
importScripts("sampler.js");

const sessions = new Map();
let runtime = null, current = 0;

const megabytes = bytes => `${(bytes / 1e6).toFixed(1)} MB`;

/** A file as bytes, with its progress told. Says what is wrong with it in one line. */
async function load(url, bytes, what) {
  let answer;
  try {
    answer = await fetch(url);
  } catch (error) {
    throw new Error(`${what} cannot be loaded (${url}): is the page still served, and the network there?`);
  }
  if (!answer.ok) throw new Error(`${what} is missing: ${url} answers ${answer.status}. Put the whole exported folder there.`);
  const parts = [], reader = answer.body.getReader();
  let got = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    got += part.value.length;
    postMessage({ loading: what, got, of: bytes });
  }
  if (got !== bytes) throw new Error(`${what} is cut short or another: ${url} has ${got} bytes, not ${bytes}. Copy it again.`);
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** onnxruntime, started once. */
async function start(settings) {
  if (typeof WebAssembly === "undefined") throw new Error("This browser has no WebAssembly, or it is switched off: nothing can be drawn here.");
  const folder = new URL("ort/", self.location.href).href;
  try {
    importScripts(folder + "ort.wasm.min.js");
  } catch (error) {
    throw new Error(`onnxruntime is missing: ${folder}ort.wasm.min.js cannot be loaded.`);
  }
  const binary = "ort-wasm-simd-threaded.wasm";
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  ort.env.wasm.wasmPaths = folder;
  ort.env.wasm.wasmBinary = (await load(folder + binary, settings[binary], "WebAssembly runtime")).buffer;
  ort.env.logLevel = "error";
}

/** A model's network, loaded once. */
async function network(model) {
  if (!sessions.has(model.id)) {
    const bytes = await load(new URL(model.file, self.location.href).href, model.bytes, `model “${model.title}”`);
    postMessage({ saying: `Preparing ${model.title} …` });
    try {
      sessions.set(model.id, await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] }));
    } catch (error) {
      throw new Error(/wasm|WebAssembly|backend/i.test(error.message)
        ? `WebAssembly does not start here (a browser setting or the site's policy blocks it): ${error.message}`
        : `The model “${model.title}” cannot be opened (${error.message}): export it again.`);
    }
  }
  return sessions.get(model.id);
}

/** Draw with each model from one noise; every link is told. A newer job, or cancel, ends it between two steps. */
async function draw(job) {
  runtime = runtime || start(job.runtime);
  try {
    await runtime;
  } catch (error) {
    runtime = null;
    throw error;
  }
  for (const model of job.models) {
    const own = await network(model), until = model.source && job.until < model.a_bar.length ? job.until : null;
    const first = until === null ? own : await network(job.source);
    const predict = async (x_t, t) => {
      await new Promise(done => setTimeout(done));                           // let a cancel come in
      if (job.number !== current) throw null;
      const shape = [1, model.channels, model.resolution, model.resolution];
      const feeds = { x_t: new ort.Tensor("float32", x_t, shape), t: new ort.Tensor("float32", [t], [1]) };
      const { output } = await (until !== null && t > until ? first : own).run(feeds);
      return output.data.subarray(0, x_t.length);                            // a learned variance, if any, is left
    };
    for await (const link of chain(model, job.noise, job.sampler, job.steps, predict)) {
      postMessage({ number: job.number, model: model.id, ...link });
    }
  }
  postMessage({ number: job.number, done: true });
}

onmessage = async ({ data }) => {
  current = data.number;
  if (data.cancel) return;
  try {
    await draw(data);
  } catch (error) {
    if (error) postMessage({ number: data.number, failed: error.message || String(error) });
  }
};
