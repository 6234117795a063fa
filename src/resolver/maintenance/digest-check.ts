/**
 * One comparison of what is followed below a prefix with what the upstream has there, by count and digest (semantics.md, Resolver 20). Its watch goes on from the
 * place up to which everything is held and ends with its first bookmark. What it tells until then, and what changes here meanwhile, is reckoned in.
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
  /** What is held below the prefix at the place from which the watch goes on. */
  readonly own: ViewDigest;
  /** The policy in force here, whose owners' rules hide entries. */
  readonly policyEpoch: string;
  readonly stamper: Pick<EntryStamper, "entryOfStored">;
  /** The entry that is held for a key. */
  readonly view: (key: KeyText) => CatalogRecord | undefined;
}

/** `unknown`: nothing can be concluded, as when the policy changed meanwhile. */
export type DigestVerdict = "same" | "differs" | "unknown";

/** Most keys that change meanwhile. */
const MAX_CHANGED = 10_000;

export class DigestCheck {
  readonly prefix: string;
  readonly #start: DigestCheckStart;
  readonly #prefixes: NamespacePrefixes;
  /** The delta ids at the start of what changed here since then. */
  readonly #before = new Map<KeyText, string | undefined>();
  /** The delta ids that the upstream told. */
  readonly #told = new Map<KeyText, string | undefined>();

  constructor(start: DigestCheckStart) {
    this.#start = start;
    this.prefix = start.prefix;
    this.#prefixes = new NamespacePrefixes([start.prefix]);
  }

  /** A key is about to change here. */
  touch(key: KeyText, namespace: string, seen: CatalogRecord | undefined): void {
    if (this.#before.size > MAX_CHANGED || this.#before.has(key) || !this.#prefixes.covers(namespace)) return;
    this.#before.set(key, seen && deltaId(seen));
  }

  /** A message of the watch. Undefined: more is to come. Throws `invalid_argument` for what no server of ours can have sent. */
  hear({ deltas, snapshot, place, policyEpoch, digest }: UpstreamWatchMessage): DigestVerdict | undefined {
    if (snapshot !== SNAPSHOT.NONE || policyEpoch !== this.#start.policyEpoch) return "unknown";
    for (const delta of deltas)
      this.#told.set(this.#keyOf(delta), "entry" in delta.change ? `${delta.nodeId}/${delta.generation}/${delta.seq}` : undefined);
    if (Math.max(this.#told.size, this.#before.size) > MAX_CHANGED) return "unknown";
    if (place === undefined) return undefined;
    if (digest === undefined) return "unknown";
    const expected = this.#expected();
    return expected.count === digest.count && expected.digest === digest.digest ? "same" : "differs";
  }

  /** What is held here if nothing was lost: what was held at the start, with what the upstream told since. */
  #expected(): ViewDigest {
    const { own, view } = this.#start;
    const changes = new DigestSum();
    for (const [key, id] of this.#told) {
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
