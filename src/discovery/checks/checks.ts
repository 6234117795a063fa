/**
 * Runs the checks of the entries registered on this node: decides when each check runs, when its state changes, and which health its
 * entry shows (semantics.md, Checks). This class does not open connections itself: it requests probes and receives their outcomes.
 */
import { type Check, type CheckResults, type CheckState, FAILURE, storedStates, UNKNOWN_STATE } from "../../catalog/entry/checks.ts";
import { HEALTH, type KeyText } from "../../catalog/record/record.ts";
import { assert, rethrowInvariant } from "../../lib/errors.ts";

import { DeadlineHeap } from "../../lib/heap.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { StallAwareClock } from "../../lib/stall-aware-clock.ts";
import type { EntryObserver } from "../registrar/registrar.ts";
import { FairShareLimiter } from "./fair-share-limiter.ts";
import { type HealthProbe, isName, probeOf } from "./probe.ts";
import { type SelfPreservationChange, StateChanges } from "./state-changes.ts";
import { type CheckOutcome, failed, PASSED } from "./threshold.ts";
import {
  type AliasTarget,
  aliasOutcome,
  statesOf,
  textOf,
  type WatchedCheck,
  WatchedEntries,
  type WatchedEntry,
} from "./watched-checks.ts";

/** Maximum number of probes in flight. */
export const MAX_IN_FLIGHT = 256;
/**
 * Maximum number of concurrent name lookups. While the system resolver waits, it blocks one of the four threads in libuv's pool, which file reads
 * also use.
 */
const MAX_LOOKUPS = 2;
/** A check that has had no outcome for this many intervals is considered not run. */
const NOT_RUN_INTERVALS = 3;
/** Maximum number of checks examined, and of entries written, in one step. The rest are processed in the next step. */
const STEP_COUNT = 1000;
/** A new check runs for the first time within this time, or within its interval if that is shorter. */
const FIRST_MS = 1000;
/**
 * Maximum random deviation of the time between two probes, as a fraction of the interval, so that checks that began at the same time are spread out.
 */
const JITTER = 0.1;
/** Delay before an entry that could not be stamped is written again. */
const RETRY_MS = 1000;

export type AliasKey = NonNullable<Extract<Check["probe"], { readonly case: "alias" }>["value"]["key"]>;

export interface ChecksParts {
  /** The setting `checks.enabled`. If false, no check runs, and entries with checks show an unknown state. */
  readonly isEnabled: boolean;
  /** The clock that limits the time in which a program must renew a `ttl` check. */
  readonly stallClock: StallAwareClock;
  /** Returns a random number in [0, 1). */
  readonly random: () => number;
  /** Returns the checks in this node's live record of a key, whether the record is staged or visible. Undefined without a record. */
  readonly checkedOf: (key: KeyText) => CheckResults | undefined;
  /** Returns the `entryOwner` of this node's own record of a key. */
  readonly ownerOf: (key: KeyText) => string;
  /**
   * Returns the entry that is followed by an alias check of one of this node's entries. Undefined if it does not exist, or if it is hidden from the
   * registrant.
   */
  readonly aliasOf: (key: AliasKey, own: KeyText) => AliasTarget | undefined;
  /** Writes the check states of one of this node's entries. Throws if the record cannot be stamped. */
  readonly write: (key: KeyText, states: readonly CheckState[], time: Time) => void;
}

/**
 * A request to start a probe. `probed` must be called with the same ID. If the host is a name, `resolved` must be called when its lookup has
 * finished, even if the outcome has already been reported.
 */
export interface StartProbe {
  readonly kind: "probe";
  readonly id: number;
  readonly probe: HealthProbe;
}

/** A request to stop a probe, so that another owner gets its slot. `probed` need not be called for it. */
interface CancelProbe {
  readonly kind: "cutProbe";
  readonly id: number;
}

export type ProbeOutput = StartProbe | CancelProbe;

const NO_ORDERS: readonly ProbeOutput[] = [];

