/** Draws faults from a seed, and inflicts them on a world. */
import type { Rng } from "../../src/lib/rng.ts";
import type { Network } from "./network.ts";
import type { FaultStep, Place, Step } from "./plan.ts";
import type { SimDisk } from "./sim-disk.ts";
import type { SimNode } from "./sim-node.ts";
import type { StoreFault } from "./sim-store.ts";
import type { World } from "./world.ts";

type Make = (rng: Rng, count: number) => FaultStep;

function someOf(rng: Rng, count: number): readonly number[] {
  const chosen = Array.from({ length: count }, (_, i) => i).filter(() => rng.int(2) === 0);
  return chosen.length === 0 ? [rng.int(count)] : chosen;
}

/** Draws one fault of each kind. A kind that is listed twice is twice as frequent. */
const MAKERS: readonly Make[] = [
  (rng, count) => ({ kind: "partition", side: someOf(rng, count), forMs: 500 + rng.int(40_000) }),
  (rng, count) => ({ kind: "partition", side: someOf(rng, count), forMs: 500 + rng.int(8000) }),
  (rng, count) => ({ kind: "oneWay", from: rng.int(count), to: rng.int(count), forMs: 500 + rng.int(30_000) }),
  (rng, count) => crashOf(rng, [rng.int(count)]),
  (rng, count) => crashOf(rng, [rng.int(count)]),
  (rng, count) => crashOf(rng, someOf(rng, count)),
  (rng, count) => ({
    ...crashOf(
      rng,
      Array.from({ length: count }, (_, i) => i),
    ),
    isDiskLost: false,
    downMs: 100 + rng.int(3000),
  }),
  (rng, count) => ({ kind: "stop", node: rng.int(count), reason: rng.int(2) === 0 ? "leave" : "restart", downMs: 1000 + rng.int(15_000) }),
  (rng, count) => ({ kind: "freeze", node: rng.int(count), forMs: 200 + rng.int(20_000) }),
  (rng, count) => ({
    kind: "skew",
    node: rng.int(count),
    byMs: (rng.int(2) === 0 ? -1 : 1) * rng.int(50_000),
    forMs: 1000 + rng.int(30_000),
  }),
  (rng, count) => ({ kind: "skew", node: rng.int(count), byMs: 86_400_000, forMs: 1000 + rng.int(20_000) }),
  (rng) => ({
    kind: "weather",
    loss: rng.next() * 0.25,
    duplicate: rng.next() * 0.1,
    reorder: rng.next() * 0.2,
    delayMs: rng.int(150),
    forMs: 2000 + rng.int(40_000),
  }),
  (rng, count) => ({
    kind: "slow",
    from: rng.int(count),
    to: rng.int(count),
    bytesPerSecond: 2000 + rng.int(20_000),
    forMs: 1000 + rng.int(20_000),
  }),
  (rng, count) => ({ kind: "breakLinks", a: rng.int(count), b: rng.int(count) }),
  (rng, count) => ({ kind: "diskFull", node: rng.int(count), forMs: 200 + rng.int(8000) }),
  (rng, count) => ({ kind: "backup", node: rng.int(count), afterMs: 2000 + rng.int(20_000) }),
];

function crashOf(rng: Rng, nodes: readonly number[]): FaultStep & { kind: "crash" } {
  const how = { isSilent: rng.int(3) === 0, isBatchKept: rng.int(2) === 0, isDiskLost: rng.int(3) === 0 };
  return { kind: "crash", nodes, ...how, downMs: 50 + rng.int(rng.int(2) === 0 ? 1000 : 30_000) };
}

