/**
 * Worlds in which entries are taken out for maintenance, by operators and by their owners, while keys move, owners change, nodes start again
 * and are cut off (semantics.md, Maintenance). What each node must show follows from the acts in their order.
 */
import { create } from "@bufbuild/protobuf";
import { EntryKeySchema, EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { BODY, HEALTH, type KeyText, KIND, keyText } from "../../src/catalog/record/record.ts";
import { Rng } from "../../src/lib/rng.ts";
import { anonymousCaller, type Caller } from "../../src/policy/identity/caller.ts";
import { Violation } from "./checks.ts";
import type { Plan, Step } from "./plan.ts";
import type { SimProcess } from "./sim-node.ts";
import { type Outcome, Simulation } from "./simulation.ts";

const PLACE = { clusterId: "c1", region: "r1" };
const NODES = 3;
const KEYS = 6;
const START_MS = 4000;
/** A round is an act for each key. News is everywhere at its end. */
const ROUNDS = 10;
const ROUND_MS = 3000;
/** Who was cut off is found again by then. */
const FOUND_MS = 16_000;
/** In a round with a cut, acts fall into it. */
const CUT_MS = 700;
const OWNERS = ["ann", "bob"] as const;
const OPERATOR = "op";
/** Acts about a key that is not registered, one that is, and one whose next owner matters. */
const GONE = ["register", "register", "order"] as const;
const REGISTERED = ["order", "order", "end", "move", "move", "takeOut", "report"] as const;
const BOUND = ["end", "move", "move", "takeOut", "takeOut", "takeOut"] as const;

/** What the acts amount to. */
interface Expected {
  entry: { readonly node: number; readonly principal: string } | undefined;
  /** Whose entry it was last. */
  owner: string;
  operator: Order | undefined;
  owners: (Order & { readonly giver: string }) | undefined;
  /** The giver of an order that ended because somebody else registered the key. */
  ended: string | undefined;
}

interface Order {
  readonly untilMs: number;
}

class Orders {
  readonly #simulation: Simulation;
  readonly #rng: Rng;
  readonly #keys = Array.from({ length: KEYS }, (_, i): Expected => {
    return { entry: undefined, owner: OWNERS[i % 2] ?? "ann", operator: undefined, owners: undefined, ended: undefined };
  });
  /** What was done, by name. */
  readonly acts = new Map<string, number>();
  readonly shown = new Set<string>();

  constructor(simulation: Simulation, rng: Rng) {
    this.#simulation = simulation;
    this.#rng = rng;
  }

  /** One act for each key, in the middle of the round. */
  round(isCut: boolean): void {
    const { world } = this.#simulation;
    this.#keys.forEach((key, index) => {
      const apartMs = (CUT_MS / 2 / KEYS) * index;
      world.after(apartMs, () => this.#act(index, key, isCut));
    });
  }

  #act(index: number, key: Expected, isCut: boolean): void {
    const { entry } = key;
    const isBound = key.owners !== undefined || key.ended !== undefined;
    const acts = entry === undefined ? GONE : isBound ? BOUND : REGISTERED;
    const what = acts[this.#rng.int(acts.length)] ?? "order";
    this.acts.set(what, (this.acts.get(what) ?? 0) + 1);
    if (what === "register") this.#register(index, key, this.#rng.int(NODES), OWNERS[this.#rng.int(2)] ?? "ann");
    else if (what === "move" && entry !== undefined) this.#move(index, key, entry, isCut);
    else if (what === "takeOut" && entry !== undefined) this.#takeOut(index, key, entry.node);
    else if (what === "report" && entry !== undefined) this.#report(index, entry.node, entry.principal);
    else this.#order(index, key, entry?.node, what === "order");
  }

  #register(index: number, key: Expected, node: number, principal: string): void {
    this.#at(node, (process) => {
      const ask = { leaseId: "", idempotencyKey: "", ttlMs: undefined, isStatic: true };
      process.registrar.register(callerOf(principal), { ...ask, stampedEntries: [draftOf(process, index)] }, process.time());
    });
    key.entry = { node, principal };
    key.owner = principal;
    if (key.ended === principal) key.ended = undefined;
    if (key.owners === undefined || key.owners.giver === principal) return;
    key.ended = key.owners.giver;
    key.owners = undefined;
  }

  /** The same principal registers the key elsewhere; and something comes late to the node where it was. */
  #move(index: number, key: Expected, from: NonNullable<Expected["entry"]>, isCut: boolean): void {
    const node = (from.node + 1 + this.#rng.int(NODES - 1)) % NODES;
    const isOrdered = this.#rng.int(2) === 0;
    this.#register(index, key, node, from.principal);
    this.#simulation.world.after(CUT_MS / 4, () => {
      this.#report(index, from.node, from.principal);
      // Only who is cut off has not heard of the move, and takes the order.
      if (isCut && isOrdered && this.#isCutOff(from.node) !== this.#isCutOff(node)) this.#order(index, key, from.node, true);
    });
  }

  #isCutOff(node: number): boolean {
    return node === NODES - 1;
  }

  #takeOut(index: number, key: Expected, node: number): void {
    this.#at(node, (process) => {
      process.registrar.unregisterKeys(callerOf(key.owner), [keyOf(index)], process.time());
    });
    key.entry = undefined;
  }

  #report(index: number, node: number, principal: string): void {
    this.#at(node, (process) => {
      if (process.replica.own(keyOf(index))?.body !== BODY.ENTRY) return;
      const load = { activeClients: 1, errorRate: 0, latencyMs: 1, utilization: this.#rng.next(), observedWallMs: process.time().wallMs };
      const report = { key: keyOf(index), path: "", health: HEALTH.HEALTHY, load } as const;
      process.registrar.renew(callerOf(principal), [], [report], process.time());
    });
  }

  /** At the node of the entry, or where its last removal is known: there it goes. */
  #order(index: number, key: Expected, at: number | undefined, isOn: boolean): void {
    // Which of several tombstones is the last one's is told by what was ordered.
    const isOperator = at === undefined || this.#rng.int(2) === 0;
    const giver = isOperator ? OPERATOR : key.owner;
    const forMs = isOn && this.#rng.int(3) === 0 ? ROUND_MS + this.#rng.int(2 * ROUND_MS) : 0;
    const node = at ?? this.#removedAt(index);
    if (node === undefined) return;
    this.#at(node, (process) => {
      const time = process.time();
      const untilMs = forMs === 0 ? 0 : time.wallMs + forMs;
      const [outcome] = process.registrar.orderMaintenance([keyOf(index)], { isOn, reason: "", untilMs, giver, isOperator }, time);
      this.acts.set(outcome?.kind ?? "", (this.acts.get(outcome?.kind ?? "") ?? 0) + 1);
      if (outcome?.kind !== "refused")
        this.#ordered(key, { isOn, isOperator, giver, untilMs: forMs === 0 ? 0 : this.#simulation.world.nowMs + forMs });
      else if (isOn || isOperator || key.operator === undefined)
        throw new Violation("orders", `${process.node.name} refuses an order of ${giver} about key ${index}: ${outcome.detail}`);
    });
  }

  #ordered(
    key: Expected,
    { isOn, isOperator, giver, untilMs }: { isOn: boolean; isOperator: boolean; giver: string; untilMs: number },
  ): void {
    if (isOperator) key.operator = isOn ? { untilMs } : undefined;
    if (!isOperator) key.owners = isOn ? { untilMs, giver } : undefined;
    else if (!isOn) key.owners = undefined;
  }

  #removedAt(index: number): number | undefined {
    const node = this.#simulation.nodes.findIndex(({ process }) => process?.replica.own(keyOf(index)) !== undefined);
    return node < 0 ? undefined : node;
  }

  #at(node: number, act: (process: SimProcess) => void): void {
    const to = this.#simulation.nodes[node];
    to?.enqueue(() => {
      if (to.process === undefined) return;
      act(to.process);
      to.process.arm();
    });
  }

  look(): void {
    const { nodes, world } = this.#simulation;
    const lasts = (order: Order | undefined) => order !== undefined && (order.untilMs === 0 || order.untilMs > world.nowMs);
    for (const [index, { entry, operator, owners }] of this.#keys.entries()) {
      // About when it ends by itself the nodes may say either.
      if ([operator, owners].some((order) => order !== undefined && Math.abs(order.untilMs - world.nowMs) < 1500)) continue;
      const isOut = lasts(operator) || (lasts(owners) && owners?.giver === entry?.principal);
      const want = entry === undefined ? "nothing" : `n${entry.node} ${entry.principal} ${isOut ? "in maintenance" : "in traffic"}`;
      this.shown.add(want.replace(/^n\d /, ""));
      for (const { name, process } of nodes) {
        if (process?.isReady !== true || world.nowMs - process.bootMs < ROUND_MS) continue;
        const view = process.replica.view(keyOf(index));
        const state = view?.health === HEALTH.MAINTENANCE ? "in maintenance" : "in traffic";
        const seen = view === undefined ? "nothing" : `${view.origin.nodeId} ${view.principal} ${state}`;
        if (seen !== want) throw new Violation("orders", `${name} shows ${seen} for key ${index} at ${world.nowMs} ms, not ${want}`);
      }
    }
  }
}

