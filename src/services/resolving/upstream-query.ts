/**
 * Proxies queries for data that a resolver neither watches nor has fetched. The upstream answers the query, and the resolver keeps only the entries
 * that its caller may see. Page tokens contain only keys of entries that the caller may see, and are valid on every server of the cluster.
 */
import { clone, create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Entry, EntrySchema, HealthStatus } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import {
  type CatalogQueryRequest,
  CatalogQueryRequestSchema,
  type CatalogQueryResponse,
  CatalogQueryResponseSchema,
  DiscoveryService,
  type Explanation,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { CATALOG_QUERY_RESPONSE_TAG as QUERY } from "../../../gen/waymark/discovery/v1/discovery_tags.ts";
import { parseKey } from "../../catalog/entry/codec.ts";
import { PROTOCOL_BOUNDS } from "../../catalog/entry/names.ts";
import { readShown } from "../../catalog/entry/view.ts";
import { type EntryFilter, filterHash } from "../../catalog/query/filter.ts";
import type { QueriedName } from "../../catalog/query/instances.ts";
import { NamespacePrefixes } from "../../catalog/query/prefixes.ts";
import { decodePageToken, encodePageToken, pageLimit } from "../../catalog/query/query.ts";
import { KIND } from "../../catalog/record/record.ts";
import { joinUnreachable, type UnreachableNodes } from "../../catalog/unreachable-nodes.ts";
import { rethrowInvariant, WaymarkError } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import { misplaced, writeBytesField } from "../../lib/protowire.ts";
import { readFetchedPage } from "../../resolver/codec.ts";
import { durationMs } from "../contract.ts";
import type { StreamSource } from "../service.ts";
import type { ResolverPorts } from "./ports.ts";
import { type RetainedPage, type ShownEntry, withRetained } from "./retained-entries.ts";

/** Largest number of upstream pages for one call, and largest number of entries on all of these pages together. */
const MAX_CALLS = 50;
const MAX_ENTRIES = 10_000;
/** Number of additional entries to request, because some entries may be hidden from the caller. The number doubles with each further page. */
const SPARE = 16;
const MAX_PAGE = 1000;
const EVERYWHERE = new NamespacePrefixes([""]);

export interface UpstreamQuery {
  readonly request: CatalogQueryRequest;
  readonly filter: EntryFilter;
  /** Distinguishes the lists of different methods in page tokens, as on a node. */
  readonly salt: string;
  /** Whether the caller may see any part of a namespace. */
  readonly seesIn: (namespace: string) => boolean;
  /** Whether the owners' rules permit an entry in a namespace that the caller may see. These rules are the same for all callers. */
  readonly isShown: (entry: Pick<Entry, "clusterId" | "region" | "scope"> & { readonly namespace: string }) => boolean;
  /**
   * Returns matching entries after a key that are retained, and that the upstream lacks. These entries are filtered in the same way as the entries
   * from the upstream.
   */
  readonly heldAfter: (afterKey: string) => RetainedPage | undefined;
  /** The ids of this resolver and of the resolvers that read through it. */
  readonly via: readonly string[];
  readonly clusterId: string;
  /** The caller's deadline in monotonic ms. */
  readonly deadlineMonoMs?: number | undefined;
  readonly now: () => Time;
}

/** The page, without the final values of the age fields in the response. */
export interface UpstreamPage {
  readonly response: CatalogQueryResponse;
  /** The encoded entries, exactly as the upstream sent them. Encoding them again from messages would change the order of their fields. */
  readonly entries: readonly Uint8Array[];
  readonly ageMs: number;
  readonly isStale: boolean;
  /** Nodes that are not included in the age. */
  readonly unreachable: UnreachableNodes | undefined;
  /** Namespaces from which entries were left out. */
  readonly hidden: readonly string[];
}

type QueryPorts = Pick<ResolverPorts, "adjust" | "callBytes" | "garbled" | "machine">;

/**
 * Runs the query, and reports the policies under which the pages were made to the machine. Rejects with the upstream's error, or with
 * `quota_exceeded` if many pages contained no entry that the caller may see.
 */
export async function proxyQuery(ports: QueryPorts, passed: UpstreamQuery): Promise<UpstreamPage> {
  const { request, filter, salt, via } = passed;
  const limit = pageLimit(request.limit);
  const [ours, theirs] = [filterHash(filter, salt), filterHash({ ...filter, resolved: filter.resolved ?? EVERYWHERE }, salt)];
  const page = new VisiblePage(passed, limit);
  const begin = decodePageToken(request.pageToken, ours);
  const end = (isMore: boolean) => page.end(isMore, passed.heldAfter(begin), ours);
  let afterKey = begin;
  let spareCount = SPARE;
  for (let calls = 0; calls < MAX_CALLS && page.toldCount < MAX_ENTRIES; calls++) {
    const pageToken = afterKey === "" ? "" : encodePageToken(afterKey, theirs);
    const asked = clone(CatalogQueryRequestSchema, request);
    const askedCount = Math.min(MAX_PAGE, page.leftCount + spareCount);
    const askedMonoMs = passed.now().monoMs;
    Object.assign(asked, { forResolver: true, viewer: undefined, via: [...via], limit: askedCount, pageToken });
    const { bytes, upstream } = await ports.callBytes(DiscoveryService.method.catalogQuery, asked, upstreamMs(passed));
    const nextKey = readable(ports, upstream, () => page.take(bytes, { theirs, afterKey, askedMonoMs }));
    hear(ports, page.policyEpoch, { upstream, monoMs: passed.now().monoMs });
    // Even if the page is full, the loop continues until it is known whether there are more entries that the caller may see, because a token must not
    // reveal hidden entries.
    if (page.isOverfull || nextKey === undefined) return end(page.isOverfull);
    afterKey = page.skipHidden(nextKey);
    spareCount *= 2;
  }
  if (page.isEmpty)
    throw new WaymarkError("quota_exceeded", "too many entries are hidden from this caller: set namespace or namespace_prefix");
  return end(true);
}

/** Fraction of the caller's remaining time that an upstream call may use, so that there is time left to send the caller an error with the reason. */
export const UPSTREAM_PART = 0.8;

function upstreamMs({ deadlineMonoMs, now }: UpstreamQuery): number | undefined {
  return deadlineMonoMs === undefined ? undefined : UPSTREAM_PART * (deadlineMonoMs - now().monoMs);
}

interface UpstreamPosition {
  /** The filter hash in the upstream's page tokens. */
  readonly theirs: string;
  readonly afterKey: string;
  readonly askedMonoMs: number;
}

class VisiblePage {
  readonly #passed: UpstreamQuery;
  readonly #limit: number;
  readonly #shown: ShownEntry[] = [];
  readonly #explanation: Explanation[] = [];
  /** The namespace of the last entry, if that namespace is completely hidden from the caller. */
  #hidden: string | undefined;
  /** Time of the data on the oldest page, in monotonic ms. The age of that data increases while other pages are requested. */
  #asOfMonoMs = Number.POSITIVE_INFINITY;
  #isStale = false;
  #unreachable: UnreachableNodes | undefined;
  readonly #hiddenNamespaces = new Set<string>();
  /** Whether a visible entry did not fit on the page. */
  isOverfull = false;
  /** Number of entries received from the upstream, including hidden ones. */
  toldCount = 0;
  /** Identifies the policy under which the upstream's last page was made. */
  policyEpoch = "";

  constructor(passed: UpstreamQuery, limit: number) {
    this.#passed = passed;
    this.#limit = limit;
  }

  get isFull(): boolean {
    return this.#shown.length >= this.#limit;
  }

  get isEmpty(): boolean {
    return this.#shown.length === 0;
  }

  /** Number of entries that still fit on the page. */
  get leftCount(): number {
    return this.#limit - this.#shown.length;
  }

  /**
   * Adds a page from the upstream that was requested at `askedMonoMs`. Returns the position of the next page, or undefined after the last page.
   * Throws for a page that no Waymark server can have sent.
   */
  take(bytes: Uint8Array, { theirs, afterKey, askedMonoMs }: UpstreamPosition): string | undefined {
    const answer = fromBinary(CatalogQueryResponseSchema, bytes);
    // The upstream reports the age of its own data. The transit time of the answer is unknown, so the age is counted from the time of the request.
    this.#asOfMonoMs = Math.min(this.#asOfMonoMs, askedMonoMs - (answer.age === undefined ? 0 : durationMs(answer.age)));
    const { entries, unreachable } = readFetchedPage(bytes);
    this.#unreachable = joinUnreachable(this.#unreachable, unreachable);
    this.#add(answer, entries);
    if (answer.nextPageToken === "") return undefined;
    const nextKey = decodePageToken(answer.nextPageToken, theirs);
    if (nextKey <= afterKey) throw misplaced("the page token does not follow the previous page");
    return nextKey;
  }

  #add({ items, explanation, stale, policyEpoch }: CatalogQueryResponse, entries: readonly Uint8Array[]): void {
    this.toldCount += items.length;
    this.policyEpoch = policyEpoch;
    this.#isStale ||= stale;
    for (const [i, entry] of items.entries()) this.#put(entry, entries[i] ?? NOTHING);
    const { seesIn } = this.#passed;
    for (const one of explanation) if (one.key !== undefined && seesIn(one.key.namespace)) this.#explanation.push(one);
  }

  #put(entry: Entry, encoded: Uint8Array): void {
    const shown = this.#judged(entry, encoded);
    const namespace = entry.key?.namespace ?? "";
    this.#hidden = this.#passed.seesIn(namespace) ? undefined : namespace;
    if (shown === undefined) this.#hiddenNamespaces.add(namespace);
    else if (this.isFull) this.isOverfull = true;
    else this.#shown.push(shown);
  }

  /** Returns the entry in the form that the caller receives. Undefined if the entry is hidden from the caller. */
  #judged(entry: Entry, encoded: Uint8Array): ShownEntry | undefined {
    const { key, clusterId, region, scope } = entry;
    if (key === undefined) throw misplaced("entry without a key");
    const { namespace } = key;
    const { seesIn, isShown, request } = this.#passed;
    if (!seesIn(namespace) || !isShown({ namespace, clusterId, region, scope })) return undefined;
    const shown = request.forResolver ? { entry, encoded } : forReader(entry, encoded);
    return { key: parseKey({ ...key, kind: key.kind }, "key", this.#passed.clusterId, PROTOCOL_BOUNDS), ...shown };
  }

  /** Returns the key after which the next page begins. If a namespace is completely hidden, the key skips the rest of it. */
  skipHidden(afterKey: string): string {
    const above = this.#hidden === undefined ? "" : `${this.#hidden}\u0001`;
    return above > afterKey ? above : afterKey;
  }

  /** Builds the final page. `isMore` is true if the upstream has more entries. `hash` is the filter hash for the next page token. */
  end(isMore: boolean, held: RetainedPage | undefined, hash: string): UpstreamPage {
    const { shown, ...page } = withRetained({ shown: this.#shown, isMore }, this.#heldPart(held), this.#limit);
    const last = shown.at(-1);
    const nextPageToken = page.isMore && last !== undefined ? encodePageToken(last.key, hash) : "";
    const explanation = this.#explanation.slice(0, MAX_EXPLAINED);
    const response = create(CatalogQueryResponseSchema, { items: shown.map(({ entry }) => entry), nextPageToken, explanation });
    return {
      response,
      entries: shown.map(({ encoded }) => encoded),
      ageMs: Math.round(this.#passed.now().monoMs - this.#asOfMonoMs),
      isStale: this.#isStale || page.hasHeld,
      unreachable: this.#unreachable,
      hidden: [...this.#hiddenNamespaces],
    };
  }

  #heldPart(held: RetainedPage | undefined) {
    if (held === undefined) return NOTHING_HELD;
    const { entries } = readFetchedPage(held.bytes);
    const { items } = fromBinary(CatalogQueryResponseSchema, held.bytes);
    return { shown: items.flatMap((entry, i) => this.#judged(entry, entries[i] ?? NOTHING) ?? []), isMore: held.isMore };
  }
}

/**
 * Converts an entry for a reader that is not a resolver. For resolvers, an upstream marks all entries of an unreachable origin as ORPHANED. Other
 * readers see MAINTENANCE for an entry that was already in maintenance.
 */
function forReader(entry: Entry, encoded: Uint8Array): Omit<ShownEntry, "key"> {
  if (entry.health !== HealthStatus.ORPHANED) return { entry, encoded };
  const stored = encoded.subarray(0, readShown(encoded).storedBytes);
  const own = fromBinary(EntrySchema, stored);
  return own.health === HealthStatus.MAINTENANCE ? { entry: own, encoded: stored } : { entry, encoded };
}

const MAX_EXPLAINED = 1000;
const NOTHING = new Uint8Array();
const NOTHING_HELD = { shown: [], isMore: false };

/** Reports the policy epoch of a page. Until that version has arrived, the resolver neither answers calls nor sends messages to watches. */
function hear(ports: QueryPorts, epoch: string, from: { readonly upstream: string; readonly monoMs: number }): void {
  const { policy } = ports.machine;
  const wasReady = policy.isReady;
  policy.noteEpoch(epoch, from);
  if (policy.isReady !== wasReady) ports.adjust();
}

/** Decodes an upstream's answer. An answer that no Waymark server can have sent is reported as a fault of the upstream, not of the caller. */
function readable<T>({ garbled }: Pick<ResolverPorts, "garbled">, upstream: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    rethrowInvariant(error);
    garbled(upstream, error instanceof Error ? error.message : "an answer that cannot be decoded");
    throw new WaymarkError("not_ready", `upstream ${upstream} sent an answer that cannot be decoded; retry`, { cause: error });
  }
}

/** Encodes a response that contains these entries. Protobuf merges concatenated messages, so the other fields are encoded separately. */
export function encodedPage(response: CatalogQueryResponse, entries: readonly Uint8Array[]): Uint8Array {
  const rest = toBinary(CatalogQueryResponseSchema, Object.assign(clone(CatalogQueryResponseSchema, response), { items: [] }));
  const out = new Uint8Array(entries.reduce((sum, { length }) => sum + length + ITEM_ROOM, rest.length));
  let at = 0;
  for (const entry of entries) at = writeBytesField(out, at, QUERY.items, entry);
  out.set(rest, at);
  return out.subarray(0, at + rest.length);
}

/** Largest size of an entry's tag and length, in bytes. */
const ITEM_ROOM = 16;

// The source from which a resolver answers a query (semantics.md, Resolver 17).

type PageSource =
  /** The watched data. */
  | { readonly from: "followed" }
  /** The fetched answers for these names. */
  | { readonly from: "names"; readonly names: readonly QueriedName[] }
  /** The upstream, to which the whole query is proxied. */
  | { readonly from: "upstream" };

/** Largest number of names in a query that is answered name by name. */
const MAX_NAMES = 100;
const KINDS = Object.values(KIND);

/**
 * Returns the source for a query. `isComplete` tests whether all entries in and below a namespace are watched. An empty text means all namespaces.
 */
export function querySourceOf(filter: EntryFilter, isComplete: (namespace: string) => boolean): PageSource {
  const { namespace, prefix, names, kindMask, resolved } = filter;
  const base = namespace === "" ? prefix : namespace;
  const below = resolved === undefined || base !== "" ? [base] : resolved.list;
  if (below.every(isComplete)) return { from: "followed" };
  const kinds = kindMask === 0 ? KINDS : KINDS.filter((kind) => (kindMask & (1 << kind)) !== 0);
  const isOfAll = kinds.length === KINDS.length;
  const count = (isOfAll ? 1 : kinds.length) * names.length;
  if (namespace === "" || count === 0 || count > MAX_NAMES || resolved?.covers(namespace) === false) return { from: "upstream" };
  // HOT: most queries are for one name and all kinds.
  if (isOfAll) return { from: "names", names: names.map((name) => ({ namespace, name })) };
  return { from: "names", names: kinds.flatMap((kind) => names.map((name) => ({ kind, namespace, name }))) };
}

// A client's watch on namespaces that the resolver watches for the client. The watch ends when these namespaces no longer fit in the cache.

export class FollowedSource implements StreamSource {
  readonly #source: StreamSource;
  readonly #refusal: () => WaymarkError | undefined;
  #end: Parameters<StreamSource["attach"]>[1] | undefined;

  /** `refusal` returns the error that ends the watch. Undefined while the watch can continue. */
  constructor(source: StreamSource, refusal: () => WaymarkError | undefined) {
    this.#source = source;
    this.#refusal = refusal;
  }

  attach(wake: () => void, end: (error: WaymarkError | undefined) => void): void {
    this.#end = end;
    this.#source.attach(wake, end);
  }

  /** Returns the next message. Entries that were dropped for lack of space are not reported as removed. Instead, the watch ends. */
  pull(time: Time): Uint8Array | undefined {
    const refusal = this.#refusal();
    if (refusal === undefined) return this.#source.pull(time);
    this.#end?.(refusal);
    return undefined;
  }

  get isDrained(): boolean {
    return this.#source.isDrained === true;
  }

  close(): void {
    this.#source.close();
  }
}
