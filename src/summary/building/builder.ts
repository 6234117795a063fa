/**
 * Makes what the own cluster tells others of its services: driven by changes, held down, by one exporter a service (docs/design/summaries.md, Building). It makes
 * drafts, and reads back what is held of them, so it does not matter which node sent them.
 */
import { instanceCount } from "../../catalog/query/instances.ts";
import { nameOfKey } from "../../catalog/record/record.ts";
import type { StoredRecord } from "../../catalog/record/stored-record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { PolicySource } from "../../policy/set/verdict.ts";
import { NO_POLICY, type Policy } from "../../policy/set/verdict.ts";
import { recordKey, summaryKeyOf } from "../keys.ts";
import type { Channel, SaidUnder, SummaryKey } from "../summary.ts";
import { Counting } from "./counting.ts";
import { type Draft, draftOf, type Sent, said, withdrawalOf } from "./drafts.ts";
import { Exporters } from "./exporters.ts";
import { type ChangingReplica, NameChanges, NameSweep, RecordWalk } from "./names.ts";
import { CHANNELS, type ExportOptions, Outlets, type Permission } from "./outlets.ts";
import { Rekeying } from "./rekeying.ts";
import { NO_SCOPE, type Service, Services } from "./services.ts";

/** Changes are read this often at most, so that entries that come one after the other are counted together. */
const READ_INTERVAL_MS = 50;
/** While a window is to open or close, the wall clock is looked at this often, because somebody may set it. */
const CLOCK_LOOK_MS = 500;
/** What was sent and is not held is sent again after this time. */
const RETRY_MS = 60_000;
/** Changes that are read, and records of a walk that are looked at, in one tick. */
const READ_AT_A_TIME = 4096;
const SWEPT_AT_A_TIME = 512;
/** Entries that are counted in one tick, two to three ms. To look at a service costs as much as some more. */
const COUNTED_AT_A_TIME = 2048;
const LOOK_COST = 32;
/** What is sent is numbered, signed and held in the same step: some 0.15 ms. */
const DRAFT_COST = 64;

/** What is held of the own cluster's summaries, whichever node made them. */
export interface OwnSummaries {
  readonly replica: ChangingReplica & Pick<Replica, "self">;
  /** The newest of the key, also a withdrawal while it is remembered. */
  find(key: SummaryKey, time: Time): Sent | undefined;
  /** Whether a record is what the cluster says. One that another node merely holds for those that sign is not. */
  counts(stored: StoredRecord, time: Time): boolean;
  /** Of the key with which this node signs now; empty without one. */
  readonly keyId: string;
}

export interface BuilderParts {
  readonly catalog: ChangingReplica & Pick<Replica, "slab" | "winner">;
  readonly own: OwnSummaries;
  /** The policy in force. */
  readonly policies: PolicySource;
}

export interface BuilderOptions extends ExportOptions {
  readonly nodeId: string;
  readonly holdDownMs: number;
  readonly exportIntervalMs: number;
  /** Entries that are counted in one tick. */
  readonly countedAtATime?: number;
}

/**
 * What this node may send. `exporting`: it has the key, is ready, in step, and nothing protects orphans. `withholding`: it has the key, but it may see only a part, so it
 * only takes back what the policy denies. `silent`: it sends nothing, because it has no key or does not know what it missed.
 */
export type Standing = "exporting" | "withholding" | "silent";

export interface Following {
  /** The members of the cluster that say that they export, with or without this one. */
  readonly members: readonly string[];
  readonly standing: Standing;
}

/** The drafts of one tick are exported, or refused, before the next tick. */
export class Builder {
  /** How often a change had to wait. */
  heldDownCount = 0;
  readonly #parts: BuilderParts;
  readonly #options: BuilderOptions;
  readonly #services = new Services();
  readonly #catalogChanges: NameChanges;
  readonly #ownChanges: NameChanges;
  readonly #catalogSweep: NameSweep;
  /** Reads all that is held of the own cluster, also what is hidden here, for example because the policy denies it. */
  readonly #ownWalk: RecordWalk;
  #standing: Standing = "silent";
  #members = new Exporters([]);
  /** The members and this node. */
  #candidates = new Exporters([]);
  readonly #rekeying: Rekeying;
  #policy: Policy | undefined;
  #outlets: Outlets;
  /** The count that is under way. */
  #running: { readonly service: Service; readonly counting: Counting } | undefined;
  #ticked: Time = { monoMs: 0, wallMs: 0 };
  #readMonoMs = Number.NEGATIVE_INFINITY;
  /** The walk under way is because changes were lost, or what is held may not count any more, so that each service is counted again. */
  #isLost = false;
  /** The last tick left something to do. */
  #isMore = false;

