/**
 * One simulated node: a host with a disk, on which processes run one after the other. A process has the rooms and the machine of a real node, as
 * `openRooms` builds them, on a journal, clocks and a network of the simulator.
 */
import type { WriteBatch } from "../../src/catalog/batch.ts";
import type { EntryStamper } from "../../src/catalog/entry/codec.ts";
import type { KeyText } from "../../src/catalog/record/record.ts";
import type { Replica } from "../../src/catalog/replica/replica.ts";
import { PASSED } from "../../src/discovery/checks/threshold.ts";
import type { Fanout } from "../../src/discovery/fanout.ts";
import type { ChangeNumber, SwitchQueue } from "../../src/discovery/policy-switch-queue.ts";
import type { CatalogReads } from "../../src/discovery/reads.ts";
import { type BatchNumber, NOTHING_TO_WAIT_FOR } from "../../src/discovery/registrar/commit-cycle.ts";
import type { Registrar } from "../../src/discovery/registrar/registrar.ts";
import type { Fabric } from "../../src/fabric/fabric.ts";
import type { FabricEvent } from "../../src/fabric/io-types.ts";
import { isListed } from "../../src/fabric/membership/members.ts";
import type { FabricOptions } from "../../src/fabric/options.ts";
import type {
  FabricCallRequest,
  FabricCallResponse,
  Goodbye,
  LinkFrame,
  MemberStatus,
  MemberUpdate,
  PeerIdentity,
} from "../../src/fabric/wire/messages.ts";
import type { Hlc } from "../../src/lib/hlc.ts";
import { NEVER, type Time } from "../../src/lib/machine.ts";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import type { Rng } from "../../src/lib/rng.ts";
import { STALL_CHECK_MS as PATIENT_LOOK_MS, StallTracker } from "../../src/lib/stall-aware-clock.ts";
import { openRooms, type RestoredNode, type RestoredRooms, type RoomsOptions } from "../../src/node/core/rooms.ts";
import type { WarmStart } from "../../src/node/core/warm-start.ts";
import { CLOCK_CHECK_MS } from "../../src/node/core/write-eligibility.ts";
import type { NodeMachine } from "../../src/node/core.ts";
import type { NodeInput, NodeOutput } from "../../src/node/core-io.ts";
import type { PolicyEngine } from "../../src/policy/versions/engine.ts";
import { HAND_OVER_MS, openSimFabric } from "./fabric-of.ts";
import { addressOf, type Host, type Network } from "./network.ts";
import { SimTasks } from "./policies.ts";
import type { Regional } from "./regions/regional.ts";
import { type Place, placeOf, SimCopy } from "./sim-copy.ts";
import { SimDisk } from "./sim-disk.ts";
import { SimLeases } from "./sim-leases.ts";
import { settingsOf } from "./sim-settings.ts";
import { numberOf, type Trace } from "./trace.ts";
import { SimWaking, SLICED_NAMES } from "./waking.ts";
import { keepSnapshot, restoreWarm } from "./warm-start.ts";
import { wordsOf } from "./wire.ts";
import type { World } from "./world.ts";

/** Wall time of the world's first instant. */
export const WALL_START_MS = 1_760_000_000_000;

/** What a node tells the invariants of what it does. */
export interface Watching {
  /** A process has started from its disk. */
  started(node: SimNode, process: SimProcess): void;
  /** A process is gone, however it ended. */
  ended(node: SimNode, process: SimProcess): void;
  /** A turn of the event loop is over. */
  turned(node: SimNode, process: SimProcess): void;
  event(node: SimNode, event: FabricEvent): void;
  /** A node told its operator that a record of another node ended a static entry. */
  staticEnded(key: KeyText): void;
  /** A node sends records to a peer. `peer` has the generation that the peer greeted with. */
  gave(node: SimNode, process: SimProcess, peer: { readonly nodeId: string; readonly generation: number }): void;
  /** A change of policy is complete. */
  shown(node: SimNode, process: SimProcess): void;
  /** A lease ran out before its ttl had passed. */
  endedEarly(node: SimNode, detail: string): void;
}