interface ProbeInFlight {
  readonly watch: WatchedCheck;
  readonly fromMonoMs: number;
  /** Whether this process was paused during the probe, so that the outcome is not reliable. */
  isVoid: boolean;
}

export class HealthChecks implements EntryObserver {
  readonly #parts: ChecksParts;
  readonly #entries = new WatchedEntries();
  readonly #stateChanges = new StateChanges();
  /** When each check runs next. */
  readonly #heap = new DeadlineHeap();
  readonly #flights = new Map<number, ProbeInFlight>();
  /** Slots of the running probes. The probes are listed in `#flights`. */
  readonly #probeSlots = new FairShareLimiter<WatchedCheck>({ slotCount: MAX_IN_FLIGHT, reservedCount: 0 });
  /** Slots of the running lookups. A lookup cannot be stopped, so one slot remains free for owners without a running lookup. */
  readonly #lookupSlots = new FairShareLimiter<WatchedCheck>({ slotCount: MAX_LOOKUPS, reservedCount: 1 });
  /** Owners of the running lookups, by the ids of their probes. */
  readonly #lookupOwners = new Map<number, string>();
  /** Whether a check was queued, or a probe or lookup slot became free. */
  #mayLaunch = false;
  /** Entries whose records differ from the states of their checks. */
  readonly #unwritten = new Set<WatchedEntry>();
  #retryMonoMs = 0;
  #probeId = 0;
  #mustReadAgain = false;
  #isEnded = false;
  /** Number of outcomes and state changes since the start. */
  readonly totals = { passed: 0, failed: 0, turned: 0 };

  constructor(parts: ChecksParts) {
    this.#parts = parts;
  }

  get doubt(): StateChanges["doubt"] {
    return this.#stateChanges.doubt;
  }

  /** Returns the changes of self-preservation since the last call. */
  takeDoubtChanges(): readonly SelfPreservationChange[] {
    return this.#stateChanges.takeChanges();
  }

  /** Returns the number of checks on an owner's entries. */
  countOf(owner: string): number {
    return this.#stateChanges.countOf(owner);
  }

  get inFlightCount(): number {
    return this.#flights.size;
  }

  /** Number of due checks that are waiting for a probe or lookup slot. */
  get waitingCount(): number {
    return this.#probeSlots.waitingCount + this.#lookupSlots.waitingCount;
  }

