/** Stories: a few steps that belong together, added to a plan. Chance alone would hardly ever draw them. */
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { hlcWallMs, MAX_STAMP } from "../../src/lib/hlc.ts";
import type { Rng } from "../../src/lib/rng.ts";
import type { Plan, Step } from "./plan.ts";
import { WALL_START_MS } from "./sim-node.ts";

export type Stage = Pick<Plan, "places" | "clientCount" | "activeMs">;

type Story = (rng: Rng, stage: Stage) => readonly Step[];

const TTLS_MS: readonly number[] = [0, 0, 3000, 5000, 8000];

/** A plan has at most one story, and most plans have none. A story that is listed twice is twice as frequent. */
const STORIES: readonly Story[] = [leaving, leaving, refusing, aheadThenCut, refusedBatches, atTheBound, meetsPartial, storeTrouble];
const PLANS_A_STORY = 12;

export function storySteps(rng: Rng, stage: Stage): readonly Step[] {
  return STORIES[rng.int(PLANS_A_STORY)]?.(rng, stage) ?? [];
}

function pick<T>(rng: Rng, from: readonly T[]): T {
  const one = from[rng.int(from.length)];
  if (one === undefined) throw new Error("nothing to choose from");
  return one;
}

/** The items in a random order. */
function shuffled<T>(rng: Rng, from: readonly T[]): readonly T[] {
  const keyed = from.map((one) => [rng.next(), one] as const);
  return keyed.toSorted(([a], [b]) => a - b).map(([, one]) => one);
}

/** The nodes of the largest cluster. */
function largest(places: Plan["places"]): readonly number[] {
  const byCluster = new Map<string, number[]>();
  places.forEach(({ clusterId }, i) => byCluster.set(clusterId, [...(byCluster.get(clusterId) ?? []), i]));
  return [...byCluster.values()].toSorted((a, b) => b.length - a.length)[0] ?? [];
}

/** An entry of one node is put at another node too and taken out at the first, before either node can have heard of the other. */
export function races(rng: Rng, { places, clientCount, activeMs }: Stage): readonly Step[] {
  const steps: Step[] = [];
  for (let atMs = 2000 + rng.int(3000); atMs < activeMs - 6000; atMs += 1000 + rng.int(6000)) {
    const [client, node, ttlMs] = [rng.int(clientCount), rng.int(places.length), TTLS_MS[rng.int(TTLS_MS.length)] ?? 0];
    const home = places[node]?.clusterId;
    const others = places.flatMap(({ clusterId }, i) => (clusterId === home && i !== node ? [i] : []));
    const other = others[rng.int(Math.max(1, others.length))];
    if (other === undefined) continue;
    const put = { kind: "register", client, scope: SCOPE.ZONE, ttlMs } as const;
    const againMs = atMs + 1500 + rng.int(2000);
    steps.push({ atMs, ...put, node: rng.int(3) === 0 ? node : other, variant: 0 }, { atMs: againMs, ...put, node, variant: 1 });
    steps.push({ atMs: againMs + 5 + rng.int(200), kind: "unregister", client, node: other });
  }
  return steps;
}

/**
 * Two nodes leave at once, or all but one, or all. Their static entries are taken out, put anew or moved elsewhere meanwhile. In some worlds the
 * nodes that stay cannot take anything, and one that left does not come back.
 */
