/**
 * Origins of which records were refused here: neither in step, nor digested, nor passed on, until they have come whole. Each is fetched
 * whole again when somebody's hello changes, else now and then (semantics.md, Replication).
 */

import type { Origin } from "../../catalog/record/stored-record.ts";
import { BoundedMap } from "../../lib/bounded-map.ts";
import type { Time } from "../../lib/machine.ts";

/** What is told of a partial origin. */
export interface PartialOrigin {
  readonly id: string;
  /** Records refused. */
  readonly count: number;
  readonly why: string;
}

/** Peers whose last hello is remembered. */
const MAX_HELLOS = 1000;

export class PartialOrigins {
  readonly #retryMs: number;
  readonly #dueMonoMs = new Map<Origin, number>();
  /** Node id to what its hello said that decides what it can send. */
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

  /** For people and for the age of what is told. */
  list(): readonly PartialOrigin[] {
    return [...this.#dueMonoMs.keys()].map(({ id, lacks }) => ({ id, count: lacks?.count ?? 0, why: lacks?.why ?? "" }));
  }

  /** An origin may have become partial, or whole. Returns which, where it is news. */
  note(origin: Origin, { monoMs }: Time): "partial" | "whole" | undefined {
    const isKnown = this.#dueMonoMs.has(origin);
    if ((origin.lacks !== undefined) === isKnown) return undefined;
    if (isKnown) this.#dueMonoMs.delete(origin);
    else this.#dueMonoMs.set(origin, monoMs + this.#retryMs);
    return isKnown ? "whole" : "partial";
  }

  /** It was partial before this node restarted, maybe with other settings: it is fetched as soon as there is somebody to ask. */
  resume(origin: Origin): void {
    this.#dueMonoMs.set(origin, Number.NEGATIVE_INFINITY);
  }

  drop(origin: Origin): void {
    this.#dueMonoMs.delete(origin);
  }

  /** A peer has greeted. One that says something else than before may send what was withheld, or otherwise than before. */
  greeted(nodeId: string, hello: string, { monoMs }: Time): void {
    if (this.#hellos.get(nodeId) === hello) return;
    this.#hellos.set(nodeId, hello);
    for (const origin of this.#dueMonoMs.keys()) this.#dueMonoMs.set(origin, monoMs);
  }

  /** Origins to be fetched whole now, of those that `canGive`; each is not due again for a while. */
  take(time: Time, canGive: (origin: Origin) => boolean): readonly Origin[] {
    if (this.#dueMonoMs.size === 0) return [];
    const due = [...this.#dueMonoMs].filter(([origin, dueMonoMs]) => time.monoMs >= dueMonoMs && canGive(origin)).map(([origin]) => origin);
    for (const origin of due) this.#dueMonoMs.set(origin, time.monoMs + this.#retryMs);
    return due;
  }
}
