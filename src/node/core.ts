/**
 * A node as a machine: joins its rooms, and has no rules of its own. Product and simulator drive the same one: it takes time and inputs, and
 * orders what the world must do.
 */
import type { KeyText } from "../catalog/record/record.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import type { DnsNames } from "../discovery/dns-names.ts";
import type { Fanout } from "../discovery/fanout.ts";
import { type BatchNumber, CommitCycle } from "../discovery/registrar/commit-cycle.ts";
import type { Registrar } from "../discovery/registrar/registrar.ts";
import type { Fabric } from "../fabric/fabric.ts";
import type { FabricInput, FabricOutput, LinkId } from "../fabric/io-types.ts";
import type { LinkFrame, MemberFacts, PeerIdentity } from "../fabric/wire/messages.ts";
import { assert } from "../lib/errors.ts";
import type { Machine, Time } from "../lib/machine.ts";
import type { Metrics } from "../lib/metrics/metrics.ts";
import type { NodeInput, NodeOutput } from "./core-io.ts";
import { Departure, type DepartureOrders } from "./departure.ts";
import { HeardPeers } from "./fabric/heard-peers.ts";
import { RosterFile } from "./fabric/roster-file.ts";
import { Generations, type LostGeneration } from "./generations.ts";

const NEVER = Number.POSITIVE_INFINITY;

export interface NodeRooms {
  readonly replica: Replica;
  readonly registrar: Registrar;
  readonly fanout: Fanout;
  /** Undefined where nobody asks by DNS. */
  readonly dnsNames?: Pick<DnsNames, "refresh"> | undefined;
  readonly metrics: Metrics;
  /** Draws a generation: it grows with the time, and no two are the same. */
  readonly newGeneration: (time: Time) => number;
}

/** The part of a node that other nodes reach. */
export interface Joined {
  readonly fabric: Fabric;
  /** What the node says of itself; its generation is the replica's. */
  readonly facts: MemberFacts;
  readonly departure: Departure;
  readonly rosterFile: RosterFile;
  readonly heard: HeardPeers;
}

/** Entries of a node that leaves, on their way to the disk. */
interface TakenOver {
  readonly batch: BatchNumber;
  readonly count: number;
}

export class NodeMachine implements Machine<NodeInput, NodeOutput> {
  readonly commits: CommitCycle;
  readonly #rooms: NodeRooms;
  readonly #generations: Generations;
  #joined: Joined | undefined;
  /** Own records were committed, and the fabric has not heard of it. */
  #isChangeDue = false;
  #wasWhole = false;
  #takenOver: TakenOver[] = [];
  /** What the fabric is to be told next. */
  readonly #inputs: FabricInput[] = [];

  constructor(rooms: NodeRooms, time: Time) {
    this.#rooms = rooms;
    this.commits = new CommitCycle(rooms.registrar, time);
    this.#generations = new Generations(rooms.replica, rooms.newGeneration);
  }

  /** When this node last heard from a member itself, in ms of its wall clock. */
  heardWallMs(nodeId: string): number | undefined {
    return this.#joined?.heard.heardWallMs(nodeId);
  }

  /** Undefined for a node that stands alone. */
  get fabric(): Fabric | undefined {
    return this.#joined?.fabric;
  }