  constructor(parts: BuilderParts, options: BuilderOptions) {
    const { catalog, own } = parts;
    const { clusterId } = options.source;
    this.#parts = parts;
    this.#options = options;
    this.#rekeying = new Rekeying(options, own.keyId);
    this.#outlets = new Outlets(NO_POLICY, options);
    this.#catalogChanges = new NameChanges(catalog, clusterId);
    this.#ownChanges = new NameChanges(own.replica, clusterId);
    this.#catalogSweep = new NameSweep(catalog.lookup, clusterId);
    this.#ownWalk = new RecordWalk(own.replica, clusterId);
  }

  /** Services of which something is remembered. */
  get serviceCount(): number {
    return this.#services.size;
  }

  /** Who exports, and what this node may send. To be called whenever that may have changed, and after a standstill. */
  follow({ members, standing }: Following): void {
    if (standing === this.#standing && this.#members.equals(members)) return;
    this.#members = new Exporters(members);
    this.#candidates = new Exporters([...members, this.#options.nodeId]);
    this.#rekeying.handedOver();
    if (standing !== this.#standing) this.#forget();
    this.#standing = standing;
    this.#sweep();
  }

  /** The process stood still, and others may have exported meanwhile: it sends nothing before `follow` says anew what it may. */
  stoodStill(): void {
    this.#standing = "silent";
    this.#forget();
  }

  /** When this node said it last, or found that another one did. Undefined of a service that it does not remember. */
  saidMonoMs(key: SummaryKey): number | undefined {
    return this.#services.find(nameOfKey(recordKey(key)))?.sentMonoMs.get(key.channel);
  }

  /** This node said something again that is not a draft of a tick. Its hold-down begins anew. */
  saidAgain(key: SummaryKey, { monoMs }: Time): void {
    this.#services.find(nameOfKey(recordKey(key)))?.sentMonoMs.set(key.channel, monoMs);
  }

  /** The policy by which this node sends what it says of a namespace, or takes it back. */
  saidUnder(namespace: string, { wallMs }: Time): SaidUnder {
    return said({ policy: this.#outlets.policy, permission: this.#outlets.of(namespace, wallMs) });
  }

  /** How many exporters come before this node in the order for a service. */
  rankOf(key: SummaryKey): number {
    return this.#candidates.rankOf(nameOfKey(recordKey(key)), this.#options.nodeId);
  }

  /** The exporter of a service, or of the beacon, as every node with these members says. Undefined while nobody exports. */
  exporterOf(text: string): string | undefined {
    return this.#members.winnerOf(text);
  }

  nextDeadlineMs(): number {
    if (!this.#isActive) return NEVER;
    const { own, policies } = this.#parts;
    const isOther = policies.policy !== this.#policy || !this.#rekeying.isWith(own.keyId);
    if (this.#isMore || this.#isSweeping || isOther) return this.#ticked.monoMs;
    const isBehind = this.#catalogChanges.isBehind || this.#ownChanges.isBehind;
    const edgeInMs = this.#services.nextEdgeWallMs() - this.#ticked.wallMs;
    return Math.min(
      this.#services.nextDueMonoMs(),
      isBehind ? this.#readMonoMs + READ_INTERVAL_MS : NEVER,
      edgeInMs === NEVER ? NEVER : this.#ticked.monoMs + Math.min(edgeInMs, CLOCK_LOOK_MS),
    );
  }

  /** Does what is due, in a slice, and appends what is to be exported. */
  tick(time: Time, out: Draft[]): void {
    const isSetBack = time.wallMs < this.#ticked.wallMs - CLOCK_LOOK_MS;
    this.#ticked = time;
    this.#isMore = false;
    if (!this.#isActive) return;
    this.#notePolicy();
    // A window that was open may not have begun by this clock.
    if (isSetBack) this.#sweep();
    if (this.#rekeying.begin(this.#parts.own.keyId, time)) this.#countAll();
    this.#read(time);
    const swept = (nameKey: string) => this.#swept(nameKey, time);
    // What is held comes first: the policy may deny it.
    if (this.#ownWalk.isRunning) this.#ownWalk.step(READ_AT_A_TIME, swept);
    else this.#catalogSweep.step(SWEPT_AT_A_TIME, swept);
    if (!this.#isSweeping) this.#isLost = false;
    this.#isMore = !this.#work(time, out);
  }

  /** While the cluster's policy is not known here, nothing may be sent and nothing taken back. */
  get #isActive(): boolean {
    return this.#standing !== "silent" && !this.#parts.policies.policy.isPending;
  }

  get #isSweeping(): boolean {
    return this.#ownWalk.isRunning || this.#catalogSweep.isRunning;
  }

  // ---- what is to be looked at ----

  #forget(): void {
    this.#services.clear();
    this.#running = undefined;
    this.#catalogSweep.stop();
    // A walk finds all that there is.
    this.#catalogChanges.skip();
    this.#ownChanges.skip();
  }

  #sweep(): void {
    if (this.#standing === "silent") return;
    this.#ownWalk.start();
    if (this.#standing === "exporting") this.#catalogSweep.start();
  }

  #countAll(): void {
    this.#isLost = true;
    this.#sweep();
  }

  #notePolicy(): void {
    const { policy } = this.#parts.policies;
    if (policy === this.#policy) return;
    this.#policy = policy;
    this.#outlets = new Outlets(policy, this.#options);
    this.#sweep();
  }

  #read(time: Time): void {
    if (time.monoMs < this.#readMonoMs + READ_INTERVAL_MS) return;
    if (!this.#catalogChanges.isBehind && !this.#ownChanges.isBehind) return;
    this.#readMonoMs = time.monoMs;
    const isExporting = this.#standing === "exporting";
    // Records of a forgotten origin leave no change behind.
    if (isExporting && this.#catalogChanges.isLost) this.#countAll();
    if (isExporting) this.#catalogChanges.take(READ_AT_A_TIME, (nameKey, stored) => this.#catalogChanged(nameKey, stored, time));
    else this.#catalogChanges.skip();
    this.#ownChanges.take(READ_AT_A_TIME, (nameKey, stored) => this.#ownChanged(nameKey, stored, time));
  }

  #swept(nameKey: string, { monoMs }: Time): void {
    const known = this.#services.find(nameKey);
    if (known === undefined) this.#add(nameKey, monoMs);
    else if (this.#isLost) this.#changed(known, monoMs);
    else this.#services.wake(known, monoMs);
  }

  /** Looks at a service of which nothing is remembered, if this node is its exporter. */
  #add(nameKey: string, monoMs: number): void {
    if (this.#wins(nameKey)) this.#countAt(this.#services.add(nameKey), monoMs);
  }

  /** HOT: once a change. */
  #catalogChanged(nameKey: string, stored: StoredRecord, { monoMs }: Time): void {
    const service = this.#services.find(nameKey);
    if (service === undefined) {
      this.#add(nameKey, monoMs);
      return;
    }
    const isFirst = service.firstScope !== NO_SCOPE && (this.#parts.catalog.winner(stored)?.scope ?? 0) >= service.firstScope;
    if (isFirst) this.#countAt(service, monoMs);
    else this.#changed(service, monoMs);
  }

  /** Another node sent a summary of a service that this one exports: it is of the same cluster, and one of them saw a part. Or it is what this node said in an earlier life. */
  #ownChanged(nameKey: string, stored: StoredRecord, time: Time): void {
    const { key, origin } = stored;
    const { monoMs } = time;
    if (this.#services.find(nameKey) === undefined) this.#add(nameKey, monoMs);
    const service = this.#services.find(nameKey);
    if (service === undefined || origin === this.#parts.own.replica.self) return;
    const channel = summaryKeyOf(key)?.channel;
    if (channel !== undefined && this.#parts.own.counts(stored, time)) service.sentMonoMs.set(channel, monoMs);
    this.#services.wake(service, monoMs);
    this.#changed(service, monoMs);
  }

  /** Counts the service when its hold-down is over. */
  #changed(service: Service, monoMs: number): void {
    this.#countAt(service, Math.max(monoMs, service.countedMonoMs + this.#options.holdDownMs));
  }

  #countAt(service: Service, atMonoMs: number): void {
    if (atMonoMs >= service.countAtMonoMs) return;
    if (atMonoMs > this.#ticked.monoMs) this.heldDownCount += 1;
    service.countAtMonoMs = atMonoMs;
    this.#services.wake(service, atMonoMs);
  }

  #wins(nameKey: string): boolean {
    return this.#candidates.winnerOf(nameKey) === this.#options.nodeId;
  }

  // ---- looking and counting ----

  /** Returns whether all that is due was done. */
  #work(time: Time, out: Draft[]): boolean {
    const { slab, lookup } = this.#parts.catalog;
    let left = this.#options.countedAtATime ?? COUNTED_AT_A_TIME;
    while (left > 0) {
      const sentBefore = out.length;
      if (this.#running !== undefined) {
        const { service, counting } = this.#running;
        left = counting.step(lookup, slab, left);
        if (left === 0) return false;
        this.#running = undefined;
        this.#counted(service, counting, time, out);
      } else {
        const service = this.#services.take(time);
        if (service === undefined) return true;
        this.#look(service, time, out);
        left -= LOOK_COST;
      }
      left -= DRAFT_COST * (out.length - sentBefore);
    }
    return false;
  }

  /** Takes back what the policy denies, and begins to count if that is due. */
  #look(service: Service, time: Time, out: Draft[]): void {
    if (!this.#wins(service.nameKey)) {
      this.#services.drop(service);
      return;
    }
    const { monoMs } = time;
    const permission = this.#outlets.of(service.namespace, time.wallMs);
    this.#services.setEdge(service, permission.untilWallMs);
    const sentBefore = out.length;
    const isShown = this.#deny(service, permission, time, out);
    this.#signAgain(service, time, out);
    if (this.#standing !== "exporting" || permission.outlets.length === 0) {
      service.countAtMonoMs = NEVER;
      service.checkAtMonoMs = NEVER;
      service.permissionText = permission.text;
      const isSent = out.length > sentBefore;
      if (!isShown && !isSent && service.againAtMonoMs === NEVER && !this.#isToOpen(service, permission)) this.#services.drop(service);
      return;
    }
    if (service.permissionText !== permission.text) service.countAtMonoMs = monoMs;
    service.permissionText = permission.text;
    if (Math.min(service.countAtMonoMs, service.checkAtMonoMs) <= monoMs) this.#startCount(service, monoMs);
    else this.#rest(service, isShown, time);
  }

  #startCount(service: Service, monoMs: number): void {
    // A change that comes after a mere check need not wait.
    if (service.countAtMonoMs <= monoMs) service.countedMonoMs = monoMs;
    service.countAtMonoMs = NEVER;
    service.checkAtMonoMs = NEVER;
    this.#running = { service, counting: new Counting(this.#options.source.clusterId, service) };
  }

  /** Whether a window may let the service out later. */
  #isToOpen(service: Service, { untilWallMs }: Permission): boolean {
    return this.#standing === "exporting" && untilWallMs !== undefined && instanceCount(this.#parts.catalog.lookup, service) > 0;
  }

  /** A service that is not shown anywhere is remembered for as long as it may not be counted again. */
  #rest(service: Service, isShown: boolean, { monoMs }: Time): void {
    const restsUntilMonoMs = service.countedMonoMs + this.#options.holdDownMs;
    const nextMonoMs = Math.min(service.countAtMonoMs, service.checkAtMonoMs, service.againAtMonoMs);
    if (nextMonoMs !== NEVER) this.#services.wake(service, nextMonoMs);
    else if (!isShown && monoMs < restsUntilMonoMs) this.#services.wake(service, restsUntilMonoMs);
    else if (!isShown) this.#services.drop(service);
  }

  /** Takes back what is shown and has no outlet. Returns whether anything is still shown. */
  #deny(service: Service, permission: Permission, time: Time, out: Draft[]): boolean {
    let isShown = false;
    for (const channel of CHANNELS) {
      const sent = this.#sent(service, channel);
      if (sent?.withdrawn !== false) continue;
      if (permission.outlets.some((outlet) => outlet.channel === channel)) isShown = true;
      else {
        const draft = withdrawalOf(this.#keyOf(service, channel), sent, "denied", { policy: this.#outlets.policy, permission });
        this.#send(service, draft, time, out);
      }
    }
    return isShown;
  }

  /** Says again, as it is held, what another key signed than this node has now: withdrawals too, which are remembered. */
  #signAgain(service: Service, time: Time, out: Draft[]): void {
    service.againAtMonoMs = NEVER;
    if (this.#standing !== "exporting") return;
    for (const channel of CHANNELS) {
      const sent = this.#sent(service, channel);
      if (sent === undefined || this.#rekeying.isWith(sent.keyId)) continue;
      // What was taken back just now waits for its hold-down, and is a withdrawal then.
      const dueMonoMs = this.#rekeying.dueMonoMs(sent, this.#sentAt(service, sent, time));
      if (dueMonoMs > time.monoMs) service.againAtMonoMs = Math.min(service.againAtMonoMs, dueMonoMs);
      else {
        this.#rekeying.done(sent);
        this.#send(service, { facts: sent, cause: "rekeyed" }, time, out);
      }
    }
    if (service.againAtMonoMs !== NEVER) this.#services.wake(service, service.againAtMonoMs);
  }

  /** All entries were counted: sends what is new and may go, and waits with the rest. */
  #counted(service: Service, counting: Counting, time: Time, out: Draft[]): void {
    const permission = this.#outlets.of(service.namespace, time.wallMs);
    const { policy } = this.#outlets;
    service.firstScope = NO_SCOPE;
    let isShown = false;
    for (const outlet of permission.outlets) {
      const { channel, leastScope } = outlet;
      const sent = this.#sent(service, channel);
      const tally = counting.tally(leastScope);
      if (tally.count === 0 && sent === undefined) service.firstScope = Math.min(service.firstScope, leastScope);
      if (tally.count > 0 || sent?.withdrawn === false) isShown = true;
      const draft = draftOf({ key: this.#keyOf(service, channel), tally, outlet, sent }, { policy, permission });
      if (draft === undefined) continue;
      const notBeforeMonoMs = this.#notBefore(service, draft, sent, time);
      if (notBeforeMonoMs <= time.monoMs) this.#send(service, draft, time, out);
      else this.#countAt(service, notBeforeMonoMs);
    }
    this.#rest(service, isShown, time);
  }

  /** When a draft may go. */
  #notBefore(service: Service, { facts, cause }: Draft, sent: Sent | undefined, time: Time): number {
    const { holdDownMs, exportIntervalMs } = this.#options;
    if (sent === undefined) {
      const sentMonoMs = service.sentMonoMs.get(facts.channel);
      // If this node sent it, and it is not held, it was refused.
      return sentMonoMs === undefined ? time.monoMs : sentMonoMs + RETRY_MS;
    }
    return this.#sentAt(service, sent, time) + (cause === "measured" ? Math.max(holdDownMs, exportIntervalMs) : holdDownMs);
  }

  /** When that was sent which is held. */
  #sentAt({ sentMonoMs }: Service, { channel, generatedWallMs }: Sent, { monoMs, wallMs }: Time): number {
    const known = sentMonoMs.get(channel);
    if (known !== undefined) return known;
    // Another node sent it, or this one before it started. That is looked at once, so that no clock can hold it down for longer.
    const atMonoMs = monoMs - Math.max(0, wallMs - generatedWallMs);
    sentMonoMs.set(channel, atMonoMs);
    return atMonoMs;
  }

  #send(service: Service, draft: Draft, { monoMs }: Time, out: Draft[]): void {
    out.push(draft);
    service.sentMonoMs.set(draft.facts.channel, monoMs);
    service.checkAtMonoMs = monoMs + RETRY_MS;
    this.#services.wake(service, service.checkAtMonoMs);
  }

  #keyOf({ kind, namespace, name }: Service, channel: Channel): SummaryKey {
    return { source: this.#options.source.clusterId, kind, namespace, serviceId: name, channel };
  }

  #sent(service: Service, channel: Channel): Sent | undefined {
    return this.#parts.own.find(this.#keyOf(service, channel), this.#ticked);
  }
}