export interface SimNodeOptions {
  readonly index: number;
  readonly nodeId: string;
  readonly clusterId: string;
  readonly region: string;
  readonly zone: string;
  readonly seeds: readonly string[];
  readonly fabric: FabricOptions;
  readonly tombstoneTtlMs: number;
  readonly minTombstones: number;
  /** The least time until the journal answers; the most is twice as long. */
  readonly commitMs: number;
  /** Time between two snapshots for a warm start; 0: none. */
  readonly snapshotMs: number;
  /** Of a node that exchanges summaries with other regions. */
  readonly regional?: Regional | undefined;
}

/** What the operators' records are told of processes. */
export interface OperatorHooks {
  started(process: SimProcess): void;
  memberChanged(process: SimProcess, update: MemberUpdate): void;
}

export interface SimParts {
  readonly world: World;
  readonly network: Network;
  readonly trace: Trace;
  readonly rng: Rng;
  readonly watching: Watching;
  /** Undefined in worlds without operators. */
  readonly operators?: OperatorHooks | undefined;
}

/** The most ticks of one process in one instant. A machine that asks for more asks for them without end. */
const MAX_TICKS = 1000;

/** The most time between two slices of work on many records, so that other events fall between them. */
const SWEEP_APART_MS = 200;
/** The most time between two slices of a change of policy. */
const SLICE_APART_MS = 400;
/** Time until the file of the members is on disk. */
const ROSTER_MS = 5;

/** Kinds of events in the hash of the trace. */
const MARK = { input: 1, commit: 2, tick: 3, crash: 4, start: 5 } as const;

type Done = (isDurable: boolean) => void;

export class SimProcess {
  readonly node: SimNode;
  readonly replica: Replica;
  readonly leases: SimLeases;
  readonly stamper: EntryStamper;
  readonly hlc: Hlc;
  readonly registrar: Registrar;
  readonly policies: PolicyEngine;
  readonly tasks: SimTasks;
  readonly reads: CatalogReads;
  readonly fanout: Fanout;
  readonly warm: WarmStart | undefined;
  /** The age of the snapshot at the start, as the disk says. */
  readonly startAgeMs: number;
  readonly fabric: Fabric;
  readonly bootMs: number;
  /** How wrong the clock was at the start. The incarnation comes from that clock. */
  readonly bootSkewMs: number;
  readonly boot: string;
  readonly machine: NodeMachine;
  /** The batch that the journal has not answered yet. */
  flight: WriteBatch | undefined;
  #waiting: { readonly batch: BatchNumber; readonly done: Done }[] = [];
  /** The journal refuses everything. */
  isDiskFull = false;
  #timerMs = Number.POSITIVE_INFINITY;
  readonly #outputs: NodeOutput[] = [];
  #isDraining = false;
  readonly switches: SwitchQueue;
  readonly rooms: RestoredRooms;
  /** What puts the next policies in force, when watches have heard of the one before. */
  readonly #unheard: (() => void)[] = [];
  /** What waits until a change of policy is shown. */
  #unshown: { readonly change: ChangeNumber; readonly shown: () => void }[] = [];
  readonly waking: SimWaking;
  /** A copy of the replica, as a read worker has it. Every other node has one: it costs a quarter of a world. */
  copy: SimCopy | undefined;
  #copyCount = 0;
  /** As a place where clients read. */
  readonly place: Place;
  #tokens = 0;
  #checkedRevision = 0;
  isStopped = false;
  /** When each peer last said goodbye, by the id of its node. */
  readonly goodbyes = new Map<string, number>();
  /** Whether it stops. Clients then no longer reach it. */
  isClosed = false;
  /** The number of its last change when it began to depart. */
  departedSeq: number | undefined;

