/** Digests of an origin's live records, computed in slices and shared by all links. They reveal replicas that differ although their vectors are equal. */

import { mayHold, type OriginRelation } from "../../catalog/entry/scope.ts";
import { BODY } from "../../catalog/record/record.ts";
import { isFirm, type Origin } from "../../catalog/record/stored-record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { BoundedMap } from "../../lib/bounded-map.ts";
import { Sum64 } from "../../lib/hash64.ts";
import type { Time } from "../../lib/machine.ts";
import { hashOf } from "./version-vector.ts";

/** A digest expires after this time even if the seq is unchanged, because the records may have diverged since. */
const MAX_AGE_MS = 10_000;

export interface OriginSum {
  readonly through: number;
  readonly liveCount: number;
  readonly digest: bigint;
}

interface DigestScan {
  readonly origin: Origin;
  readonly relation: OriginRelation;
  readonly through: number;
  readonly sum: Sum64;
  at: number;
  liveCount: number;
}

/** Maximum number of cached digests, and of pending scans. */
const MAX_SUMS = 256;

export class OriginDigests {
  readonly #replica: Replica;
  readonly #sliceRecords: number;
  readonly #sums = new BoundedMap<string, { readonly summed: OriginSum; readonly monoMs: number }>(MAX_SUMS);
  readonly #scans = new Map<string, DigestScan>();

  constructor(replica: Replica, sliceRecords: number) {
    this.#replica = replica;
    this.#sliceRecords = sliceRecords;
  }

  /** Whether there is work for `work` to do. */
  get isBusy(): boolean {
    return this.#scans.size > 0;
  }

  /**
   * Returns the digest, at the origin's current seq, of the records that a link with this relation may carry. Undefined while it is being computed,
   * and while this node's records do not match any seq (`isFirm`), for example during a whole transfer.
   */
  find(origin: Origin, relation: OriginRelation, time: Time): OriginSum | undefined {
    if (!isFirm(origin)) return undefined;
    const key = keyOf(origin, relation);
    const cached = this.#sums.get(key);
    if (cached?.summed.through === origin.through && time.monoMs - cached.monoMs < MAX_AGE_MS) return cached.summed;
    if (!this.#scans.has(key) && this.#scans.size < MAX_SUMS) {
      const { through } = origin;
      this.#scans.set(key, { origin, relation, through, sum: new Sum64(), at: 0, liveCount: 0 });
    }
    return undefined;
  }

  /** Drops the digests of an origin whose records have changed although its seq has not. */
  drop(origin: Origin): void {
    for (const relation of ["cluster", "region"] as const) {
      this.#sums.delete(keyOf(origin, relation));
      this.#scans.delete(keyOf(origin, relation));
    }
  }

  /** Does one slice of work. */
  work(time: Time): void {
    for (const [key, scan] of this.#scans) {
      const { origin, through } = scan;
      if (this.#replica.origins.get(origin.id) !== origin || origin.through !== through) this.#scans.delete(key);
      else if (this.#slice(scan)) {
        this.#scans.delete(key);
        this.#sums.set(key, { summed: { through, liveCount: scan.liveCount, digest: scan.sum.value }, monoMs: time.monoMs });
      }
      return;
    }
  }

  /** Returns whether the scan is complete. */
  #slice(scan: DigestScan): boolean {
    let left = this.#sliceRecords;
    let isDone = true;
    scan.origin.log.forEachSince(scan.at, (stored, seq) => {
      if (seq > scan.through) return false;
      isDone = left > 0;
      if (!isDone) return false;
      left -= 1;
      scan.at = seq;
      if (stored.body === BODY.ENTRY && mayHold(stored.scope, scan.relation)) {
        scan.sum.add(hashOf(stored.key, seq));
        scan.liveCount += 1;
      }
      return true;
    });
    return isDone;
  }
}

function keyOf(origin: Origin, relation: OriginRelation): string {
  return `${origin.id} ${relation}`;
}
