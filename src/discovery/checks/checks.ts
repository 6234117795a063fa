/**
 * Runs the checks of the entries that are registered here: when each looks, when it turns, and what its entry shows then (semantics.md, Checks).
 * It opens no connections: it orders probes and receives their outcomes.
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

/** Most probes that are under way. */
export const MAX_IN_FLIGHT = 256;
/**
 * Maximum number of concurrent name look-ups. The system resolver blocks a thread of libuv's pool of four while it waits, and file reads use the same
 * threads.
 */
const MAX_LOOKUPS = 2;
/** A check without an outcome for this number of its intervals counts as not run. */
const NOT_RUN_INTERVALS = 3;
/** Most checks that are looked at, and most entries that are written, in one step. The others follow in the next. */
const STEP_COUNT = 1000;
/** A new check looks for the first time within this time, or within its interval if that is shorter. */
const FIRST_MS = 1000;
/** How far the time between two probes may be from the interval, as a share of it, so that checks that began together do not stay together. */
const JITTER = 0.1;
/** Time until entries are written again that could not be stamped. */
const RETRY_MS = 1000;

export type AliasKey = NonNullable<Extract<Check["probe"], { readonly case: "alias" }>["value"]["key"]>;

export interface ChecksParts {
  /** The setting `checks.enabled`. While it is false no check runs, and entries that have checks show that nothing is known of them. */
  readonly isEnabled: boolean;
  /** The clock in which a program has time to renew a `ttl` check. */
  readonly stallClock: StallAwareClock;
  /** A number from 0 to below 1. */
  readonly random: () => number;
  /** The checks of the live own record of a key, staged or visible. Undefined without a record. */
  readonly checkedOf: (key: KeyText) => CheckResults | undefined;
  /** The `entryOwner` of this node's own record of a key. */
  readonly ownerOf: (key: KeyText) => string;
  /** The entry that an alias check of an own entry goes by. Undefined when it does not exist, or its registrant may not see it. */
  readonly aliasOf: (key: AliasKey, own: KeyText) => AliasTarget | undefined;
  /** Writes what the checks of an own entry have found. Throws when it cannot be stamped. */
  readonly write: (key: KeyText, states: readonly CheckState[], time: Time) => void;
}

/**
 * An order to probe. `probed` answers it with the same id. Where the host is a name, `resolved` comes when its look-up is over, which may be later than the
 * outcome.
 */
export interface StartProbe {
  readonly kind: "probe";
  readonly id: number;
  readonly probe: HealthProbe;
}

/** An order to stop a probe, so that another owner gets its slot. No answer is expected. */
interface CancelProbe {
  readonly kind: "cutProbe";
  readonly id: number;
}

export type ProbeOutput = StartProbe | CancelProbe;

const NO_ORDERS: readonly ProbeOutput[] = [];

interface ProbeInFlight {
  readonly watch: WatchedCheck;
  readonly fromMonoMs: number;
  /** This process stood still meanwhile, so that the outcome says nothing. */
  isVoid: boolean;
}

export class HealthChecks implements EntryObserver {
  readonly #parts: ChecksParts;
  readonly #entries = new WatchedEntries();
  readonly #turns = new StateChanges();
  /** When each watch looks next. */
  readonly #heap = new DeadlineHeap();
  readonly #flights = new Map<number, ProbeInFlight>();
  /** Slots of the running probes, which are listed in `#flights`. */
  readonly #probeSlots = new FairShareLimiter<WatchedCheck>({ slotCount: MAX_IN_FLIGHT, reservedCount: 0 });
  /** A look-up cannot be stopped, so one stays free for owners that run none. */
  readonly #lookupSlots = new FairShareLimiter<WatchedCheck>({ slotCount: MAX_LOOKUPS, reservedCount: 1 });
  /** Owners of the running look-ups, by the ids of their probes. */
  readonly #lookupOwners = new Map<number, string>();
  /** A check began to wait, or a probe or look-up slot became free. */
  #mayLaunch = false;
  /** Their records say something else than what their checks have found. */
  readonly #unwritten = new Set<WatchedEntry>();
  #retryMonoMs = 0;
  #probeId = 0;
  #mustReadAgain = false;
  #isEnded = false;
  /** How many outcomes there were, and how many turns, since the start. */
  readonly totals = { passed: 0, failed: 0, turned: 0 };

  constructor(parts: ChecksParts) {
    this.#parts = parts;
  }

  get doubt(): StateChanges["doubt"] {
    return this.#turns.doubt;
  }

  /** The doubts that began or ended since the last call. */
  takeDoubtChanges(): readonly SelfPreservationChange[] {
    return this.#turns.takeChanges();
  }

