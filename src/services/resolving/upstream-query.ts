/**
 * Queries that a resolver passes on, because it neither follows nor fetched what they ask for. Its upstream answers them for it, and it judges here what its
 * caller may see. Tokens name only entries that the caller may see, and are good at every server of the cluster.
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

/** Most pages of the upstream that one call asks for, and most entries in all of them together. */
const MAX_CALLS = 50;
const MAX_ENTRIES = 10_000;
/** So many entries more than the caller asks for are asked for, because some may be hidden from it; twice as many with each further page. */
const SPARE = 16;
const MAX_PAGE = 1000;
const EVERYWHERE = new NamespacePrefixes([""]);

export interface UpstreamQuery {
  readonly request: CatalogQueryRequest;
  readonly filter: EntryFilter;
  /** Distinguishes the lists of different methods in tokens, as at a node. */
  readonly salt: string;
  /** Whether the caller may see anything of a namespace. */
  readonly seesIn: (namespace: string) => boolean;
  /** Whether nobody is kept from seeing such an entry of a namespace that the caller may see: owners' rules. */
  readonly isShown: (entry: Pick<Entry, "clusterId" | "region" | "scope"> & { readonly namespace: string }) => boolean;
  /** What of the answer is held here, after a key: entries that the upstream lacks. It is judged as what the upstream sends. */
  readonly heldAfter: (afterKey: string) => RetainedPage | undefined;
  /** This resolver, and those behind which it is. */
  readonly via: readonly string[];
  readonly clusterId: string;
  /** When the caller gives up, in monotonic ms. */
  readonly deadlineMonoMs?: number | undefined;
  readonly now: () => Time;
}

/** The page, without what says how good it is. */
export interface UpstreamPage {
  readonly response: CatalogQueryResponse;
  /** The encoded entries as the upstream shows them: made anew from messages their fields would have another order than stored ones. */
  readonly entries: readonly Uint8Array[];
  readonly ageMs: number;
  readonly isStale: boolean;
  /** Nodes that the age does not include. */
  readonly unreachable: UnreachableNodes | undefined;
  /** Namespaces of which something was left out. */
  readonly hidden: readonly string[];
}

type QueryPorts = Pick<ResolverPorts, "adjust" | "callBytes" | "garbled" | "machine">;

/** The machine hears of the policies under which the pages were made. Rejects with the refusal of the upstream, and with `quota_exceeded` if nothing that the caller may see was found after many pages. */
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
    // A full page goes on until it is known whether the caller may see more: a token must not tell of what it may not.
    if (page.isOverfull || nextKey === undefined) return end(page.isOverfull);
    afterKey = page.skipHidden(nextKey);
    spareCount *= 2;
  }
  if (page.isEmpty)
    throw new WaymarkError("quota_exceeded", "what this caller may see lies behind too many other entries; name a namespace or a prefix");
  return end(true);
}