function keyOf(index: number): KeyText {
  return keyText({ kind: KIND.SERVICE, namespace: "svc", name: `n${index}`, instanceId: "1", clusterId: PLACE.clusterId });
}

function callerOf(principal: string): Caller {
  return { ...anonymousCaller("", "127.0.0.1", []), principal };
}

function draftOf({ node, stamper }: SimProcess, index: number) {
  const { nodeId, clusterId, region, zone } = node.options;
  const entry = create(EntrySchema, { scope: 3 });
  entry.key = create(EntryKeySchema, { kind: KIND.SERVICE, namespace: "svc", name: `n${index}`, instanceId: "1" });
  return stamper.entryOf(entry, 0, { nodeId, clusterId, region, zone, tenantId: "", receivedWallMs: 0 });
}

interface Round {
  /** What it has beside its acts. */
  readonly kind: "calm" | "cut" | "crash";
  readonly atMs: number;
  readonly endMs: number;
}

function roundsOf(rng: Rng): readonly Round[] {
  let atMs = START_MS;
  return Array.from({ length: ROUNDS }, () => {
    const kind = (["calm", "cut", "cut", "crash"] as const)[rng.int(4)] ?? "calm";
    const round = { kind, atMs, endMs: atMs + (kind === "cut" ? FOUND_MS : ROUND_MS) };
    atMs = round.endMs;
    return round;
  });
}