  /** Number of checks of an owner's entries. */
  countOf(owner: string): number {
    return this.#turns.countOf(owner);
  }

  get inFlightCount(): number {
    return this.#flights.size;
  }

  /** Number of checks that are due and wait for a probe or a look-up. */
  get waitingCount(): number {
    return this.#probeSlots.waitingCount + this.#lookupSlots.waitingCount;
  }

  /** How many checks there are. Unwatched ones never run, because `checks.enabled` is false. O(checks). */
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

  /** Takes over the entries that the disk kept. To be called once, before the first step. */
  restored(keys: Iterable<KeyText>, time: Time): void {
    for (const key of keys) this.#read(key, time);
  }

  // ---- what becomes of entries ----

  follows(key: KeyText): boolean {
    return this.#entries.find(key) !== undefined;
  }

  committed(keys: readonly KeyText[], time: Time): void {
    for (const key of keys) this.#read(key, time);
  }

  aborted(): void {
    this.#mustReadAgain = true;
  }

  /** Also called for a registration of the entry. */
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
    this.#turns.dropped(watch);
    this.#unwritten.delete(watch.entry);
    this.#lookupSlots.cancel(owner, watch);
    this.#probeSlots.cancel(owner, watch);
    if (this.#parts.isEnabled && isNamed(watch)) this.#lookupSlots.unregister(owner);
  }

  #add(watch: WatchedCheck, { monoMs }: Time): void {
    this.#turns.added(watch);
    if (!this.#parts.isEnabled) return;
    if (isNamed(watch)) this.#lookupSlots.register(watch.entry.owner);
    const { stallClock, random } = this.#parts;
    const { intervalMs } = watch.times;
    watch.outcomeMs = stallClock.nowMs(monoMs);
    const isRenewed = watch.check.probe.case === "ttl";
    // What the disk kept holds until the first outcome. Probes of all entries of a restart are spread over their interval.
    const withinMs = watch.threshold.isKnown ? intervalMs : Math.min(FIRST_MS, intervalMs);
    this.#heap.set(watch.id, isRenewed ? stallClock.dueMonoMs(watch.outcomeMs + intervalMs) : monoMs + random() * withinMs);
  }

