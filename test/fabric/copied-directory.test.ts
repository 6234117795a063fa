/**
 * A node whose directory is copied, moved, restored and frozen, in small worlds of members: of two nodes with one id at most one takes writes, one
 * that answers keeps its id, none that lacks what was written gets it, and an honest one is never locked out (semantics.md, Two nodes with one id).
 */
import { expect, test } from "vitest";
import { Rng } from "../../src/lib/rng.ts";
import { runs } from "../fakes/effort.ts";
import { World, type WorldNode } from "./membership-world.ts";

/** A data directory: what its starts were called, the last one first. */
type Directory = readonly string[];

const SEEDS = runs(40);
const STEPS = 12;
/** Until news has gone round, the silent are found and patience has an end. */
const SETTLE_MS = 15_000;

class Copies {
  readonly world: World;
  readonly rng: Rng;
  readonly #members: readonly WorldNode[];
  /** Processes that run as `x`, each with its directory. */
  running: { readonly node: WorldNode; readonly directory: Directory; readonly place: number }[] = [];
  #count = 0;

  constructor(seed: number) {
    this.world = new World({ seed: `two-nodes-${seed}`, lossRatio: 0.02 });
    this.rng = new Rng(`two-nodes-${seed}`);
    this.#members = this.world.startMany(4, (i) => (i === 0 ? [] : ["n0"]));
    this.world.runFor(SETTLE_MS);
  }

  /** Starts the directory at a place; gives what the directory is then. */
  start(directory: Directory, place: number): Directory {
    const boot = `b${++this.#count}`;
    const [bootBefore] = directory;
    const facts = { nodeId: "x", address: `x${place}:1`, boot, ...(bootBefore !== undefined && { bootBefore }) };
    const node = this.world.start(`x/${boot}`, facts, { earlierBoots: directory });
    this.world.give(node, { kind: "join", addresses: ["n0:1", "n1:1"] });
    this.running.push({ node, directory: [boot, ...directory], place });
    return [boot, ...directory];
  }

  kill(node: WorldNode): void {
    this.world.crash(node);
    this.running = this.running.filter((each) => each.node !== node);
  }

  /** Those that would acknowledge a write now. */
  writers(): readonly WorldNode[] {
    const time = { monoMs: this.world.nowMs, wallMs: this.world.nowMs };
    return this.running.map(({ node }) => node).filter(({ machine, state }) => state === "up" && machine.dispute(time) === undefined);
  }

  /** Whether it would acknowledge what is written now. */
  acknowledges({ machine, state }: WorldNode): boolean {
    const time = { monoMs: this.world.nowMs, wallMs: this.world.nowMs };
    return state === "up" && machine.dispute(time) === undefined && !machine.isUnconfirmed(time);
  }

  /** The boot that each member holds. */
  held(): readonly (string | undefined)[] {
    return this.#members.map(({ machine }) => machine.find("x")?.boot);
  }
}

test("of two nodes with one id at most one takes writes once news has gone round, whatever is copied, moved, killed and frozen", () => {
  let [twoCount, servedCount, refusedCount] = [0, 0, 0];
  for (let seed = 0; seed < SEEDS; seed++) {
    const copies = new Copies(seed);
    const { world, rng } = copies;
    const directories: Directory[] = [copies.start([], 0)];
    world.runFor(SETTLE_MS);
    // Who took writes last, and whether it stood still since.
    let last = copies.running[0];
    let frozen: WorldNode | undefined;
    for (let step = 0; step < STEPS; step++) {
      const place = rng.int(3);
      const victim = copies.running[rng.int(Math.max(1, copies.running.length))]?.node;
      const from = directories[rng.int(directories.length)] ?? [];
      const isFree = copies.running.every((each) => each.place !== place);
      if (rng.int(3) === 0 && victim !== undefined) copies.kill(victim);
      else if (rng.int(4) === 0 && victim?.state === "up") {
        world.freeze(victim, rng.int(8000));
        if (victim === last?.node) frozen = victim;
      } else if (isFree && copies.running.length < 3) directories.push(copies.start(from, place));
      world.runFor(rng.int(2) === 0 ? rng.int(2000) : SETTLE_MS);
      if (copies.running.some(({ node }) => node.state === "frozen")) continue;
      world.runFor(SETTLE_MS);
      const writers = copies.writers();
      const [writer] = writers;
      const isUntouched = last !== undefined && last.node !== frozen && copies.running.some(({ node }) => node === last?.node);
      if (isUntouched && writer !== last?.node)
        expect.fail(`seed ${seed}, step ${step}: ${last?.node.facts.boot} lost its id though it answered`);
      const taken = copies.running.find(({ node }) => node === writer);
      const lastBoot = last?.node.facts.boot;
      if (taken !== undefined && lastBoot !== undefined && !taken.directory.includes(lastBoot))
        expect.fail(`seed ${seed}, step ${step}: ${writer?.facts.boot} was taken, and has nothing of ${lastBoot}`);
      last = taken;
      frozen = undefined;
      if (writers.length > 1)
        expect.fail(`seed ${seed}, step ${step}: ${writers.map(({ facts }) => facts.boot).join(" and ")} both take writes`);
      twoCount += copies.running.length > 1 ? 1 : 0;
      servedCount += writers.length;
      refusedCount += copies.running.length - writers.length;
    }
  }
  // It happened.
  expect(Math.min(twoCount, servedCount, refusedCount)).toBeGreaterThan(SEEDS);
});

