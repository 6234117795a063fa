/**
 * A node as a machine: joins its rooms, and has no rules of its own. Product and simulator drive the same one: it takes time and inputs, and
 * orders what the world must do.
 */
import type { KeyText } from "../catalog/record/record.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import type { DnsNames } from "../discovery/dns-names.ts";
import type { Fanout } from "../discovery/fanout.ts";
import { type BatchNumber, CommitCycle } from "../discovery/registrar/commit-cycle.ts";
import type { CollectsBy, Registrar } from "../discovery/registrar/registrar.ts";
import type { Fabric } from "../fabric/fabric.ts";
import type { eventOutput, FabricInput, FabricOutput, LinkId } from "../fabric/io-types.ts";
import type { LinkFrame, MemberFacts, PeerIdentity } from "../fabric/wire/messages.ts";
import { assert } from "../lib/errors.ts";
import { type Machine, NEVER, type Time } from "../lib/machine.ts";
import type { Metrics } from "../lib/metrics/metrics.ts";
import type { PolicyEngine } from "../policy/versions/engine.ts";
import { Departure, type DepartureOrders } from "./core/departure.ts";
import { Generations, type LostGeneration } from "./core/generations.ts";
import { HeardPeers } from "./core/heard-peers.ts";
import { RefusalLog } from "./core/refusal-log.ts";
import { RosterFile } from "./core/roster-file.ts";
import { SelfEntry } from "./core/self-entry.ts";
import { type SnapshotOptions, Snapshots } from "./core/snapshots.ts";
import { Standing } from "./core/standing.ts";
import { Standstill } from "./core/standstill.ts";
import { isPolicyTaken, TravellingPolicy } from "./core/travelling-policy.ts";
import type { NodeInput, NodeOutput } from "./core-io.ts";
import type { NodeLimits } from "./limits.ts";

export interface NodeRooms {
  readonly replica: Replica;
  readonly registrar: Registrar;
  readonly fanout: Fanout;
  readonly dnsNames: Pick<DnsNames, "refresh">;
  readonly policies: Pick<PolicyEngine, "isAwaiting" | "place">;
  readonly metrics: Metrics;
  readonly limits: Pick<NodeLimits, "nextDeadlineMs" | "tick">;
  /** Others are to be met: until their clocks are known, no writes are taken. */
  readonly hasSeeds: boolean;
  /** Draws a generation: it grows with the time, and no two are the same. */
  readonly newGeneration: (time: Time) => number;
}

/** What a node has to do with others by. */
export interface Joining {
  readonly fabric: Fabric;
  /** What the node says of itself; its generation is the replica's. */
  readonly facts: MemberFacts;
  /** Own live records that what came back of others hides: they are ended when it begins. */
  readonly superseded: readonly KeyText[];
  readonly snapshots: SnapshotOptions;
}

/** The part of a node that other nodes reach. */
interface Joined extends Omit<Joining, "snapshots"> {
  readonly snapshots: Snapshots;
  readonly departure: Departure;
  readonly rosterFile: RosterFile;
  readonly heard: HeardPeers;
}

type Settled = Extract<NodeOutput, { readonly kind: "settled" }>;

/** Until callers are served nobody is told that a node is ready, and then not before it has caught up with others, if there are any. */
type Readiness = "starting" | "served" | "caughtUp" | "ready";

/** Entries of a node that leaves, on their way to the disk. */
interface TakenOver {
  readonly batch: BatchNumber;
  readonly count: number;
}

export class NodeMachine implements Machine<NodeInput, NodeOutput> {
  readonly commits: CommitCycle;
  readonly standing: Standing;
  readonly #rooms: NodeRooms;
  readonly #generations: Generations;
  readonly #self: SelfEntry;
  readonly #refusals = new RefusalLog();
  readonly #travelling = new TravellingPolicy();
  readonly #standstill = new Standstill();
  #joined: Joined | undefined;
  /** It may speak to others. */
  #isBegun = false;
  #readiness: Readiness = "starting";
  #isDraining = false;
  #wasServing = false;
  /** What others said before this node may say anything. */
  readonly #early: NodeInput[] = [];
  /** Answers that wait until it is known that this start is still the one. */
  readonly #held: Settled[] = [];
  #wasWhole = false;
  #takenOver: TakenOver[] = [];
  /** What the fabric is to be told next. */
  readonly #inputs: FabricInput[] = [];