/** The part of the time that a caller has left which an upstream gets: after that there is still time to tell the caller why it gets nothing. */
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
  /** The namespace of the last entry, if nothing of it is for the caller. */
  #hidden: string | undefined;
  /** What the oldest of the pages is of, in monotonic ms: it grows older while others are asked for. */
  #asOfMonoMs = Number.POSITIVE_INFINITY;
  #isStale = false;
  #unreachable: UnreachableNodes | undefined;
  readonly #hiddenNamespaces = new Set<string>();
  /** Whether a visible entry found no place any more. */
  isOverfull = false;
  /** Entries that the upstream told of, also those that are hidden. */
  toldCount = 0;
  /** Names the policy under which the last page of the upstream was made. */
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

  /** Places for entries. */
  get leftCount(): number {
    return this.#limit - this.#shown.length;
  }

  /** Adds a page of the upstream that was requested at `askedMonoMs`. Returns the position of the next page; undefined after the last page. Throws for a page that no Waymark server can have sent. */
  take(bytes: Uint8Array, { theirs, afterKey, askedMonoMs }: UpstreamPosition): string | undefined {
    const answer = fromBinary(CatalogQueryResponseSchema, bytes);
    // The upstream states its own age. The transit time of the answer is unknown, so the age is counted from the time of the request.
    this.#asOfMonoMs = Math.min(this.#asOfMonoMs, askedMonoMs - (answer.age === undefined ? 0 : durationMs(answer.age)));
    const { entries, unreachable } = readFetchedPage(bytes);
    this.#unreachable = joinUnreachable(this.#unreachable, unreachable);
    this.#add(answer, entries);
    if (answer.nextPageToken === "") return undefined;
    const nextKey = decodePageToken(answer.nextPageToken, theirs);
    if (nextKey <= afterKey) throw misplaced("a page token that leads back");
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

  /** Undefined for what is not for the caller. */
  #judged(entry: Entry, encoded: Uint8Array): ShownEntry | undefined {
    const { key, clusterId, region, scope } = entry;
    if (key === undefined) throw misplaced("an entry without a key");
    const { namespace } = key;
    const { seesIn, isShown, request } = this.#passed;
    if (!seesIn(namespace) || !isShown({ namespace, clusterId, region, scope })) return undefined;
    const shown = request.forResolver ? { entry, encoded } : forReader(entry, encoded);
    return { key: parseKey({ ...key, kind: key.kind }, "key", this.#passed.clusterId, PROTOCOL_BOUNDS), ...shown };
  }

  /** Where the next page begins. What is left of a namespace that is hidden as a whole is passed over. */
  skipHidden(afterKey: string): string {
    const above = this.#hidden === undefined ? "" : `${this.#hidden}\u0001`;
    return above > afterKey ? above : afterKey;
  }

  /** `isMore`: whether the upstream has more. `hash`: of the token for the next page. */
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

/** An upstream marks for a resolver the entries of each origin that is away. What was taken out of traffic before shows that to all other readers. */
function forReader(entry: Entry, encoded: Uint8Array): Omit<ShownEntry, "key"> {
  if (entry.health !== HealthStatus.ORPHANED) return { entry, encoded };
  const stored = encoded.subarray(0, readShown(encoded).storedBytes);
  const own = fromBinary(EntrySchema, stored);
  return own.health === HealthStatus.MAINTENANCE ? { entry: own, encoded: stored } : { entry, encoded };
}

const MAX_EXPLAINED = 1000;
const NOTHING = new Uint8Array();
const NOTHING_HELD = { shown: [], isMore: false };

/** Until the version is here that a page names nobody is answered, and whoever watches is told nothing. */
function hear(ports: QueryPorts, epoch: string, from: { readonly upstream: string; readonly monoMs: number }): void {
  const { policy } = ports.machine;
  const wasReady = policy.isReady;
  policy.heardEpoch(epoch, from);
  if (policy.isReady !== wasReady) ports.adjust();
}

/** What an upstream said. What no server of ours can have sent is the fault of the upstream, and no fault of the caller. */
function readable<T>({ garbled }: Pick<ResolverPorts, "garbled">, upstream: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    rethrowInvariant(error);
    garbled(upstream, error instanceof Error ? error.message : "an answer that cannot be read");
    throw new WaymarkError("not_ready", "an upstream sent an answer that cannot be read", { cause: error });
  }
}

/** The bytes of a response with these entries. What is written twice in a message is joined, so that the rest may be encoded apart. */
export function encodedPage(response: CatalogQueryResponse, entries: readonly Uint8Array[]): Uint8Array {
  const rest = toBinary(CatalogQueryResponseSchema, Object.assign(clone(CatalogQueryResponseSchema, response), { items: [] }));
  const out = new Uint8Array(entries.reduce((sum, { length }) => sum + length + ITEM_ROOM, rest.length));
  let at = 0;
  for (const entry of entries) at = writeBytesField(out, at, QUERY.items, entry);
  out.set(rest, at);
  return out.subarray(0, at + rest.length);
}

/** Most bytes of the tag and the length of an entry. */
const ITEM_ROOM = 16;

// Where a resolver finds the answer to a query (semantics.md, Resolver 17).

type PageSource =
  /** In what is followed. */
  | { readonly from: "followed" }
  /** In the answers to these names. */
  | { readonly from: "names"; readonly names: readonly QueriedName[] }
  /** Nowhere here: the whole query goes upstream. */
  | { readonly from: "upstream" };

/** Most names that a query has answered by name. */
const MAX_NAMES = 100;
const KINDS = Object.values(KIND);

/** `isComplete`: whether everything in a namespace, and below it, is held. An empty text stands for all namespaces. */
export function querySourceOf(filter: EntryFilter, isComplete: (namespace: string) => boolean): PageSource {
  const { namespace, prefix, names, kindMask, resolved } = filter;
  const base = namespace === "" ? prefix : namespace;
  const below = resolved === undefined || base !== "" ? [base] : resolved.list;
  if (below.every(isComplete)) return { from: "followed" };
  const kinds = kindMask === 0 ? KINDS : KINDS.filter((kind) => (kindMask & (1 << kind)) !== 0);
  const isOfAll = kinds.length === KINDS.length;
  const count = (isOfAll ? 1 : kinds.length) * names.length;
  if (namespace === "" || count === 0 || count > MAX_NAMES || resolved?.covers(namespace) === false) return { from: "upstream" };
  // HOT: mostly one name of all kinds.
  if (isOfAll) return { from: "names", names: names.map((name) => ({ namespace, name })) };
  return { from: "names", names: kinds.flatMap((kind) => names.map((name) => ({ kind, namespace, name }))) };
}

// A watch of what a resolver follows for it. It ends when that finds no room any more.

export class FollowedSource implements StreamSource {
  readonly #source: StreamSource;
  readonly #refusal: () => WaymarkError | undefined;
  #end: Parameters<StreamSource["attach"]>[1] | undefined;

  /** `refusal`: why it may not go on. Undefined while it may. */
  constructor(source: StreamSource, refusal: () => WaymarkError | undefined) {
    this.#source = source;
    this.#refusal = refusal;
  }

  attach(wake: () => void, end: (error: WaymarkError | undefined) => void): void {
    this.#end = end;
    this.#source.attach(wake, end);
  }

  /** What is let go for want of room is not told as removed. */
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
