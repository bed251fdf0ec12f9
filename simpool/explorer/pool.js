"use strict";
// The poolings of the page. Tokens x are one image's features: N patches with D numbers each, row by row (N*D numbers).
// The numbers in brackets are the equations of the SimPool paper. No library, and nothing of the page is needed.

function average(x, N, D) {
  const mean = new Float64Array(D);
  for (let n = 0; n < N; n++) for (let c = 0; c < D; c++) mean[c] += x[n * D + c] / N;
  return mean;
}

function layerNorm(x, N, D, {gain, bias, norm_eps}) {
  const v = new Float64Array(N * D);
  for (let n = 0; n < N; n++) {
    let mean = 0, square = 0;
    for (let c = 0; c < D; c++) mean += x[n * D + c] / D;
    for (let c = 0; c < D; c++) square += (x[n * D + c] - mean) ** 2 / D;
    const scale = 1 / Math.sqrt(square + norm_eps);
    for (let c = 0; c < D; c++) v[n * D + c] = (x[n * D + c] - mean) * scale * gain[c] + bias[c];
  }
  return v;
}

function softmax(scores) {
  const top = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = scores.map(s => Math.exp(s - top));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map(w => w / sum);
}

function keysAndValues(x, N, D, layer) { // LN(X), and its minimum: one for the image, or one for each channel
  const v = layerNorm(x, N, D, layer), low = new Float64Array(D).fill(Infinity);
  for (let n = 0; n < N; n++) for (let c = 0; c < D; c++) low[c] = Math.min(low[c], v[n * D + c]);
  return {v, low: layer.value_min === "channel" ? low : low.fill(low.reduce((a, b) => Math.min(a, b)))};
}

// SimPool. The query is the average of all patches (query = -1), or the patch with that number.
// Returns the attention (N), the pooled vector z (D), and the share of each patch in z (N).
function simpool(x, N, D, layer, {query = -1, temperature = 1, gamma = layer.gamma, known = null} = {}) {
  const u = query < 0 ? average(x, N, D) : x.subarray(query * D, (query + 1) * D); // (12)
  const {v, low} = known ?? keysAndValues(x, N, D, layer), heads = layer.num_heads, d = D / heads;
  const attention = new Float64Array(N), share = new Float64Array(N);
  const z = new Float64Array(D), part = new Float64Array(N * D);
  for (let h = 0; h < heads; h++) {
    const w = new Float64Array(D), scores = new Float64Array(N); // w = W_K' W_Q u, the rows of this head
    for (let r = h * d; r < (h + 1) * d; r++) {
      let q = layer.bq[r]; // (13)
      for (let c = 0; c < D; c++) q += layer.wq[r * D + c] * u[c];
      for (let c = 0; c < D; c++) w[c] += layer.wk[r * D + c] * q;
    }
    for (let n = 0; n < N; n++) for (let c = 0; c < D; c++) scores[n] += w[c] * v[n * D + c]; // (14)
    const a = softmax(scores.map(s => s / (Math.sqrt(d) * temperature))); // (15)
    for (let n = 0; n < N; n++) {
      attention[n] += a[n] / heads;
      for (let c = h * d; c < (h + 1) * d; c++) {
        part[n * D + c] = a[n] * (gamma ? (v[n * D + c] - low[c] + layer.eps) ** gamma : v[n * D + c]); // (16)
        z[c] += part[n * D + c];
      }
    }
  }
  for (let n = 0; n < N; n++) for (let c = 0; c < D; c++) share[n] += part[n * D + c] / z[c] / D;
  if (!gamma) return {attention, z: z.map(s => s + layer.beta), share: attention};
  return {attention, z: z.map(s => s ** (1 / gamma) + layer.beta), share}; // (17)
}

// Average pooling has no attention. Its map: how similar is each patch to the average, or to the patch that asks?
function similarity(x, N, D, query = -1) {
  const u = query < 0 ? average(x, N, D) : x.subarray(query * D, (query + 1) * D);
  const map = new Float64Array(N);
  for (let n = 0; n < N; n++) {
    let dot = 0, xx = 0, uu = 0;
    for (let c = 0; c < D; c++) {
      dot += x[n * D + c] * u[c];
      xx += x[n * D + c] ** 2;
      uu += u[c] ** 2;
    }
    map[n] = Math.max(dot / Math.max(Math.sqrt(xx * uu), 1e-8), 1e-6);
  }
  const sum = map.reduce((a, b) => a + b, 0);
  return map.map(m => m / sum);
}

// Max pooling takes each channel from one patch. Its map: which share of the channels comes from each patch?
function maxShare(x, N, D) {
  const map = new Float64Array(N);
  for (let c = 0; c < D; c++) {
    let best = 0;
    for (let n = 1; n < N; n++) if (x[n * D + c] > x[best * D + c]) best = n;
    map[best] += 1 / D;
  }
  return map;
}

// The fewest patches that together hold a share of the map: true for those that are kept.
function massMask(map, mass) {
  const order = Array.from(map.keys()).sort((a, b) => map[a] - map[b]), kept = new Array(map.length).fill(true);
  let left = map.reduce((a, b) => a + b, 0) * (1 - mass);
  for (const n of order) if ((left -= map[n]) >= 0) kept[n] = false; else break;
  return kept;
}

if (typeof module !== "undefined") module.exports = {simpool, similarity, maxShare, massMask, average, layerNorm, keysAndValues};