  /** Notes an entry whose record says something else. */
  #note(entry: WatchedEntry): void {
    if (entry.watches.length > 0 && textOf(storedStates(this.#statesOf(entry))) !== entry.recorded) this.#unwritten.add(entry);
    else this.#unwritten.delete(entry);
  }

  #statesOf(entry: WatchedEntry): readonly CheckState[] {
    return this.#parts.isEnabled ? statesOf(entry) : entry.watches.map(() => UNKNOWN_STATE);
  }

  // ---- probes ----

  /**
   * Does what is due, and returns the probes to run and to stop. To be called after each input and at `nextDeadlineMs`. `isCaughtUp`: whether what this node
   * does not hold does not exist. HOT: once an input of the node, and mostly there is nothing.
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
      this.#look(watch, time, isCaughtUp);
    }
    const orders: ProbeOutput[] = [];
    if (this.#mayLaunch) this.#launchWaiting(time, orders);
    for (const watch of this.#turns.turn(time.monoMs)) {
      this.totals.turned += 1;
      this.#note(watch.entry);
    }
    this.#write(time);
    return orders;
  }

  #hasWork({ monoMs }: Time): boolean {
    return this.#mustReadAgain || this.#mayLaunch || this.nextDeadlineMs() <= monoMs;
  }

  /** Answers an ordered probe. A second answer changes nothing. */
  probed(id: number, outcome: CheckOutcome, time: Time): void {
    const flight = this.#flights.get(id);
    if (flight === undefined) return;
    this.#flights.delete(id);
    const { watch, fromMonoMs, isVoid } = flight;
    this.#probeSlots.release(watch.entry.owner);
    this.#mayLaunch = true;
    if (watch.isGone) return;
    this.#again(watch, fromMonoMs, time);
    if (!isVoid) this.#conclude(watch, outcome, time);
  }

  /** The look-up of an ordered probe is over. A second answer changes nothing. */
  resolved(id: number): void {
    const owner = this.#lookupOwners.get(id);
    if (owner === undefined) return;
    this.#lookupOwners.delete(id);
    this.#lookupSlots.release(owner);
    this.#mayLaunch = true;
  }

  /** This process stood still: probes that are under way may have missed their answers. */
  onProcessPause(): void {
    for (const flight of this.#flights.values()) flight.isVoid = true;
  }

  /** The node drains, and runs no checks any more. */
  end(): void {
    this.#isEnded = true;
  }

  /** Monotonic ms at which `step` has something to do. */
  nextDeadlineMs(): number {
    if (this.#isEnded) return NEVER;
    const writeMs = this.#unwritten.size === 0 ? NEVER : this.#retryMonoMs;
    return Math.min(this.#heap.nextDeadlineMs(), this.#turns.nextDeadlineMs(), writeMs);
  }

  #look(watch: WatchedCheck, time: Time, isCaughtUp: boolean): void {
    const { probe } = watch.check;
    switch (probe.case) {
      case "ttl":
        this.#lookAtRenewal(watch, time);
        return;
      case "alias":
        this.#again(watch, time.monoMs, time);
        if (isCaughtUp) this.#lookAtOther(watch, probe.value.key, time);
        return;
      case "grpc":
      case "http":
      case "tcp":
      case undefined:
        // A kind of check from a newer version of this program is not run; its entry shows no health for it.
        if (probeOf(watch) === undefined) return;
        if (watch.isWaiting) this.#lookAtWaiting(watch, time);
        else this.#wait(watch);
    }
  }

  #lookAtOther(watch: WatchedCheck, key: AliasKey | undefined, time: Time): void {
    const outcome = key === undefined ? undefined : aliasOutcome(this.#parts.aliasOf(key, watch.entry.key));
    if (outcome !== undefined) this.#conclude(watch, outcome, time);
  }

  /** A check of a name waits until a look-up and a probe slot are free, so that no check holds one while it waits for the other. */
  #wait(watch: WatchedCheck): void {
    watch.isWaiting = true;
    (isNamed(watch) ? this.#lookupSlots : this.#probeSlots).enqueue(watch.entry.owner, watch);
    this.#mayLaunch = true;
    if (!watch.threshold.isNotRun) this.#heap.set(watch.id, this.#parts.stallClock.dueMonoMs(notRunMs(watch)));
  }

  #lookAtWaiting(watch: WatchedCheck, { monoMs }: Time): void {
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
      if (preemptible !== undefined) this.#cut(preemptible, orders);
      const hasSlot = this.#probeSlots.tryAcquire(owner);
      assert(hasSlot, "a look-up starts only when a probe slot is free", { owner });
      this.#launch(watch, time, orders);
    }
    for (;;) {
      const watch = this.#probeSlots.acquireNext();
      const { preemptible } = this.#probeSlots;
      if (watch !== undefined) this.#launch(watch, time, orders);
      else if (preemptible !== undefined) this.#cut(preemptible, orders);
      else return;
    }
  }

  #launch(watch: WatchedCheck, { monoMs }: Time, orders: ProbeOutput[]): void {
    const probe = probeOf(watch);
    assert(probe !== undefined, "only checks that connect wait for a slot");
    const { owner } = watch.entry;
    this.#heap.remove(watch.id);
    this.#probeId += 1;
    this.#flights.set(this.#probeId, { watch, fromMonoMs: monoMs, isVoid: false });
    if (isNamed(watch)) this.#lookupOwners.set(this.#probeId, owner);
    watch.isWaiting = false;
    orders.push({ kind: "probe", id: this.#probeId, probe });
  }

  /** Stops the newest probe of an owner, because the least work is lost. Its check waits again. O(running probes). */
  #cut(owner: string, orders: ProbeOutput[]): void {
    const id = [...this.#flights].findLast(([, { watch }]) => watch.entry.owner === owner)?.[0] ?? -1;
    const flight = this.#flights.get(id);
    assert(flight !== undefined, "an owner has a probe for each slot that it uses", { owner });
    this.#flights.delete(id);
    this.#probeSlots.release(owner);
    orders.push({ kind: "cutProbe", id });
    if (!flight.watch.isGone) this.#wait(flight.watch);
  }

  #again({ id, times: { intervalMs } }: WatchedCheck, fromMonoMs: number, { monoMs }: Time): void {
    const jitter = 1 + JITTER * (2 * this.#parts.random() - 1);
    this.#heap.set(id, Math.max(monoMs, fromMonoMs + intervalMs * jitter));
  }

  #lookAtRenewal(watch: WatchedCheck, time: Time): void {
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
    this.#turns.conclude(watch, outcome, monoMs);
    if (isNotRun) this.#note(watch.entry);
  }

  // ---- what entries show ----

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

/** Its target is a name, which each probe looks up. */
function isNamed({ target }: WatchedCheck): boolean {
  return target !== undefined && isName(target.host);
}

/** In stall-aware ms. */
function notRunMs({ outcomeMs, times: { intervalMs } }: WatchedCheck): number {
  return outcomeMs + NOT_RUN_INTERVALS * intervalMs;
}
