/**
 * Runs the checks of the entries that are registered here: when each looks, when it turns, and what its entry shows then (semantics.md, Checks).
 * It connects to nobody: it orders probes, and is told their outcomes.
 */
import { type Check, type Checked, type CheckState, FAILURE, storedStates, UNKNOWN_STATE } from "../../catalog/entry/checks.ts";
import { HEALTH, type KeyText } from "../../catalog/record/record.ts";
import { rethrowBroken } from "../../lib/errors.ts";
import { DeadlineHeap } from "../../lib/heap.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { Patience } from "../../lib/patience.ts";
import type { EntryFollower } from "../registrar/registrar.ts";
import { type AliasOf, aliasOutcome } from "./alias.ts";
import { failed, type Outcome, PASSED } from "./outcome.ts";
import { type Probe, probeOf } from "./probe.ts";
import type { SelfDoubt } from "./self-doubt.ts";
import { Turns } from "./turns.ts";
import { statesOf, textOf, type Watch, WatchedEntries, type WatchedEntry } from "./watched.ts";

/** Most probes that are under way. */
export const MAX_IN_FLIGHT = 256;
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
  readonly patience: Patience;
  /** A number from 0 to below 1. */
  readonly random: () => number;
  /** The checks of the live own record of a key, staged or visible. Undefined without a record. */
  readonly checkedOf: (key: KeyText) => Checked | undefined;
  /** The entry that an alias check of an own entry goes by. Undefined when it does not exist, or its registrant may not see it. */
  readonly aliasOf: (key: AliasKey, own: KeyText) => AliasOf | undefined;
  /** Writes what the checks of an own entry have found. Throws when it cannot be stamped. */
  readonly write: (key: KeyText, states: readonly CheckState[], time: Time) => void;
}

/** An order to probe. `probed` answers it with the same id. */
export interface OrderedProbe {
  readonly id: number;
  readonly probe: Probe;
}

const NO_ORDERS: readonly OrderedProbe[] = [];

interface Flight {
  readonly watch: Watch;
  readonly fromMonoMs: number;
  /** This process stood still meanwhile, so that the outcome says nothing. */
  isVoid: boolean;
}

export class Checks implements EntryFollower {
  readonly #parts: ChecksParts;
  readonly #entries = new WatchedEntries();
  readonly #turns = new Turns();
  /** When each watch looks next. */
  readonly #heap = new DeadlineHeap();
  readonly #flights = new Map<number, Flight>();
  /** Due, while as many probes are under way as may be. */
  readonly #waiting = new Set<Watch>();
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

  get doubt(): Pick<SelfDoubt, "count" | "isDoubting"> {
    return this.#turns.doubt;
  }

  get evidence(): Turns["evidence"] {
    return this.#turns.evidence;
  }

  get inFlightCount(): number {
    return this.#flights.size;
  }

  /** Checks that are due while as many probes are under way as may be. */
  get waitingCount(): number {
    return this.#waiting.size;
  }

  /** How many checks there are. Unwatched ones are those that nobody runs, because `checks.enabled` is false. O(checks). */
  counts(): Readonly<Record<"passing" | "failing" | "unknown" | "unwatched", number>> {
    const counts = { passing: 0, failing: 0, unknown: 0, unwatched: 0 };
    for (const { threshold } of this.#entries.list()) {
      const { health } = threshold.state;
      if (!this.#parts.isEnabled) counts.unwatched += 1;
      else counts[health === HEALTH.UNSET ? "unknown" : health === HEALTH.CRITICAL ? "failing" : "passing"] += 1;
    }
    return counts;
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
      watch.renewedMs = this.#parts.patience.nowMs(time.monoMs);
      this.#conclude(watch, PASSED, time);
    }
  }