function leaving(rng: Rng, { places, clientCount, activeMs }: Stage): readonly Step[] {
  const cluster = shuffled(rng, largest(places));
  if (cluster.length < 3) return [];
  const steps: Step[] = [];
  const leaverCount = pick(rng, [2, cluster.length - 1, cluster.length]);
  const [leavers, stayers] = [cluster.slice(0, leaverCount), cluster.slice(leaverCount)];
  const apartMs = pick(rng, [0, 60, 1500]);
  const isUntaken = rng.int(3) === 0;
  // The others join by the first two nodes.
  const gone = isUntaken ? leavers.find((node) => node > 1) : undefined;
  for (let atMs = 10_000 + rng.int(4000); atMs < activeMs - 8000; atMs += 22_000 + rng.int(8000)) {
    for (const node of leavers) {
      const downMs = node === gone ? undefined : 500 + rng.int(12_000);
      steps.push({ atMs: atMs + rng.int(apartMs + 1), kind: "stop", node, reason: "leave", downMs });
    }
    if (isUntaken) for (const node of stayers) steps.push({ atMs: atMs - 50, kind: "diskFull", node, forMs: 2500 + apartMs });
    for (let client = 0; client < clientCount; client++) {
      const put = { kind: "register", client, scope: pick(rng, [SCOPE.ZONE, SCOPE.ZONE, SCOPE.REGION]), ttlMs: 0 } as const;
      steps.push({ atMs: atMs - 3000 - rng.int(3000), ...put, node: pick(rng, leavers), variant: 0 });
      const duringMs = atMs + rng.int(300);
      const kind = rng.int(isUntaken ? 10 : 4);
      if (kind < 2) steps.push({ atMs: duringMs, kind: "unregister", client, node: pick(rng, cluster) });
      else if (kind === 2) steps.push({ atMs: duringMs, ...put, node: pick(rng, cluster), variant: 1 });
    }
    // Entries that no node took are left alone, so that they must still be there at the end.
    if (isUntaken) break;
  }
  return steps;
}

/** A node has no room for what the others hold, and later has room. Watches come to it, and resume elsewhere. */
function refusing(rng: Rng, { places, clientCount, activeMs }: Stage): readonly Step[] {
  const cluster = shuffled(rng, largest(places));
  const [node, ...others] = cluster;
  if (node === undefined || others.length === 0) return [];
  const steps: Step[] = [];
  const atMs = 6000 + rng.int(4000);
  const forMs = 10_000 + rng.int(activeMs);
  steps.push({ atMs, kind: "tight", node, records: 1 + rng.int(4), forMs });
  const scope = pick(rng, [SCOPE.ZONE, SCOPE.REGION]);
  for (let client = 0; client < clientCount; client++) {
    const put = { kind: "register", client, scope, ttlMs: 0, node: pick(rng, others.slice(0, 2)) } as const;
    steps.push({ atMs: pick(rng, [atMs - 3000, atMs + 3000]) + rng.int(1000), ...put, variant: 0 });
  }
  for (let onMs = atMs + 4000; onMs < activeMs; onMs += 2000 + rng.int(4000))
    steps.push({ atMs: onMs, kind: "watchMove", watch: rng.int(5), node: pick(rng, [node, pick(rng, others)]) });
  return steps;
}

/** While a node has no room for what another holds, a third one comes back without its disk, again and again. Chance decides which node it meets first. */
function meetsPartial(rng: Rng, { places, clientCount, activeMs }: Stage): readonly Step[] {
  const cluster = shuffled(rng, largest(places));
  const [node, origin, newcomer] = cluster;
  if (node === undefined || origin === undefined || newcomer === undefined) return [];
  const steps: Step[] = [];
  const atMs = 5000 + rng.int(2000);
  steps.push({ atMs, kind: "tight", node, records: 1 + rng.int(2), forMs: activeMs });
  for (let client = 0; client < clientCount; client++)
    steps.push({ atMs: atMs + 500 + rng.int(1000), kind: "register", client, node: origin, scope: SCOPE.ZONE, ttlMs: 0, variant: 0 });
  const crash = { kind: "crash", nodes: [newcomer], isSilent: false, isBatchKept: true, isDiskLost: true } as const;
  for (let onMs = atMs + 4000; onMs < activeMs - 6000; onMs += 6000 + rng.int(4000))
    steps.push({ atMs: onMs, ...crash, downMs: 200 + rng.int(800) });
  return steps;
}

/** The control store of a node is slow, loses answers or is down, while policies are applied there and on other nodes. */
function storeTrouble(rng: Rng, { places, activeMs }: Stage): readonly Step[] {
  const cluster = shuffled(rng, largest(places));
  const [node] = cluster;
  if (node === undefined) return [];
  const steps: Step[] = [];
  for (let atMs = 4000 + rng.int(3000); atMs < activeMs - 6000; atMs += 3000 + rng.int(8000)) {
    const fault = { slowMs: pick(rng, [0, 300, 4000]), loss: pick(rng, [0.2, 0.6]), isDown: rng.int(3) === 0 };
    steps.push({ atMs, kind: "store", node, forMs: 500 + rng.int(4000), ...fault });
    for (let n = 1 + rng.int(3); n > 0; n--)
      steps.push({ atMs: atMs + rng.int(3000), kind: "policy", node: pick(rng, [node, pick(rng, cluster)]), variant: rng.int(4) });
  }
  return steps;
}

