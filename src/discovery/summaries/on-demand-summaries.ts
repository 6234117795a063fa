/**
 * Summaries of this node's cluster, computed from the catalog for each request. Nodes without cluster keys use these summaries, because they do not
 * store signed ones. Summaries computed in this way are unsigned.
 */
import { isControlNamespace } from "../../catalog/entry/names.ts";
import { SCOPE } from "../../catalog/entry/scope.ts";
import type { EntryIndex } from "../../catalog/query/entry-index.ts";
import { coversNamespace, type EntryFilter, filterHash } from "../../catalog/query/filter.ts";
import { decodePageToken, encodePageToken } from "../../catalog/query/query.ts";
import { type CatalogRecord, nameOfKey } from "../../catalog/record/record.ts";
import { type Caller, viewText } from "../../policy/identity/caller.ts";
import type { Policy, PolicySource } from "../../policy/set/verdict.ts";
import { Counting } from "../../summary/building/counting.ts";
import { draftOf } from "../../summary/building/drafts.ts";
import { Outlets } from "../../summary/building/outlets.ts";
import { SUMMARISED_MASK } from "../../summary/keys.ts";
import type { Channel, SummaryFacts } from "../../summary/summary.ts";
import type { CatalogReads } from "../reads.ts";

export interface OnDemandPage {
  readonly items: readonly SummaryFacts[];
  readonly nextToken: string;
}

interface OnDemandRequest {
  readonly filter: EntryFilter;
  readonly token: string;
  readonly limit: number;
}

const CHANNELS: readonly Channel[] = [SCOPE.ZONE, SCOPE.REGION];
const SALT = "counted summaries";
/** Separates the parts of a key or a page position. */
const SEPARATOR = "\0";
/**
 * Number of entries that are counted between two yields, which is about 2 to 3 ms of work. Each visited service or namespace costs as much as
 * `LOOK_COST` entries.
 */
const COUNTED_AT_A_TIME = 2048;
const LOOK_COST = 32;
/** A page ends early after this number of slices, so that one call does not cost much more than 0.1 s of CPU time. */
const MAX_SLICES = 32;

/** The remaining work of the current slice, and the number of slices used for the page. */
class SliceBudget {
  left = COUNTED_AT_A_TIME;
  #slices = 1;

  get isSpent(): boolean {
    return this.#slices >= MAX_SLICES;
  }

  next(): undefined {
    this.left = COUNTED_AT_A_TIME;
    this.#slices += 1;
  }
}

export class OnDemandSummaries {
  readonly #reads: CatalogReads;
  readonly #policies: PolicySource;
  #outlets: { readonly policy: Policy; readonly byChannel: ReadonlyMap<Channel, Outlets> } | undefined;

  constructor(reads: CatalogReads, policies: PolicySource) {
    this.#reads = reads;
    this.#policies = policies;
  }

  /**
   * Returns a page sorted by namespace, name and kind, with the channel ZONE before REGION. Yields after each slice, so that the caller can let other
   * work run. Throws `invalid_argument` for a page token that was issued for another filter.
   */
  *page(caller: Caller, request: OnDemandRequest, wallMs: number): Generator<undefined, OnDemandPage> {
    const hash = filterHash(request.filter, viewText(caller, SALT));
    const after = decodePageToken(request.token, hash);
    /** One example of a hidden namespace for each rule that hides namespaces. */
    const hidden = new Map<string, string>();
    const sees = (namespace: string): boolean => {
      const { allowed, rule } = this.#reads.verdict(caller, namespace);
      if (!allowed && !hidden.has(rule)) hidden.set(rule, namespace);
      return allowed;
    };
    const { items, last } = yield* this.#items(request, after, sees, wallMs);
    this.#reads.noteHidden(caller, [...hidden.values()]);
    return { items, nextToken: last === undefined ? "" : encodePageToken(last, hash) };
  }

