/**
 * What is true, and what clients were promised: what ended which key by name, and for each client what a node acknowledged
 * last. Naive on purpose.
 */
import type { KeyText } from "../../src/catalog/record.ts";
import { SCOPE, type Scope } from "../../src/catalog/scope.ts";

/** A tombstone `unregistered` that became durable at its origin. */
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
  /** Index of the node that said so. */
  readonly node: number;
  readonly originId: string;
  readonly scope: Scope;
  /** Without a lease that runs out. */
  readonly isStatic: boolean;
  /** Its node has left since: another one has it, or it stands as that node left it. */
  readonly isHandedOver?: boolean;
  /** Stamp of the record or tombstone that it was about. */
  readonly hlc: number;
}

export class Model {
  readonly #ended = new Map<KeyText, Ended[]>();
  readonly #newestHlc = new Map<KeyText, number>();
  /** By key: what its client was promised. Absent: nothing is sure. */
  readonly promised = new Map<KeyText, Promised>();

  /** A client's request was staged under this stamp; whether it lasts is not known yet. */
  asked(key: KeyText, hlc: number): void {
    this.#newestHlc.set(key, Math.max(this.newestHlc(key), hlc));
  }

  /** Highest stamp that any request for the key ever got. */
  newestHlc(key: KeyText): number {
    return this.#newestHlc.get(key) ?? 0;
  }

  /** A node left: what it promised is void, but for static entries, which live on elsewhere. */
  left(node: number): void {
    for (const [key, promised] of this.promised) {
      if (promised.node !== node) continue;
      if (promised.state === "present" && promised.isStatic && promised.scope !== SCOPE.LOCAL)
        this.promised.set(key, { ...promised, isHandedOver: true });
      else this.promised.delete(key);
    }
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
