import fc from "fast-check";
import { expect, test } from "vitest";
import { runs } from "../../fakes/effort.ts";
import {
  definedDigest,
  type HeldNode,
  type HeldSpec,
  HeldWorld,
  keyOf,
  liveOf,
  MEMORY,
  MINUTE,
  type Sealed,
  signerOf,
} from "../../fakes/held-world.ts";

const NAMES = ["cart", "pay"];
const SOURCES = ["A", "B"];
const EVERYTHING = { passes: () => true };

interface Op {
  readonly kind: "say" | "withdraw" | "beacon" | "carry" | "replay" | "hear" | "pass" | "restart";
  readonly who: number;
  readonly whom: number;
  readonly name: string;
  readonly minutes: number;
}

const OPS = fc.array(
  fc.record<Op>({
    kind: fc.constantFrom(
      "say",
      "say",
      "withdraw",
      "beacon",
      "beacon",
      "carry",
      "carry",
      "carry",
      "replay",
      "hear",
      "hear",
      "pass",
      "restart",
    ),
    who: fc.nat(5),
    whom: fc.nat(5),
    name: fc.constantFrom(...NAMES, "beacon"),
    minutes: fc.constantFrom(0.01, 0.5, 1, 3, 9, 14),
  }),
  { minLength: 10, maxLength: 60 },
);

/** Clusters A and B export, each with two exporters, and C only takes. A changes its key: its exporters have different ones. */
class Regions {
  readonly world = new HeldWorld();
  nodes: HeldNode[];
  /** All seals that were ever made. */
  readonly made: { readonly sealed: Sealed; readonly isBeacon: boolean }[] = [];
  /** By region and key, when it last learnt of which withdrawal. */
  readonly withdrawn = new Map<string, { version: number; exporter: string; atMs: number }>();

  constructor() {
    this.world.keys.add("A", "A");
    this.world.keys.counting.add("A key-2");
    const specs: readonly HeldSpec[] = [
      { nodeId: "a1", clusterId: "A", skewMs: 4 * MINUTE },
      { nodeId: "a2", clusterId: "A", parts: { signer: signerOf("key-2") } },
      { nodeId: "b1", clusterId: "B", skewMs: -MINUTE },
      { nodeId: "b2", clusterId: "B" },
      { nodeId: "c1", clusterId: "C" },
      { nodeId: "c2", clusterId: "C" },
    ];
    this.nodes = specs.map((spec) => this.world.node(spec));
  }

  do({ kind, who, whom, name, minutes }: Op): void {
    const [one, other] = [this.nodes[who], this.nodes[whom]];
    if (one === undefined || other === undefined) return;
    const isExporter = SOURCES.includes(one.clusterId);
    if (kind === "beacon" && isExporter) one.beacon();
    else if ((kind === "say" || kind === "withdraw") && isExporter && name !== "beacon") one.say(name, { withdrawn: kind === "withdraw" });
    else if (kind === "carry" && one.region !== other.region) this.#carry(one, other, name);
    else if (kind === "replay") {
      const seal = this.made[(who * 7 + whom) % Math.max(1, this.made.length)];
      if (seal !== undefined) other.takeSeal(seal.sealed, seal);
    } else if (kind === "hear" && one.region === other.region && one !== other) one.hear(other);
    else if (kind === "pass") this.world.nowMs += minutes * MINUTE;
    else if (kind === "restart") this.nodes[who] = this.world.restarted(one, true, minutes * 1000);
    for (const node of this.nodes) {
      node.settle();
      node.held.digest(EVERYTHING);
    }
    this.#note();
  }

  #carry(from: HeldNode, to: HeldNode, name: string): void {
    for (const source of SOURCES) {
      if (name !== "beacon" && from.held.best(keyOf(name, source)) === undefined) continue;
      if (name === "beacon" && from.held.beaconOf(source) === undefined) continue;
      to.takeFrom(from, name, source);
    }
  }

  #note(): void {
    for (const node of this.nodes) {
      for (const source of SOURCES) {
        for (const name of NAMES) {
          const best = node.held.best(keyOf(name, source));
          if (best === undefined) continue;
          const content = node.held.contentOf(best);
          if (content.what !== "summary") continue;
          this.made.push({ sealed: node.sealOf(name, source), isBeacon: false });
          const key = `${node.spec.nodeId} ${source} ${name}`;
          if (content.summary.withdrawn && content.summary.version > (this.withdrawn.get(key)?.version ?? 0))
            this.withdrawn.set(key, { ...content.summary, atMs: this.world.nowMs });
        }
        if (node.held.beaconOf(source) !== undefined) this.made.push({ sealed: node.sealOf("beacon", source), isBeacon: true });
      }
    }
  }

  /** What is shown though a withdrawal of it, which is not older, is remembered. */
  get undead(): readonly string[] {
    const undead: string[] = [];
    for (const node of this.nodes) {
      for (const shown of node.shown) {
        const [, source, name, version] = /^(.+)\/(.+)@(\d+)/.exec(shown) ?? [];
        const known = this.withdrawn.get(`${node.spec.nodeId} ${source} ${name}`);
        if (known === undefined || this.world.nowMs >= known.atMs + MEMORY) continue;
        // Of two exporters at once the higher one counts.
        const isAbove = Number(version) === known.version && exporterOf(node, name ?? "", source ?? "") > known.exporter;
        if (Number(version) <= known.version && !isAbove) undead.push(shown);
      }
    }
    return undead;
  }

  /** All nodes of a region tell each other everything. */
  heal(): void {
    for (let round = 0; round < 4; round++)
      for (const one of this.nodes) for (const other of this.nodes) if (one !== other && one.region === other.region) one.hear(other);
  }
}

function exporterOf(node: HeldNode, name: string, source: string): string {
  const best = node.held.best(keyOf(name, source));
  const content = best === undefined ? undefined : node.held.contentOf(best);
  return content?.what === "summary" ? content.summary.exporter : "";
}

test("whatever comes in whatever order, the nodes of a region show the same, and it is the highest version that any of them holds", () => {
  fc.assert(
    fc.property(OPS, (ops) => {
      const regions = new Regions();
      for (const op of ops) {
        regions.do(op);
        expect(regions.undead).toEqual([]);
      }
      regions.heal();
      expect(regions.undead).toEqual([]);
      for (const region of ["A", "B", "C"]) {
        const [one, ...others] = regions.nodes.filter((node) => node.region === region);
        for (const other of others) expect(other.shown).toEqual(one?.shown);
        for (const node of regions.nodes) expect(node.held.digest(EVERYTHING)).toMatchObject(definedDigest(node, liveOf(node, EVERYTHING)));
        for (const source of SOURCES) {
          for (const name of NAMES) {
            const versions = regions.nodes
              .filter((node) => node.region === region)
              .map((node) => node.held.best(keyOf(name, source))?.hlc ?? 0);
            const shown = one?.shown.find((text) => text.startsWith(`${source}/${name}@`));
            if (shown !== undefined) expect(shown.replace("*", "")).toBe(`${source}/${name}@${Math.max(...versions)}`);
          }
        }
      }
    }),
    { numRuns: runs(40) },
  );
});
