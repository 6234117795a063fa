/** Worlds of a given size and shape for measurements: no plan, steps are taken by the test as it goes. */
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import type { FabricOptions } from "../../src/fabric/options.ts";
import { SIM_FABRIC } from "./fabric-of.ts";
import { relationOf, wrongRecords } from "./invariants.ts";
import type { Plan } from "./plan.ts";
import { Simulation } from "./simulation.ts";

export interface Shape {
  readonly nodes: number;
  /** Indexes of the nodes that each one is told to join by. */
  readonly seeds: readonly (readonly number[])[];
  readonly seed: string | number;
  readonly delayMs?: number;
  readonly loss?: number;
  readonly clientCount?: number;
  /** Of each cluster's index; default: one cluster. */
  readonly clusterOf?: (node: number) => string;
  readonly watches?: Plan["watches"];
  readonly fabric?: FabricOptions;
  readonly maxLinks?: number;
}

/** Every node joins by node 0. */
export function star(nodes: number): Shape["seeds"] {
  return Array.from({ length: nodes }, (_, i) => (i === 0 ? [] : [0]));
}

/** The first `hubs` join each other in a row, the others one hub each. */
export function multiHub(nodes: number, hubs: number): Shape["seeds"] {
  return Array.from({ length: nodes }, (_, i) => (i === 0 ? [] : i < hubs ? [i - 1] : [i % hubs]));
}

export class Scenario {
  readonly sim: Simulation;
  readonly count: number;

  constructor(shape: Shape) {
    const {
      nodes,
      seeds,
      seed,
      delayMs = 5,
      loss = 0,
      clientCount = 0,
      clusterOf = () => "c1",
      watches = [],
      fabric = SIM_FABRIC,
      maxLinks = 20,
    } = shape;
    this.count = nodes;
    const plan: Plan = {
      seed: String(seed),
      places: Array.from({ length: nodes }, (_, i) => ({ clusterId: clusterOf(i), region: "r1" })),
      seeds,
      startMs: Array.from({ length: nodes }, () => 0),
      clientCount,
      watches,
      steps: [],
      activeMs: 0,
      settleMs: 0,
      isUnruly: false,
      isEncoded: false,
      delayMs,
      maxLinks,
      frameBytes: 64 * 1024,
      tombstoneTtlMs: 3_600_000,
      minTombstones: 100_000,
      hasLocal: false,
      commitMs: [],
      snapshotMs: 0,
    };
    this.sim = new Simulation(plan, { fabric, isLight: watches.length === 0 });
    for (const weather of this.sim.network.allWeather()) weather.loss = loss;
  }

  /** Starts the nodes, one every `everyMs`. */
  start(everyMs: number): void {
    this.sim.nodes.forEach((node, i) => this.sim.world.at(i * everyMs, () => node.start()));
    for (const watch of this.sim.watches) watch.start();
  }

  get nowMs(): number {
    return this.sim.world.nowMs;
  }

  /** Lets time pass. */
  run(ms: number): void {
    this.sim.world.runUntil(this.nowMs + ms);
  }

  /** Lets time pass until it holds, looking every `stepMs`; how long that took, undefined when it did not within `maxMs`. */
  until(holds: () => boolean, maxMs: number, stepMs = 100): number | undefined {
    const startMs = this.nowMs;
    while (!holds()) {
      if (this.nowMs - startMs >= maxMs) return undefined;
      this.run(stepMs);
    }
    return this.nowMs - startMs;
  }

  /** Client `index` registers at a node. */
  register(index: number, node: number, ttlMs = 0, variant = 0): void {
    this.sim.clients[index]?.want({ state: "present", node, variant, scope: SCOPE.ZONE, ttlMs });
  }

  up() {
    return this.sim.nodes.filter(({ process }) => process !== undefined);
  }

  /** Alive members that a node knows, itself included. */
  aliveAt(node: number): number {
    return this.sim.nodes[node]?.process?.aliveMembers().length ?? 0;
  }

  /** Whether all that run know exactly all that run. */
  knowAll(): boolean {
    const up = this.up();
    const ids = up.map(({ name, process }) => `${name}/${process?.replica.self.generation}`).toSorted();
    return up.every(({ process }) => {
      const alive = process?.listedMembers().toSorted() ?? [];
      return alive.length === ids.length && alive.every((id, i) => id === ids[i]);
    });
  }

  /** What nodes hold otherwise than its origin does though their vectors agree; none when replicas are equal. */
  differences(): readonly string[] {
    const up = this.up();
    return up.flatMap((node) =>
      up.flatMap((other) => {
        const [truth, held] = [other.process?.replica.self, node.process?.replica.origins.get(other.process?.replica.self.id ?? "")];
        if (node === other || truth === undefined || truth.through === 0) return [];
        const floor = Math.max(held?.floor ?? 0, truth.floor);
        return wrongRecords(node.name, held?.log.list() ?? [], truth.log.list(), relationOf(node, other), floor);
      }),
    );
  }

  /** Whether the vectors of all that run say the same of all that run; `differences` looks at the records. */
  areEqual(): boolean {
    const up = this.up();
    return up.every(({ process }) =>
      up.every(({ process: other }) => {
        const self = other?.replica.self;
        return self === undefined || self.through === 0 || process?.replica.origins.get(self.id)?.through === self.through;
      }),
    );
  }
}

/** When each node first showed a record, in order. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)] ?? Number.POSITIVE_INFINITY;
}
