/**
 * Small worlds in which the directory of a frozen node is copied and started elsewhere, with records: while others hold the other start, the
 * node takes and acknowledges no write, and when it is the one again it goes on in a new generation (semantics.md, Two nodes with one id).
 */
import { create } from "@bufbuild/protobuf";
import { EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { KIND } from "../../src/catalog/record/record.ts";
import type { WatchStream } from "../../src/discovery/fanout.ts";
import { Rng } from "../../src/lib/rng.ts";
import { caller, command, keyOf } from "../fakes/registry.ts";
import type { Invariant } from "./checks.ts";
import { SIM_FABRIC } from "./fabric-of.ts";
import { addressOf, FAIR, Network } from "./network.ts";
import { SimNode, type SimNodeOptions } from "./sim-node.ts";
import { EventCounter } from "./simulation.ts";
import { Trace } from "./trace.ts";
import { VALUES } from "./wire.ts";
import { World } from "./world.ts";

export interface Outcome {
  readonly violation: { readonly invariant: Invariant; readonly message: string } | undefined;
}

/** The node whose directory is copied, and the copy. */
const ORIGINAL = 2;
const COPY = 3;
const LOOK_MS = 10;
/** A node that was refused for so long takes a new generation. */
const CONTESTED_MS = 5000;

class Copies {
  readonly #world = new World();
  readonly #rng: Rng;
  readonly #nodes: readonly SimNode[];
  #violation: Outcome["violation"];
  #wasHeld = false;

  constructor(seed: string | number) {
    this.#rng = new Rng(`copies/${seed}`);
    const network = new Network({ world: this.#world, rng: this.#rng.fork("network"), wire: VALUES });
    const watching = new EventCounter(new Map());
    const shared = { world: this.#world, network, trace: new Trace(this.#world, undefined), watching };
    const nodes = ["n0", "n1", "n2", "n2"].map((nodeId, index) => {
      const node = new SimNode(optionsOf(nodeId, index), { ...shared, rng: this.#rng.fork(`node ${index}`) });
      node.disk.boots = [];
      network.add(node, () => ({ ...FAIR }));
      return node;
    });
    this.#nodes = nodes;
  }

  run(): Outcome {
    const world = this.#world;
    const [original, copy] = [this.#node(ORIGINAL), this.#node(COPY)];
    for (const node of this.#nodes.slice(0, COPY)) node.start();
    world.runUntil(6000);
    this.#write("before");
    const frozenMs = 9000 + this.#rng.int(1000);
    world.runUntil(frozenMs);
    const generation = original.process?.replica.self.generation;
    const watch = this.#watch();
    // It is on its way to the disk when the node freezes.
    this.#write("frozen");
    copy.disk = original.disk.copy();
    original.freeze();
    world.runUntil(frozenMs + 500);
    copy.start();
    const thawMs = frozenMs + 5000 + this.#rng.int(3000);
    world.runUntil(thawMs);
    original.thaw();
    const endMs = thawMs + CONTESTED_MS + 1000 + this.#rng.int(2000);
    for (let atMs = thawMs; atMs < endMs; atMs += LOOK_MS) {
      world.runUntil(atMs);
      if (this.#isCopyHeld() && original.process?.takesWrites() === true)
        this.#fail("thawed", `takes writes ${atMs - thawMs} ms after it thawed`);
    }
    if (!watch.hasEnded) this.#fail("thawed", "goes on with its watches although others hold another start");
    if (!this.#wasHeld) this.#fail("seen", "nobody ever held the copy: this world shows nothing");
    const how = { isSilent: this.#rng.int(2) === 0, isBatchKept: true, isDiskLost: false };
    copy.crash(how);
    // Who starts again without a snapshot holds no start of others any more, and takes the original.
    const others = this.#nodes.slice(0, ORIGINAL);
    for (const node of others) node.crash(how);
    world.runUntil(endMs + 1000);
    for (const node of others) node.start();
    world.runUntil(endMs + 30_000);
    if (original.process?.takesWrites() !== true) this.#fail("new generation", "takes no writes although the copy is gone");
    if (original.process?.replica.self.generation === generation)
      this.#fail("new generation", "goes on in its old generation, in which the copy may have written");
    this.#write("after");
    world.runUntil(endMs + 40_000);
    for (const { name, process } of this.#nodes.slice(0, COPY))
      for (const entry of ["before", "after"])
        if (process?.replica.view(keyOf(entry)) === undefined) this.#fail("seen", `${name} lacks the entry "${entry}"`);
    return { violation: this.#violation };
  }

  #node(index: number): SimNode {
    const node = this.#nodes[index];
    if (node === undefined) throw new Error(`there is no node ${index}`);
    return node;
  }

  /** Writes a static entry at the original. It must not be acknowledged while others hold the copy. */
  #write(name: string): void {
    const { process } = this.#node(ORIGINAL);
    if (process === undefined) return;
    const { key, scope } = { key: { kind: KIND.SERVICE, namespace: "svc", name, instanceId: "1" }, scope: SCOPE.ZONE };
    const source = { ...process.node.options, tenantId: "", receivedWallMs: 0 };
    const stamped = process.stamper.entryOf(create(EntrySchema, { key, scope }), 0, source);
    process.registrar.register(caller("ann"), command([stamped], { isStatic: true }), process.time());
    process.durable((isDurable) => {
      if (isDurable && this.#isCopyHeld()) this.#fail("thawed", `acknowledges the entry "${name}"`);
    });
  }

  /** Opens a watch at the original. It must end when another start goes under its id, so that its client resumes elsewhere. */
  #watch(): { readonly hasEnded: boolean } {
    const watch = { hasEnded: false };
    const stop = () => void (watch.hasEnded = true);
    const filter = { namespace: "svc", prefix: "" };
    const feed = { reader: { options: { filter } }, bookmarkDueMonoMs: Number.POSITIVE_INFINITY, refresh: () => {}, isTelling: false };
    this.#node(ORIGINAL).process?.fanout.add({ feed, wake: () => {}, isReady: false, stop } as unknown as WatchStream);
    return watch;
  }

  /** Whether all other nodes hold the start of the copy. */
  #isCopyHeld(): boolean {
    const boot = this.#node(COPY).process?.boot;
    const others = this.#nodes.slice(0, ORIGINAL);
    const isHeld = boot !== undefined && others.every(({ process }) => process?.fabric.membership.find("n2")?.boot === boot);
    this.#wasHeld ||= isHeld;
    return isHeld;
  }

  #fail(invariant: Invariant, what: string): void {
    this.#violation ??= { invariant, message: `n2 ${what} (${this.#world.nowMs} ms)` };
  }
}

function optionsOf(nodeId: string, index: number): SimNodeOptions {
  return {
    index,
    nodeId,
    clusterId: "c1",
    region: "r1",
    zone: "z1",
    seeds: [addressOf(index === 0 ? 1 : 0)],
    fabric: SIM_FABRIC,
    tombstoneTtlMs: 30_000,
    minTombstones: 1000,
    commitMs: 3,
    snapshotMs: 0,
  };
}

export function runSeed(seed: string | number): Outcome {
  return new Copies(seed).run();
}