  constructor(rooms: NodeRooms, time: Time) {
    this.#rooms = rooms;
    this.commits = new CommitCycle(rooms.registrar, time);
    this.standing = new Standing(rooms.replica.self.nodeId, rooms.hasSeeds);
    this.#generations = new Generations(rooms.replica, rooms.newGeneration);
    this.#self = new SelfEntry(rooms.registrar);
  }

  /** When this node last heard from a member itself, in ms of its wall clock. */
  heardWallMs(nodeId: string): number | undefined {
    return this.#joined?.heard.heardWallMs(nodeId);
  }

  /** Undefined for a node that stands alone. */
  get fabric(): Fabric | undefined {
    return this.#joined?.fabric;
  }

  /** It has to do with other nodes, once it begins. To be called once, before callers are served. */
  join({ fabric, facts, superseded, snapshots: options }: Joining): void {
    assert(this.#joined === undefined && this.#readiness === "starting", "a node joins once");
    const { replica, registrar, metrics, policies } = this.#rooms;
    const snapshots = new Snapshots({ replica, fabric, clusterId: facts.clusterId }, options);
    const departure = new Departure({ registrar, commits: this.commits, fabric, snapshots });
    const rosterFile = new RosterFile(fabric.lifecycle.roster, facts);
    this.#joined = { fabric, facts, superseded, snapshots, departure, rosterFile, heard: new HeardPeers(fabric, metrics) };
    this.#inputs.push({ kind: "policy", head: policies.place });
  }

  /** It was once as ready as it can be; what it misses afterwards is an age. */
  get isReady(): boolean {
    return this.#readiness === "ready";
  }

  /** Whether readers may be told that they have everything. */
  get isWhole(): boolean {
    return this.isReady && this.#joined?.fabric.isWhole !== false;
  }

  get isDraining(): boolean {
    return this.#isDraining;
  }

  /** Whether callers are to be sent here: see `serving`. */
  get isServing(): boolean {
    return this.isReady && !this.#isDraining && this.standing.fault === "";
  }

  /** Which tombstones may be collected: none before it is known whether there are others, who may lack them. */
  collectsBy(time: Time): CollectsBy {
    if (this.#joined !== undefined) return this.#joined.fabric.mayCollect(time) ? "age" : "count";
    return this.#readiness === "starting" ? "nothing" : "age";
  }

  /** Whether who wants to write has to wait for `confirmed`: this process stood still, and others may have taken another start. */
  mustConfirm(time: Time): boolean {
    return this.#joined !== undefined && this.standing.mustConfirm(this.#joined.fabric, time);
  }

  /** Strangers turned away before the fabric heard of them. */
  get refusedCount(): number {
    return this.#refusals.refusedCount;
  }

  /** For people: a newer policy that others have and this node does not take, and why; empty when there is none. */
  get policyNotTaken(): string {
    return this.#joined === undefined ? "" : this.#travelling.notTaken(this.#joined.fabric);
  }

  /** Whether a policy applied here comes into force in a cluster, as far as linked nodes tell. */
  isPolicyTaken(clusterId: string): boolean {
    return this.#joined === undefined || isPolicyTaken(this.#joined.fabric, clusterId);
  }

  /** For who may talk to this node: see `FabricMachine`. */
  get calls(): { isStranger(identity: PeerIdentity): boolean } {
    return { isStranger: (identity) => this.#joined?.fabric.calls.isStranger(identity) !== false };
  }

  handle(input: NodeInput, time: Time, out: NodeOutput[]): void {
    if (!this.#isBegun && isFromOthers(input)) {
      this.#early.push(input);
      return;
    }
    this.#route(input, time, out);
    this.#look(time, out);
    this.#persist(out);
  }

  /**
   * The event loop runs: to be called every `LOOK_MS`, and before anything is judged after a standstill. Returns whether the process stood still:
   * then others could not be heard, and may have taken another start.
   */
  look(time: Time, out: NodeOutput[]): boolean {
    const lagMs = this.#standstill.looked(time);
    if (lagMs === undefined) return false;
    this.#toFabric({ kind: "lagged", lagMs }, time, out);
    this.#look(time, out);
    this.#persist(out);
    return true;
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

  /** Ends own live records that another origin's word hides. */
  #end(keys: readonly KeyText[], time: Time, out: NodeOutput[]): void {
    const { registrar } = this.#rooms;
    registrar.endSuperseded(keys, time);
    for (const key of registrar.endings.takeEndedStatic()) out.push({ kind: "staticEnded", key });
    this.#persist(out);
  }

  /** The replica changed: names, and readers whom it concerns, hear of it. */
  show(out: NodeOutput[]): void {
    const { replica, registrar, fanout, dnsNames } = this.#rooms;
    dnsNames.refresh();
    registrar.requests.refresh();
    fanout.changed(replica.takeTouched());
    out.push({ kind: "wake" });
  }

  nextDeadlineMs(): number {
    const { fabric, departure, rosterFile, snapshots } = (this.#isBegun ? this.#joined : undefined) ?? {};
    return Math.min(
      this.commits.nextDeadlineMs(),
      this.#generations.nextDeadlineMs(),
      this.#rooms.limits.nextDeadlineMs(),
      this.#self.nextDeadlineMs(),
      fabric?.nextDeadlineMs() ?? NEVER,
      departure?.nextDeadlineMs() ?? NEVER,
      rosterFile?.nextDeadlineMs() ?? NEVER,
      snapshots?.nextDeadlineMs() ?? NEVER,
    );
  }

  #begin(time: Time, out: NodeOutput[]): void {
    this.#isBegun = true;
    this.#joined?.snapshots.begin(time);
    this.#end(this.#joined?.superseded ?? [], time, out);
    this.show(out);
    this.#toFabric({ kind: "tick" }, time, out);
    for (const input of this.#early.splice(0)) this.handle(input, time, out);
  }

  #route(input: NodeInput, time: Time, out: NodeOutput[]): void {
    switch (input.kind) {
      case "tick":
        this.commits.tick(time);
        this.#rooms.limits.tick(time);
        this.#keepGeneration(this.#generations.tick(time), out);
        return this.#toFabric(input, time, out);
      case "persisted":
        return this.#persisted(time, out);
      case "notPersisted":
        this.#joined?.departure.refused(time);
        this.#takenOver = [];
        return this.#settle({ kind: "settled", through: this.commits.refused(), refusal: { error: input.error } }, time, out);
      case "generationKept":
        return this.#generationKept(input.generation, time, out);
      case "generationNotKept":
        return this.#generations.refused(time);
      case "rosterKept":
        return this.#joined?.rosterFile.written(input.isKept, time);
      case "snapshotKept":
        return this.#joined?.snapshots.kept(input.isKept);
      case "policyAdopted":
        return this.#policyAdopted(input, time, out);
      case "begin":
        return this.#begin(time, out);
      case "serve":
        this.#readiness = "served";
        return;
      case "policyShown":
        return this.#becomeReady(out);
      case "publish":
        return this.#selfTried(this.#self.publish(input.entry, time), out);
      case "load":
        return this.#selfTried(this.#self.measured(input.load, time), out);
      case "strangerRefused":
        return this.#tell(this.#refusals.stranger(input.why, input.address, time), out);
      case "unanswered":
        return this.#tell(this.#refusals.unanswered(input.why, input.address, input.isRefused, time), out);
      case "drain":
        this.#isDraining = true;
        this.#self.end();
        return this.#endWatches(out);
      case "depart":
        return this.#depart(input, time, out);
      case "asked":
      case "answered":
      case "opened":
      case "received":
      case "closed":
      case "policy":
      case "policyRead":
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
    this.#settle({ kind: "settled", through }, time, out);
    for (const { batch, count } of this.#takenOver) if (batch <= through) out.push({ kind: "takenOver", count });
    this.#takenOver = this.#takenOver.filter(({ batch }) => batch > through);
  }

  /** Who waits is answered in order, and is told that something is durable only by the node that others take for this one. */
  #settle(settled: Settled, time: Time, out: NodeOutput[]): void {
    if (this.#held.length > 0 || (settled.refusal === undefined && this.mustConfirm(time))) this.#held.push(settled);
    else out.push(this.#answerOf(settled));
  }

  #answerOf(settled: Settled): Settled {
    const { refusal } = this.standing;
    return settled.refusal === undefined && refusal !== undefined ? { ...settled, refusal: { error: refusal } } : settled;
  }

  // ---- the fabric ----

  #toFabric(input: FabricInput, time: Time, out: NodeOutput[]): void {
    if (this.#joined === undefined || !this.#isBegun) return;
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
        return this.#end(output.keys as readonly KeyText[], time, out); // oxlint-disable-line typescript/no-unsafe-type-assertion -- keys of records held here
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
    if (this.#joined !== undefined) this.#lookAtStanding(this.#joined, time, out);
    this.#lookAtReadiness(out);
    if (this.#self.isDue(time)) out.push({ kind: "measureLoad" });
    if (this.#joined === undefined) return;
    const { departure, rosterFile, snapshots } = this.#joined;
    const snapshot = snapshots.due(time);
    if (snapshot !== undefined) out.push({ kind: "keepSnapshot", ...snapshot });
    if (rosterFile.isDue(time)) out.push({ kind: "keepRoster", bytes: rosterFile.bytes() });
    if (departure.hasBegun) this.#orderedBy(departure.step(time), time, out);
  }

  // ---- standing and readiness ----

  #lookAtStanding({ fabric, facts: { address } }: Joined, time: Time, out: NodeOutput[]): void {
    const { standing, isReady } = this;
    const { clockEvent, event, isLost = false, isContested = false } = standing.look(fabric, { address, isReady }, time);
    this.#tell(clockEvent, out);
    this.#tell(event, out);
    // What they are told next may not be what others see: each resumes at another node from where it stands.
    if (isLost && isReady) this.#endWatches(out);
    if (isContested) this.loseGeneration({ peerNodeId: "", seq: 0 }, time, out);
    if (!standing.takeConfirmed(fabric, time)) return;
    const { refusal } = standing;
    out.push({ kind: "confirmed", ...(refusal !== undefined && { refusal: { error: refusal } }) });
    for (const settled of this.#held.splice(0)) out.push(this.#answerOf(settled));
  }

  #lookAtReadiness(out: NodeOutput[]): void {
    const hasCaughtUp = this.#joined === undefined || (this.#joined.fabric.isReady && !this.standing.isWaiting);
    if (this.#readiness === "served" && hasCaughtUp) {
      this.#readiness = "caughtUp";
      this.#rooms.policies.isAwaiting = false;
      out.push({ kind: "caughtUp" });
    }
    const { isWhole, isServing } = this;
    // Readers that waited to be told that this is all.
    if (isWhole && !this.#wasWhole) {
      this.#rooms.fanout.all();
      out.push({ kind: "wake" });
    }
    this.#wasWhole = isWhole;
    if (isServing !== this.#wasServing) out.push({ kind: "serving", isServing });
    this.#wasServing = isServing;
  }

  #tell(event: ReturnType<typeof eventOutput> | undefined, out: NodeOutput[]): void {
    if (event !== undefined) out.push(event);
  }

  #selfTried(error: unknown, out: NodeOutput[]): void {
    if (error !== undefined) out.push({ kind: "selfRefused", error });
  }

  #becomeReady(out: NodeOutput[]): void {
    assert(this.#readiness === "caughtUp", "only what has caught up becomes ready");
    this.#readiness = "ready";
    out.push({ kind: "ready" });
  }

  #endWatches(out: NodeOutput[]): void {
    this.#rooms.fanout.end();
    out.push({ kind: "wake" });
  }

  #policyAdopted({ head, via, outcome }: Extract<NodeInput, { readonly kind: "policyAdopted" }>, time: Time, out: NodeOutput[]): void {
    const input = this.#travelling.adopted(head, via, outcome);
    if (input !== undefined) this.#toFabric(input, time, out);
  }

  // ---- leaving ----

  #depart({ how, withinMs }: Extract<NodeInput, { readonly kind: "depart" }>, time: Time, out: NodeOutput[]): void {
    if (this.#joined === undefined || !this.#isBegun) {
      out.push({ kind: "gone", reason: "restart" });
      return;
    }
    this.#orderedBy(this.#joined.departure.begin(how === "leave" && this.#joined.fabric.hasClusterPeers, withinMs, time), time, out);
  }

  #orderedBy({ inputs, handedOver, gone }: DepartureOrders, time: Time, out: NodeOutput[]): void {
    if (handedOver !== undefined) {
      out.push({ kind: "handedOver", ...handedOver });
      if (handedOver.leftCount > 0) this.#toFabric({ kind: "facts", facts: { ...this.#facts(), keepsEntries: true } }, time, out);
    }
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
  }

  #facts(): MemberFacts {
    assert(this.#joined !== undefined, "only a node that has joined says what it is");
    return { ...this.#joined.facts, generation: this.#rooms.replica.self.generation };
  }
}

/** Whether another node said or did it. */
function isFromOthers({ kind }: NodeInput): boolean {
  return kind === "asked" || kind === "answered" || kind === "opened" || kind === "received" || kind === "closed";
}

/** The fabric of a node that has joined others. */
export function fabricOf({ machine: { fabric } }: { readonly machine: Pick<NodeMachine, "fabric"> }): Fabric {
  assert(fabric !== undefined, "the fabric is open");
  return fabric;
}
