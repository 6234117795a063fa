/**
 * Queries that a resolver passes on, because it neither follows nor fetched what they ask for. Its upstream answers them for it, and it judges here what its
 * caller may see. Tokens name only entries that the caller may see, and are good at every server of the cluster.
 */
import { clone, create } from "@bufbuild/protobuf";
import { type Entry, Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import {
  type CatalogQueryRequest,
  CatalogQueryRequestSchema,
  type CatalogQueryResponse,
  CatalogQueryResponseSchema,
  DiscoveryService,
  type Explanation,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { parseKey } from "../../catalog/entry/codec.ts";
import { PROTOCOL_BOUNDS } from "../../catalog/entry/names.ts";
import { type Filter, filterHash } from "../../catalog/query/filter.ts";
import { decodePageToken, encodePageToken } from "../../catalog/query/page-token.ts";
import { Prefixes } from "../../catalog/query/prefixes.ts";
import { pageLimit } from "../../catalog/query/query.ts";
import { WaymarkError } from "../../lib/errors.ts";
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
  /** Most entries that one call asks for. */
  readonly upstreamPage?: number;
}

/** The page, without what says how good it is. */
export interface PassedPage {
  readonly response: CatalogQueryResponse;
  readonly ageMs: number;
  readonly isStale: boolean;
  /** Names the policies under which its parts were made. */
  readonly policyEpochs: readonly string[];
  /** Namespaces of which something was left out. */
  readonly hidden: readonly string[];
}

/** Rejects with the refusal of the upstream, and with `quota_exceeded` if nothing that the caller may see was found after many pages. */
export async function passQuery(ports: Pick<ResolverPorts, "call">, passed: PassedQuery): Promise<PassedPage> {
  const { request, filter, salt, via, upstreamPage = UPSTREAM_PAGE } = passed;
  const limit = pageLimit(request.limit);
  const [ours, theirs] = [filterHash(filter, salt), filterHash({ ...filter, resolved: filter.resolved ?? EVERYWHERE }, salt)];
  const page = new VisiblePage(passed, limit);
  let afterKey = decodePageToken(request.pageToken, ours);
  for (let calls = 0; calls < MAX_CALLS; calls++) {
    const pageToken = afterKey === "" ? "" : encodePageToken(afterKey, theirs);
    const asked = clone(CatalogQueryRequestSchema, request);
    Object.assign(asked, { forResolver: true, viewer: undefined, via: [...via], limit: upstreamPage, pageToken });
    const answer = await ports.call(DiscoveryService.method.catalogQuery, asked);
    page.add(answer);
    const isLast = answer.nextPageToken === "";
    if (page.isFull || isLast) return page.end(page.isOverfull || !isLast ? ours : undefined);
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
  readonly #explanation: Explanation[] = [];
  #lastKey = "";
  /** The namespace of the last entry, if it is hidden. */
  #hidden: string | undefined;
  #ageMs = 0;
  #isStale = false;
  readonly #policyEpochs = new Set<string>();
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

  add({ items, explanation, age, stale, policyEpoch }: CatalogQueryResponse): void {
    this.#policyEpochs.add(policyEpoch);
    this.#ageMs = Math.max(this.#ageMs, age === undefined ? 0 : durationMs(age));
    this.#isStale ||= stale;
    for (const entry of items) this.#add(entry);
    const sees = (namespace: string) =>
      this.#passed.sees({ namespace, clusterId: this.#passed.clusterId, region: "", scope: Scope.UNSPECIFIED });
    for (const one of explanation) if (one.key !== undefined && sees(one.key.namespace)) this.#explanation.push(one);
  }

  #add(entry: Entry): void {
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
      ageMs: this.#ageMs,
      isStale: this.#isStale,
      policyEpochs: [...this.#policyEpochs],
      hidden: [...this.#hiddenNamespaces],
    };
  }
}

const MAX_EXPLAINED = 1000;

function keyOfToken(token: string, hash: string): string {
  try {
    return decodePageToken(token, hash);
  } catch (error) {
    throw new WaymarkError("not_ready", "an upstream gave a page token that cannot be read here", { cause: error });
  }
}