  /** From now on it has to do with other nodes. To be called once. */
  join(fabric: Fabric, facts: MemberFacts): void {
    assert(this.#joined === undefined, "a node joins once");
    const { registrar, metrics } = this.#rooms;
    const departure = new Departure({ registrar, commits: this.commits, fabric });
    const rosterFile = new RosterFile(fabric.lifecycle.roster, facts);
    this.#joined = { fabric, facts, departure, rosterFile, heard: new HeardPeers(fabric, metrics) };
  }

  /** For who may talk to this node: see `FabricMachine`. */
  get calls(): { isStranger(identity: PeerIdentity): boolean } {
    return { isStranger: (identity) => this.#joined?.fabric.calls.isStranger(identity) !== false };
  }

  handle(input: NodeInput, time: Time, out: NodeOutput[]): void {
    this.#route(input, time, out);
    this.#look(time, out);
    this.#persist(out);
  }

  /** HOT: once a frame sent. */
  pull(link: LinkId, time: Time, out: NodeOutput[]): LinkFrame | undefined {
    const said: FabricOutput[] = [];
    const frame = this.#joined?.fabric.pull(link, time, said);
    for (const output of said) this.#obey(output, time, out);
    return frame;
  }

  /** HOT: once a write. Which batch has what was staged by now; it is on its way, or follows the one that is. */
  durable(out: NodeOutput[]): BatchNumber {
    const batch = this.commits.durable();
    this.#persist(out);
    return batch;
  }

  /** Ends own live records that another origin's word hides, and shows what is seen of the catalog now. */
  end(keys: readonly KeyText[], time: Time, out: NodeOutput[]): void {
    const { registrar } = this.#rooms;
    registrar.endSuperseded(keys, time);
    for (const key of registrar.endings.takeEndedStatic()) out.push({ kind: "staticEnded", key });
    this.#persist(out);
  }

  /** The replica changed: names, and readers whom it concerns, hear of it. */
  show(out: NodeOutput[]): void {
    const { replica, registrar, fanout, dnsNames } = this.#rooms;
    dnsNames?.refresh();
    registrar.requests.refresh();
    fanout.changed(replica.takeTouched());
    out.push({ kind: "wake" });
  }

  nextDeadlineMs(): number | undefined {
    const { fabric, departure, rosterFile } = this.#joined ?? {};
    const next = Math.min(
      this.commits.nextDeadlineMs(),
      this.#generations.nextDeadlineMs() ?? NEVER,
      fabric?.nextDeadlineMs() ?? NEVER,
      departure?.nextDeadlineMs() ?? NEVER,
      rosterFile?.nextDeadlineMs() ?? NEVER,
    );
    return next === NEVER ? undefined : next;
  }

  #route(input: NodeInput, time: Time, out: NodeOutput[]): void {
    switch (input.kind) {
      case "tick":
        this.commits.tick(time);
        this.#keepGeneration(this.#generations.tick(time), out);
        return this.#toFabric(input, time, out);
      case "soon":
        if (!this.#isChangeDue) return;
        this.#isChangeDue = false;
        return this.#toFabric({ kind: "changed" }, time, out);
      case "persisted":
        return this.#persisted(time, out);
      case "notPersisted":
        this.#joined?.departure.refused(time);
        this.#takenOver = [];
        out.push({ kind: "settled", through: this.commits.refused(), refusal: { error: input.error } });
        return;
      case "generationKept":
        return this.#generationKept(input.generation, time, out);
      case "generationNotKept":
        return this.#generations.refused(time);
      case "rosterKept":
        return this.#joined?.rosterFile.written(input.isKept, time);
      case "depart":
        return this.#depart(input, time, out);
      case "asked":
      case "answered":
      case "opened":
      case "received":
      case "closed":
      case "lagged":
      case "policy":
      case "policyRead":
      case "policyRefused":
        return this.#toFabric(input, time, out);
    }
  }

  // ---- own records ----

  #persist(out: NodeOutput[]): void {
    const started = this.commits.start();
    if (started !== undefined) out.push({ kind: "persist", batch: started.batch });
  }

  #persisted(time: Time, out: NodeOutput[]): void {
    const through = this.commits.landed(time);
    this.show(out);
    this.#changed(out);
    out.push({ kind: "settled", through });
    for (const { batch, count } of this.#takenOver) if (batch <= through) out.push({ kind: "takenOver", count });
    this.#takenOver = this.#takenOver.filter(({ batch }) => batch > through);
  }

  /** The fabric hears of all commits of one turn at once, after those who wait for them. */
  #changed(out: NodeOutput[]): void {
    if (this.#isChangeDue || this.#joined === undefined) return;
    this.#isChangeDue = true;
    out.push({ kind: "soon" });
  }

  // ---- the fabric ----

  #toFabric(input: FabricInput, time: Time, out: NodeOutput[]): void {
    if (this.#joined === undefined) return;
    this.#inputs.push(input);
    for (let next = this.#inputs.shift(); next !== undefined; next = this.#inputs.shift()) {
      const said: FabricOutput[] = [];
      this.#joined.fabric.handle(next, time, said);
      this.#joined.heard.handled(next, said, time);
      for (const output of said) this.#obey(output, time, out);
    }
  }

  /** Does what concerns the own records; everything else is for the driver. */
  #obey(output: FabricOutput, time: Time, out: NodeOutput[]): void {
    switch (output.kind) {
      case "changed":
        return this.show(out);
      case "superseded":
        return this.end(output.keys as readonly KeyText[], time, out); // oxlint-disable-line typescript/no-unsafe-type-assertion -- keys of records held here
      case "generationLost":
        return this.loseGeneration(output, time, out);
      case "offered":
        return this.#takeOver(output, time);
      case "call":
      case "answer":
      case "open":
      case "send":
      case "close":
      case "readPolicy":
      case "adoptPolicy":
      case "memberChanged":
      case "memberForgotten":
      case "event":
        out.push(output);
    }
  }