export function faultSteps(rng: Rng, places: readonly Place[], activeMs: number): readonly Step[] {
  const steps: Step[] = [];
  // Each schedule has only a few kinds, because faults of many kinds would hide each other.
  const kinds = Array.from({ length: 1 + rng.int(5) }, () => MAKERS[rng.int(MAKERS.length)]);
  const meanMs = 2000 + rng.int(10_000);
  for (let atMs = 2000 + rng.int(5000); atMs < activeMs; atMs += Math.ceil(2 * meanMs * rng.next())) {
    const fault = kinds[rng.int(kinds.length)]?.(rng, places.length);
    if (fault !== undefined) steps.push({ atMs, ...fault });
  }
  // Some schedules have a node that never comes back, and a storm of restarts.
  if (places.length > 3 && rng.int(5) === 0) {
    // The others join by the first two nodes.
    const node = 2 + rng.int(places.length - 2);
    const atMs = rng.int(activeMs);
    const gone: FaultStep =
      rng.int(2) === 0
        ? { kind: "stop", node, reason: "leave", downMs: undefined }
        : { kind: "crash", nodes: [node], isSilent: rng.int(2) === 0, isBatchKept: true, isDiskLost: false, downMs: undefined };
    steps.push({ atMs, ...gone });
  }
  if (rng.int(6) === 0) {
    const node = rng.int(places.length);
    let atMs = rng.int(activeMs);
    for (let n = 0; n < 6 && atMs < activeMs; n++, atMs += 300 + rng.int(2500))
      steps.push({ atMs, ...crashOf(rng, [node]), isDiskLost: rng.int(8) === 0, downMs: 50 + rng.int(500) });
  }
  return steps;
}

/** How long a stop takes. A node that leaves hands its entries over first. */
const STOP_MS = { leave: 1700, restart: 700 } as const;

export interface FaultParts {
  readonly world: World;
  readonly network: Network;
  readonly nodes: readonly SimNode[];
  /** Indexes of nodes that never come back. */
  readonly gone: Set<number>;
  /** Faults that end by themselves have no effect after this time. */
  readonly endMs: number;
  /** Notes that a part of what an origin said is no longer on its disk. */
  readonly lose: (originId: string) => void;
  /** Notes that a copy of a node's disk is put back. */
  readonly putBack: (node: SimNode, copy: SimDisk) => void;
  /** Notes that until this time something keeps messages from arriving, or processes from answering. */
  readonly disturb: (untilMs: number) => void;
}

/** Inflicts a fault, and arranges for its end. */
export function inflict(step: FaultStep, parts: FaultParts): void {
  const { world, network, nodes, gone, endMs } = parts;
  const later = (delayMs: number, run: () => void) => {
    parts.disturb(world.nowMs + delayMs);
    world.after(delayMs, () => {
      if (world.nowMs < endMs) run();
    });
  };
  parts.disturb(world.nowMs);
  switch (step.kind) {
    case "partition": {
      const others = nodes.map(({ index }) => index).filter((index) => !step.side.includes(index));
      const pairs = step.side.flatMap((a) => others.flatMap((b) => [[a, b] as const, [b, a] as const]));
      for (const [from, to] of pairs) network.cut(from, to);
      later(step.forMs, () => {
        for (const [from, to] of pairs) network.heal(from, to);
      });
      return;
    }
    case "oneWay":
      if (step.from === step.to) return;
      network.cut(step.from, step.to);
      later(step.forMs, () => network.heal(step.from, step.to));
      return;
    case "crash":
      for (const index of step.nodes) {
        nodes[index]?.crash(step);
        if (step.downMs === undefined) gone.add(index);
        else restartLater(parts, index, step.downMs);
      }
      return;
    case "stop":
      nodes[step.node]?.stop(step.reason, STOP_MS[step.reason]);
      if (step.downMs === undefined) gone.add(step.node);
      else restartLater(parts, step.node, STOP_MS[step.reason] + step.downMs);
      return;
    case "freeze":
      nodes[step.node]?.freeze();
      later(step.forMs, () => nodes[step.node]?.thaw());
      return;
    case "skew": {
      const node = nodes[step.node];
      if (node === undefined) return;
      node.skewMs += step.byMs;
      later(step.forMs, () => {
        node.skewMs -= step.byMs;
      });
      return;
    }
    case "weather": {
      const all = network.allWeather();
      for (const weather of all) {
        weather.loss += step.loss;
        weather.duplicate += step.duplicate;
        weather.reorder += step.reorder;
        weather.delayMs += step.delayMs;
      }
      later(step.forMs, () => {
        for (const weather of all) {
          weather.loss = Math.max(0, weather.loss - step.loss);
          weather.duplicate = Math.max(0, weather.duplicate - step.duplicate);
          weather.reorder = Math.max(0, weather.reorder - step.reorder);
          weather.delayMs -= step.delayMs;
        }
      });
      return;
    }
    case "slow": {
      const weather = network.weather(step.from, step.to);
      const before = weather.bytesPerSecond;
      weather.bytesPerSecond = step.bytesPerSecond;
      later(step.forMs, () => {
        weather.bytesPerSecond = before;
      });
      return;
    }
    case "breakLinks":
      network.breakLinks(step.a, step.b);
      return;
    case "tight":
      resize(parts, step.node, step.records);
      // This is no disturbance: readers must be told the truth while it lasts.
      world.after(step.forMs, () => {
        if (world.nowMs < endMs) resize(parts, step.node, undefined);
      });
      return;
    case "diskFull":
      setDiskFull(nodes[step.node], true);
      later(step.forMs, () => setDiskFull(nodes[step.node], false));
      return;
    case "store": {
      const { node, slowMs, loss, isDown } = step;
      setStoreFault(nodes[node], { slowMs, loss, isDown });
      later(step.forMs, () => setStoreFault(nodes[node], undefined));
      return;
    }
    case "backup": {
      const node = nodes[step.node];
      const copy = node?.disk.copy();
      later(step.afterMs, () => {
        if (node === undefined || copy === undefined || gone.has(step.node)) return;
        node.crash({ isSilent: false, isBatchKept: true, isDiskLost: false });
        node.isRestored = true;
        for (const generation of [copy.generation, node.disk.generation]) parts.lose(`${node.name}/${generation}`);
        parts.putBack(node, copy);
        node.disk = copy;
        restartLater(parts, step.node, 500);
      });
    }
  }
}

