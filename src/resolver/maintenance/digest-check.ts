/**
 * Compares the followed entries below a prefix with the upstream's entries, by count and digest (semantics.md, Resolver 20). The check opens a watch
 * that resumes from the current cursor and ends with its first bookmark. The comparison includes changes sent by this watch and local changes made in
 * the meantime.
 */
import type { EntryStamper } from "../../catalog/entry/codec.ts";
import { readShown } from "../../catalog/entry/view.ts";
import { NamespacePrefixes } from "../../catalog/query/prefixes.ts";
import { type CatalogRecord, deltaId, type KeyText } from "../../catalog/record/record.ts";
import { DigestSum, type ViewDigest } from "../../catalog/replica/namespace-digest.ts";
import { SNAPSHOT } from "../../catalog/watch/reader.ts";
import type { UpstreamWatchMessage, WatchDelta } from "../codec.ts";

export interface DigestCheckStart {
  readonly prefix: string;
  /** Count and digest of the entries below the prefix, as of the cursor from which the watch resumes. */
  readonly own: ViewDigest;
  /** The current local policy, whose owners' rules hide entries. */
  readonly policyEpoch: string;
  readonly stamper: Pick<EntryStamper, "entryOfStored">;
  /** Returns the visible record of a key. */
  readonly view: (key: KeyText) => CatalogRecord | undefined;
}

/** `unknown` means that the check was inconclusive, for example because the policy changed meanwhile. */
export type DigestVerdict = "same" | "differs" | "unknown";

/** Maximum number of keys that may change during a check. If more keys change, the check is inconclusive. */
const MAX_CHANGED = 10_000;

export class DigestCheck {
  readonly prefix: string;
  readonly #start: DigestCheckStart;
  readonly #prefixes: NamespacePrefixes;
  /** Delta ids, as of the start, of the keys that have changed locally since then. */
  readonly #before = new Map<KeyText, string | undefined>();
  /** Delta ids that the upstream has sent since the start. */
  readonly #received = new Map<KeyText, string | undefined>();

  constructor(start: DigestCheckStart) {
    this.#start = start;
    this.prefix = start.prefix;
    this.#prefixes = new NamespacePrefixes([start.prefix]);
  }

  /** Records that a key is about to change locally. */
  touch(key: KeyText, namespace: string, seen: CatalogRecord | undefined): void {
    if (this.#before.size > MAX_CHANGED || this.#before.has(key) || !this.#prefixes.covers(namespace)) return;
    this.#before.set(key, seen && deltaId(seen));
  }

  /** Processes a watch message. Returns undefined while more messages are expected. Throws `invalid_argument` for a malformed message. */
  receive({ deltas, snapshot, place, policyEpoch, digest }: UpstreamWatchMessage): DigestVerdict | undefined {
    if (snapshot !== SNAPSHOT.NONE || policyEpoch !== this.#start.policyEpoch) return "unknown";
    for (const delta of deltas)
      this.#received.set(this.#keyOf(delta), "entry" in delta.change ? `${delta.nodeId}/${delta.generation}/${delta.seq}` : undefined);
    if (Math.max(this.#received.size, this.#before.size) > MAX_CHANGED) return "unknown";
    if (place === undefined) return undefined;
    if (digest === undefined) return "unknown";
    const expected = this.#expected();
    return expected.count === digest.count && expected.digest === digest.digest ? "same" : "differs";
  }

  /** Returns the expected count and digest: the initial values, updated with the upstream's changes since then. */
  #expected(): ViewDigest {
    const { own, view } = this.#start;
    const changes = new DigestSum();
    for (const [key, id] of this.#received) {
      const seen = view(key);
      const before = this.#before.has(key) ? this.#before.get(key) : seen && deltaId(seen);
      if (before !== undefined) changes.subtract(before);
      if (id !== undefined) changes.add(id);
    }
    return { count: own.count + changes.count, digest: BigInt.asUintN(64, own.digest + changes.value) };
  }

  #keyOf({ change }: WatchDelta): KeyText {
    if ("key" in change) return change.text;
    return this.#start.stamper.entryOfStored(change.entry.subarray(0, readShown(change.entry).storedBytes)).key;
  }
}
