/** Builds the parts of a node's machine and lists them in the order in which they run. */
import type { KeyText } from "../../../catalog/record/record.ts";
import type { Replica } from "../../../catalog/replica/replica.ts";
import type { HealthChecks } from "../../../discovery/checks/checks.ts";
import type { DnsNames } from "../../../discovery/dns-names.ts";
import type { Fanout } from "../../../discovery/fanout.ts";
import type { Registrar } from "../../../discovery/registrar/registrar.ts";
import type { Fabric } from "../../../fabric/fabric.ts";
import { eventOutput, type FabricInput, type FabricOutput } from "../../../fabric/io-types.ts";
import type { MemberFacts } from "../../../fabric/wire/messages.ts";
import { TokenBuckets } from "../../../lib/buckets/token-bucket.ts";
import { assert } from "../../../lib/errors.ts";
import { NEVER, type Time } from "../../../lib/machine.ts";
import { MachineParts } from "../../../lib/machine-part.ts";
import type { Metrics } from "../../../lib/metrics/metrics.ts";
import type { PolicyEngine } from "../../../policy/versions/engine.ts";
import type { NodeHandlers, NodeOutput, NodePart, NodePartList } from "../../core-io.ts";
import type { NodeLimits } from "../../limits.ts";
import { type DepartureOrders, NodeDeparture } from "../departure.ts";
import { NodeDrain } from "../drain.ts";
import { GenerationRenewal } from "../generation-renewal.ts";
import { PeerActivity } from "../peer-activity.ts";
import type { NodeSummaries } from "../regions/summaries.ts";
import { RemotePolicy } from "../remote-policy.ts";
import { RosterFile } from "../roster-file.ts";
import { SelfEntry } from "../self-entry.ts";
import { type SnapshotScheduleOptions, SnapshotScheduler } from "../snapshots.ts";
import { WriteEligibility } from "../write-eligibility.ts";
import { NodeReadiness } from "./readiness.ts";
import { NodeWrites } from "./writes.ts";

export interface NodeRooms {
  readonly replica: Replica;
  readonly registrar: Registrar;
  readonly fanout: Fanout;
  readonly dnsNames: Pick<DnsNames, "refresh">;
  readonly policies: Pick<PolicyEngine, "isAwaiting" | "place">;
  readonly metrics: Metrics;
  readonly limits: Pick<NodeLimits, "nextDeadlineMs" | "tick">;
  readonly checks: HealthChecks;
  /** Undefined on a node without summaries. */
  readonly summaries?: NodeSummaries | undefined;
  /** For this time (ms), clients can have the addresses of this node in their caches. */
  readonly addressesMs: number;
  /** Whether read workers serve watches. */
  readonly hasWorkers: boolean;
  /** Whether the settings name seed nodes. If so, this node refuses writes until it knows the clocks of other nodes. */
  readonly hasSeeds: boolean;
  /** Makes a generation. Generations grow with time and are unique. */
  readonly newGeneration: (time: Time) => number;
}

/** Data and options that a node needs to join others. */
export interface JoinOptions {
  readonly fabric: Fabric;
  /** The member record that this node announces. The generation in the record comes from the replica. */
  readonly facts: MemberFacts;
  /** Own live records that are hidden by records in the snapshot of other nodes. The node ends the hidden records when it begins. */
  readonly superseded: readonly KeyText[];
  readonly snapshots: SnapshotScheduleOptions;
}

/** Parts of a node that has peers. */
interface JoinedParts extends Omit<JoinOptions, "snapshots"> {
  readonly snapshots: SnapshotScheduler;
  readonly departure: NodeDeparture;
  readonly activity: PeerActivity;
}

export class NodeParts {
  readonly list: NodePartList = new MachineParts();
  readonly rooms: NodeRooms;
  readonly writeEligibility: WriteEligibility;
  readonly readiness: NodeReadiness;
  readonly writes: NodeWrites;
  readonly remotePolicy = new RemotePolicy(this.list);
  readonly refusals = new RefusalLog();
  readonly self: SelfEntry;
  readonly drain: NodeDrain;
  /** Undefined on a standalone node. */
  joined: JoinedParts | undefined;
  /** The id of the control store that this node shares with others. Empty if there is none, or if the node has not read it. */
  controlStore = "";
  /** The certificate of this node, and the roots that it accepts. */
  security: MemberFacts["security"];