  /** A node that leaves offers its static entries: they are this one's from now on, unless it stops too. */
  #takeOver(offer: Extract<FabricOutput, { readonly kind: "offered" }>, time: Time): void {
    if (this.#joined?.departure.hasBegun === true) return;
    const count = this.#rooms.registrar.handOver.take(offer, offer.seqs, time);
    if (count > 0) this.#takenOver.push({ batch: this.commits.durable(), count });
  }

  /** After each input: what has become due by it. */
  #look(time: Time, out: NodeOutput[]): void {
    if (this.#joined === undefined) return;
    const { fabric, departure, rosterFile } = this.#joined;
    if (rosterFile.isDue(time)) out.push({ kind: "keepRoster", bytes: rosterFile.bytes() });
    if (departure.hasBegun) this.#orderedBy(departure.step(time), time, out);
    const { isWhole } = fabric;
    // Readers that waited to be told that this is all.
    if (isWhole && !this.#wasWhole) {
      this.#rooms.fanout.all();
      out.push({ kind: "wake" });
    }
    this.#wasWhole = isWhole;
  }

  // ---- leaving ----

  #depart({ how, withinMs }: Extract<NodeInput, { readonly kind: "depart" }>, time: Time, out: NodeOutput[]): void {
    if (this.#joined === undefined) {
      out.push({ kind: "gone", reason: "restart" });
      return;
    }
    this.#orderedBy(this.#joined.departure.begin(how === "leave" && this.#joined.fabric.hasClusterPeers, withinMs, time), time, out);
  }

  #orderedBy({ inputs, handedOver, goodbye, gone }: DepartureOrders, time: Time, out: NodeOutput[]): void {
    if (handedOver !== undefined) {
      out.push({ kind: "handedOver", ...handedOver });
      if (handedOver.leftCount > 0) this.#toFabric({ kind: "facts", facts: { ...this.#facts(), keepsEntries: true } }, time, out);
    }
    if (goodbye !== undefined) out.push({ kind: "goodbye", reason: goodbye });
    for (const input of inputs) this.#toFabric(input, time, out);
    if (gone !== undefined) out.push({ kind: "gone", reason: gone });
  }

  // ---- generations ----

  /** Others know more of the generation in use than this node does: it takes a new one, unless that is under way. */
  loseGeneration(why: LostGeneration, time: Time, out: NodeOutput[]): void {
    if (this.#joined?.departure.hasBegun === true) return;
    const generation = this.#generations.lost(why, time);
    if (generation !== undefined) out.push({ kind: "generationLost", why, generation });
    this.#keepGeneration(generation, out);
  }

  #keepGeneration(generation: number | undefined, out: NodeOutput[]): void {
    if (generation !== undefined) out.push({ kind: "keepGeneration", generation });
  }

  #generationKept(generation: number, time: Time, out: NodeOutput[]): void {
    this.#generations.written(generation);
    this.show(out);
    this.#toFabric({ kind: "facts", facts: this.#facts() }, time, out);
    this.#changed(out);
  }

  #facts(): MemberFacts {
    assert(this.#joined !== undefined, "only a node that has joined says what it is");
    return { ...this.#joined.facts, generation: this.#rooms.replica.self.generation };
  }
}

/** The fabric of a node that has joined others. */
export function fabricOf({ machine: { fabric } }: { readonly machine: Pick<NodeMachine, "fabric"> }): Fabric {
  assert(fabric !== undefined, "the fabric is open");
  return fabric;
}
