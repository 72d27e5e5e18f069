// Start noise and samplers, the same numbers as dslib's (PyTorch) and diffusers'. No page, no network: node can test it.
"use strict";

/** torch.Generator on the CPU: Mersenne Twister 19937. Returns a function that gives the next 32 bits. */
function twister(seed) {
  const state = new Uint32Array(624);
  state[0] = Number(BigInt.asUintN(32, BigInt(seed)));
  for (let i = 1; i < 624; i++) state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  let next = 624;
  return () => {
    if (next === 624) {
      for (let i = 0; i < 624; i++) {
        const y = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
        state[i] = state[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      next = 0;
    }
    let y = state[next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
}

/** torch.randn of n numbers, n a multiple of 16: Box-Muller in blocks of sixteen, as its CPU kernel has it. */
function randn(n, seed) {
  if (n % 16) throw new Error(`${n} numbers: a multiple of 16 is needed`);
  const bits = twister(seed), out = new Float32Array(n);
  for (let i = 0; i < n; i++) out[i] = (bits() & 0xffffff) / 0x1000000;
  for (let i = 0; i < n; i += 16) {
    for (let j = i; j < i + 8; j++) {
      const radius = Math.sqrt(-2 * Math.log(1 - out[j])), theta = 2 * Math.PI * out[j + 8];
      out[j] = radius * Math.cos(theta);
      out[j + 8] = radius * Math.sin(theta);
    }
  }
  return out;
}

/** The first image's noise of dslib.sample.start_noise(1, R, seed, C): Float32Array (C·R·R). */
function startNoise(model, seed) {
  return randn(model.channels * model.resolution ** 2, BigInt(seed) * 1000003n);
}

/** Between two noises, with variance one all the way: √(1−w)·a + √w·b, w in [0,1]. */
function blend(a, b, w) {
  const keep = Math.sqrt(1 - w), take = Math.sqrt(w);
  return a.map((value, i) => keep * value + take * b[i]);
}

/** {x_0, eps} that a network's output implies for x_t, whichever of ε and v it predicts (dslib.ddpm.guess). Not clipped. */
function guess(output, x_t, a, prediction) {
  const root = Math.sqrt(a), rest = Math.sqrt(1 - a), x_0 = new Float32Array(x_t.length), eps = new Float32Array(x_t.length);
  for (let i = 0; i < x_t.length; i++) {
    const v = prediction === "v_prediction";
    x_0[i] = v ? root * x_t[i] - rest * output[i] : (x_t[i] - rest * output[i]) / root;
    eps[i] = v ? root * output[i] + rest * x_t[i] : output[i];
  }
  return { x_0, eps };
}

const clip = (x, bound) => x.map(value => Math.min(bound, Math.max(-bound, value)));

/** One step of DDIM (eta = 0). index: which of ts is undone. */
function ddim(model, ts, index, { x_0, eps }) {
  const before = ts[index] - Math.floor(model.a_bar.length / ts.length);      // as diffusers counts, whatever the spacing
  const a = before >= 0 ? model.a_bar[before] : 1, root = Math.sqrt(a), rest = Math.sqrt(1 - a);
  return x_0.map((value, i) => root * value + rest * eps[i]);
}

/** One step of DPM-Solver++ 2M (midpoint), first order at its two ends. last: x̃_0 of the step before, or null. */
function dpmsolver(model, ts, index, { x_0 }, x_t, last) {
  if (index === ts.length - 1) return x_0;                                    // σ = 0: the guess itself
  const at = i => model.a_bar[ts[i]], lambda = i => 0.5 * Math.log(at(i) / (1 - at(i)));
  const h = lambda(index + 1) - lambda(index);
  const ratio = Math.sqrt((1 - at(index + 1)) / (1 - at(index))), gain = -Math.sqrt(at(index + 1)) * Math.expm1(-h);
  const half = last ? 0.5 * h / (lambda(index) - lambda(index - 1)) : 0;
  return x_t.map((value, i) => ratio * value + gain * (x_0[i] + (last ? half * (x_0[i] - last[i]) : 0)));
}

/** Walk from noise to a face; yields {t, x_t, x_0} a step, x_0 clipped to [-1,1], as dslib.sample.chain does.
 *  predict(x_t, t): the network's output, a promise. kind: "ddim" or "dpmsolver". */
async function* chain(model, noise, kind, steps, predict) {
  const ts = model.timesteps[steps];
  let x_t = noise, last = null;
  for (let index = 0; index < ts.length; index++) {
    const a = model.a_bar[ts[index]], found = guess(await predict(x_t, ts[index]), x_t, a, model.prediction_type);
    if (model.clip_sample) found.x_0 = clip(found.x_0, model.clip_range);
    x_t = kind === "ddim" ? ddim(model, ts, index, found) : dpmsolver(model, ts, index, found, x_t, last);
    last = found.x_0;
    yield { t: ts[index], x_t, x_0: clip(found.x_0, 1) };
  }
}

if (typeof module !== "undefined") module.exports = { randn, startNoise, blend, guess, chain };
