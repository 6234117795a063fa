/**
 * The machine of a node. It joins the rooms of the node and has no rules of its own. It takes inputs and a time, and appends orders for its driver.
 * Product and simulator drive the same machine.
 */
import type { KeyText } from "../catalog/record/record.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import type { Checks } from "../discovery/checks/checks.ts";
import type { DnsNames } from "../discovery/dns-names.ts";
import type { Fanout } from "../discovery/fanout.ts";
import { type BatchNumber, CommitCycle } from "../discovery/registrar/commit-cycle.ts";
import type { CollectsBy, Registrar } from "../discovery/registrar/registrar.ts";
import type { Fabric } from "../fabric/fabric.ts";
import type { eventOutput, FabricInput, FabricOutput, LinkId } from "../fabric/io-types.ts";
import type { LinkFrame, MemberFacts, PeerIdentity } from "../fabric/wire/messages.ts";
import { assert, WaymarkError } from "../lib/errors.ts";
import { type Machine, NEVER, type Time } from "../lib/machine.ts";
import type { Metrics } from "../lib/metrics/metrics.ts";
import type { PolicyEngine } from "../policy/versions/engine.ts";
import { Departure, type DepartureOrders } from "./core/departure.ts";
import { Generations, type LostGeneration } from "./core/generations.ts";
import { HeardPeers } from "./core/heard-peers.ts";
import { MaintenanceOrders } from "./core/maintenance-orders.ts";
import { RefusalLog } from "./core/refusal-log.ts";
import type { Summaries } from "./core/regions/summaries.ts";
import { RosterFile } from "./core/roster-file.ts";
import { SelfEntry } from "./core/self-entry.ts";
import { type SnapshotOptions, Snapshots } from "./core/snapshots.ts";
import { checkCaughtUp, checkSound, Standing } from "./core/standing.ts";
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
  readonly checks: Checks;
  /** Undefined of a node that has nothing to do with summaries. */
  readonly summaries?: Summaries | undefined;
  /** The settings name nodes to join. Until the clocks of others are known, this node takes no writes. */
  readonly hasSeeds: boolean;
  /** Draws a generation. Generations grow with time, and no two are the same. */
  readonly newGeneration: (time: Time) => number;
}

/** What a node joins others with. */
export interface Joining {
  readonly fabric: Fabric;
  /** What the node says of itself; its generation is the replica's. */
  readonly facts: MemberFacts;
  /** Own live records that the snapshot of other nodes hides. They are ended when the node begins. */
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

/** When a node that takes no orders now may be asked again. */
const RETRY_MS = 1000;

type Settled = Extract<NodeOutput, { readonly kind: "settled" }>;

/** A node becomes ready when it serves callers, has caught up with other nodes, if there are any, and shows the policy in force. */
type Readiness = "starting" | "served" | "caughtUp" | "ready";

/** Entries that this node took over from a node that leaves, on their way to the disk. */
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
  readonly #orders: MaintenanceOrders;
  readonly #standstill = new Standstill();
  #joined: Joined | undefined;
  /** Whether the node may speak to other nodes. */
  #isBegun = false;
  #readiness: Readiness = "starting";
  #isDraining = false;
  #wasServing = false;
  /** What other nodes said before this node may speak. */
  readonly #early: NodeInput[] = [];
  /** Answers that wait until other nodes have confirmed this start. */
  readonly #held: Settled[] = [];
  #wasWhole = false;
  #takenOver: TakenOver[] = [];
  /** The next inputs of the fabric. */
  readonly #inputs: FabricInput[] = [];

