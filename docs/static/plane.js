/* Chapter 02b in the page: the ring, the ten and the small network of dslib/plane/plane.py, with torch's own dice. Nothing is fetched. */
"use strict";

const plane = (() => {
  const T = 1000, WIDTH = 128, SIZES = [12, WIDTH, WIDTH, WIDTH, 2], RADIUS = 2, NEAR = 3, BATCH = 30, f = Math.fround;
  const A_BAR = new Float64Array(T);
  for (let t = 0, left = 1; t < T; t++) A_BAR[t] = left *= 1 - (1e-4 + (0.02 - 1e-4) * t / (T - 1));

  /** torch.Generator: Mersenne twister, and what torch's CPU functions make of its words. */
  class Dice {
    constructor(seed) {
      this.words = new Uint32Array(624);
      this.words[0] = seed;
      for (let i = 1; i < 624; i++) {
        const last = this.words[i - 1] ^ this.words[i - 1] >>> 30;
        this.words[i] = Math.imul(1812433253, last) + i;
      }
      this.place = 624;
    }
    word() {
      const w = this.words;
      if (this.place === 624) {
        for (let i = 0; i < 624; i++) {
          const y = w[i] & 0x80000000 | w[(i + 1) % 624] & 0x7fffffff;
          w[i] = w[(i + 397) % 624] ^ y >>> 1 ^ (y & 1 ? 0x9908b0df : 0);
        }
        this.place = 0;
      }
      let y = w[this.place++];
      y ^= y >>> 11;
      y ^= y << 7 & 0x9d2c5680;
      y ^= y << 15 & 0xefc60000;
      return (y ^ y >>> 18) >>> 0;
    }
    uniform() { return (this.word() & 0xffffff) / 0x1000000; }
    below(n) { return this.word() % n; }
    normal(n) {                                          // n of at least 16, as torch fills them: sixteen at a time
      const x = Float32Array.from({length: n}, () => this.uniform());
      const fill = at => {
        for (let j = at; j < at + 8; j++) {
          const length = Math.sqrt(-2 * Math.log(f(1 - x[j]))), angle = 2 * Math.PI * x[j + 8];
          x[j] = length * Math.cos(angle);
          x[j + 8] = length * Math.sin(angle);
        }
      };
      for (let i = 0; i < n - 15; i += 16) fill(i);
      if (n % 16) {
        for (let i = n - 16; i < n; i++) x[i] = this.uniform();
        fill(n - 16);
      }
      return x;
    }
    timesteps(n) {                                       // one in every n-th part of [0, T), shuffled
      const u = this.uniform(), order = Array.from({length: n}, (_, i) => i);
      for (let i = 0; i < n - 1; i++) {
        const j = i + this.below(n - i);
        [order[i], order[j]] = [order[j], order[i]];
      }
      return order.map(i => Math.min(T - 1, Math.floor(f(f(f(u + f(i / n)) % 1) * T))));
    }
  }

  function ring(n, radius, seed, arc) {
    const dice = new Dice(seed), x = new Float32Array(2 * n);
    for (let i = 0; i < n; i++) {
      const angle = f(dice.uniform() * f(arc * Math.PI / 180));
      x[2 * i] = radius * Math.cos(angle);
      x[2 * i + 1] = radius * Math.sin(angle);
    }
    return x;
  }

  /** All draws of a run, one step at a time: points, steps and noise of the ten, and of whoever is held. */
  function* batches(ten, steps, seed, anchors = null) {
    const dice = new Dice(seed), other = new Dice(seed + 1000003), K = ten.length / 2;
    for (let step = 0; step < steps; step++) {
      const x = new Float32Array(2 * BATCH);
      for (let i = 0; i < BATCH; i++) x.set(ten.subarray(2 * ((i + step * BATCH) % K), 2 * ((i + step * BATCH) % K) + 2), 2 * i);
      const own = {x, t: dice.timesteps(BATCH), eps: dice.normal(2 * BATCH)};
      let held = null;
      if (anchors) {
        const y = new Float32Array(2 * BATCH);
        for (let i = 0; i < BATCH; i++) { const j = other.below(anchors.length / 2); y.set(anchors.subarray(2 * j, 2 * j + 2), 2 * i); }
        held = {x: y, t: other.timesteps(BATCH), eps: other.normal(2 * BATCH)};
      }
      yield {own, held};
    }
  }

  const noised = ({x, t, eps}) => x.map((v, i) => Math.sqrt(A_BAR[t[i >> 1]]) * v + Math.sqrt(1 - A_BAR[t[i >> 1]]) * eps[i]);

  /** What every layer hands on for points x (N×2) at steps t: {z, h}, h[0] the input, the last z the predicted noise. */
  function forward(net, x, t) {
    const N = t.length, input = new Float32Array(12 * N), h = [input], z = [];
    for (let n = 0; n < N; n++) {
      input[12 * n] = x[2 * n];
      input[12 * n + 1] = x[2 * n + 1];
      for (let k = 0; k < 5; k++) {
        const phase = t[n] / T * Math.PI * 2 ** k;
        input[12 * n + 2 + k] = Math.sin(phase);
        input[12 * n + 7 + k] = Math.cos(phase);
      }
    }
    for (let l = 0; l < 4; l++) {
      const I = SIZES[l], O = SIZES[l + 1], W = net[2 * l], b = net[2 * l + 1], from = h[l], out = new Float32Array(O * N);
      for (let n = 0; n < N; n++) for (let o = 0; o < O; o++) {
        let sum = b[o];
        for (let i = 0, w = o * I, v = n * I; i < I; i++) sum += W[w++] * from[v++];
        out[n * O + o] = sum;
      }
      z.push(out);
      if (l < 3) h.push(out.map(v => v / (1 + Math.exp(-v))));
    }
    return {z, h, eps: z[3]};
  }

  /** Gradients of all weights, given that of the predicted noise. */
  function backward(net, {z, h}, gradient) {
    const found = net.map(w => new Float32Array(w.length)), N = gradient.length / 2;
    for (let l = 3, out = gradient; l >= 0; l--) {
      const I = SIZES[l], O = SIZES[l + 1], W = net[2 * l], gW = found[2 * l], gb = found[2 * l + 1], from = h[l];
      const into = new Float32Array(I * N);
      for (let n = 0; n < N; n++) for (let o = 0; o < O; o++) {
        const g = out[n * O + o];
        gb[o] += g;
        for (let i = 0, w = o * I, v = n * I; i < I; i++, w++, v++) { gW[w] += g * from[v]; into[v] += g * W[w]; }
      }
      if (l) out = into.map((g, i) => { const v = z[l - 1][i], s = 1 / (1 + Math.exp(-v)); return g * s * (1 + v * (1 - s)); });
    }
    return found;
  }

  const guess = (x, t, eps) => x.map((v, i) => (v - Math.sqrt(1 - A_BAR[t[i >> 1]]) * eps[i]) / Math.sqrt(A_BAR[t[i >> 1]]));

  /** p and log p of every point over the others, from the cosines of points (N×2). */
  function attention(x) {
    const N = x.length / 2, length = Array.from({length: N}, (_, i) => Math.hypot(x[2 * i], x[2 * i + 1]));
    const unit = Float64Array.from(x, (v, i) => v / length[i >> 1]), p = new Float64Array(N * N), log = new Float64Array(N * N);
    for (let i = 0; i < N; i++) {
      let total = 0;
      for (let j = 0; j < N; j++) if (j !== i) total += p[i * N + j] = Math.exp(unit[2 * i] * unit[2 * j] + unit[2 * i + 1] * unit[2 * j + 1]);
      for (let j = 0; j < N; j++) if (j !== i) log[i * N + j] = Math.log(p[i * N + j] /= total);
    }
    return {N, length, unit, p, log};
  }

  /** L_img of two sets of guesses, and its gradient with respect to the first. */
  function pairwise(adapted, source) {
    const {N, length, unit, p, log} = attention(adapted), before = attention(source).log, pull = new Float64Array(N * N);
    let loss = 0;
    for (let i = 0; i < N; i++) {
      let kl = 0;
      for (let j = 0; j < N; j++) if (j !== i) kl += p[i * N + j] * (log[i * N + j] - before[i * N + j]);
      for (let j = 0; j < N; j++) if (j !== i) pull[i * N + j] = p[i * N + j] * (log[i * N + j] - before[i * N + j] - kl);
      loss += kl;
    }
    const gradient = new Float32Array(2 * N);
    for (let i = 0; i < N; i++) {
      let a = 0, b = 0;
      for (let j = 0; j < N; j++) { const s = pull[i * N + j] + pull[j * N + i]; a += s * unit[2 * j]; b += s * unit[2 * j + 1]; }
      const along = a * unit[2 * i] + b * unit[2 * i + 1];
      gradient[2 * i] = (a - along * unit[2 * i]) / length[i];
      gradient[2 * i + 1] = (b - along * unit[2 * i + 1]) / length[i];
    }
    return {loss, gradient};
  }

  /** Adapt a copy of the source: a generator of {step, simple, img, net}, an Adam step each. */
  function* adapt(source, ten, {method, lambda, steps}, anchors, seed = 0, lr = 2e-3) {
    const net = source.map(w => w.slice()), first = net.map(w => new Float32Array(w.length)), second = net.map(w => new Float32Array(w.length));
    const weight = method === "naive" ? 0 : lambda;
    let step = 0;
    for (const {own, held} of batches(ten, steps, seed, method === "anchored" ? anchors : null)) {
      const x = noised(own), seen = forward(net, x, own.t), terms = {simple: 0, img: 0};
      const gradient = seen.eps.map((v, i) => (v - own.eps[i]) / BATCH);
      seen.eps.forEach((v, i) => { terms.simple += (v - own.eps[i]) ** 2 / (2 * BATCH); });
      let gradients;
      const compare = (y, t, eps) => {                   // the softened push on the predicted noise: √ᾱ takes the denominator out
        const {loss, gradient: push} = pairwise(guess(y, t, eps), guess(y, t, forward(source, y, t).eps));
        terms.img = loss;
        return push.map((g, i) => -weight * g * Math.sqrt(1 - A_BAR[t[i >> 1]]));
      };
      if (weight && !held) compare(x, own.t, seen.eps).forEach((g, i) => { gradient[i] += g; });
      gradients = backward(net, seen, gradient);
      if (weight && held) {
        const y = noised(held), other = forward(net, y, held.t);
        const more = backward(net, other, compare(y, held.t, other.eps));
        gradients.forEach((g, k) => g.forEach((_, i) => { g[i] += more[k][i]; }));
      }
      const rate = lr * (1 - step / steps), c1 = 1 - 0.9 ** (step + 1), c2 = 1 - 0.999 ** (step + 1);
      for (let k = 0; k < net.length; k++) for (let i = 0; i < net[k].length; i++) {
        const g = gradients[k][i], m = first[k][i] = 0.9 * first[k][i] + 0.1 * g, v = second[k][i] = 0.999 * second[k][i] + 0.001 * g * g;
        net[k][i] -= rate * (m / c1) / (Math.sqrt(v / c2) + 1e-8);
      }
      yield {step: ++step, ...terms, net};
    }
  }

  /** DDIM from noise (N×2) in forty steps; the source walks the steps above ``until``. Yields points, the last are the samples. */
  function* chain(net, source, noise, until = T) {
    let x = noise;
    for (let now = T - 1; now >= 0; now -= 25) {
      const after = now - 25, t = new Int32Array(x.length / 2).fill(now), a = A_BAR[now];
      const x0 = guess(x, t, forward(now > until ? source : net, x, t).eps).map(v => Math.max(-3, Math.min(3, v)));
      x = after < 0 ? x0 : x.map((v, i) => {
        const eps = (v - Math.sqrt(a) * x0[i]) / Math.sqrt(1 - a);
        return Math.sqrt(A_BAR[after]) * x0[i] + Math.sqrt(1 - A_BAR[after]) * eps;
      });
      yield x;
    }
  }

  /** Degrees in [0, 180] between point i of x and point j of y. */
  const turn = (x, i, y, j) => Math.abs(Math.atan2(x[2 * i] * y[2 * j + 1] - x[2 * i + 1] * y[2 * j], x[2 * i] * y[2 * j] + x[2 * i + 1] * y[2 * j + 1]))
    * 180 / Math.PI;

  function copies(x, ten) {
    let near = 0;
    for (let i = 0; i < x.length / 2; i++) {
      let least = 180;
      for (let j = 0; j < ten.length / 2; j++) least = Math.min(least, turn(x, i, ten, j));
      near += least < NEAR;
    }
    return near / (x.length / 2);
  }

  function scores(x, ten, twins) {
    let ring = 0, turned = 0;
    const N = x.length / 2, even = Float64Array.from({length: 7200}, (_, i) => (i % 2 ? Math.sin : Math.cos)(2 * Math.PI * (i >> 1) / 3600));
    for (let i = 0; i < N; i++) {
      ring += Math.abs(Math.hypot(x[2 * i], x[2 * i + 1]) - RADIUS) < 0.2;
      turned += turn(x, i, twins, i);
    }
    return {copies: copies(x, ten), uniform: copies(even, ten), on_ring: ring / N, turned: turned / N};
  }

  const floats = text => new Float32Array(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
  return {A_BAR, RADIUS, Dice, ring, batches, noised, forward, backward, pairwise, adapt, chain, scores, floats};
})();

/* ------------------------------------------------------------------ the explorer */

/** Two rings of dots, the source's and the adapted model's, coloured by the direction of the source's sample. */
function drawPlane(canvas, named, twins, ten) {
  const pen = canvas.getContext("2d"), side = canvas.height, scale = side / 5.4;
  pen.fillStyle = "white";
  pen.fillRect(0, 0, canvas.width, side);
  Object.entries(named).forEach(([name, x], panel) => {
    const at = (points, i) => [side * (panel + 0.5) + scale * points[2 * i], side / 2 + 12 - scale * points[2 * i + 1]];
    pen.strokeStyle = "#999999";
    for (const radius of [1, plane.RADIUS]) {
      pen.beginPath();
      pen.arc(side * (panel + 0.5), side / 2 + 12, radius * scale, 0, 7);
      pen.stroke();
    }
    for (let i = 0; i < x.length / 2; i++) {
      const [left, top] = at(x, i);
      if (Math.abs(left - side * (panel + 0.5)) > side / 2) continue;
      pen.fillStyle = `hsl(${Math.atan2(twins[2 * i + 1], twins[2 * i]) * 180 / Math.PI} 100% 50%)`;
      pen.fillRect(left - 1.5, top - 1.5, 3, 3);
    }
    pen.fillStyle = "black";
    pen.textAlign = "center";
    pen.font = "22px sans-serif";
    for (let i = 0; i < ten.length / 2; i++) pen.fillText("★", at(ten, i)[0], at(ten, i)[1] + 8);
    pen.font = "16px sans-serif";
    pen.fillText(name, side * (panel + 0.5), 20);
  });
}

/** Sliders, a bar that fills, two rings and their scores in words. Trains when a control is let go; a newer move ends an older run. */
function explorePlane(box) {
  const data = globalThis.PLANE, source = data.weights.map(plane.floats), twins = plane.floats(data.twins), anchors = plane.floats(data.anchors);
  const noise = new plane.Dice(7).normal(twins.length), picture = [...box.previousElementSibling.querySelectorAll("img")].pop();
  const set = {method: "DomainStudio", lambda: 0.3, steps: data.start.steps, shots: 10, arc: 360, until: 1000};
  const bar = document.createElement("div"), said = document.createElement("p"), canvas = document.createElement("canvas");
  const progress = document.createElement("progress"), pause = () => new Promise(resolve => setTimeout(resolve));
  let run = 0, kept = {};

  async function trained(mine) {
    const {method, lambda, steps, shots, arc} = set, key = JSON.stringify([method, method === "naive" || lambda, steps, shots, arc]);
    if (kept.key === key) return kept;
    const ten = plane.ring(shots, plane.RADIUS, 0, arc);
    let net = source, last = performance.now();
    for (const state of plane.adapt(source, ten, set, anchors)) {
      net = state.net;
      if (performance.now() - last < 40) continue;
      progress.value = state.step / steps;
      await pause();
      if (mine !== run) return null;
      last = performance.now();
    }
    return kept = {key, net, ten};
  }

  async function move() {
    const mine = ++run;
    progress.hidden = false;
    progress.value = 0;
    said.textContent = `training: ${set.steps} steps …`;
    await pause();
    const found = await trained(mine);
    let x = noise;
    for (x of found ? plane.chain(found.net, source, noise, set.until) : []) {
      await pause();
      if (mine !== run) return;
    }
    if (!found) return;
    const score = plane.scores(x, found.ten, twins), whole = share => `${Math.round(100 * share)}%`;
    const words = `copies ${whole(score.copies)} (uniform ${whole(score.uniform)}), on the ring ${whole(score.on_ring)}, `
      + `turned by ${Math.round(score.turned)}°`;
    picture.hidden = progress.hidden = true;
    canvas.hidden = false;
    drawPlane(canvas, {source: twins, [set.method]: x}, twins, found.ten);
    box.dataset.scores = JSON.stringify(score);
    said.textContent = `${set.method}, λ = ${set.lambda}, ${set.steps} steps, ${set.shots} points on ${set.arc}°, `
      + `source until t = ${set.until}: ${words}.`;
    canvas.setAttribute("aria-label", said.textContent);
  }

  const menu = Object.assign(document.createElement("select"), {name: "method"});
  for (const name of ["naive", "DomainStudio", "anchored"]) menu.add(new Option(name));
  menu.value = set.method;
  menu.addEventListener("change", () => { set.method = menu.value; move(); });
  const labelled = (text, ...parts) => { const label = document.createElement("label"); label.append(text, ...parts); bar.append(label); };
  labelled("method", menu);
  for (const [name, text, min, max, step] of [["lambda", "λ", 0, 3, 0.1], ["steps", "steps", 0, 1500, 50], ["shots", "shots", 1, 50, 1],
    ["arc", "arc, °", 10, 360, 10], ["until", "source until t", 0, 1000, 50]]) {
    const input = Object.assign(document.createElement("input"), {type: "range", name, min, max, step, value: set[name]});
    const shown = Object.assign(document.createElement("output"), {textContent: set[name]});
    input.addEventListener("input", () => { shown.textContent = input.value; });
    input.addEventListener("change", () => { set[name] = Number(input.value); move(); });
    labelled(text, shown, input);
  }
  bar.className = "explorer-controls";
  Object.assign(canvas, {width: 720, height: 360, hidden: true}).setAttribute("role", "img");
  Object.assign(progress, {max: 1, hidden: true}).setAttribute("aria-label", "training");
  said.setAttribute("role", "status");
  said.textContent = picture.alt;
  box.append(bar, progress, picture, canvas, said);
}

document.addEventListener("DOMContentLoaded", () => document.querySelectorAll(".explorer[data-kind=plane]").forEach(explorePlane));
