/**
 * The views of a gateway: classes of clients and the data that each may see. Clients that match no view are anonymous (semantics.md, DNS). The view is selected
 * by the source address of a question, or by its client subnet if a trusted forwarder sends one (RFC 7871).
 */
import { type AddressBlock, isMapped, isWithin, MAPPED_BYTES, parseAddress, parsePlainBlock, withoutMapping } from "../../lib/addresses.ts";
import { anonymousCaller, type Caller } from "../../policy/identity/caller.ts";
import { DEFAULT_VIEW, type DnsView } from "../subject/subject.ts";
import type { ClientSubnet, QueryClient } from "./query-client.ts";
import { ViewTable } from "./view-table.ts";

/** One item of `dns.views[]`. Absent fields default to the values of an anonymous caller on this node. */
export interface ViewRow {
  readonly listener: QueryClient["transport"] | undefined;
  readonly prefixes: readonly string[];
  readonly tenant: string | undefined;
  readonly cluster: string | undefined;
  readonly region: string | undefined;
  readonly zone: string | undefined;
  readonly answerLimit?: number | undefined;
}

/** The `dns` settings that define views. */
export interface ViewSettings {
  readonly views: readonly ViewRow[];
  /** Keys for zone transfers. Each has a view. Defaults to none. */
  readonly transferKeys?: readonly Pick<ViewRow, "cluster" | "region" | "tenant" | "zone">[] | undefined;
  /** Maximum number of records per RRset for views without their own limit. If undefined, there is no limit. */
  readonly answerLimit?: number | undefined;
}

/** A view and the caller whose permissions it has. This caller has no address. */
export interface ViewerOfView {
  readonly view: DnsView;
  readonly caller: Caller;
}

/** The location of the node. */
interface ServingPlace {
  readonly clusterId: string;
  readonly region: string;
}

/** Returns the views in index order: the view for unmatched clients, the configured views, and the views of the keys. */
export function viewersOf(
  { views, answerLimit, transferKeys = [] }: ViewSettings,
  { clusterId, region: own }: ServingPlace,
): readonly ViewerOfView[] {
  const keyed = transferKeys.map(({ tenant, cluster, region, zone }) => ({ tenant, cluster, region, zone, answerLimit: undefined }));
  const limited = views.map((row) => ({ ...row, answerLimit: row.answerLimit ?? answerLimit }));
  const named = [...limited, ...keyed].map(({ tenant = "", cluster = clusterId, region, zone, answerLimit: limit }, i) => ({
    view: {
      index: i + 1,
      locality: region === undefined && zone === undefined ? undefined : { region: region ?? own, zone: zone ?? "" },
      answerLimit: limit,
    },
    caller: { ...anonymousCaller(cluster, ""), tenant },
  }));
  return [{ view: { ...DEFAULT_VIEW, answerLimit }, caller: anonymousCaller(clusterId, "") }, ...named];
}

/** Returns the view index of a key, given the key's position in the settings. */
export function viewOfKey({ views }: Pick<ViewSettings, "views">, place: number): number {
  return 1 + views.length + place;
}

/** Returns the classes of viewers that see the same data, anonymous viewers first, and the class of each view by view index. */
export function classesOf(viewers: readonly ViewerOfView[]): { readonly callers: readonly Caller[]; readonly ofView: readonly number[] } {
  const callers: Caller[] = [];
  const ofView = viewers.map(({ caller }) => {
    const known = callers.findIndex(({ tenant, cluster }) => tenant === caller.tenant && cluster === caller.cluster);
    return known < 0 ? callers.push(caller) - 1 : known;
  });
  return { callers, ofView };
}

/** The view selected for a client, by its index. */
export interface ChosenView {
  readonly index: number;
  /** As in `SelectedView`. */
  readonly scopePrefix: number | undefined;
  readonly isBySubnet: boolean;
}

const ANONYMOUS: ChosenView = { index: 0, scopePrefix: undefined, isBySubnet: false };
const FAMILIES = ["v4", "v6"] as const;
/** Maximum number of addresses whose view is cached, per transport. Parsing an address costs more than the rest of the selection. */
const MAX_REMEMBERED = 1024;
const MAPPED_BITS = 8 * MAPPED_BYTES;

type Tables = Readonly<Record<(typeof FAMILIES)[number], ViewTable | undefined>>;