/** While a node's clock is a day ahead, its leases run out and its entries are taken out. Then it is right, and the cluster is cut in two. */
function aheadThenCut(rng: Rng, { places, clientCount, activeMs }: Stage): readonly Step[] {
  const cluster = shuffled(rng, largest(places));
  const [ahead] = cluster;
  if (ahead === undefined || cluster.length < 2) return [];
  const steps: Step[] = [];
  for (let atMs = 6000 + rng.int(3000); atMs < activeMs - 20_000; atMs += 24_000 + rng.int(4000)) {
    steps.push({ atMs, kind: "skew", node: ahead, byMs: 86_400_000, forMs: 6500 });
    const side = cluster.slice(0, 1 + rng.int(cluster.length - 1));
    const rest = cluster.filter((node) => !side.includes(node));
    steps.push({ atMs: atMs + 8000, kind: "partition", side, forMs: 6000 + rng.int(3000) });
    for (let client = 0; client < clientCount; client++) {
      const put = { kind: "register", client, scope: SCOPE.ZONE } as const;
      steps.push({ atMs: atMs + 500 + rng.int(300), ...put, node: ahead, variant: 0, ttlMs: 3000 });
      if (rng.int(4) === 0) steps.push({ atMs: atMs + 2000, kind: "unregister", client, node: pick(rng, cluster) });
      else steps.push({ atMs: atMs + 1200, kind: "abandon", client });
      const ttlMs = pick(rng, TTLS_MS);
      steps.push({ atMs: atMs + 9000 + rng.int(1500), ...put, node: pick(rng, side), variant: 1, ttlMs });
      if (rng.int(2) === 0) steps.push({ atMs: atMs + 11_000 + rng.int(1500), ...put, node: pick(rng, rest), variant: 2, ttlMs });
      else steps.push({ atMs: atMs + 11_000 + rng.int(1500), kind: "unregister", client, node: pick(rng, cluster) });
    }
  }
  return steps;
}

/**
 * Nodes are cut off, or down, while most entries of another node are taken out, and its tombstones are collected because there are too many. That
 * node then tells them all it has, and they withdraw the rest in slices. Meanwhile entries are put again, at either side, and taken out; links
 * break, and one of the nodes starts anew. There is no other work, because an entry may come back when its end is collected before all have heard of it.
 */
export function unheardEnds(rng: Rng, { places, clientCount, activeMs }: Stage): readonly Step[] {
  const cluster = shuffled(rng, largest(places));
  const [origin, ...others] = cluster;
  if (origin === undefined || others.length === 0) return [];
  const steps: Step[] = [];
  const put = { kind: "register", scope: SCOPE.ZONE, ttlMs: 0 } as const;
  for (let atMs = 6000 + rng.int(2000); atMs < activeMs - 6000; atMs += 11_000 + rng.int(4000)) {
    const behind = others.slice(0, 1 + rng.int(others.length));
    const overMs = atMs + 2000 + rng.int(2500);
    const crash = { kind: "crash", isSilent: rng.int(2) === 0, isBatchKept: true, isDiskLost: false } as const;
    const isDown = rng.int(4) === 0;
    const isApart = rng.int(2) === 0;
    for (const node of isApart ? behind : behind.slice(0, 1)) {
      const fromMs = isApart ? atMs + rng.int(1000) : atMs;
      const forMs = overMs - fromMs;
      if (isDown) steps.push({ atMs: fromMs, ...crash, nodes: isApart ? [node] : behind, downMs: forMs });
      else steps.push({ atMs: fromMs, kind: "partition", side: isApart ? [node] : behind, forMs });
    }
    for (let client = 0; client < clientCount; client++) {
      steps.push({ atMs: atMs - 3000 + rng.int(isApart ? 3500 : 1500), ...put, client, node: origin, variant: 0 });
      if (rng.int(8) > 0) steps.push({ atMs: atMs + 700 + rng.int(800), kind: "unregister", client, node: origin });
      const againMs = overMs + 200 + rng.int(1000);
      const isAgain = rng.int(2) === 0;
      if (isAgain)
        steps.push({ atMs: againMs, ...put, client, node: rng.int(4) === 0 ? pick(rng, others) : origin, variant: 1 + rng.int(4) });
      if (rng.int(8) === 0) steps.push({ atMs: againMs + rng.int(600), kind: "unregister", client, node: pick(rng, cluster) });
    }
    const [a, b] = [pick(rng, behind), pick(rng, cluster)];
    const duringMs = overMs + 300 + rng.int(2000);
    const kind = rng.int(6);
    if (kind < 2 && a !== b) steps.push({ atMs: duringMs, kind: "breakLinks", a, b });
    else if (kind === 2) steps.push({ atMs: duringMs, ...crash, nodes: [a], downMs: 200 + rng.int(1500) });
    else if (kind === 3) steps.push({ atMs: duringMs, kind: "freeze", node: b, forMs: 500 + rng.int(2000) });
    for (let n = rng.int(3); n > 0; n--)
      steps.push({ atMs: overMs + rng.int(2500), kind: "watchMove", watch: rng.int(5), node: pick(rng, cluster) });
    for (let n = rng.int(4); n > 0; n--) steps.push({ atMs: overMs + rng.int(2500), kind: "read", node: pick(rng, behind) });
  }
  return steps;
}

