/** A few nodes through anything: kills, cuts, halves apart, farewells, freezes, lost disks; in the end all agree. */
import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { Rng } from "../../src/lib/rng.ts";
import { runs } from "../fakes/effort.ts";
import { FabricWorld, type WorldNode } from "../fakes/fabric-world.ts";
import { FABRIC_OPTIONS } from "../fakes/options.ts";

const SEEDS = runs(10);
const STEPS = 60;

interface Living {
  readonly node: WorldNode;
  /** Names registered here and not ended. */
  readonly names: Set<string>;
}

/** Nodes that come and go, and what a model says they registered. */
class Life {
  readonly world: FabricWorld;
  readonly rng: Rng;
  readonly ids: readonly string[];
  readonly living = new Map<string, Living>();
  readonly #disks = new Map<string, Living>();
  readonly #generations = new Map<string, number>();
  #names = 0;
  #isApart: ReadonlySet<string> = new Set();

  constructor(seed: number) {
    this.world = new FabricWorld(`life ${seed}`);
    this.rng = new Rng(`life ${seed}`);
    this.ids = ["a", "b", "c", "d", "e", "f"].slice(0, 3 + this.rng.int(4));
    const isApart = (node: WorldNode): boolean => this.#isApart.has(node.spec.nodeId);
    this.world.reaches = (from, to) => isApart(from) === isApart(to) && !from.isFrozen && !to.isFrozen;
    for (const id of this.ids) this.start(id);
  }

  start(nodeId: string): void {
    if (this.living.has(nodeId)) return;
    const seeds = this.ids.filter((id) => id !== nodeId).slice(0, 2);
    const originForgetMs = this.rng.int(2) === 0 ? 60_000 : FABRIC_OPTIONS.lifecycle.originForgetMs;
    const options = { lifecycle: { ...FABRIC_OPTIONS.lifecycle, orphanGraceMs: 20_000, originForgetMs } };
    const kept = this.rng.int(2) === 0 ? this.#disks.get(nodeId) : undefined;
    const generation = (this.#generations.get(nodeId) ?? 0) + (kept === undefined ? 1 : 0);
    this.#generations.set(nodeId, generation);
    const disk = kept === undefined ? {} : { disk: kept.node };
    const node = this.world.start({ nodeId, generation, seeds: seeds.map((id) => `${id}:1`), options, ...disk });
    this.living.set(nodeId, { node, names: new Set(kept?.names) });
  }

  put(nodeId: string): void {
    const living = this.living.get(nodeId);
    if (living === undefined) return;
    const name = `s${this.#names++}`;
    living.node.put(name, this.rng.int(3) === 0 ? SCOPE.REGION : SCOPE.ZONE);
    living.names.add(name);
  }

  kill(nodeId: string): void {
    const living = this.living.get(nodeId);
    if (living === undefined) return;
    this.world.kill(living.node, this.rng.int(2) === 0 ? "process" : "machine");
    this.#disks.set(nodeId, living);
    this.living.delete(nodeId);
  }

  leave(nodeId: string): void {
    const living = this.living.get(nodeId);
    if (living === undefined) return;
    const reason = this.rng.int(2) === 0 ? "leave" : "restart";
    if (reason === "leave") {
      living.node.endAll();
      living.names.clear();
    }
    this.world.input(living.node, { kind: "stop", reason });
    this.world.run(this.rng.int(1500));
    this.kill(nodeId);
  }

  step(): void {
    const nodeId = this.ids[this.rng.int(this.ids.length)] ?? "";
    const other = this.living.get(this.ids[this.rng.int(this.ids.length)] ?? "");
    const living = this.living.get(nodeId);
    switch (this.rng.int(10)) {
      case 0:
        return this.kill(nodeId);
      case 1:
        return this.start(nodeId);
      case 2:
        if (living !== undefined && other !== undefined && other !== living) this.world.cut(living.node, other.node);
        return;
      case 3:
        return this.leave(nodeId);
      case 4:
        this.#isApart = new Set(this.ids.filter(() => this.rng.int(4) === 0));
        return;
      case 5:
        if (living !== undefined) living.node.isFrozen = !living.node.isFrozen;
        return;
      default:
        this.put(nodeId);
    }
  }

  heal(): void {
    this.#isApart = new Set();
    for (const { node } of this.living.values()) node.isFrozen = false;
    for (const id of this.ids) {
      this.start(id);
      this.put(id);
    }
  }
}

test.each(Array.from({ length: SEEDS }, (_, seed) => seed))(
  "seed %i: when peace returns, everybody is linked, in step, and sees the same",
  (seed) => {
    const life = new Life(seed);
    for (let i = 0; i < STEPS; i++) {
      life.step();
      life.world.run(life.rng.int(4000));
    }
    life.heal();
    life.world.run(150_000);
    const want = [...life.living.values()].flatMap(({ names }) => [...names]).toSorted();
    for (const [id, { node }] of life.living) {
      const { isReady, isInStep, ageMs } = node.fabric.readiness.read(life.world.time());
      const links = node.fabric.links().map(({ nodeId, state }) => `${nodeId} ${state}`);
      const others = life.ids.filter((other) => other !== id).map((other) => `${other} up`);
      expect({
        id,
        isReady,
        isInStep,
        isYoung: ageMs < 1500,
        links: links.toSorted(),
        view: node.view(),
        isProtected: node.fabric.lifecycle.protectedClusters().length > 0,
      }).toEqual({ id, isReady: true, isInStep: true, isYoung: true, links: others, view: want, isProtected: false });
    }
  },
);
