/**
 * Small worlds of members in which the directory of one node is copied and started again, while its first start answers, is frozen, dead or cut
 * off; members forget, and at the end an operator chooses (semantics.md, Two nodes with one id). Membership alone, without records.
 */

import { Rng } from "../../src/lib/rng.ts";
import { World, type WorldNode } from "../fabric/membership-world.ts";
import type { Invariant } from "./checks.ts";

/** A data directory: what its starts were called, the last one first. */
interface Directory {
  readonly boots: readonly string[];
  readonly generation: number;
}

/** A process that runs as `x`. */
interface Process {
  readonly node: WorldNode;
  readonly directory: Directory;
  readonly place: number;
}

export interface Outcome {
  readonly violation: { readonly invariant: Invariant; readonly message: string } | undefined;
  /** What happened, each by how often. */
  readonly happened: ReadonlyMap<string, number>;
}

const STEPS = 10;
/** Until news has gone round, the silent are found and patience has an end. */
const SETTLE_MS = 15_000;
const PLACES = 3;
const JOINED_BY = ["n0:1", "n1:1"];

class Starts {
  readonly world: World;
  readonly happened = new Map<string, number>();
  violation: Outcome["violation"];
  readonly #rng: Rng;
  readonly #members: WorldNode[];
  readonly #directories: Directory[] = [];
  #running: Process[] = [];
  #startCount = 0;

  constructor(seed: string | number) {
    this.#rng = new Rng(`starts/${seed}`);
    this.world = new World({ seed: `starts/${seed}`, lossRatio: this.#rng.int(2) === 0 ? 0 : 0.02 });
    this.#members = this.world.startMany(2 + this.#rng.int(11), (i) => (i === 0 ? [] : ["n0"]));
    this.world.runFor(SETTLE_MS);
    this.#start({ boots: [], generation: 1 }, 0);
    this.world.runFor(SETTLE_MS);
  }

  run(): Outcome {
    for (let step = 0; step < STEPS && this.violation === undefined; step++) {
      this.#disturb();
      this.world.runFor(this.#rng.int(2) === 0 ? this.#rng.int(3000) : SETTLE_MS);
      if (this.#rng.int(3) === 0) this.#rest(`after step ${step}`);
    }
    if (this.violation === undefined) this.#end();
    return { violation: this.violation, happened: this.happened };
  }

  #disturb(): void {
    const rng = this.#rng;
    const victim = this.#running[rng.int(Math.max(1, this.#running.length))];
    switch (rng.int(8)) {
      case 0:
      case 1:
      case 2:
        return this.#startCopy();
      case 3:
        if (victim !== undefined) this.#kill(victim);
        return;
      case 4:
      case 5:
        if (victim?.node.state === "up") this.#freeze(victim);
        return;
      case 6:
        this.#count("a cut");
        this.world.isPartitioned = true;
        for (const node of this.world.nodes.values()) node.side = rng.int(2);
        return;
      default: {
        const index = rng.int(this.#members.length);
        const member = this.#members[index];
        if (member === undefined || member.state !== "up") return;
        this.#count("a member that forgets");
        this.world.crash(member);
        const { facts, side } = member;
        const again = this.world.start(facts.nodeId, { generation: facts.generation + 1 });
        again.side = side;
        this.world.give(again, { kind: "join", addresses: JOINED_BY.filter((address) => address !== facts.address) });
        this.#members[index] = again;
      }
    }
  }

  /** It goes on while a copy of its directory is being taken, or was. From its first moment on it acknowledges nothing that most others do not see. */
  #freeze(process: Process): void {
    const { rng, world } = { rng: this.#rng, world: this.world };
    const forMs = 600 + rng.int(8000);
    const place = [0, 1, 2].find((each) => this.#running.every((other) => other.place !== each));
    const isCopied = rng.int(2) === 0 && place !== undefined;
    this.#count(isCopied ? "a start frozen and copied" : "a start frozen");
    world.freeze(process.node, forMs);
    if (isCopied) this.#start(process.directory, place);
    world.runFor(forMs, () => process.node.state === "up", 1);
    // As the driver does before anything is acknowledged: a machine that probes seldom, since it was late before, has no deadline that tells.
    world.give(process.node, { kind: "lagged", lagMs: forMs });
    const isOverruled = (): boolean => {
      const near = this.#members.filter((member) => this.#meets(process.node, member));
      const others = near.filter(
        (member) => !["left", "dead", undefined].includes(member.machine.find("x")?.status) && !this.#holds(member, process),
      );
      return others.length * 2 > near.length;
    };
    if (isOverruled()) this.#count("a start overruled while it was frozen");
    world.runFor(
      1000,
      () => {
        if (isOverruled() && this.#acknowledges(process))
          this.#fail("thawed", `${process.node.facts.boot} takes writes, and most hold another start`);
        return this.violation !== undefined;
      },
      1,
    );
  }

  #startCopy(): void {
    const rng = this.#rng;
    const place = rng.int(PLACES);
    const directory = this.#directories[rng.int(this.#directories.length)];
    if (directory === undefined || this.#running.some((each) => each.place === place)) return;
    const states = new Set(this.#running.map(({ node }) => node.state));
    this.#count(`a copy started while another is ${states.has("up") ? "up" : states.has("frozen") ? "frozen" : "dead"}`);
    this.#start(directory, place);
  }

  #start({ boots, generation }: Directory, place: number): Process {
    const boot = `b${++this.#startCount}`;
    const [bootBefore] = boots;
    const facts = { nodeId: "x", generation, address: `x${place}:1`, boot, ...(bootBefore !== undefined && { bootBefore }) };
    const node = this.world.start(`x/${boot}`, facts, { earlierBoots: boots });
    node.side = this.#rng.int(2);
    this.world.give(node, { kind: "join", addresses: JOINED_BY });
    const process = { node, directory: { boots: [boot, ...boots], generation }, place };
    this.#directories.push(process.directory);
    this.#running.push(process);
    return process;
  }

  #kill(process: Process): void {
    this.world.crash(process.node);
    this.#running = this.#running.filter((each) => each !== process);
  }

  #count(what: string): void {
    this.happened.set(what, (this.happened.get(what) ?? 0) + 1);
  }

  /** Whether it acknowledges what is written now. */
  #acknowledges({ node: { machine, state } }: Process): boolean {
    const time = { monoMs: this.world.nowMs, wallMs: this.world.nowMs };
    return state === "up" && machine.dispute(time) === undefined && !machine.isUnconfirmed(time);
  }

  #reaches(a: WorldNode, b: WorldNode): boolean {
    return !this.world.isPartitioned || a.side === b.side;
  }

  /** Whether they reach each other, and have met: one whose seeds are all beyond the cut serves alone. */
  #meets(node: WorldNode, member: WorldNode): boolean {
    const listed = node.machine.listed().find(({ nodeId }) => nodeId === member.facts.nodeId);
    return this.#reaches(node, member) && listed?.generation === member.facts.generation;
  }

  #holds({ machine }: WorldNode, { node, directory }: Process): boolean {
    const held = machine.find("x");
    return held?.boot === node.facts.boot && held?.generation === directory.generation;
  }