  constructor(rooms: NodeRooms, time: Time) {
    this.rooms = rooms;
    this.writeEligibility = new WriteEligibility(rooms.replica.self.nodeId, rooms.hasSeeds);
    const { writeEligibility } = this;
    this.readiness = new NodeReadiness({ ...rooms, writeEligibility, fabric: () => this.joined?.fabric });
    const facts = () => this.facts();
    const mustConfirm = (now: Time) => this.mustConfirm(now);
    const writing = { ...rooms, writeEligibility, facts, mustConfirm, isDraining: () => this.readiness.isDraining };
    this.writes = new NodeWrites({ ...writing, superseded: () => this.joined?.superseded ?? [] }, time);
    this.self = new SelfEntry(rooms.registrar);
    this.drain = new NodeDrain({
      ...rooms,
      nodeId: rooms.replica.self.nodeId,
      self: this.self,
      takers: () => this.joined?.fabric.leaving.takers() ?? [],
      isServing: () => this.readiness.isServing,
      isWriting: () => rooms.replica.staged.length > 0,
      deliver: (news, at, out) => this.list.deliver(news, at, out),
    });
    this.list.add(rowsOf(this));
  }

  join({ fabric, facts, superseded, snapshots: options }: JoinOptions): void {
    const { replica, registrar, metrics } = this.rooms;
    registrar.handOver.arePeersAt = (originId, seq) => fabric.exchanges.arePeersAt(originId, seq);
    const snapshots = new SnapshotScheduler({ replica, fabric, clusterId: facts.clusterId }, options);
    const departure = new NodeDeparture({ registrar, commits: this.writes.commits, fabric, snapshots });
    this.joined = { fabric, facts, superseded, snapshots, departure, activity: new PeerActivity(fabric, metrics) };
  }

  /** Returns the member record that this node announces to other nodes. */
  facts(): MemberFacts {
    assert(this.joined !== undefined, "the member record was read before the node joined");
    const { joined, controlStore, rooms, security } = this;
    const { generation } = rooms.replica.self;
    const { labels, ...drain } = this.drain.facts();
    const common = { ...joined.facts, generation, labels: { ...joined.facts.labels, ...labels }, ...drain };
    return { ...common, ...(controlStore !== "" && { controlStore }), ...(security && { security }), ...rooms.summaries?.facts };
  }

  /** Whether a write must wait for `confirmed`: this process was paused, and other nodes may have accepted another process instance since. */
  mustConfirm(time: Time): boolean {
    return this.joined !== undefined && this.writeEligibility.mustConfirm(this.joined.fabric, time);
  }
}

/** Returns the parts of a node in the order in which they run. To add a part, add a row to this list. */
function rowsOf(core: NodeParts): readonly NodePart[] {
  const { limits } = core.rooms;
  return [
    core.writes,
    { handle: { tick: (_, time) => limits.tick(time) }, nextDeadlineMs: () => limits.nextDeadlineMs() },
    generationsRow(core),
    fabricRow(core),
    core.remotePolicy,
    core.refusals,
    eligibilityRow(core),
    core.readiness,
    core.self,
    checksRow(core),
    summariesRow(core),
    snapshotsRow(core),
    new RosterFile(() => core.joined),
    drainRow(core),
    departureRow(core),
    // Writes the records that the other parts have staged.
    { look: (_, out) => core.writes.persist(out) },
  ];
}

/** Renews the generation. A new generation is first written to the journal. After that, all own records continue under it. */
function generationsRow(core: NodeParts): NodePart {
  const { replica, newGeneration } = core.rooms;
  const generations = new GenerationRenewal(replica, newGeneration);
  const keep = (generation: number | undefined, out: NodeOutput[]) => {
    if (generation !== undefined) out.push({ kind: "keepGeneration", generation });
  };
  return {
    handle: {
      tick: (_, time, out) => keep(generations.tick(time), out),
      generationLost: ({ peerNodeId, seq, above }, time, out) => {
        const why = { peerNodeId, seq, ...(above !== undefined && { above }) };
        if (core.joined?.departure.hasBegun === true) return;
        const generation = generations.lost(why, time);
        if (generation !== undefined) out.push({ kind: "generationLost", why, generation });
        keep(generation, out);
      },
      generationKept: ({ generation }, time, out) => {
        generations.written(generation);
        core.writes.show(out);
        if (core.joined !== undefined) core.list.deliver({ kind: "facts", facts: core.facts() }, time, out);
      },
      generationNotKept: (_, time) => generations.refused(time),
    },
    nextDeadlineMs: () => generations.nextDeadlineMs(),
  };
}

