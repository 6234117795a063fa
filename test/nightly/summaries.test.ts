/** Whatever is put, cut and started anew: in the end the nodes of a region show the same summaries, and until then no node goes back to an older one. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { FabricWorld } from "../fakes/fabric-world.ts";
import { FABRIC_OPTIONS } from "../fakes/options.ts";
import { restored, type SpaceNode, SummarySpace, startSpace, summaryOf, written } from "../fakes/summary-space.ts";

const KINDS = ["put", "put", "put", "cut", "part", "heal", "restart", "restart", "wait", "long"] as const;
const CHANNELS = ["zone", "region", "global"] as const;
const CLUSTERS: Readonly<Record<string, string>> = { a: "c1", b: "c1", c: "c1", d: "c2", e: "c1" };

const STEPS = fc.array(fc.record({ kind: fc.constantFrom(...KINDS), node: fc.nat(4), key: fc.nat(4), more: fc.nat(99) }), {
  minLength: 5,
  maxLength: 40,
  size: "max",
});

class Region {
  readonly world = new FabricWorld();
  readonly nodes = new Map<string, SpaceNode>();
  /** By node of this start, the version that it showed of each key. */
  readonly seen = new Map<SummarySpace, Map<string, number>>();
  readonly faults: string[] = [];
  readonly #maxLinks: number;
  #generation = 1;
  #parted = new Set<string>();

  constructor(maxLinks: number) {
    this.#maxLinks = maxLinks;
    this.world.reaches = (from, to) => this.#parted.has(from.spec.nodeId) === this.#parted.has(to.spec.nodeId);
    for (const nodeId of Object.keys(CLUSTERS)) this.#start(nodeId, new SummarySpace(nodeId, this.world.nowMs));
    this.world.run(10_000);
  }

  #start(nodeId: string, space: SummarySpace): void {
    const options = { links: { ...FABRIC_OPTIONS.links, maxLinks: this.#maxLinks } };
    const clusterId = CLUSTERS[nodeId] ?? "";
    const seeds = Object.keys(CLUSTERS).map((id) => `${id}:1`);
    this.nodes.set(nodeId, startSpace(this.world, { nodeId, clusterId, seeds, options, generation: this.#generation++ }, space));
  }

  step({ kind, node: at, key: n, more }: { kind: (typeof KINDS)[number]; node: number; key: number; more: number }): void {
    const { world } = this;
    const ids = [...this.nodes.keys()];
    const nodeId = ids[at] ?? "";
    const one = this.nodes.get(nodeId) as SpaceNode;
    switch (kind) {
      case "put": {
        const key = summaryOf(`s${n}`, "far", CHANNELS[n % 3]);
        const highest = Math.max(0, ...one.space.replica.records(key).map(({ hlc }) => hlc));
        one.space.put(key, highest + 1 + (more % 3), world.time());
        break;
      }
      case "cut":
        world.cut(one.node, (this.nodes.get(ids[more % 5] ?? "") as SpaceNode).node);
        break;
      case "part":
        this.#parted = new Set([nodeId, ids[more % 5] ?? ""]);
        for (const a of this.nodes.values())
          for (const b of this.nodes.values()) if (!world.reaches(a.node, b.node)) world.cut(a.node, b.node);
        break;
      case "heal":
        this.#parted = new Set();
        break;
      case "restart": {
        const bytes = more % 2 === 0 ? undefined : written(one, world.time(), CLUSTERS[nodeId]);
        world.kill(one.node);
        // Some clocks are behind at a start, where a file or a node of its cluster tells of the start before.
        const isBehind = more % 5 === 0 && (bytes !== undefined || this.#isTold(one));
        const time = { ...world.time(), monoMs: isBehind ? 1 + more : world.nowMs };
        const space = bytes === undefined ? new SummarySpace(nodeId, time.monoMs) : restored(nodeId, bytes, time, CLUSTERS[nodeId]).space;
        this.#start(nodeId, space);
        // Until it says something, others do not hear that it has a later origin.
        space.put(summaryOf(`at-${nodeId}`), world.nowMs, world.time());
        break;
      }
      case "wait":
      case "long":
        world.run(kind === "long" ? 700_000 : more * 30);
    }
    world.run(1 + (more % 4) * 20);
    this.check();
  }

  /** Whether a node of its cluster that it reaches holds what it says in this start: no other one's word counts for it. */
  #isTold({ node, space }: SpaceNode): boolean {
    const { nodeId, id } = space.replica.self;
    const others = [...this.nodes].filter(([other]) => other !== nodeId && CLUSTERS[other] === CLUSTERS[nodeId]);
    return others.some(([, other]) => this.world.reaches(node, other.node) && other.space.replica.origins.has(id));
  }

  /** No node of one start goes back to an older version, and none shows what is for another cluster. */
  check(): void {
    for (const [nodeId, { space }] of this.nodes) {
      const before = this.seen.get(space) ?? new Map<string, number>();
      const now = new Map(space.view().map((line) => [line.split(" ")[0] ?? "", Number(line.split(" ")[1])]));
      for (const [name, version] of before)
        if ((now.get(name) ?? 0) < version) this.faults.push(`${nodeId} shows ${name} ${now.get(name)}, not ${version}`);
      this.seen.set(space, now);
    }
  }

  end(): void {
    this.#parted = new Set();
    const views = (clusterId: string) =>
      [...this.nodes].filter(([id]) => CLUSTERS[id] === clusterId).map(([, { space }]) => space.view().join());
    const isEqual = () => new Set(views("c1")).size === 1 && this.#wide(views("c1")[0]) === this.#wide(views("c2")[0]);
    this.world.runUntil(isEqual, 1_000_000);
    this.check();
    this.world.run(200_000);
    this.check();
    if (!isEqual()) this.faults.push("not equal in the end");
  }

  /** What other clusters may see. */
  #wide(view = ""): string {
    return view
      .split(",")
      .filter((line) => !["s0", "s3"].includes(line.split(" ")[0] ?? ""))
      .join();
  }
}

test.each([20, 2])("with %i links a node", (maxLinks) => {
  fc.assert(
    fc.property(STEPS, (steps) => {
      const region = new Region(maxLinks);
      for (const step of steps) region.step(step);
      region.end();
      expect(region.faults).toEqual([]);
    }),
    { numRuns: 50, endOnFailure: true },
  );
});