  /** Time enough passes for everybody to have heard of everything that can be heard, by tables too; then nothing may be wrong. */
  #rest(when: string): void {
    this.world.runFor(3 * SETTLE_MS);
    if (this.#running.some(({ node }) => node.state === "frozen")) return;
    const writers = this.#running.filter((process) => this.#acknowledges(process));
    for (const writer of writers) {
      const near = this.#members.filter((member) => this.#meets(writer.node, member));
      if (near.length > 0 && !near.some((member) => this.#holds(member, writer)))
        this.#fail("seen", `${when} ${writer.node.facts.boot} takes writes that nobody sees: ${this.#heldBy(near)}`);
      const other = writers.find((each) => each !== writer && near.some((member) => this.#meets(each.node, member)));
      if (other !== undefined)
        this.#fail("one", `${when} both ${writer.node.facts.boot} and ${other.node.facts.boot} take writes: ${this.#heldBy(near)}`);
    }
    this.#count(`${writers.length} of ${this.#running.length} take writes${this.world.isPartitioned ? " in a cut" : ""}`);
  }

  #heldBy(members: readonly WorldNode[]): string {
    return members.map(({ facts, machine }) => `${facts.nodeId} holds ${machine.find("x")?.boot ?? "none"}`).join(", ");
  }

  #fail(invariant: Invariant, message: string): void {
    this.violation ??= { invariant, message: `${message} (${this.world.nowMs} ms)` };
  }

  /** The cut heals. Then the operator ends all but one directory, and starts that under a new generation. */
  #end(): void {
    this.world.isPartitioned = false;
    this.#rest("after the cut");
    if (this.violation !== undefined) return;
    const [left] = this.#running.length > 0 ? this.#running : [];
    // Whether the first one is gone, or comes back when the new one is there.
    const stays = this.#rng.int(2) === 0 ? left : undefined;
    for (const process of this.#running) {
      if (process !== stays) this.#kill(process);
      else this.world.freeze(process.node, 3 * SETTLE_MS);
    }
    this.world.runFor(SETTLE_MS);
    const directory = this.#directories.at(-1) ?? { boots: [], generation: 1 };
    const place = stays?.place === 0 ? 1 : 0;
    const chosen = this.#start({ boots: directory.boots, generation: 2 }, place);
    this.world.runFor(SETTLE_MS);
    this.#checkChosen(chosen, "once it is started");
    this.world.runFor(4 * SETTLE_MS);
    this.#checkChosen(chosen, "in the end");
    const other = this.#running.find((process) => process !== chosen && this.#acknowledges(process));
    if (other !== undefined) this.#fail("new generation", `${other.node.facts.boot} of the old generation takes writes`);
  }

  #checkChosen(chosen: Process, when: string): void {
    if (!this.#acknowledges(chosen)) this.#fail("new generation", `${when} it takes no writes`);
    const deaf = this.#members.filter((member) => !this.#holds(member, chosen));
    if (deaf.length > 0) this.#fail("new generation", `${when} it is not taken: ${this.#heldBy(deaf)}`);
  }
}

export function runSeed(seed: string | number): Outcome {
  return new Starts(seed).run();
}