/** Runs the fabric, which is a machine of its own. The outputs of the fabric go to the other parts or leave the node's machine. */
function fabricRow(core: NodeParts): NodePart {
  const { list, rooms } = core;
  const give = (input: FabricInput, time: Time, out: NodeOutput[]) => {
    const { joined } = core;
    if (joined === undefined || !list.isBegun) return;
    const outputs: FabricOutput[] = [];
    joined.fabric.handle(input, time, outputs);
    joined.activity.handled(input, outputs, time);
    for (const output of outputs) list.deliver(output, time, out);
  };
  const announce = (time: Time, out: NodeOutput[]) => {
    if (core.joined !== undefined) list.deliver({ kind: "facts", facts: core.facts() }, time, out);
  };
  return {
    handle: {
      tick: give,
      asked: give,
      answered: give,
      opened: give,
      received: give,
      closed: give,
      lagged: give,
      facts: give,
      forget: give,
      policy: give,
      policyRead: give,
      policyRefused: give,
      leaving: give,
      offer: give,
      maintain: give,
      stop: give,
      summariesChanged: (_, time, out) => give({ kind: "tick" }, time, out),
      // The members of a cluster find out if they use different control stores.
      controlStore: ({ id }, time, out) => {
        core.controlStore = id;
        announce(time, out);
      },
      security: ({ security }, time, out) => {
        // The node announces its certificate when it begins, and then each change.
        if (!list.isBegun || JSON.stringify(security) === JSON.stringify(core.security)) return;
        core.security = security;
        announce(time, out);
      },
    },
    begin: (time, out) => {
      give({ kind: "policy", head: rooms.policies.place }, time, out);
      give({ kind: "tick" }, time, out);
    },
    nextDeadlineMs: () => (list.isBegun ? (core.joined?.fabric.nextDeadlineMs() ?? NEVER) : NEVER),
  };
}

function eligibilityRow(core: NodeParts): NodePart {
  const { writeEligibility, readiness, writes, list } = core;
  return {
    look: (time, out) => {
      if (core.joined === undefined) return;
      const { fabric, facts } = core.joined;
      const { isReady } = readiness;
      const look = writeEligibility.look(fabric, { address: facts.address, isReady }, time);
      pushEvent(look.clockEvent, out);
      pushEvent(look.event, out);
      // From now on, other nodes reject the writes of this node. Watchers must not see those writes, so they are made to resume on another node.
      if (look.isLost === true && isReady) readiness.endWatches(out);
      if (look.isContested === true) list.deliver({ kind: "generationLost", peerNodeId: "", seq: 0 }, time, out);
      if (writeEligibility.takeConfirmed(fabric, time)) writes.confirmed(out);
    },
  };
}

function checksRow({ list, readiness, rooms: { checks } }: NodeParts): NodePart {
  return {
    handle: {
      probed: ({ id, outcome }, time) => checks.probed(id, outcome, time),
      resolved: ({ id }) => checks.resolved(id),
    },
    look: (time, out) => {
      if (!list.isBegun) return;
      for (const order of checks.step(time, readiness.isReady)) out.push(order);
      for (const change of checks.takeDoubtChanges()) out.push({ kind: "doubt", ...change });
    },
    nextDeadlineMs: () => (list.isBegun ? checks.nextDeadlineMs() : NEVER),
    drain: () => checks.end(),
    postpone: () => checks.onProcessPause(),
  };
}

function summariesRow(core: NodeParts): NodePart {
  const { list, readiness } = core;
  const { summaries } = core.rooms;
  if (summaries === undefined) return {};
  return {
    look: (time, out) => {
      if (!list.isBegun) {
        summaries.followPolicy(out);
        return;
      }
      if (time.monoMs < summaries.nextDeadlineMs(true)) return;
      const isReady = readiness.isReady && !readiness.isDraining;
      const { areFactsChanged, isChanged } = summaries.step({ fabric: core.joined?.fabric, isReady }, time, out);
      if (areFactsChanged && core.joined !== undefined) list.deliver({ kind: "facts", facts: core.facts() }, time, out);
      if (isChanged) list.deliver({ kind: "summariesChanged" }, time, out);
    },
    nextDeadlineMs: () => summaries.nextDeadlineMs(list.isBegun),
    postpone: (byMs, time) => summaries.onProcessPause(byMs, time),
  };
}

