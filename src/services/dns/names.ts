/**
 * Implements DnsService.ListNames and DescribeName. Both methods call CatalogQuery on the same server, so that they have its results, waits and
 * limits on a node, in a read worker and on a resolver.
 */
import { create, fromBinary } from "@bufbuild/protobuf";
import { type Entry, EntryKind } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import type { Viewer } from "../../../gen/waymark/catalog/v1/viewer_pb.js";
import {
  type CatalogQueryRequest,
  CatalogQueryRequestSchema,
  type CatalogQueryResponse,
  CatalogQueryResponseSchema,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import {
  type CatalogName,
  CatalogNameSchema,
  type DescribeNameRequest,
  DescribeNameResponseSchema,
  type ListNamesRequest,
  ListNamesResponseSchema,
} from "../../../gen/waymark/dns/v1/dns_pb.js";
import { findKind } from "../../catalog/entry/kinds.ts";
import { hasPort, transportOf } from "../../catalog/entry/view.ts";
import { pageLimit } from "../../catalog/query/query.ts";
import { KIND, type Kind } from "../../catalog/record/record.ts";
import { plainName } from "../../discovery/dns-names.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import type { TransportProtocol } from "../../lib/protocols.ts";
import type { CallContext, MethodHandler, ServiceDefinition, UnaryHandler } from "../service.ts";
import { aliasNames, fullNames, NAMED_KINDS, thingOf, unzoned } from "./full-names.ts";

export interface NameListParts {
  /** This server's handler of CatalogQuery. */
  readonly query: MethodHandler;
  readonly zones: readonly string[];
}

export function nameListHandlers(parts: NameListParts): ServiceDefinition["handlers"] {
  const methods = new NameListMethods(parts);
  return {
    listNames: { kind: "unary", handle: (request: ListNamesRequest, context) => methods.list(request, context) },
    describeName: { kind: "unary", handle: (request: DescribeNameRequest, context) => methods.describe(request, context) },
  };
}

/** Largest number of pages of entries that are read for one page of names. If names have many instances, a page has fewer names. */
const MAX_PAGES = 4;
/** Largest number of entries in a description. */
const MAX_ENTRIES = 100;
/** The form of aliases that CatalogQuery accepts. */
const ALIAS = /^[A-Za-z0-9._-]{1,253}$/;
const ENTRY_NAME = /^[A-Za-z0-9._:/@+-]{1,128}$/;

type NamesQuery = Pick<CatalogQueryRequest, "limit"> &
  Partial<Pick<CatalogQueryRequest, "aliases" | "kinds" | "names" | "namespace" | "namespacePrefix" | "pageToken">>;

class NameListMethods {
  readonly #parts: NameListParts;

  constructor(parts: NameListParts) {
    this.#parts = parts;
  }

  async list(request: ListNamesRequest, context: CallContext) {
    const limit = pageLimit(request.limit);
    const { namespacePrefix } = request;
    let { pageToken, last } = readToken(request.pageToken);
    const names = new Map<string, KnownName>();
    for (let page = 0; page < MAX_PAGES && names.size < limit; page++) {
      const asked = { namespacePrefix, kinds: NAMED_KINDS.map(wireKind), limit: limit - names.size, pageToken };
      const { items, nextPageToken } = await this.#query(asked, request.viewer, context);
      for (const entry of items) {
        const id = nameId(entry);
        // The previous page already listed this name.
        if (id === last && !names.has(id)) continue;
        names.set(id, this.#withEntry(names.get(id), entry));
        last = id;
      }
      pageToken = nextPageToken;
      if (pageToken === "") break;
    }
    const nextPageToken = pageToken === "" ? "" : writeToken({ pageToken, last });
    return create(ListNamesResponseSchema, { names: [...names.values()].map(catalogName), nextPageToken });
  }

  async describe({ name, namespace, kind, viewer }: DescribeNameRequest, context: CallContext) {
    for (const asked of this.#asked(name, namespace, kind)) {
      const { items, nextPageToken, hiddenBy } = await this.#query({ ...asked, limit: MAX_ENTRIES }, viewer, context);
      const [first] = items;
      if (first === undefined) continue;
      let described: KnownName | undefined;
      for (const entry of items) if (nameId(entry) === nameId(first)) described = this.#withEntry(described, entry);
      return create(DescribeNameResponseSchema, {
        ...(described && { name: catalogName(described) }),
        entries: items,
        hasMore: nextPageToken !== "",
        hiddenBy,
      });
    }
    throw new WaymarkError("not_found", `name: ${JSON.stringify(name)} does not exist, or this caller may not see it`);
  }

  /** Returns the queries for the name. As in DNS, an entry with this name takes precedence over an alias. */
  #asked(name: string, namespace: string, kind: EntryKind): readonly Omit<NamesQuery, "limit">[] {
    if (namespace !== "") {
      if (!ENTRY_NAME.test(name))
        throw invalid("name", "must be the name of an entry if namespace is set: 1 to 128 characters of [A-Za-z0-9._:/@+-]");
      return [{ namespace, names: [name], kinds: [kind === EntryKind.UNSPECIFIED ? EntryKind.SERVICE : kind] }];
    }
    if (kind !== EntryKind.UNSPECIFIED) throw invalid("namespace", "is required with kind");
    const { zones } = this.#parts;
    const relative = unzoned(plainName(name), zones);
    const thing = thingOf(relative);
    const asked: Omit<NamesQuery, "limit">[] =
      thing === undefined ? [] : [{ namespace: thing.namespace, names: [thing.name], kinds: [wireKind(thing.kind)] }];
    const aliases = [relative, ...zones.map((zone) => `${relative}.${zone}`)].filter((alias) => ALIAS.test(alias));
    return aliases.length === 0 ? asked : [...asked, { aliases: [...new Set(aliases)] }];
  }

  async #query(query: NamesQuery, viewer: Viewer | undefined, context: CallContext): Promise<CatalogQueryResponse> {
    const { query: handler } = this.#parts;
    if (handler.kind !== "unary") throw new WaymarkError("unimplemented", "this server does not serve queries");
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the handler belongs to CatalogQuery
    const handle = handler.handle as UnaryHandler<CatalogQueryRequest>;
    const said = await handle(create(CatalogQueryRequestSchema, { ...query, ...(viewer && { viewer }) }), context);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as above
    return said instanceof Uint8Array ? fromBinary(CatalogQueryResponseSchema, said) : (said as CatalogQueryResponse);
  }

  /** Adds an entry to the data of a name. Changes the given object, because a name may have thousands of entries with their own names. */
  #withEntry(known: KnownName | undefined, { key, targets, aliases }: Entry): KnownName {
    const { namespace = "", name = "" } = key ?? {};
    const kind = findKind(key?.kind ?? 0) ?? KIND.SERVICE;
    const { zones } = this.#parts;
    const transports: TransportProtocol[] = targets.filter(hasPort).map(transportOf);
    const { fqdns, why } = fullNames({ kind, namespace, name }, [...new Set(transports)], zones);
    // An alias that equals the entry's own name is redundant.
    const isOwn = (alias: string) => aliasNames([alias], zones).every((text) => fqdns.includes(text));
    const told: KnownName = known ?? { kind, namespace, name, fqdns: new Set(), aliases: new Set(), isReachable: false, why };
    for (const text of fqdns) told.fqdns.add(text);
    for (const alias of aliases) if (!isOwn(alias)) told.aliases.add(alias);
    told.isReachable = fqdns.length > 0;
    told.why = why;
    return told;
  }
}