export class DnsViews {
  /** Prefixes by transport and then by address family. Undefined if no prefix of that family has a view. */
  readonly #tables: Readonly<Record<QueryClient["transport"], Tables>>;
  readonly #trusted: readonly AddressBlock[];
  readonly #remembered: Readonly<Record<QueryClient["transport"], Map<string, ChosenView>>> = {
    udp: new Map(),
    tcp: new Map(),
    dot: new Map(),
    doh: new Map(),
  };

  /** `trusted` contains the forwarders whose client subnets are used. */
  constructor(rows: readonly ViewRow[], trusted: readonly AddressBlock[]) {
    this.#trusted = trusted;
    const tables = (transport: QueryClient["transport"]) => ({ v4: tableOf(rows, transport, "v4"), v6: tableOf(rows, transport, "v6") });
    this.#tables = { udp: tables("udp"), tcp: tables("tcp"), dot: tables("dot"), doh: tables("doh") };
  }

  /** Number of cached addresses for the transport that has the most. */
  get rememberedCount(): number {
    return Math.max(...Object.values(this.#remembered).map(({ size }) => size));
  }

  /** HOT: runs per question. The cost is one lookup if the address is cached. */
  choose({ address, transport, subnet }: QueryClient): ChosenView {
    const tables = this.#tables[transport];
    if (tables.v4 === undefined && tables.v6 === undefined) return ANONYMOUS;
    if (subnet !== undefined && this.#trusted.length > 0 && isWithin(this.#trusted, address)) return chooseFor(subnet, address, tables);
    const remembered = this.#remembered[transport];
    const known = remembered.get(address);
    if (known !== undefined) return known;
    const chosen = chooseAt(address, tables);
    if (remembered.size >= MAX_REMEMBERED) remembered.clear();
    remembered.set(address, chosen);
    return chosen;
  }
}

function chooseAt(text: string, tables: Tables): ChosenView {
  const bytes = parseAddress(withoutMapping(text).replace(/%.*$/, ""));
  if (bytes === undefined) return ANONYMOUS;
  const index = tables[bytes.length === 4 ? "v4" : "v6"]?.find(bytes, 8 * bytes.length, 8 * bytes.length).index ?? 0;
  return index === 0 ? ANONYMOUS : { ...ANONYMOUS, index };
}

/**
 * Returns the view of a client subnet sent by the forwarder at `from`. Even if this is the anonymous view, other subnets of the same forwarder may
 * have a different view.
 */
function chooseFor({ family, sourcePrefix, address }: ClientSubnet, from: string, tables: Tables): ChosenView {
  // A prefix of 0 bits requests that no client address be used.
  if (sourcePrefix === 0) return { ...chooseAt(from, tables), isBySubnet: true };
  const isIpv4 = family === 2 && sourcePrefix >= MAPPED_BITS && isMapped(address);
  const [table, bytes, above, bits] = isIpv4
    ? [tables.v4, address.subarray(MAPPED_BYTES), MAPPED_BITS, 32]
    : family === 1
      ? [tables.v4, address, 0, 32]
      : [tables.v6, address, 0, 128];
  if (table === undefined) return { ...ANONYMOUS, isBySubnet: true };
  const { index, scopePrefix } = table.find(bytes, sourcePrefix - above, bits);
  return { index, scopePrefix: scopePrefix + above, isBySubnet: true };
}

/**
 * Returns the prefixes of one family that can match on this transport. HTTP requests often come through a proxy, whose address would determine the
 * view for all clients. On HTTP, only views that explicitly list this transport match. Prefixes of views that list the transport come last, because
 * they override other prefixes of the same length.
 */
function tableOf(rows: readonly ViewRow[], transport: QueryClient["transport"], family: (typeof FAMILIES)[number]): ViewTable | undefined {
  const fitting = rows.flatMap(({ listener, prefixes }, i) =>
    listener === transport || (listener === undefined && transport !== "doh")
      ? prefixes.flatMap((prefix) => {
          const block = parsePlainBlock(prefix);
          return block === undefined || familyOf(block) !== family ? [] : [{ block, index: i + 1, isNamed: listener !== undefined }];
        })
      : [],
  );
  if (fitting.length === 0) return undefined;
  return new ViewTable(
    fitting.toSorted((a, b) => Number(a.isNamed) - Number(b.isNamed)),
    0,
  );
}

function familyOf({ bytes }: AddressBlock): (typeof FAMILIES)[number] {
  return bytes.length === 4 ? "v4" : "v6";
}