  constructor(rooms: NodeRooms, time: Time) {
    this.#rooms = rooms;
    this.commits = new CommitCycle(rooms.registrar, time);
    this.standing = new Standing(rooms.replica.self.nodeId, rooms.hasSeeds);
    this.#generations = new Generations(rooms.replica, rooms.newGeneration);
    this.#self = new SelfEntry(rooms.registrar);
    this.#orders = new MaintenanceOrders({
      registrar: rooms.registrar,
      self: () => this.#facts(),
      durable: () => this.commits.durable(),
      checkWrites: (now) => this.#checkOrders(now),
    });
  }

  /** When this node last heard from a member itself, in ms of its wall clock. */
  heardWallMs(nodeId: string): number | undefined {
    return this.#joined?.heard.heardWallMs(nodeId);
  }

  /** Undefined for a node that stands alone. */
  get fabric(): Fabric | undefined {
    return this.#joined?.fabric;
  }

  /** Joins the fabric to this machine. To be called at most once, before callers are served. A node that stands alone never joins. */
  join({ fabric, facts, superseded, snapshots: options }: Joining): void {
    assert(this.#joined === undefined && this.#readiness === "starting", "a node joins once");
    const { replica, registrar, metrics, policies } = this.#rooms;
    const snapshots = new Snapshots({ replica, fabric, clusterId: facts.clusterId }, options);
    const departure = new Departure({ registrar, commits: this.commits, fabric, snapshots });
    const rosterFile = new RosterFile(fabric.lifecycle.roster, facts);
    this.#joined = { fabric, facts, superseded, snapshots, departure, rosterFile, heard: new HeardPeers(fabric, metrics) };
    this.#inputs.push({ kind: "policy", head: policies.place });
  }

  /** Whether the node was ready once. It stays ready: what it misses afterwards shows in the age of its data. */
  get isReady(): boolean {
    return this.#readiness === "ready";
  }

  /**
   * How old what callers are told may be; 0 for a node that stands alone. A node that was never ready tells the age of what it started with, also
   * when it has caught up and waits for something else: until it is ready it may hide everything, because it awaits the policy of others.
   */
  ageMs(time: Time): number {
    if (this.#joined === undefined) return 0;
    const { fabric } = this.#joined;
    return this.isReady ? fabric.readiness(time).ageMs : fabric.startAgeMs(time);
  }

  /** Throws `not_ready` while this node was never ready. For answers that name no age: what is absent here may exist. */
  checkCaughtUp(): void {
    checkCaughtUp(this.isReady);
  }

  /** Whether DNS may say what is not there, which cannot say how old its answer is: the node is ready, or would be if it were not leaving. */
  get isSound(): boolean {
    return this.isReady && this.standing.fault === "";
  }

  /** As `checkCaughtUp`, for DNS. Throws `not_ready` also while something has made the node unready since. */
  checkSound(): void {
    checkSound(this);
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
    return this.isSound && !this.#isDraining;
  }

  /** Which tombstones may be collected. There are none before this node knows whether other nodes exist, because those may lack the tombstones. */
  collectsBy(time: Time): CollectsBy {
    if (this.#joined !== undefined) return this.#joined.fabric.mayCollect(time) ? "age" : "count";
    return this.#readiness === "starting" ? "nothing" : "age";
  }

  /** Whether a write has to wait for `confirmed`: this process stood still, and other nodes may have accepted another start meanwhile. */
  mustConfirm(time: Time): boolean {
    return this.#joined !== undefined && this.standing.mustConfirm(this.#joined.fabric, time);
  }

  /** How many strangers the listener turned away before the fabric heard of them. */
  get refusedCount(): number {
    return this.#refusals.refusedCount;
  }

  /** For people: a newer policy that other nodes have and this node does not take, and why. Empty when there is none. */
  get policyNotTaken(): string {
    return this.#joined === undefined ? "" : this.#travelling.notTaken(this.#joined.fabric);
  }

  /** Whether a policy that is applied here comes into force in a cluster, as far as linked nodes tell. */
  isPolicyTaken(clusterId: string): boolean {
    return this.#joined === undefined || isPolicyTaken(this.#joined.fabric, clusterId);
  }

  /** Which callers are strangers: see `FabricMachine`. Without a fabric all of them are. */
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
    this.#rooms.checks.stoodStill();
    this.#rooms.summaries?.stoodStill(lagMs, time);
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

  /** HOT: once a write. The number of the batch that has what is staged by now. That batch is on its way to the disk, or follows the one that is. */
  durable(out: NodeOutput[]): BatchNumber {
    const batch = this.commits.durable();
    this.#persist(out);
    return batch;
  }

  /** Looks at own live records of which a record of another origin says something (`Registrar.hear`). */
  #hear(keys: readonly KeyText[], time: Time, out: NodeOutput[]): void {
    const { registrar } = this.#rooms;
    registrar.hear(keys, time);
    for (const key of registrar.endings.takeEndedStatic()) out.push({ kind: "staticEnded", key });
    this.#persist(out);
  }

  /** The replica changed: updates the DNS names, and wakes the readers that the change concerns. */
  show(out: NodeOutput[]): void {
    const { replica, registrar, fanout, dnsNames } = this.#rooms;
    dnsNames.refresh();
    registrar.functionIds.refresh();
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
      this.#isBegun ? this.#rooms.checks.nextDeadlineMs() : NEVER,
      this.#rooms.summaries?.nextDeadlineMs(this.#isBegun) ?? NEVER,
      fabric?.nextDeadlineMs() ?? NEVER,
      departure?.nextDeadlineMs() ?? NEVER,
      rosterFile?.nextDeadlineMs() ?? NEVER,
      snapshots?.nextDeadlineMs() ?? NEVER,
    );
  }

  #begin(time: Time, out: NodeOutput[]): void {
    this.#isBegun = true;
    this.#joined?.snapshots.begin(time);
    this.#hear(this.#joined?.superseded ?? [], time, out);
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
      case "probed":
        return this.#rooms.checks.probed(input.id, input.outcome, time);
      case "resolved":
        return this.#rooms.checks.resolved(input.id);
      case "load":
        return this.#selfTried(this.#self.measured(input.load, time), out);
      case "strangerRefused":
        return this.#tell(this.#refusals.stranger(input.why, input.address, time), out);
      case "unanswered":
        return this.#tell(this.#refusals.unanswered(input.why, input.address, input.isRefused, time), out);
      case "drain":
        this.#isDraining = true;
        this.#self.end();
        this.#rooms.checks.end();
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
      case "maintain":
        return this.#toFabric(input, time, out);
    }
  }

  // ---- own records ----

  #persist(out: NodeOutput[]): void {
    const batch = this.commits.start();
    if (batch !== undefined) out.push({ kind: "persist", batch });
  }

  #persisted(time: Time, out: NodeOutput[]): void {
    const through = this.commits.landed(time);
    this.show(out);
    this.#settle({ kind: "settled", through }, time, out);
    for (const { batch, count } of this.#takenOver) if (batch <= through) out.push({ kind: "takenOver", count });
    this.#takenOver = this.#takenOver.filter(({ batch }) => batch > through);
  }

  /** Answers callers in order. A node confirms that a write is durable only while other nodes accept its start. */
  #settle(settled: Settled, time: Time, out: NodeOutput[]): void {
    if (this.#held.length > 0 || (settled.refusal === undefined && this.mustConfirm(time))) this.#held.push(settled);
    else this.#say(settled, out);
  }

  #say(settled: Settled, out: NodeOutput[]): void {
    const answer = this.#answerOf(settled);
    out.push(answer, ...this.#orders.settled(answer.through, answer.refusal !== undefined));
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

  /** Carries out the orders about own records, and passes the others on to the driver. */
  #obey(output: FabricOutput, time: Time, out: NodeOutput[]): void {
    switch (output.kind) {
      case "changed":
        return this.show(out);
      case "superseded":
        return this.#hear(output.keys as readonly KeyText[], time, out); // oxlint-disable-line typescript/no-unsafe-type-assertion -- keys of records held here
      case "generationLost":
        return this.loseGeneration(output, time, out);
      case "offered":
        return this.#takeOver(output, time);
      case "ordered":
        return this.#maintain(output, time, out);
      case "maintained":
      case "call":
      case "answer":
      case "open":
      case "send":
      case "close":
      case "rest":
      case "readPolicy":
      case "adoptPolicy":
      case "memberChanged":
      case "memberForgotten":
      case "event":
        out.push(output);
    }
  }

  #maintain(ordered: Extract<FabricOutput, { readonly kind: "ordered" }>, time: Time, out: NodeOutput[]): void {
    const answer = this.#orders.ordered(ordered, time);
    if (answer !== undefined) out.push(answer);
    this.#persist(out);
  }

  /** Throws while this node takes no orders of other nodes. */
  #checkOrders(time: Time): void {
    if (this.#isDraining) throw new WaymarkError("draining", "this node stops", { retryMs: RETRY_MS });
    this.standing.checkWrites();
    if (this.mustConfirm(time)) throw new WaymarkError("not_ready", "this node stood still, and waits for others", { retryMs: RETRY_MS });
  }

  /** A node that leaves offers its static entries. This node takes them over, unless it stops too. */
  #takeOver(offer: Extract<FabricOutput, { readonly kind: "offered" }>, time: Time): void {
    if (this.#joined?.departure.hasBegun === true) return;
    const count = this.#rooms.registrar.handOver.take(offer, offer.seqs, time);
    if (count > 0) this.#takenOver.push({ batch: this.commits.durable(), count });
  }

  /** Runs after each input, and orders what has become due. */
  #look(time: Time, out: NodeOutput[]): void {
    if (this.#joined !== undefined) this.#lookAtStanding(this.#joined, time, out);
    this.#lookAtReadiness(out);
    if (this.#self.isDue(time)) out.push({ kind: "measureLoad" });
    if (this.#isBegun) this.#runChecks(time, out);
    if (this.#isBegun) this.#lookAtSummaries(time, out);
    else this.#rooms.summaries?.followPolicy(out);
    if (this.#joined === undefined) return;
    const { departure, rosterFile, snapshots } = this.#joined;
    const snapshot = snapshots.due(time);
    if (snapshot !== undefined) out.push({ kind: "keepSnapshot", ...snapshot, summaries: this.#rooms.summaries?.blocks(time) });
    if (rosterFile.isDue(time)) out.push({ kind: "keepRoster", bytes: rosterFile.bytes() });
    if (departure.hasBegun) this.#orderedBy(departure.step(time), time, out);
  }

  #runChecks(time: Time, out: NodeOutput[]): void {
    const { checks } = this.#rooms;
    for (const order of checks.step(time, this.isReady)) out.push(order);
    for (const change of checks.takeDoubtChanges()) out.push({ kind: "doubt", ...change });
  }

  #lookAtSummaries(time: Time, out: NodeOutput[]): void {
    const { summaries } = this.#rooms;
    if (summaries === undefined || time.monoMs < summaries.nextDeadlineMs(true)) return;
    const { areFactsChanged, isChanged } = summaries.step({ fabric: this.fabric, isReady: this.isReady && !this.#isDraining }, time, out);
    if (areFactsChanged && this.#joined !== undefined) this.#toFabric({ kind: "facts", facts: this.#facts() }, time, out);
    if (isChanged) this.#toFabric({ kind: "tick" }, time, out);
  }

  // ---- standing and readiness ----

  #lookAtStanding({ fabric, facts: { address } }: Joined, time: Time, out: NodeOutput[]): void {
    const { standing, isReady } = this;
    const { clockEvent, event, isLost = false, isContested = false } = standing.look(fabric, { address, isReady }, time);
    this.#tell(clockEvent, out);
    this.#tell(event, out);
    // Watchers would be told what other nodes do not see. Each resumes at another node, from its cursor.
    if (isLost && isReady) this.#endWatches(out);
    if (isContested) this.loseGeneration({ peerNodeId: "", seq: 0 }, time, out);
    if (!standing.takeConfirmed(fabric, time)) return;
    const { refusal } = standing;
    out.push({ kind: "confirmed", ...(refusal !== undefined && { refusal: { error: refusal } }) });
    for (const settled of this.#held.splice(0)) this.#say(settled, out);
  }

  #lookAtReadiness(out: NodeOutput[]): void {
    const hasCaughtUp = this.#joined === undefined || (this.#joined.fabric.isReady && !this.standing.isWaiting);
    if (this.#readiness === "served" && hasCaughtUp) {
      this.#readiness = "caughtUp";
      this.#rooms.policies.isAwaiting = false;
      out.push({ kind: "caughtUp" });
    }
    const { isWhole, isServing } = this;
    // Wakes readers that wait for the end of their snapshot.
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

  /** Other nodes know more of the generation in use than this node does. It takes a new one, unless it is doing so already. */
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
    return { ...this.#joined.facts, generation: this.#rooms.replica.self.generation, ...this.#rooms.summaries?.facts };
  }
}

/** Whether the input comes from another node. */
function isFromOthers({ kind }: NodeInput): boolean {
  return kind === "asked" || kind === "answered" || kind === "opened" || kind === "received" || kind === "closed";
}

/** The fabric of a node that has joined others. Fails for a node that stands alone. */
export function fabricOf({ machine: { fabric } }: { readonly machine: Pick<NodeMachine, "fabric"> }): Fabric {
  assert(fabric !== undefined, "the fabric is open");
  return fabric;
}