  constructor(node: SimNode) {
    this.node = node;
    const { disk } = node;
    this.bootMs = node.parts.world.nowMs;
    this.bootSkewMs = node.skewMs;
    this.boot = `n${node.index}-${node.life}`;
    const { boots: earlierBoots } = disk;
    if (earlierBoots !== undefined) disk.boots = [this.boot, ...earlierBoots];
    const onEarly = (detail: string) => node.parts.watching.endedEarly(node, detail);
    const time = this.time();
    this.leases = new SimLeases(() => this.time().monoMs, onEarly);
    const roomsOptions = this.#roomsOptions();
    const opening = openRooms(this.#restored(), roomsOptions, time);
    ({ replica: this.replica, registrar: this.registrar, policies: this.policies, stamper: this.stamper, hlc: this.hlc } = opening.rooms);
    this.tasks = new SimTasks(this);
    for (const row of [...disk.rows.values()].toSorted((a, b) => a.seq - b.seq)) opening.row(row);
    if (opening.renewed !== undefined) disk.generation = opening.renewed;
    ({ rooms: this.rooms } = opening.finish());
    ({ reads: this.reads, fanout: this.fanout, switches: this.switches, machine: this.machine } = this.rooms);
    this.warm = restoreWarm(this);
    this.startAgeMs = Math.max(0, this.time().wallMs - (disk.snapshot?.savedWallMs ?? 0));
    this.waking = new SimWaking(this, this.fanout);
    this.place = placeOf(this);
    if (node.index % 2 === 0) this.renewCopy();
    this.fabric = openSimFabric(this, this.rooms, { settings: roomsOptions.settings, earlierBoots });
  }

  get isReady(): boolean {
    return this.machine.readiness.isReady;
  }

  /** The copy is gone, if there is one, and another begins. */
  renewCopy(): void {
    this.copy?.close();
    this.#copyCount += 1;
    this.copy = new SimCopy(this, this.#copyCount);
  }

  /** Whether readers may be told that they have everything. */
  get isWhole(): boolean {
    return this.machine.readiness.isWhole;
  }

  /** Whether a client that wrote now would neither wait nor be refused. */
  takesWrites(): boolean {
    if (this.machine.mustConfirm(this.time())) return false;
    try {
      this.machine.writeEligibility.checkWrites();
      return true;
    } catch {
      return false;
    }
  }

  /** Origins that it says it does not hold whole. */
  notWhole(): readonly string[] {
    return this.fabric.replication.notWhole().map(({ id }) => id);
  }

  /** `node/generation` of everybody it takes for alive. */
  aliveMembers(): readonly string[] {
    return this.#members((status) => status === "alive");
  }

  /** As `aliveMembers`, with those that it suspects. */
  listedMembers(): readonly string[] {
    return this.#members(isListed);
  }

  /** Whether it takes the node for a member: alive, or suspected. */
  lists(nodeId: string): boolean {
    const status = this.fabric.membership.find(nodeId)?.status;
    return status !== undefined && isListed(status);
  }

  #members(counts: (status: MemberStatus) => boolean): readonly string[] {
    const members = this.fabric.membership.members().filter(({ status }) => counts(status));
    return members.map(({ nodeId, generation }) => `${nodeId}/${generation}`);
  }

  time(): Time {
    const { world } = this.node.parts;
    // Each process starts its own monotonic clock, so that those of two processes are never comparable.
    // Whole milliseconds, as `Date.now()` has them: peers refuse a policy version with a fraction of one.
    return { monoMs: 1000 + world.nowMs - this.bootMs, wallMs: Math.floor(WALL_START_MS + world.nowMs + this.node.skewMs) };
  }

  #restored(): RestoredNode {
    const { disk, options } = this.node;
    const { generation, lastSeq, floor, leases } = disk;
    return { nodeId: options.nodeId, generation, lastSeq, floor, leases: [...leases.values()], boot: this.boot };
  }