/** The disk of a node is full again and again, for one batch or a few, while entries are put, changed, moved and taken out, here and elsewhere. */
function refusedBatches(rng: Rng, { places, clientCount, activeMs }: Stage): readonly Step[] {
  const cluster = shuffled(rng, largest(places));
  const [full] = cluster;
  if (full === undefined || cluster.length < 2) return [];
  const steps: Step[] = [];
  for (let atMs = 5000 + rng.int(2000); atMs < activeMs - 6000; atMs += 700 + rng.int(2500)) {
    steps.push({ atMs, kind: "diskFull", node: full, forMs: 20 + rng.int(600) });
    for (let n = 0; n < 3; n++) {
      const client = rng.int(clientCount);
      const soonMs = atMs - 60 + rng.int(300);
      const put = { kind: "register", client, scope: pick(rng, [SCOPE.ZONE, SCOPE.REGION]), ttlMs: pick(rng, TTLS_MS) } as const;
      const kind = rng.int(4);
      if (kind < 2) steps.push({ atMs: soonMs, ...put, node: full, variant: rng.int(5) });
      else if (kind === 2) steps.push({ atMs: soonMs, ...put, node: pick(rng, cluster), variant: rng.int(5) });
      else steps.push({ atMs: soonMs, kind: "report", client, health: pick(rng, [1, 2, 3]) });
      if (rng.int(2) === 0) steps.push({ atMs: soonMs + rng.int(100), kind: "unregister", client, node: pick(rng, cluster) });
    }
  }
  return steps;
}

/** The clock of a node reaches the newest stamp allowed while it takes writes. What it stamped is then overwritten and taken out. */
function atTheBound(rng: Rng, { places, clientCount, activeMs }: Stage): readonly Step[] {
  const cluster = shuffled(rng, largest(places));
  const [late] = cluster;
  if (late === undefined) return [];
  const steps: Step[] = [];
  for (let atMs = 5000 + rng.int(2000); atMs < activeMs - 8000; atMs += 3500 + rng.int(2000)) {
    const byMs = hlcWallMs(MAX_STAMP) - WALL_START_MS - atMs - rng.int(9);
    steps.push({ atMs, kind: "skew", node: late, byMs, forMs: pick(rng, [300, 3000]) });
    const clients = Array.from({ length: 3 }, () => rng.int(clientCount));
    for (const client of clients) {
      const put = { kind: "register", client, scope: pick(rng, [SCOPE.ZONE, SCOPE.REGION]) } as const;
      const ttlMs = pick(rng, TTLS_MS);
      steps.push({ atMs: atMs - 600, ...put, node: late, variant: 0, ttlMs }, { atMs, ...put, node: late, variant: 1, ttlMs });
      for (let n = 1; n <= 4; n++) steps.push({ atMs: atMs + n * 600, ...put, node: pick(rng, cluster), variant: n, ttlMs });
      steps.push({ atMs: atMs + 3000, kind: rng.int(2) === 0 ? "abandon" : "unregister", client, node: pick(rng, cluster) });
    }
  }
  return steps;
}