/** Starts a node later, also after the last fault, because `makeWell` cannot start a node that is still stopping. A node that runs by then just goes on. */
function restartLater({ world, nodes, gone }: FaultParts, index: number, downMs: number): void {
  world.after(downMs, () => {
    if (!gone.has(index)) nodes[index]?.start();
  });
}

/** Restarts the node with another setting. */
function resize(parts: FaultParts, index: number, maxOriginRecords: number | undefined): void {
  const node = parts.nodes[index];
  if (node === undefined || parts.gone.has(index)) return;
  node.maxOriginRecords = maxOriginRecords;
  parts.disturb(parts.world.nowMs);
  if (node.process === undefined) return;
  node.crash({ isSilent: false, isBatchKept: true, isDiskLost: false });
  restartLater(parts, index, 300);
}

function setDiskFull(node: SimNode | undefined, isFull: boolean): void {
  if (node?.process !== undefined) node.process.isDiskFull = isFull;
}

function setStoreFault(node: SimNode | undefined, fault: StoreFault | undefined): void {
  if (node?.process !== undefined) node.process.tasks.store.fault = fault;
}

/** Peers do not accept a node that starts with its clock this far ahead. It says so and is not ready, so somebody starts it again. */
const FAR_AHEAD_MS = 40 * 365 * 86_400_000;

/** Ends every fault: heals cuts, starts or thaws nodes, sets clocks right and makes room on disks. */
export function makeWell({ network, nodes, gone }: FaultParts, fair: { readonly delayMs: number }): void {
  network.healAll();
  for (const weather of network.allWeather())
    Object.assign(weather, {
      delayMs: fair.delayMs,
      jitterMs: fair.delayMs / 2,
      loss: 0,
      duplicate: 0,
      reorder: 0,
      bytesPerSecond: 50_000_000,
    });
  for (const node of nodes) {
    node.thaw();
    node.skewMs = 0;
    setDiskFull(node, false);
    setStoreFault(node, undefined);
    const isRefused = (node.process?.bootSkewMs ?? 0) > FAR_AHEAD_MS;
    if (node.maxOriginRecords !== undefined || isRefused) {
      node.maxOriginRecords = undefined;
      node.crash({ isSilent: false, isBatchKept: true, isDiskLost: false });
    }
    if (!gone.has(node.index)) node.start();
  }
}