  #read(key: KeyText, time: Time): void {
    const changed = this.#entries.set(key, this.#parts.checkedOf(key));
    if (changed === undefined) return;
    for (const watch of changed.dropped) {
      this.#heap.remove(watch.id);
      this.#waiting.delete(watch);
      this.#turns.dropped(watch);
    }
    for (const watch of changed.added) this.#add(watch, time);
    this.#note(changed.entry);
  }

  #add(watch: Watch, { monoMs }: Time): void {
    this.#turns.added(watch);
    if (!this.#parts.isEnabled) return;
    const { patience, random } = this.#parts;
    const { intervalMs } = watch.times;
    watch.renewedMs = patience.nowMs(monoMs);
    const isRenewed = watch.check.probe.case === "ttl";
    // What the disk kept holds until the first outcome. Probes of all entries of a restart are spread over their interval.
    const withinMs = watch.threshold.isKnown ? intervalMs : Math.min(FIRST_MS, intervalMs);
    this.#heap.set(watch.id, isRenewed ? patience.dueMonoMs(watch.renewedMs + intervalMs) : monoMs + random() * withinMs);
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
   * Does what is due, and returns the probes to run. To be called after each input and at `nextDeadlineMs`. `isCaughtUp`: whether what this node
   * does not hold does not exist. HOT: once an input of the node, and mostly there is nothing.
   */
  step(time: Time, isCaughtUp: boolean): readonly OrderedProbe[] {
    if (this.#isEnded || !this.#hasWork(time)) return NO_ORDERS;
    if (this.#mustReadAgain) {
      this.#mustReadAgain = false;
      for (const key of this.#entries.keys()) this.#read(key, time);
    }
    const orders: OrderedProbe[] = [];
    for (const watch of this.#waiting) if (!this.#launch(watch, time, orders)) break;
    for (let left = STEP_COUNT; left > 0 && this.#heap.nextDeadlineMs() <= time.monoMs; left--) {
      const watch = this.#entries.byId(this.#heap.nextId() ?? -1);
      if (watch === undefined) break;
      this.#heap.remove(watch.id);
      this.#look(watch, time, isCaughtUp, orders);
    }
    for (const watch of this.#turns.turn(time.monoMs)) {
      this.totals.turned += 1;
      this.#note(watch.entry);
    }
    this.#write(time);
    return orders;
  }

  #hasWork({ monoMs }: Time): boolean {
    const mayLaunch = this.#waiting.size > 0 && this.#flights.size < MAX_IN_FLIGHT;
    return this.#mustReadAgain || mayLaunch || this.nextDeadlineMs() <= monoMs;
  }

  /** Answers an ordered probe. A second answer changes nothing. */
  probed(id: number, outcome: Outcome, time: Time): void {
    const flight = this.#flights.get(id);
    if (flight === undefined) return;
    this.#flights.delete(id);
    const { watch, fromMonoMs, isVoid } = flight;
    if (watch.isGone) return;
    this.#again(watch, fromMonoMs, time);
    if (!isVoid) this.#conclude(watch, outcome, time);
  }

  /** This process stood still: probes that are under way may have missed their answers. */
  stoodStill(): void {
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

  #look(watch: Watch, time: Time, isCaughtUp: boolean, orders: OrderedProbe[]): void {
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
        this.#launch(watch, time, orders);
    }
  }

  #lookAtOther(watch: Watch, key: AliasKey | undefined, time: Time): void {
    const outcome = key === undefined ? undefined : aliasOutcome(this.#parts.aliasOf(key, watch.entry.key));
    if (outcome !== undefined) this.#conclude(watch, outcome, time);
  }

  /** Returns false when as many probes are under way as may be. The watch then waits. */
  #launch(watch: Watch, { monoMs }: Time, orders: OrderedProbe[]): boolean {
    // A check of a newer version of this program is not run; its entry shows that nothing is known of it.
    const probe = probeOf(watch);
    const mayLaunch = this.#flights.size < MAX_IN_FLIGHT;
    if (!mayLaunch) this.#waiting.add(watch);
    else this.#waiting.delete(watch);
    if (!mayLaunch || probe === undefined) return mayLaunch;
    this.#probeId += 1;
    this.#flights.set(this.#probeId, { watch, fromMonoMs: monoMs, isVoid: false });
    orders.push({ id: this.#probeId, probe });
    return true;
  }

  #again({ id, times: { intervalMs } }: Watch, fromMonoMs: number, { monoMs }: Time): void {
    const jitter = 1 + JITTER * (2 * this.#parts.random() - 1);
    this.#heap.set(id, Math.max(monoMs, fromMonoMs + intervalMs * jitter));
  }

  #lookAtRenewal(watch: Watch, time: Time): void {
    const { patience } = this.#parts;
    const { intervalMs } = watch.times;
    const dueMs = patience.dueMs(time.monoMs);
    if (dueMs >= watch.renewedMs + intervalMs) {
      watch.renewedMs = dueMs;
      this.#conclude(watch, failed(FAILURE.NOT_RENEWED), time);
    }
    this.#heap.set(watch.id, patience.dueMonoMs(watch.renewedMs + intervalMs));
  }

  #conclude(watch: Watch, outcome: Outcome, { monoMs }: Time): void {
    this.totals[outcome.health === HEALTH.CRITICAL ? "failed" : "passed"] += 1;
    this.#turns.conclude(watch, outcome, monoMs);
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
        rethrowBroken(error);
        this.#retryMonoMs = time.monoMs + RETRY_MS;
        return;
      }
      entry.recorded = textOf(storedStates(states));
      this.#unwritten.delete(entry);
    }
  }
}
