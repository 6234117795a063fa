/**
 * Queries that a resolver passes on, because it neither follows nor fetched what they ask for. Its upstream answers them for it, and it judges here what its
 * caller may see. Tokens name only entries that the caller may see, and are good at every server of the cluster.
 */
import { clone, create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Entry, Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
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
import { type Filter, filterHash } from "../../catalog/query/filter.ts";
import { decodePageToken, encodePageToken } from "../../catalog/query/page-token.ts";
import { Prefixes } from "../../catalog/query/prefixes.ts";
import { pageLimit } from "../../catalog/query/query.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { writeBytesField } from "../../lib/protowire.ts";
import { readFetchedPage } from "../../resolver/codec.ts";
import { durationMs } from "../request-checks.ts";
import type { ResolverPorts } from "./ports.ts";

/** Most pages of the upstream that one call asks for. Each passes at least one hidden namespace, or brings entries. */
const MAX_CALLS = 50;
const UPSTREAM_PAGE = 1000;
const EVERYWHERE = new Prefixes([""]);

export interface PassedQuery {
  readonly request: CatalogQueryRequest;
  readonly filter: Filter;
  /** Distinguishes the lists of different methods in tokens, as at a node. */
  readonly salt: string;
  /** Whether the caller may see the entries of a namespace from there. */
  readonly sees: (entry: Pick<Entry, "clusterId" | "region" | "scope"> & { readonly namespace: string }) => boolean;
  /** This resolver, and those behind which it is. */
  readonly via: readonly string[];
  readonly clusterId: string;
}

export interface HeardEpoch {
  readonly upstream: string;
  readonly epoch: string;
}

/** The page, without what says how good it is. */
export interface PassedPage {
  readonly response: CatalogQueryResponse;
  /** The encoded entries as the upstream shows them: made anew from messages their fields would have another order than stored ones. */
  readonly entries: readonly Uint8Array[];
  readonly ageMs: number;
  readonly isStale: boolean;
  /** Names the policies under which its parts were made, and who says so. */
  readonly policyEpochs: readonly HeardEpoch[];
  /** Namespaces of which something was left out. */
  readonly hidden: readonly string[];
}

/** Rejects with the refusal of the upstream, and with `quota_exceeded` if nothing that the caller may see was found after many pages. */
export async function passQuery(ports: Pick<ResolverPorts, "callBytes">, passed: PassedQuery): Promise<PassedPage> {
  const { request, filter, salt, via } = passed;
  const limit = pageLimit(request.limit);
  const [ours, theirs] = [filterHash(filter, salt), filterHash({ ...filter, resolved: filter.resolved ?? EVERYWHERE }, salt)];
  const page = new VisiblePage(passed, limit);
  let afterKey = decodePageToken(request.pageToken, ours);
  for (let calls = 0; calls < MAX_CALLS; calls++) {
    const pageToken = afterKey === "" ? "" : encodePageToken(afterKey, theirs);
    const asked = clone(CatalogQueryRequestSchema, request);
    Object.assign(asked, { forResolver: true, viewer: undefined, via: [...via], limit: UPSTREAM_PAGE, pageToken });
    const { bytes, upstream } = await ports.callBytes(DiscoveryService.method.catalogQuery, asked);
    const answer = answerIn(bytes);
    page.add(answer, entriesIn(bytes), upstream);
    const isLast = answer.nextPageToken === "";
    // A full page goes on until it is known whether the caller may see more: a token must not tell of what it may not.
    if (page.isOverfull || isLast) return page.end(page.isOverfull ? ours : undefined);
    afterKey = page.skipHidden(keyOfToken(answer.nextPageToken, theirs));
  }
  if (page.isEmpty)
    throw new WaymarkError("quota_exceeded", "what this caller may see lies behind too many other entries; name a namespace or a prefix");
  return page.end(ours);
}

class VisiblePage {
  readonly #passed: PassedQuery;
  readonly #limit: number;
  readonly #items: Entry[] = [];
  readonly #entries: Uint8Array[] = [];
  readonly #explanation: Explanation[] = [];
  #lastKey = "";
  /** The namespace of the last entry, if it is hidden. */
  #hidden: string | undefined;
  #ageMs = 0;
  #isStale = false;
  readonly #policyEpochs: HeardEpoch[] = [];
  readonly #hiddenNamespaces = new Set<string>();
  /** Whether a visible entry found no place any more. */
  isOverfull = false;

  constructor(passed: PassedQuery, limit: number) {
    this.#passed = passed;
    this.#limit = limit;
  }

  get isFull(): boolean {
    return this.#items.length >= this.#limit;
  }

  get isEmpty(): boolean {
    return this.#items.length === 0;
  }

  /** `entries`: the items as they are encoded. */
  add(
    { items, explanation, age, stale, policyEpoch: epoch }: CatalogQueryResponse,
    entries: readonly Uint8Array[],
    upstream: string,
  ): void {
    this.#policyEpochs.push({ upstream, epoch });
    this.#ageMs = Math.max(this.#ageMs, age === undefined ? 0 : durationMs(age));
    this.#isStale ||= stale;
    for (const [i, entry] of items.entries()) this.#add(entry, entries[i] ?? NOTHING);
    const sees = (namespace: string) =>
      this.#passed.sees({ namespace, clusterId: this.#passed.clusterId, region: "", scope: Scope.UNSPECIFIED });
    for (const one of explanation) if (one.key !== undefined && sees(one.key.namespace)) this.#explanation.push(one);
  }

  #add(entry: Entry, encoded: Uint8Array): void {
    const { key, clusterId, region, scope } = entry;
    if (key === undefined) throw new WaymarkError("not_ready", "an upstream sent an entry without a key");
    const { namespace } = key;
    this.#hidden = this.#passed.sees({ namespace, clusterId, region, scope }) ? undefined : namespace;
    if (this.#hidden !== undefined) {
      this.#hiddenNamespaces.add(this.#hidden);
      return;
    }
    if (this.isFull) this.isOverfull = true;
    else {
      this.#items.push(entry);
      this.#entries.push(encoded);
      this.#lastKey = parseKey({ ...key, kind: key.kind }, "key", this.#passed.clusterId, PROTOCOL_BOUNDS);
    }
  }

  /** Where the next page begins. What is left of a hidden namespace is passed over. */
  skipHidden(afterKey: string): string {
    const above = this.#hidden === undefined ? "" : `${this.#hidden}\u0001`;
    return above > afterKey ? above : afterKey;
  }

  /** `hash`: of the token for the next page. Undefined on the last page. */
  end(hash: string | undefined): PassedPage {
    const nextPageToken = hash === undefined || this.isEmpty ? "" : encodePageToken(this.#lastKey, hash);
    const explanation = this.#explanation.slice(0, MAX_EXPLAINED);
    const response = create(CatalogQueryResponseSchema, { items: this.#items, nextPageToken, explanation });
    return {
      response,
      entries: this.#entries,
      ageMs: this.#ageMs,
      isStale: this.#isStale,
      policyEpochs: this.#policyEpochs,
      hidden: [...this.#hiddenNamespaces],
    };
  }
}

const MAX_EXPLAINED = 1000;
const NOTHING = new Uint8Array();

function answerIn(bytes: Uint8Array): CatalogQueryResponse {
  return readable(() => fromBinary(CatalogQueryResponseSchema, bytes));
}

function entriesIn(bytes: Uint8Array): readonly Uint8Array[] {
  return readable(() => readFetchedPage(bytes).entries);
}

function readable<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
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

function keyOfToken(token: string, hash: string): string {
  try {
    return decodePageToken(token, hash);
  } catch (error) {
    throw new WaymarkError("not_ready", "an upstream gave a page token that cannot be read here", { cause: error });
  }
}