  /** Returns the number of checks by state. `unwatched` checks do not run, because `checks.enabled` is false. O(checks). */
  counts(): Readonly<Record<"passing" | "failing" | "unknown" | "unwatched", number>> {
    const counts = { passing: 0, failing: 0, unknown: 0, unwatched: 0 };
    for (const { threshold } of this.#entries.list()) {
      const { health } = threshold.state;
      if (!this.#parts.isEnabled) counts.unwatched += 1;
      else counts[health === HEALTH.UNSET ? "unknown" : health === HEALTH.CRITICAL ? "failing" : "passing"] += 1;
    }
    return counts;
  }

  /** Number of checks with the failure NOT_RUN. O(checks). */
  get notRunCount(): number {
    let count = 0;
    for (const { threshold } of this.#entries.list()) if (threshold.isNotRun) count += 1;
    return count;
  }

  /** Reads the entries restored from disk. Must be called once, before the first step. */
  restored(keys: Iterable<KeyText>, time: Time): void {
    for (const key of keys) this.#read(key, time);
  }

  // ---- changes of entries ----

  follows(key: KeyText): boolean {
    return this.#entries.find(key) !== undefined;
  }

  committed(keys: readonly KeyText[], time: Time): void {
    for (const key of keys) this.#read(key, time);
  }

  aborted(): void {
    this.#mustReadAgain = true;
  }

  /** Marks the `ttl` checks of an entry as passing. Called when the client registers the entry or reports its health. */
  reported(key: KeyText, time: Time): void {
    for (const watch of this.#entries.find(key)?.watches ?? []) {
      if (watch.check.probe.case !== "ttl" || !this.#parts.isEnabled || this.#isEnded) continue;
      this.#conclude(watch, PASSED, time);
    }
  }

  #read(key: KeyText, time: Time): void {
    const changed = this.#entries.set(key, this.#parts.checkedOf(key), this.#parts.ownerOf);
    if (changed === undefined) return;
    for (const watch of changed.dropped) this.#drop(watch);
    for (const watch of changed.added) this.#add(watch, time);
    this.#note(changed.entry);
  }

  #drop(watch: WatchedCheck): void {
    const { owner } = watch.entry;
    this.#heap.remove(watch.id);
    this.#stateChanges.dropped(watch);
    this.#unwritten.delete(watch.entry);
    this.#lookupSlots.cancel(owner, watch);
    this.#probeSlots.cancel(owner, watch);
    if (this.#parts.isEnabled && isNamed(watch)) this.#lookupSlots.unregister(owner);
  }

  #add(watch: WatchedCheck, { monoMs }: Time): void {
    this.#stateChanges.added(watch);
    if (!this.#parts.isEnabled) return;
    if (isNamed(watch)) this.#lookupSlots.register(watch.entry.owner);
    const { stallClock, random } = this.#parts;
    const { intervalMs } = watch.times;
    watch.outcomeMs = stallClock.nowMs(monoMs);
    const isRenewed = watch.check.probe.case === "ttl";
    // A state restored from disk is valid until the first outcome. After a restart, the probes of all entries are spread over their
    // intervals.
    const withinMs = watch.threshold.isKnown ? intervalMs : Math.min(FIRST_MS, intervalMs);
    this.#heap.set(watch.id, isRenewed ? stallClock.dueMonoMs(watch.outcomeMs + intervalMs) : monoMs + random() * withinMs);
  }

  /** Records whether the entry's record differs from the states of its checks. */
  #note(entry: WatchedEntry): void {
    if (entry.watches.length > 0 && textOf(storedStates(this.#statesOf(entry))) !== entry.recorded) this.#unwritten.add(entry);
    else this.#unwritten.delete(entry);
  }

  #statesOf(entry: WatchedEntry): readonly CheckState[] {
    return this.#parts.isEnabled ? statesOf(entry) : entry.watches.map(() => UNKNOWN_STATE);
  }

  // ---- probes ----

  /**
   * Does all due work, and returns requests to start and stop probes. Must be called after each input and at `nextDeadlineMs`. `isCaughtUp`: whether
   * the replica is complete, so an entry that is missing on this node does not exist. HOT: once per input of the node, usually with nothing to do.
   */
  step(time: Time, isCaughtUp: boolean): readonly ProbeOutput[] {
    if (this.#isEnded || !this.#hasWork(time)) return NO_ORDERS;
    if (this.#mustReadAgain) {
      this.#mustReadAgain = false;
      for (const key of this.#entries.keys()) this.#read(key, time);
    }
    for (let left = STEP_COUNT; left > 0 && this.#heap.nextDeadlineMs() <= time.monoMs; left--) {
      const watch = this.#entries.byId(this.#heap.nextId() ?? -1);
      if (watch === undefined) break;
      this.#heap.remove(watch.id);
      this.#run(watch, time, isCaughtUp);
    }
    const orders: ProbeOutput[] = [];
    if (this.#mayLaunch) this.#launchWaiting(time, orders);
    for (const watch of this.#stateChanges.turn(time.monoMs)) {
      this.totals.turned += 1;
      this.#note(watch.entry);
    }
    this.#write(time);
    return orders;
  }

  #hasWork({ monoMs }: Time): boolean {
    return this.#mustReadAgain || this.#mayLaunch || this.nextDeadlineMs() <= monoMs;
  }

  /** Reports the outcome of a requested probe. A second report has no effect. */
  probed(id: number, outcome: CheckOutcome, time: Time): void {
    const flight = this.#flights.get(id);
    if (flight === undefined) return;
    this.#flights.delete(id);
    const { watch, fromMonoMs, isVoid } = flight;
    this.#probeSlots.release(watch.entry.owner);
    this.#mayLaunch = true;
    if (watch.isGone) return;
    this.#scheduleNext(watch, fromMonoMs, time);
    if (!isVoid) this.#conclude(watch, outcome, time);
  }

  /** Reports that the lookup of a requested probe has finished. A second report has no effect. */
  resolved(id: number): void {
    const owner = this.#lookupOwners.get(id);
    if (owner === undefined) return;
    this.#lookupOwners.delete(id);
    this.#lookupSlots.release(owner);
    this.#mayLaunch = true;
  }

  /** Must be called after this process was paused, because probes in flight may have missed their answers. */
  onProcessPause(): void {
    for (const flight of this.#flights.values()) flight.isVoid = true;
  }

  /** Stops all checks, because the node is draining. */
  end(): void {
    this.#isEnded = true;
  }

  /** The time at which `step` next has work, in monotonic ms. */
  nextDeadlineMs(): number {
    if (this.#isEnded) return NEVER;
    const writeMs = this.#unwritten.size === 0 ? NEVER : this.#retryMonoMs;
    return Math.min(this.#heap.nextDeadlineMs(), this.#stateChanges.nextDeadlineMs(), writeMs);
  }

  #run(watch: WatchedCheck, time: Time, isCaughtUp: boolean): void {
    const { probe } = watch.check;
    switch (probe.case) {
      case "ttl":
        this.#checkRenewal(watch, time);
        return;
      case "alias":
        this.#scheduleNext(watch, time.monoMs, time);
        if (isCaughtUp) this.#checkAlias(watch, probe.value.key, time);
        return;
      case "grpc":
      case "http":
      case "tcp":
      case undefined:
        // This version cannot run a kind of check that only newer versions support, so such a check does not affect the entry's health.
        if (probeOf(watch) === undefined) return;
        if (watch.isWaiting) this.#checkQueued(watch, time);
        else this.#enqueue(watch);
    }
  }

  #checkAlias(watch: WatchedCheck, key: AliasKey | undefined, time: Time): void {
    const outcome = key === undefined ? undefined : aliasOutcome(this.#parts.aliasOf(key, watch.entry.key));
    if (outcome !== undefined) this.#conclude(watch, outcome, time);
  }

  /**
   * Queues a check. A check of a named host is queued until both a lookup slot and a probe slot are free, so that it does not hold one slot while it
   * waits for the other.
   */
  #enqueue(watch: WatchedCheck): void {
    watch.isWaiting = true;
    (isNamed(watch) ? this.#lookupSlots : this.#probeSlots).enqueue(watch.entry.owner, watch);
    this.#mayLaunch = true;
    if (!watch.threshold.isNotRun) this.#heap.set(watch.id, this.#parts.stallClock.dueMonoMs(notRunMs(watch)));
  }

  #checkQueued(watch: WatchedCheck, { monoMs }: Time): void {
    const { stallClock } = this.#parts;
    if (stallClock.dueMs(monoMs) < notRunMs(watch)) {
      this.#heap.set(watch.id, stallClock.dueMonoMs(notRunMs(watch)));
      return;
    }
    watch.threshold.notRun();
    this.#note(watch.entry);
  }

  #launchWaiting(time: Time, orders: ProbeOutput[]): void {
    this.#mayLaunch = false;
    const canAcquire = (owner: string) => this.#probeSlots.canAcquire(owner) || this.#probeSlots.preemptibleFor(owner) !== undefined;
    while (!this.#probeSlots.isExhausted) {
      const watch = this.#lookupSlots.acquireNext(canAcquire);
      if (watch === undefined) break;
      const { owner } = watch.entry;
      const preemptible = this.#probeSlots.preemptibleFor(owner);
      if (preemptible !== undefined) this.#preempt(preemptible, orders);
      const hasSlot = this.#probeSlots.tryAcquire(owner);
      assert(hasSlot, "no probe slot is free for a lookup", { owner });
      this.#launch(watch, time, orders);
    }
    for (;;) {
      const watch = this.#probeSlots.acquireNext();
      const { preemptible } = this.#probeSlots;
      if (watch !== undefined) this.#launch(watch, time, orders);
      else if (preemptible !== undefined) this.#preempt(preemptible, orders);
      else return;
    }
  }

  #launch(watch: WatchedCheck, { monoMs }: Time, orders: ProbeOutput[]): void {
    const probe = probeOf(watch);
    assert(probe !== undefined, "a check that waits for a slot has no probe");
    const { owner } = watch.entry;
    this.#heap.remove(watch.id);
    this.#probeId += 1;
    this.#flights.set(this.#probeId, { watch, fromMonoMs: monoMs, isVoid: false });
    if (isNamed(watch)) this.#lookupOwners.set(this.#probeId, owner);
    watch.isWaiting = false;
    orders.push({ kind: "probe", id: this.#probeId, probe });
  }

  /** Stops the owner's newest probe, because stopping it loses the least work. The check of that probe is queued again. O(running probes). */
  #preempt(owner: string, orders: ProbeOutput[]): void {
    const id = [...this.#flights].findLast(([, { watch }]) => watch.entry.owner === owner)?.[0] ?? -1;
    const flight = this.#flights.get(id);
    assert(flight !== undefined, "the owner uses a probe slot but has no running probe", { owner });
    this.#flights.delete(id);
    this.#probeSlots.release(owner);
    orders.push({ kind: "cutProbe", id });
    if (!flight.watch.isGone) this.#enqueue(flight.watch);
  }

  #scheduleNext({ id, times: { intervalMs } }: WatchedCheck, fromMonoMs: number, { monoMs }: Time): void {
    const jitter = 1 + JITTER * (2 * this.#parts.random() - 1);
    this.#heap.set(id, Math.max(monoMs, fromMonoMs + intervalMs * jitter));
  }

  #checkRenewal(watch: WatchedCheck, time: Time): void {
    const { stallClock } = this.#parts;
    const { intervalMs } = watch.times;
    const dueMs = stallClock.dueMs(time.monoMs);
    if (dueMs >= watch.outcomeMs + intervalMs) this.#conclude(watch, failed(FAILURE.NOT_RENEWED), time, dueMs);
    this.#heap.set(watch.id, stallClock.dueMonoMs(watch.outcomeMs + intervalMs));
  }

  #conclude(watch: WatchedCheck, outcome: CheckOutcome, { monoMs }: Time, outcomeMs = this.#parts.stallClock.nowMs(monoMs)): void {
    const { isNotRun } = watch.threshold;
    watch.outcomeMs = outcomeMs;
    this.totals[outcome.health === HEALTH.CRITICAL ? "failed" : "passed"] += 1;
    this.#stateChanges.conclude(watch, outcome, monoMs);
    if (isNotRun) this.#note(watch.entry);
  }

  // ---- recorded states ----

  #write(time: Time): void {
    if (time.monoMs < this.#retryMonoMs) return;
    let left = STEP_COUNT;
    for (const entry of this.#unwritten) {
      if (left-- === 0) return;
      const states = this.#statesOf(entry);
      try {
        this.#parts.write(entry.key, states, time);
      } catch (error) {
        rethrowInvariant(error);
        this.#retryMonoMs = time.monoMs + RETRY_MS;
        return;
      }
      entry.recorded = textOf(storedStates(states));
      this.#unwritten.delete(entry);
    }
  }
}

/** Whether the check's target is a host name, which each probe must look up. */
function isNamed({ target }: WatchedCheck): boolean {
  return target !== undefined && isName(target.host);
}

/** Returns the time at which a check is considered not run, in ms of the stall-aware clock. */
function notRunMs({ outcomeMs, times: { intervalMs } }: WatchedCheck): number {
  return outcomeMs + NOT_RUN_INTERVALS * intervalMs;
}
