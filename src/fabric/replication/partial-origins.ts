/**
 * Tracks partial origins, whose records this node partly refused. A partial origin is out of sync and is not compared or forwarded until it has been
 * received completely. It is fetched again when a peer's hello changes, and otherwise periodically (semantics.md, Replication).
 */

import type { Origin } from "../../catalog/record/stored-record.ts";
import { BoundedMap } from "../../lib/bounded-map.ts";
import type { Time } from "../../lib/machine.ts";

/** A partial origin, as reported to operators. */
export interface PartialOrigin {
  readonly id: string;
  /** Number of refused records. */
  readonly count: number;
  readonly why: string;
}

/** Maximum number of peers whose last hello is stored. */
const MAX_HELLOS = 1000;

export class PartialOrigins {
  readonly #retryMs: number;
  readonly #dueMonoMs = new Map<Origin, number>();
  /** Maps each node id to the fields of its hello that determine which records it can send. */
  readonly #hellos = new BoundedMap<string, string>(MAX_HELLOS);

  constructor(retryMs: number) {
    this.#retryMs = retryMs;
  }

  get size(): number {
    return this.#dueMonoMs.size;
  }

  get origins(): Iterable<Origin> {
    return this.#dueMonoMs.keys();
  }

  /** Lists partial origins for operators and for the reported age of data. */
  list(): readonly PartialOrigin[] {
    return [...this.#dueMonoMs.keys()].map(({ id, lacks }) => ({ id, count: lacks?.count ?? 0, why: lacks?.why ?? "" }));
  }

  /** Handles an origin that may have become partial or complete. Returns the new state if it changed. */
  note(origin: Origin, { monoMs }: Time): "partial" | "whole" | undefined {
    const isKnown = this.#dueMonoMs.has(origin);
    if ((origin.lacks !== undefined) === isKnown) return undefined;
    if (isKnown) this.#dueMonoMs.delete(origin);
    else this.#dueMonoMs.set(origin, monoMs + this.#retryMs);
    return isKnown ? "whole" : "partial";
  }

  /** Adds an origin that was partial before this node was restarted, possibly with other settings. The origin is fetched as soon as a peer has it. */
  resume(origin: Origin): void {
    this.#dueMonoMs.set(origin, Number.NEGATIVE_INFINITY);
  }

  drop(origin: Origin): void {
    this.#dueMonoMs.delete(origin);
  }

  /** Handles a peer's hello. If the hello differs from the last one, the peer may now send records that it could not send before. */
  greeted(nodeId: string, hello: string, { monoMs }: Time): void {
    if (this.#hellos.get(nodeId) === hello) return;
    this.#hellos.set(nodeId, hello);
    for (const origin of this.#dueMonoMs.keys()) this.#dueMonoMs.set(origin, monoMs);
  }

  /** Returns the due origins that pass `canGive`, which must be fetched whole now. Each is due again after the retry interval. */
  take(time: Time, canGive: (origin: Origin) => boolean): readonly Origin[] {
    if (this.#dueMonoMs.size === 0) return [];
    const due = [...this.#dueMonoMs].filter(([origin, dueMonoMs]) => time.monoMs >= dueMonoMs && canGive(origin)).map(([origin]) => origin);
    for (const origin of due) this.#dueMonoMs.set(origin, time.monoMs + this.#retryMs);
    return due;
  }
}
