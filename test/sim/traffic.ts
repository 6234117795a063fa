/** What replication costs on the wire, measured on simulated meshes: how often a record arrives, and the bytes by kind of frame. */
import { quantile, type Scenario } from "./scenario.ts";
import { settled, type World } from "./scenarios.ts";
import type { SimNode } from "./sim-node.ts";

/** Sums over all nodes that run. */
interface Sums {
  /** Records that came in frames of differences, and those of them that changed something. */
  readonly received: number;
  readonly applied: number;
  readonly wholeTransfers: number;
  /** Encoded bytes sent. */
  readonly records: number;
  readonly talk: number;
  readonly wire: number;
}

function sumsOf(scenario: Scenario): Sums {
  const { network, nodes } = scenario.sim;
  let [received, applied, wholeTransfers, records, talk, wire] = [0, 0, 0, 0, 0, 0];
  for (const { process, index } of nodes) {
    const stats = process?.fabric.replication.stats;
    received += stats?.receivedRecords ?? 0;
    applied += stats?.appliedRecords ?? 0;
    wholeTransfers += stats?.wholeTransfers ?? 0;
    const traffic = network.traffic[index];
    wire += traffic?.frameBytes ?? 0;
    for (const [kind, sizeBytes] of traffic?.byKind ?? []) {
      if (kind === "records") records += sizeBytes;
      else if (kind === "vector" || kind === "linked" || kind === "digests") talk += sizeBytes;
    }
  }
  return { received, applied, wholeTransfers, records, talk, wire };
}

function costBetween(before: Sums, after: Sums): (what: keyof Sums) => number {
  return (what) => after[what] - before[what];
}

export interface TrafficWorld extends World {
  /** Each node changes one of its records once a second for so long. */
  readonly seconds: number;
  /** Of all nodes, this part dies without a word while that goes on. */
  readonly crashShare?: number;
  /** Told what was found so far, now and then: two hundred nodes take a quarter of an hour and more. */
  readonly say?: (words: string) => void;
}

/** Seconds of changes between two such words. */
const SAY_SECONDS = 5;

/**
 * Every node changes its one record once a second. Counted from the moment all have found each other and 10 s more have passed; what a change
 * takes to be everywhere is sampled of every seventh node's.
 */
export function trafficUnderLoad({ seconds, crashShare = 0, say = () => {}, ...world }: TrafficWorld) {
  const scenario = settled({ ...world, clientCount: world.nodes });
  const { nodes } = scenario.sim;
  for (let i = 0; i < world.nodes; i++) scenario.register(i, i);
  scenario.run(45_000);
  const idleFrom = sumsOf(scenario);
  scenario.run(20_000);
  const idle = sumsOf(scenario);
  const idleBytes = (what: "talk" | "wire") => (idle[what] - idleFrom[what]) / 20 / world.nodes / world.nodes;
  const before = sumsOf(scenario);
  say(`idle: ${idleBytes("wire").toFixed(1)} bytes a second, origin and node, ${idleBytes("talk").toFixed(1)} of them talk`);
  const spread = new Spreading(scenario);
  const crashes = Math.round(world.nodes * crashShare);
  const everyMs = 1000 / world.nodes;
  for (let change = 0; change < seconds * world.nodes; change++) {
    const i = change % world.nodes;
    const second = Math.floor(change / world.nodes);
    const node = nodes[i];
    // From the fifth second on one dies a second.
    if (i === 0 && second >= 5 && second < 5 + crashes) nodes[1 + ((second * 37) % (world.nodes - 1))]?.crash(SILENTLY);
    if (node?.process !== undefined) {
      scenario.register(i, i, 0, second % 2);
      if (i % 7 === 0 && second >= 2) spread.watch(i);
    }
    scenario.run(everyMs);
    if (change % Math.ceil(world.nodes / 50) === 0) spread.look();
    if (i === world.nodes - 1 && second % SAY_SECONDS === SAY_SECONDS - 1) {
      const soFar = costBetween(before, sumsOf(scenario));
      const copies = (soFar("received") / soFar("applied")).toFixed(3);
      say(`after ${second + 1} s: ${copies} copies, talk ${(soFar("talk") / soFar("records")).toFixed(2)} of the records' bytes`);
    }
  }
  const cost = costBetween(before, sumsOf(scenario));
  for (let i = 0; i < 100; i++) {
    scenario.run(50);
    spread.look();
  }
  const delaysMs = spread.end();
  return {
    copies: cost("received") / cost("applied"),
    wholeTransfers: cost("wholeTransfers"),
    recordBytes: cost("records"),
    talkBytes: cost("talk"),
    bytesPerNodeSecond: cost("wire") / seconds / world.nodes,
    idleTalkPerOriginNodeSecond: idleBytes("talk"),
    idleWirePerOriginNodeSecond: idleBytes("wire"),
    samples: delaysMs.length,
    p50Ms: quantile(delaysMs, 0.5),
    p95Ms: quantile(delaysMs, 0.95),
    maxMs: quantile(delaysMs, 1),
    isEqual: scenario.until(() => scenario.areEqual(), 30_000) !== undefined && scenario.differences().length === 0,
  };
}

const SILENTLY = { isSilent: true, isBatchKept: true, isDiskLost: false };

interface Awaited {
  readonly home: SimNode;
  readonly id: string;
  readonly seq: number;
  readonly waiting: Set<SimNode>;
  readonly startMs: number;
}

/** From a change's request at its node until each node that runs throughout has it. */
class Spreading {
  readonly #scenario: Scenario;
  readonly #open: Awaited[] = [];
  readonly #delaysMs: number[] = [];

  constructor(scenario: Scenario) {
    this.#scenario = scenario;
  }

  /** The node's next change. */
  watch(index: number): void {
    const home = this.#scenario.sim.nodes[index];
    const self = home?.process?.replica.self;
    if (home === undefined || self === undefined) return;
    const waiting = new Set(this.#scenario.up().filter((node) => node !== home));
    this.#open.push({ home, id: self.id, seq: self.through + 1, waiting, startMs: this.#scenario.nowMs });
  }

  look(): void {
    const { nowMs } = this.#scenario;
    for (let i = this.#open.length - 1; i >= 0; i--) {
      const one = this.#open[i];
      if (one === undefined) continue;
      for (const node of one.waiting) {
        const { process } = node;
        if (process !== undefined && (process.replica.origins.get(one.id)?.through ?? 0) < one.seq) continue;
        one.waiting.delete(node);
        if (process !== undefined) this.#delaysMs.push(nowMs - one.startMs);
      }
      // What a dying node did not get off is nobody's news.
      if (one.waiting.size === 0 || one.home.process === undefined) this.#open.splice(i, 1);
    }
  }

  /** All delays; what has not arrived by now never did. */
  end(): readonly number[] {
    const never = this.#open.flatMap(({ waiting }) => Array.from(waiting, () => Number.POSITIVE_INFINITY));
    return [...this.#delaysMs, ...never];
  }
}