  /**
   * Returns the items on a page. `last`: the position of the last item, if more items may follow. The position never contains a hidden name, because
   * callers can read it in the token.
   */
  *#items(
    { filter, limit }: OnDemandRequest,
    after: string,
    sees: (namespace: string) => boolean,
    wallMs: number,
  ): Generator<undefined, { readonly items: readonly SummaryFacts[]; readonly last: string | undefined }> {
    const { lookup, slab } = this.#reads.replica;
    const items: SummaryFacts[] = [];
    const budget = new SliceBudget();
    let last = after;
    let from = after === "" ? firstKey(filter) : after.slice(0, after.lastIndexOf(SEPARATOR));
    if (!this.#mayMatch(filter, sees)) return { items, last: undefined };
    for (;;) {
      if (budget.isSpent && last !== after) return { items, last };
      if ((budget.left -= LOOK_COST) <= 0) yield budget.next();
      const record = firstFrom(lookup, filter, from);
      if (record === undefined || isPast(filter, record.namespace)) return { items, last: undefined };
      const { namespace, name, kind, key } = record;
      const nameKey = nameOfKey(key);
      const isShown = coversNamespace(filter, namespace) && !isControlNamespace(namespace) && sees(namespace);
      from = `${isShown ? nameKey : namespace}\u0001`;
      if (!isShown || (kindsOf(filter) & (1 << kind)) === 0) continue;
      const counting = new Counting(this.#reads.node.clusterId, { nameKey, name });
      while ((budget.left = counting.step(lookup, slab, budget.left)) === 0) yield budget.next();
      for (const facts of this.#factsOf({ namespace, serviceId: name, kind }, counting, filter, wallMs)) {
        const place = `${nameKey}${SEPARATOR}${facts.channel}`;
        if (place <= after) continue;
        if (items.length === limit) return { items, last };
        items.push(facts);
        last = place;
      }
    }
  }

  #mayMatch({ namespace, summaries }: EntryFilter, sees: (namespace: string) => boolean): boolean {
    if (summaries !== undefined && summaries.regions.length > 0 && !summaries.regions.includes(this.#reads.node.region)) return false;
    return namespace === "" || sees(namespace);
  }

  *#factsOf(
    service: Pick<SummaryFacts, "kind" | "namespace" | "serviceId">,
    counting: Counting,
    { summaries }: EntryFilter,
    wallMs: number,
  ): Generator<SummaryFacts> {
    const { policy, byChannel } = this.#outletsNow();
    for (const [channel, outlets] of byChannel) {
      if (channel < (summaries?.channel ?? SCOPE.UNSET)) continue;
      const permission = outlets.of(service.namespace, wallMs);
      const outlet = permission.outlets.find((each) => each.channel === channel);
      if (outlet === undefined) continue;
      const key = { source: this.#reads.node.clusterId, ...service, channel };
      const draft = draftOf({ key, tally: counting.tally(outlet.leastScope), outlet, sent: undefined }, { policy, permission });
      if (draft !== undefined) yield draft.facts;
    }
  }

  /**
   * Returns the channels on which services are currently exported. A rule without export scopes exports a service only on the widest channel, so each
   * of the two channels is treated as the widest in turn.
   */
  #outletsNow() {
    const { policy } = this.#policies;
    if (this.#outlets?.policy !== policy) {
      const { clusterId, region } = this.#reads.node;
      const fixed = { source: { clusterId, region }, includeUnscoped: true, exportNamespaces: [] };
      this.#outlets = {
        policy,
        byChannel: new Map(CHANNELS.map((exportScope) => [exportScope, new Outlets(policy, { ...fixed, exportScope })])),
      };
    }
    return this.#outlets;
  }
}

function kindsOf({ kindMask }: EntryFilter): number {
  return kindMask === 0 ? SUMMARISED_MASK : kindMask & SUMMARISED_MASK;
}

/** Returns the first key that the filter may match. */
function firstKey({ namespace, prefix }: EntryFilter): string {
  return namespace === "" ? prefix : `${namespace}${SEPARATOR}`;
}

function isPast(filter: EntryFilter, namespace: string): boolean {
  return filter.namespace === "" ? !namespace.startsWith(filter.prefix) : namespace !== filter.namespace;
}

/** Returns the first record at or after a key. If the filter specifies a service, only its records are considered. */
function firstFrom(lookup: EntryIndex, { names: [name] }: EntryFilter, from: string): CatalogRecord | undefined {
  const cursor = name === undefined ? lookup.cursor() : lookup.names.cursor(name);
  cursor.seek(from);
  return cursor.next();
}