  #roomsOptions(): RoomsOptions {
    const { node } = this;
    return {
      settings: settingsOf(node),
      seals: node.options.regional?.seals(this.time()),
      version: "0.0.0",
      history: { maxVersions: 10, maxBytes: 1 << 20 },
      stallClock: {
        nowMs: (monoMs: number) => this.#looked(monoMs).nowMs(monoMs),
        dueMs: (monoMs: number) => this.#looked(monoMs).dueMs(monoMs),
        dueMonoMs: (deadlineMs: number) => this.#stallClock.dueMonoMs(deadlineMs),
      },
      metrics: new Metrics(),
      audit: undefined,
      isMarked: false,
      now: () => this.time(),
      leases: this.leases,
      newGeneration: () => node.newGeneration(),
      newToken: () => `${node.life}-${(this.#tokens += 1)}`,
      random: () => 0.5,
      onAgain: () => this.waking.kick(),
      nameBounds: SLICED_NAMES,
    };
  }

  // ---- turns of the event loop ----

  readonly #stallClock = new StallTracker();
  /** When the machine of a loop that runs is to look at the clock next. */
  #machineLookMs = 1000;
  #lookedMs = 1000;

  /** A loop that runs looks at the clock all the time. A frozen one does not. */
  #looked(monoMs: number): StallTracker {
    for (let atMs = this.#lookedMs + PATIENT_LOOK_MS; atMs < monoMs && !this.node.isFrozen; atMs += PATIENT_LOOK_MS)
      this.#stallClock.nowMs(atMs);
    this.#lookedMs = Math.max(this.#lookedMs, monoMs);
    return this.#stallClock;
  }

  /** To be called when the loop stops and when it goes on. Nobody looks at the clock in between. */
  look(): void {
    const { monoMs, wallMs } = this.time();
    this.#looked(monoMs).nowMs(monoMs);
    if (this.node.isFrozen) return;
    for (; this.#machineLookMs < monoMs; this.#machineLookMs += CLOCK_CHECK_MS)
      this.machine.look({ monoMs: this.#machineLookMs, wallMs }, this.#outputs);
    this.machine.look({ monoMs, wallMs }, this.#outputs);
  }

  /** The loop goes on, and the machine looks at the clock first. */
  thaw(): void {
    const time = this.time();
    this.#machineLookMs = time.monoMs;
    if (!this.machine.look(time, this.#outputs)) return;
    this.#drain();
    this.#turned();
  }

  /** Gives the machine an input, and carries out its orders. */
  input(input: NodeInput): void {
    if (this.isStopped) return;
    this.node.parts.trace.mix(MARK.input, this.node.index, numberOf(input.kind));
    this.machine.handle(input, this.time(), this.#outputs);
    this.#drain();
    this.#turned();
  }

  /** To be called before the fabric gets the goodbye, because the link is gone afterwards. */
  noteGoodbye(link: number, reason: Goodbye): void {
    const nodeId = this.fabric.helloOf(link)?.nodeId;
    const isGoing = reason === "restart" || reason === "leave";
    if (nodeId !== undefined && isGoing && !this.isStopped) this.goodbyes.set(nodeId, this.node.parts.world.nowMs);
  }

  /** Tells the machine that the replica changed. */
  show(): void {
    this.machine.show(this.#outputs);
    this.#drain();
  }

  /** Takes a new generation, as if another start had gone under its id for a while. */
  loseGeneration(): void {
    this.machine.loseGeneration({ peerNodeId: "", seq: 0 }, this.time(), this.#outputs);
    this.#drain();
  }

  /** Asks for the next frame of a link. */
  pull(link: number): LinkFrame | undefined {
    if (this.isStopped) return undefined;
    const frame = this.machine.pull(link, this.time(), this.#outputs);
    const peer = frame?.kind === "records" ? this.fabric.helloOf(link) : undefined;
    if (peer !== undefined) this.node.parts.watching.gave(this.node, this, peer);
    this.#drain();
    return frame;
  }

  /** Carries out outputs in their order. Outputs that come meanwhile follow them. */
  #drain(): void {
    if (this.#isDraining) return;
    this.#isDraining = true;
    for (let i = 0; i < this.#outputs.length; i++) {
      const output = this.#outputs[i];
      if (output !== undefined) this.#do(output);
    }
    this.#outputs.length = 0;
    this.#isDraining = false;
  }

  #do(output: NodeOutput): void {
    const { node } = this;
    const { network, trace } = node.parts;
    switch (output.kind) {
      case "call":
        return network.call(node, output);
      case "answer":
        return node.answer(output.call, output.response);
      case "open":
        return network.open(node, output.link, output.to, output.border !== undefined);
      case "send":
        return network.send(node, output.link);
      case "close":
        return network.close(node, output.link);
      case "rest":
        return network.rest(node, output.link, output.forMs);
      case "summaryExported":
        return node.options.regional?.exported(node, output.draft);
      case "exporters":
      case "summaryRefused":
      case "summaryUnsaid":
        node.options.regional?.told.push(output);
        return trace.say(() => `${node.name} ${JSON.stringify(output)}`);
      case "event":
        trace.say(() => `${node.name} event ${output.event.name} ${JSON.stringify(output.event.detail)}`);
        return node.parts.watching.event(node, output.event);
      case "memberChanged":
        node.parts.operators?.memberChanged(this, output.update);
        return trace.say(() => {
          const { nodeId, generation, status, incarnation, accuser } = output.update;
          return `${node.name} sees ${nodeId}/${generation} ${status} inc=${incarnation}${accuser === "" ? "" : ` by ${accuser}`}`;
        });
      case "linkChanged":
      case "memberForgotten":
        return trace.say(() => `${node.name} forgets ${output.nodeId}`);
      case "persist":
        this.flight = output.batch;
        return this.afterDisk(() => this.#land());
      case "keepGeneration":
        return this.afterDisk(() => this.#keepGeneration(output.generation));
      case "keepRoster":
        return this.#keepRoster(output.bytes);
      case "keepSnapshot":
        return keepSnapshot(this, output);
      case "settled":
        return this.#settle(output.through, output.refusal === undefined);
      case "readPolicy":
        return this.tasks.read(output.number);
      case "adoptPolicy":
        return this.tasks.adopt(output);
      case "probe":
        this.later({ kind: "resolved", id: output.id });
        return this.later({ kind: "probed", id: output.id, outcome: PASSED });
      case "staticEnded":
        return node.parts.watching.staticEnded(output.key);
      case "wake":
        return this.waking.kick();
      case "caughtUp":
        return this.switchPolicy(() => this.later({ kind: "policyShown" }));
      case "standDown":
        return this.later({ kind: "leadersLeft", leaderCount: 0, ownerCount: 0 });
      case "maintained":
      case "summariesFollowed":
      case "generationLost":
      case "takenOver":
      case "handedOver":
      case "gone":
      case "confirmed":
      case "cutProbe":
      case "doubt":
      case "measureLoad":
      case "selfChanged":
      case "selfRefused":
      case "ready":
      case "serving":
        return trace.say(() => `${node.name} ${JSON.stringify(output)}`);
    }
  }

  #turned(): void {
    if (this.isStopped) return;
    this.arm();
    this.node.parts.watching.turned(this.node, this);
  }

  arm(): void {
    const { world } = this.node.parts;
    const offsetMs = world.nowMs - this.time().monoMs;
    const next = this.machine.nextDeadlineMs();
    const due = this.fabric.lifecycle.isSettling ? Math.max(next, this.#sweepMs) : next;
    // Numbers of this size round, so that the two clocks differ a little. What is not due yet gets a moment that is a little later than now.
    const atMs = due > this.time().monoMs ? Math.max(due + offsetMs, world.nowMs + 0.001) : world.nowMs;
    if (atMs >= this.#timerMs || !Number.isFinite(atMs)) return;
    this.#timerMs = atMs;
    const { life } = this.node;
    world.at(atMs, () => {
      if (this.node.life !== life || this.isStopped || this.#timerMs !== atMs) return;
      this.node.enqueue(() => {
        this.#timerMs = Number.POSITIVE_INFINITY;
        this.tick();
      });
    });
  }

  #tickedMs = 0;
  #ticksNow = 0;
  /** While work on many records is left: when its next slice runs. */
  #sweepMs = 0;

  begin(): void {
    this.waking.lookForBookmarks();
    this.input({ kind: "begin" });
    this.input({ kind: "serve" });
    this.node.parts.operators?.started(this);
  }

  tick(): void {
    const time = this.time();
    this.#ticksNow = time.monoMs > this.#tickedMs ? 0 : this.#ticksNow + 1;
    this.#tickedMs = time.monoMs;
    if (this.#ticksNow > MAX_TICKS)
      throw new Error(
        `${this.node.name} is always due: fabric ${this.fabric.nextDeadlineMs()}, leases ${this.registrar.nextDeadlineMs()} at ${time.monoMs}`,
      );
    this.#sweepMs = time.monoMs + 1 + this.node.parts.rng.int(SWEEP_APART_MS);
    this.input({ kind: "tick" });
  }

  // ---- the journal ----

  /** Sends what is staged to the journal. `done` is called when it is on disk and visible, or refused. */
  durable(done: Done): void {
    const batch = this.machine.durable(this.#outputs);
    if (batch === NOTHING_TO_WAIT_FOR) done(true);
    else this.#waiting.push({ batch, done });
    this.#drain();
  }

  #land(): void {
    const { flight } = this;
    this.flight = undefined;
    if (flight === undefined) return;
    this.node.parts.trace.mix(MARK.commit, this.node.index, flight.lastSeq);
    if (this.isDiskFull) {
      this.input({ kind: "notPersisted", error: "the disk is full" });
      return;
    }
    this.node.disk.write(flight);
    this.node.parts.trace.say(
      () =>
        `${this.node.name} commits up to ${flight.lastSeq}: ${flight.puts.map(({ key, seq }) => `${key.replaceAll("\0", "|")} ${seq}`).join("; ")}`,
    );
    this.input({ kind: "persisted" });
  }

  #keepGeneration(generation: number): void {
    if (this.isDiskFull) {
      this.input({ kind: "generationNotKept" });
      return;
    }
    this.node.disk.generation = generation;
    this.node.isRestored = false;
    this.input({ kind: "generationKept", generation });
  }

  /** Draws no random number, so that it does not change the course of other events. */
  #keepRoster(bytes: Uint8Array): void {
    this.pause(ROSTER_MS, () => {
      if (!this.isDiskFull) this.node.disk.roster = bytes;
      this.input({ kind: "rosterKept", isKept: !this.isDiskFull });
    });
  }

  #settle(through: BatchNumber, isDurable: boolean): void {
    const settled = this.#waiting.filter(({ batch }) => batch <= through);
    this.#waiting = this.#waiting.filter(({ batch }) => batch > through);
    for (const { done } of settled) done(isDurable);
  }

  /** Runs `run` when the disk has answered. */
  afterDisk(run: () => void): void {
    const { world, rng } = this.node.parts;
    const { life } = this.node;
    world.after(this.node.options.commitMs * (1 + rng.next()), () => {
      if (this.node.life === life && !this.isStopped) this.node.enqueue(run);
    });
  }

  /** Gives the machine an input in a turn of its own. */
  later(input: NodeInput): void {
    const { life } = this.node;
    this.node.parts.world.after(0, () => {
      if (this.node.life === life) this.node.enqueue(() => this.input(input));
    });
  }

  // ---- policy ----

  /** Runs `run` when the next policy may be put in force. The policy after it has to wait until watches have heard of that one. */
  whenHeard(run: () => void): void {
    this.#unheard.push(run);
    if (this.#unheard.length === 1) this.#nextPolicy();
  }

  #nextPolicy(): void {
    while (this.#unheard.length > 0 && this.switches.isAcknowledged(this.time())) this.#unheard.shift()?.();
    const lookMonoMs = this.switches.nextDeadlineMs();
    if (this.#unheard.length > 0 && lookMonoMs !== NEVER) this.pause(lookMonoMs - this.time().monoMs, () => this.#nextPolicy());
  }

  /** Brings catalog and watches in line with the policy in force, in slices between which anything may happen. */
  switchPolicy(shown: () => void): void {
    const { isRunning } = this.switches;
    const change = this.switches.look();
    if (change > this.switches.shown) this.#unshown.push({ change, shown });
    else shown();
    if (!isRunning && this.switches.isRunning) this.#switchSome();
  }

  #switchSome(): void {
    const { rng } = this.node.parts;
    let hasEnded = false;
    for (let n = rng.int(4); n >= 0 && this.switches.isRunning; n--) if (this.switches.step(1 + rng.int(4), this.time())) hasEnded = true;
    if (hasEnded) this.#shown();
    if (this.switches.isRunning) this.pause(1 + rng.int(SLICE_APART_MS), () => this.#switchSome());
    else this.#nextPolicy();
  }

  #shown(): void {
    this.show();
    const over = this.#unshown.filter(({ change }) => change <= this.switches.shown);
    this.#unshown = this.#unshown.filter(({ change }) => change > this.switches.shown);
    if (over.length > 0) this.node.parts.watching.shown(this.node, this);
    for (const { shown } of over) shown();
  }

  /** Runs `run` in a turn of its own after `ms`, if the process still lives. */
  pause(ms: number, run: () => void): void {
    const { life } = this.node;
    this.node.parts.world.after(ms, () => {
      if (this.node.life === life && !this.isStopped) this.node.enqueue(run);
    });
  }

  /** Records touched since the last call; for the invariants. */
  forEachNew(visit: Parameters<Replica["changesSince"]>[1]): void {
    if (this.replica.revision === this.#checkedRevision) return;
    this.replica.changesSince(this.#checkedRevision, visit);
    this.#checkedRevision = this.replica.revision;
  }
}

export class SimNode implements Host {
  readonly options: SimNodeOptions;
  readonly parts: SimParts;
  readonly index: number;
  readonly address: string;
  /** Every third node soon forgets what was seen of a key before. */
  readonly pastTouches: number;
  readonly identity: { readonly nodeId: string; readonly clusterId: string };
  readonly clusterToken = "";
  disk: SimDisk;
  process: SimProcess | undefined;
  life = 0;
  isSilent = false;
  isFrozen = false;
  /** Whether it runs from a copy of its disk that is older than what it said. */
  isRestored = false;
  skewMs = 0;
  /** The most records of one origin that its next process takes. Undefined: any number. */
  maxOriginRecords: number | undefined;
  /** Records of differences that arrived, and those that changed something. */
  readonly differences = { received: 0, applied: 0 };
  #frozenSinceMs = 0;
  #inbox: (() => void)[] = [];
  readonly #asked = new Map<number, (response: FabricCallResponse | undefined) => void>();
  #nextAsked = 1;
  #generations = 0;

  constructor(options: SimNodeOptions, parts: SimParts) {
    this.options = options;
    this.parts = parts;
    this.index = options.index;
    this.pastTouches = this.index % 3 === 2 ? 8 : 100_000;
    this.address = addressOf(options.index);
    this.identity = { nodeId: options.nodeId, clusterId: options.clusterId };
    this.disk = new SimDisk(this.newGeneration());
  }

  get name(): string {
    return this.options.nodeId;
  }

  get isUp(): boolean {
    return this.process !== undefined;
  }

  /** A generation that is greater than all before, as the seconds since 1970 would be. */
  newGeneration(): number {
    this.#generations += 1;
    return 1000 * this.#generations + this.options.index;
  }

  /** Calls handed over and not answered yet. */
  get askedCount(): number {
    return this.#asked.size;
  }

  // ---- lives ----

  start(): void {
    if (this.process !== undefined) return;
    this.life += 1;
    this.isSilent = false;
    this.isFrozen = false;
    this.#inbox = [];
    this.#asked.clear();
    this.parts.trace.mix(MARK.start, this.index, this.life);
    const process = new SimProcess(this);
    this.parts.trace.say(() => `${this.name} starts, generation ${process.replica.self.generation}, seq ${this.disk.lastSeq}`);
    this.process = process;
    this.parts.watching.started(this, process);
    process.begin();
  }

  /** Ends the process without a word. `isSilent`: the host is gone too. What was on its way to the disk may have got there. */
  crash(how: { readonly isSilent: boolean; readonly isBatchKept: boolean; readonly isDiskLost: boolean }): void {
    const { process } = this;
    if (process === undefined) return;
    if (how.isBatchKept && process.flight !== undefined && !process.isDiskFull) this.disk.write(process.flight);
    if (how.isBatchKept && !process.isDiskFull) process.tasks.store.crashed();
    if (how.isDiskLost) this.disk = new SimDisk(this.newGeneration());
    this.parts.trace.say(() => `${this.name} crashes ${JSON.stringify(how)}`);
    this.#gone(how.isSilent);
  }

  #gone(isSilent: boolean): void {
    const { process } = this;
    if (process !== undefined) process.isStopped = true;
    this.parts.trace.mix(MARK.crash, this.index, isSilent ? 1 : 0);
    this.process = undefined;
    if (process !== undefined) this.parts.watching.ended(this, process);
    this.isSilent = isSilent;
    this.isFrozen = false;
    this.#inbox = [];
    this.#asked.clear();
    this.parts.network.hostDown(this);
  }

  /** Whether it may be told to stop: it runs, is not frozen, and does not stop already. */
  get canStop(): boolean {
    return this.process !== undefined && !this.process.isClosed && !this.isFrozen;
  }

  /** Stops in good order. */
  stop(reason: "leave" | "restart", lingerMs: number, handOverMs = HAND_OVER_MS): void {
    const { process, life } = this;
    if (process === undefined || !this.canStop) return;
    this.parts.trace.say(() => `${this.name} stops (${reason})`);
    process.isClosed = true;
    const depart = (how: "leave" | "keep", withinMs: number) => {
      process.departedSeq = process.replica.lastSeq;
      process.input({ kind: "depart", how, withinMs });
    };
    // The open calls end first.
    if (reason === "leave") process.durable(() => depart("leave", 2 * handOverMs));
    else process.durable(() => depart("keep", 2 * this.options.fabric.stopTimeoutMs));
    this.parts.world.after(lingerMs, () => {
      if (this.life === life && this.process === process) this.#gone(false);
    });
  }

  freeze(): void {
    if (this.process === undefined || this.isFrozen) return;
    this.parts.trace.say(() => `${this.name} freezes`);
    this.process.look();
    this.isFrozen = true;
    this.#frozenSinceMs = this.parts.world.nowMs;
  }

  thaw(): void {
    if (!this.isFrozen) return;
    const lagMs = this.parts.world.nowMs - this.#frozenSinceMs;
    this.parts.trace.say(() => `${this.name} thaws after ${lagMs} ms`);
    this.process?.look();
    this.isFrozen = false;
    const { life } = this;
    this.process?.thaw();
    for (const run of this.#inbox.splice(0)) if (this.life === life && this.process !== undefined) run();
  }

  /** Runs `run` now, or when a frozen process goes on. */
  enqueue(run: () => void): void {
    if (this.isFrozen) this.#inbox.push(run);
    else run();
  }

  // ---- what the network brings ----

  asked(request: FabricCallRequest, identity: PeerIdentity, answer: (response: FabricCallResponse | undefined) => void): void {
    this.enqueue(() => {
      const call = this.#nextAsked++;
      this.#asked.set(call, answer);
      this.process?.input({ kind: "asked", call, request, identity });
    });
  }

  answer(call: number, response: FabricCallResponse | undefined): void {
    const answer = this.#asked.get(call);
    this.#asked.delete(call);
    answer?.(response);
  }

  answered(call: number, response: FabricCallResponse | undefined): void {
    this.enqueue(() => this.process?.input({ kind: "answered", call, response }));
  }

  opened(link: number, isIncoming: boolean, identity: PeerIdentity): void {
    this.enqueue(() => this.process?.input({ kind: "opened", link, isIncoming, identity }));
  }

  received(link: number, frame: LinkFrame, isTaken: () => void, isCopy: boolean): void {
    this.enqueue(() => {
      this.parts.trace.say(() => `${this.name} gets ${wordsOf(frame)} on ${link}`);
      const { receivedRecords = 0, appliedRecords = 0, refusedRecords = 0 } = this.process?.fabric.replication.stats ?? {};
      if (frame.kind === "goodbye") this.process?.noteGoodbye(link, frame.reason);
      this.process?.input({ kind: "received", link, frame });
      if (frame.kind === "records" && !frame.frame.isComplete && !isCopy && this.process !== undefined) {
        const { stats } = this.process.fabric.replication;
        // What limits of this node refuse is known here no more than before.
        this.differences.received += stats.receivedRecords - receivedRecords - (stats.refusedRecords - refusedRecords);
        this.differences.applied += stats.appliedRecords - appliedRecords;
      }
      isTaken();
    });
  }

  closed(link: number, detail: string): void {
    this.enqueue(() => this.process?.input({ kind: "closed", link, detail }));
  }

  pull(link: number): LinkFrame | undefined {
    return this.isFrozen ? undefined : this.process?.pull(link);
  }
}