function planOf(seed: string | number, rounds: readonly Round[], rng: Rng): Plan {
  const steps = rounds.flatMap(({ kind, atMs }): Step[] => {
    if (kind === "cut") return [{ atMs: atMs - 50, kind: "partition", side: [NODES - 1], forMs: CUT_MS }];
    const crash = { kind: "crash", isSilent: false, isBatchKept: true, isDiskLost: false, downMs: 300 } as const;
    return kind === "crash" ? [{ atMs: atMs + CUT_MS + 300, ...crash, nodes: [rng.int(NODES)] }] : [];
  });
  return {
    seed: `orders/${seed}`,
    places: Array.from({ length: NODES }, () => PLACE),
    seeds: [[1], [0], [0, 1]],
    startMs: [0, 10, 20],
    clientCount: 0,
    watches: [],
    steps,
    activeMs: (rounds.at(-1)?.endMs ?? START_MS) + 1000,
    settleMs: 60_000,
    isUnruly: false,
    isEncoded: rng.int(2) === 0,
    delayMs: 5,
    commitMs: [3, 3, 3],
    snapshotMs: 0,
    maxLinks: 20,
    frameBytes: 64 * 1024,
    tombstoneTtlMs: 600_000,
    minTombstones: 1000,
    hasLocal: false,
  };
}

export function runSeed(seed: string | number): Outcome & Pick<Orders, "acts" | "shown"> {
  const rng = new Rng(`orders/${seed}`);
  const rounds = roundsOf(rng);
  const simulation = new Simulation(planOf(seed, rounds, rng), { isLight: true });
  const orders = new Orders(simulation, rng.fork("acts"));
  const { world } = simulation;
  for (const { kind, atMs, endMs } of rounds) {
    world.at(atMs, () => orders.round(kind === "cut"));
    world.at(endMs - 100, () => orders.look());
  }
  const { acts, shown } = orders;
  return { ...simulation.run(), acts, shown };
}