test("one directory that is only restarted and moved is taken each time, also after starts that nobody heard of", () => {
  for (let seed = 0; seed < SEEDS; seed++) {
    const copies = new Copies(1000 + seed);
    const { world, rng } = copies;
    let directory = copies.start([], 0);
    world.runFor(rng.int(SETTLE_MS));
    for (let step = 0; step < STEPS; step++) {
      for (const { node } of copies.running) copies.kill(node);
      // A start that ended before it said a word.
      if (rng.int(3) === 0) directory = [`unheard-${step}`, ...directory];
      directory = copies.start(directory, rng.int(3));
      const isTaken = world.runFor(SETTLE_MS, () => copies.held().every((boot) => boot === directory[0]) && copies.writers().length === 1);
      expect(isTaken, `seed ${seed}, step ${step}: ${directory[0]} is not taken, members hold ${copies.held().join(", ")}`).toBe(true);
      world.runFor(rng.int(3000));
    }
  }
});

test("a node that stood still while a copy of it was accepted acknowledges nothing when it goes on, from its first moment", () => {
  let lostCount = 0;
  for (let seed = 0; seed < SEEDS; seed++) {
    const copies = new Copies(2000 + seed);
    const { world, rng } = copies;
    const directory = copies.start([], 0);
    world.runFor(SETTLE_MS);
    const [first] = copies.running;
    if (first === undefined) throw new Error("nobody runs");
    world.freeze(first.node, 1000 + rng.int(8000));
    copies.start(directory, 1);
    const accepted = () => copies.held().every((boot) => boot !== directory[0]);
    world.runFor(9000, () => first.node.state === "up", 1);
    const isLost = accepted();
    lostCount += isLost ? 1 : 0;
    const isWrong = world.runFor(3000, () => accepted() && copies.acknowledges(first.node), 1);
    expect(isLost && isWrong, `seed ${seed}: acknowledged at ${world.nowMs} what nobody else will see`).toBe(false);
  }
  expect(lostCount).toBeGreaterThan(SEEDS / 4);
});

test.each([
  { what: "one of five", frozen: 1, isCut: false, withinMs: 300 },
  { what: "all of five", frozen: 5, isCut: false, withinMs: 1000 },
  { what: "one that is cut off when it goes on", frozen: 1, isCut: true, withinMs: 5000 },
])("who stood still acknowledges again soon: $what", ({ frozen, isCut, withinMs }) => {
  for (let seed = 0; seed < SEEDS; seed++) {
    const copies = new Copies(3000 + seed);
    const { world, running } = copies;
    copies.start([], 0);
    world.runFor(SETTLE_MS);
    const all = [...running.map(({ node }) => node), ...world.nodes.values().filter(({ facts }) => facts.nodeId !== "x")].slice(0, frozen);
    const [first] = running;
    if (first === undefined) throw new Error("nobody runs");
    for (const node of all) world.freeze(node, 3000);
    if (isCut) {
      first.node.side = 1;
      world.isPartitioned = true;
    }
    world.runFor(3000);
    expect(
      world.runFor(withinMs, () => all.every((node) => copies.acknowledges(node)), 1),
      `seed ${seed}`,
    ).toBe(true);
  }
});

test("alone a node acknowledges at once, however long it stood still", () => {
  const world = new World({ seed: "alone" });
  const [node] = world.startMany(1, () => []);
  if (node === undefined) throw new Error("nobody runs");
  world.runFor(SETTLE_MS);
  world.freeze(node, 60_000);
  world.runFor(60_000);
  expect(node.machine.isUnconfirmed({ monoMs: world.nowMs, wallMs: world.nowMs })).toBe(false);
});
