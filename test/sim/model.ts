/**
 * The truth, and what clients were promised: which record ended which key by name, and for each client what a node acknowledged
 * last. It is naive on purpose.
 */

import { SCOPE, type Scope } from "../../src/catalog/entry/scope.ts";
import type { KeyText } from "../../src/catalog/record/record.ts";

/** An `unregistered` tombstone that became durable at its origin. */
export interface Ended {
  readonly originId: string;
  readonly seq: number;
  readonly hlc: number;
  readonly reach: Scope;
  /** When it became durable, in true time. */
  readonly atMs: number;
}

/** What a client was told last. */
export interface Promised {
  readonly state: "present" | "gone";
  /** Index of the node that acknowledged it. */
  readonly node: number;
  readonly originId: string;
  readonly scope: Scope;
  /** Whether it has no lease that runs out. */
  readonly isStatic: boolean;
  /** Whether its node has left since. Then another node has it, or it stays as that node left it. */
  readonly isHandedOver?: boolean;
  /** Whether no running node of its cluster holds it: it is only on disks, or nowhere. */
  readonly isOnDisks?: boolean;
  /** Stamp of the record or tombstone that was acknowledged. */
  readonly hlc: number;
}

export class Model {
  readonly #ended = new Map<KeyText, Ended[]>();
  readonly #newestHlc = new Map<KeyText, number>();
  readonly #narrowedHlc = new Map<KeyText, number>();
  /** Keys of static entries whose node told that a record of another node ended them. */
  readonly told = new Set<KeyText>();
  /** Records that a copy of a disk brought back after everybody may have forgotten that they ended. */
  readonly #putBack = new Set<string>();
  /** How often a node lost what it held, or went for good. */
  #lossCount = 0;
  /** What the client of each key was promised. A key that is absent has no promise. */
  readonly promised = new Map<KeyText, Promised>();

  /** A client's request was staged under this stamp; whether it lasts is not known yet. */
  asked(key: KeyText, hlc: number): void {
    this.#newestHlc.set(key, Math.max(this.newestHlc(key), hlc));
  }

  /** Highest stamp that any request for the key ever got. */
  newestHlc(key: KeyText): number {
    return this.#newestHlc.get(key) ?? 0;
  }

  /**
   * A node begins to leave; call what is returned when it has left: what its origin promised is void then, but for static entries, which
   * live on elsewhere.
   */
  leaving(originId: string): () => void {
    const lossCount = this.#lossCount;
    return () => {
      for (const [key, promised] of this.promised) {
        if (promised.originId !== originId) continue;
        const livesOn = promised.state === "present" && promised.isStatic && promised.scope !== SCOPE.LOCAL;
        if (livesOn && lossCount === this.#lossCount) this.promised.set(key, { ...promised, isHandedOver: true });
        else this.promised.delete(key);
      }
    };
  }

  /** A node lost what it held, or never comes back: it may have been what it took over from one that left. */
  lost(): void {
    this.#lossCount += 1;
    for (const [key, { isHandedOver }] of this.promised) if (isHandedOver === true) this.promised.delete(key);
  }

  /** A node put an entry for fewer readers than before: for the others that is the end of what is older, at whatever node. */
  narrowed(key: KeyText, hlc: number): void {
    this.#narrowedHlc.set(key, Math.max(this.#narrowedHlc.get(key) ?? 0, hlc));
  }

  /** Whether what was stamped so ended by a word that is stamped later: it was taken out, or narrowed at another node. */
  isEnded(key: KeyText, hlc: number): boolean {
    return (this.#narrowedHlc.get(key) ?? 0) > hlc || this.ended(key).some((ended) => ended.hlc > hlc);
  }

  /**
   * A copy of a node's disk is put back, with entries, their numbers and when they were written: those that ended elsewhere since, longer ago than
   * tombstones are kept, are there again, and nobody need know that they ended.
   */
  putBack(
    nodeId: string,
    entries: Iterable<{ readonly key: KeyText; readonly seq: number; readonly writtenMs: number }>,
    untilMs: number,
  ): void {
    for (const { key, seq, writtenMs } of entries)
      if (this.ended(key).some(({ atMs }) => atMs >= writtenMs && atMs <= untilMs)) this.#putBack.add(`${key} ${nodeId}:${seq}`);
  }

  /** Whether a record is one that a copy of a disk brought back. Its number is the same in each generation. */
  isPutBack(key: KeyText, nodeId: string, seq: number): boolean {
    return this.#putBack.has(`${key} ${nodeId}:${seq}`);
  }

  unregistered(key: KeyText, ended: Ended): void {
    const list = this.#ended.get(key);
    if (list === undefined) this.#ended.set(key, [ended]);
    else list.push(ended);
  }

  /** What ended the key by name. */
  ended(key: KeyText): readonly Ended[] {
    return this.#ended.get(key) ?? [];
  }
}