interface KnownName {
  readonly kind: Kind;
  readonly namespace: string;
  readonly name: string;
  readonly fqdns: Set<string>;
  readonly aliases: Set<string>;
  /** Whether DNS can resolve the name, and the reason if it cannot. Both values depend on the last entry. */
  isReachable: boolean;
  why: string;
}

function catalogName({ kind, namespace, name, fqdns, aliases, isReachable, why }: KnownName): CatalogName {
  const names = { namespace, name, fqdns: [...fqdns], aliases: [...aliases] };
  return create(CatalogNameSchema, { kind: wireKind(kind), ...names, reachable: isReachable, unreachableReason: why });
}

function wireKind(kind: Kind): EntryKind {
  // oxlint-disable-next-line typescript/no-unsafe-enum-assignment -- kinds have their numbers on the wire
  return kind;
}

function nameId({ key }: Entry): string {
  return [key?.namespace, key?.name, key?.kind].join("\0");
}

interface PagePosition {
  /** The page token of the query. */
  readonly pageToken: string;
  /** The name that was listed last. The next page of the query may have more entries of this name. */
  readonly last: string;
}

function writeToken({ pageToken, last }: PagePosition): string {
  return Buffer.from(JSON.stringify([pageToken, last])).toString("base64url");
}

function readToken(text: string): PagePosition {
  if (text === "") return { pageToken: "", last: "" };
  try {
    const read: unknown = JSON.parse(Buffer.from(text, "base64url").toString());
    const parts: readonly unknown[] = Array.isArray(read) ? read : [];
    const [pageToken, last] = parts;
    if (typeof pageToken === "string" && pageToken !== "" && typeof last === "string") return { pageToken, last };
  } catch {
    // The token is invalid, just like a token in another form.
  }
  throw invalid("page_token", "must be the next_page_token of a ListNames response");
}