function snapshotsRow(core: NodeParts): NodePart {
  return {
    handle: { snapshotKept: ({ isKept }) => core.joined?.snapshots.kept(isKept) },
    begin: (time) => core.joined?.snapshots.begin(time),
    look: (time, out) => {
      const snapshot = core.joined?.snapshots.due(time);
      if (snapshot !== undefined) out.push({ kind: "keepSnapshot", ...snapshot, summaries: core.rooms.summaries?.blocks(time) });
    },
    nextDeadlineMs: () => core.joined?.snapshots.nextDeadlineMs() ?? NEVER,
  };
}

/** Follows the desired state of this node, and announces it to the other nodes, or on a standalone node to its own readers of members. */
function drainRow(core: NodeParts): NodePart {
  const { drain, list } = core;
  return {
    handle: drain.handle,
    look: (time, out) => {
      drain.look(time, out);
      if (!list.isBegun || !drain.takeNews(time)) return;
      if (core.joined === undefined) out.push({ kind: "selfChanged" });
      else list.deliver({ kind: "facts", facts: core.facts() }, time, out);
    },
    nextDeadlineMs: () => drain.nextDeadlineMs(),
  };
}

function departureRow(core: NodeParts): NodePart {
  const { list, writes } = core;
  const obey = ({ inputs, handedOver, gone }: DepartureOrders, time: Time, out: NodeOutput[]) => {
    if (handedOver !== undefined) {
      out.push({ kind: "handedOver", ...handedOver });
      if (handedOver.leftCount > 0) list.deliver({ kind: "facts", facts: { ...core.facts(), keepsEntries: true } }, time, out);
    }
    for (const input of inputs) list.deliver(input, time, out);
    if (gone !== undefined) out.push({ kind: "gone", reason: gone });
  };
  return {
    handle: {
      depart: ({ how, withinMs }, time, out) => {
        const { joined } = core;
        if (joined === undefined || !list.isBegun) out.push({ kind: "gone", reason: "restart" });
        else obey(joined.departure.begin(how === "leave" && joined.fabric.hasClusterPeers, withinMs, time), time, out);
      },
      notPersisted: (_, time) => core.joined?.departure.refused(time),
      // A node that is stopping does not take over entries.
      offered: (offer, time) => {
        if (core.joined?.departure.hasBegun !== true) writes.takeOver(offer, time);
      },
    },
    look: (time, out) => {
      const { departure } = core.joined ?? {};
      if (departure?.hasBegun === true) obey(departure.step(time), time, out);
    },
    nextDeadlineMs: () => core.joined?.departure.nextDeadlineMs() ?? NEVER,
  };
}

function pushEvent(event: NodeOutput | undefined, out: NodeOutput[]): void {
  if (event !== undefined) out.push(event);
}

/** Maximum number of rejected unknown peers that are logged per `WINDOW_MS`. */
const MAX_REFUSALS = 10;
const WINDOW_MS = 60_000;
/** Minimum time between two log lines about the same unreachable address, in ms. */
const UNANSWERED_WINDOW_MS = 600_000;

/** Decides which rejected unknown peers and which unreachable addresses are logged. All other peers and addresses are only counted. */
export class RefusalLog implements NodePart {
  /** Number of unknown peers that were rejected before their call reached the fabric. */
  refusedCount = 0;
  #windowMonoMs = 0;
  #windowCount = 0;
  readonly #unanswered = new TokenBuckets({ limit: 1, windowMs: UNANSWERED_WINDOW_MS, maxKeys: 256 });

  readonly handle: NodeHandlers = {
    strangerRefused: ({ why, address }, { monoMs }, out) => {
      this.refusedCount += 1;
      if (monoMs - this.#windowMonoMs > WINDOW_MS) {
        this.#windowMonoMs = monoMs;
        this.#windowCount = 0;
      }
      this.#windowCount += 1;
      if (this.#windowCount > MAX_REFUSALS) return;
      out.push(eventOutput("stranger_refused", "warn", { why, address, count: this.refusedCount }, { isAudited: true }));
    },
    // A node that cannot join must log the reason. Dead nodes are called repeatedly, so each unreachable address is logged only occasionally.
    unanswered: ({ why, address, isRefused }, { monoMs }, out) => {
      if (this.#unanswered.take(`${isRefused} ${address}`, monoMs) !== 0) return;
      out.push(eventOutput(isRefused ? "refused_by_peer" : "peer_not_reached", isRefused ? "warn" : "info", { address, why }));
    },
  };
}
