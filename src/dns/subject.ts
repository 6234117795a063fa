/** What a name below a zone stands for in the catalog, as one viewer sees it. */

import { portWord, type Transport, transportOf } from "../catalog/entry/ports.ts";
import type { EntryView, TargetView } from "../catalog/entry/view.ts";
import { HEALTH, type Health, KIND, type Kind } from "../catalog/record/record.ts";
import type { Address } from "./addresses.ts";
import { parseAddress } from "./addresses.ts";
import { ADDRESS_LABEL, type DnsName, formatName, LOCATED_KINDS, parseName, parseNamespaceLabels } from "./names.ts";

/** Where NODE entries live (semantics.md, Names and bounds). */
const NODES_NAMESPACE = "discovery.nodes";

/** The catalog as one class of viewers sees it: what is hidden from them is absent here. */
export interface DnsCatalog {
  /** Changes whenever any answer below may have changed: an entry, an origin's life, policy, a window's edge. */
  readonly revision: number;
  /**
   * Entries of that kind, namespace and name, in catalog order; with `port` those that have this word among their `portWords`. Of a crowded
   * name a sample, another one each time.
   */
  find(kind: Kind, namespace: string, name: string, port?: string): readonly EntryView[];
  /** Whether a namespace with a visible entry is `suffix` or ends in `.suffix`; the same for aliases, also in full. No final dots. */
  hasNameUnder(suffix: string, zone: string): boolean;
  /** Entries that carry this name of the zone (lower case, no final dot) as an alias, in catalog order; those that have it in full last. */
  findAlias(name: string, zone: string): readonly EntryView[];
  /** Namespaces that `find` has found hidden since the last call. What policy does not hide from anybody has none. */
  takeHidden?(): readonly string[];
  /** Whether `find` has given a sample since the last call: an answer from it is only one of several. */
  takeSampled?(): boolean;
  /** An answer was made without these, now or when the same was asked before: whoever keeps the audit is told. */
  onHidden?(namespaces: readonly string[]): void;
}

export interface SubjectTarget {
  readonly entry: EntryView;
  readonly target: TargetView;
  /** The address when the host is an IP literal. */
  readonly address: Address | undefined;
}

/**
 * Targets of one name that an answer is drawn from, the same number of each entry, at least one: as many as the shortest records the
 * largest answer holds (65,535 bytes, 16 an address). More would only be time in which nobody else is served.
 */
const MAX_TARGETS = 4_096;

export type Subject =
  | { readonly kind: "apex" }
  /** Entries with the targets this name shows, best health first. */
  | {
      readonly kind: "entries";
      readonly shape: "located" | "direct" | "node";
      readonly entries: readonly EntryView[];
      readonly targets: readonly SubjectTarget[];
    }
  | { readonly kind: "address"; readonly address: Address }
  /** Another name, in full. */
  | { readonly kind: "alias"; readonly ttlMs: number | undefined; readonly target: string }
  /** There is something below this name, but nothing here. */
  | { readonly kind: "empty" }
  | { readonly kind: "absent" };

const EMPTY: Subject = { kind: "empty" };
const ABSENT: Subject = { kind: "absent" };

/** What `relative` (lower case, without its zone) stands for. A name of the catalog wins over an alias of the same text. */
export function findSubject(relative: string, zone: string, catalog: DnsCatalog): Subject {
  const name = parseName(relative);
  const own = ownSubject(name, catalog);
  if (own.kind !== "absent") return own;
  const alias = aliasSubject(relative, zone, catalog);
  if (alias !== undefined) return alias;
  return isAboveSomething(relative, zone, { name, catalog }) ? EMPTY : ABSENT;
}

/** Lower is better; entries of one rank are equals. ORPHANED comes last (semantics.md, Orphans). */
export function healthRank(health: Health): number {
  switch (health) {
    case HEALTH.UNSET:
    case HEALTH.HEALTHY:
      return 0;
    case HEALTH.DEGRADED:
      return 1;
    case HEALTH.CRITICAL:
      return 2;
    case HEALTH.MAINTENANCE:
      return 3;
    case HEALTH.ORPHANED:
      return 4;
  }
}

function ownSubject(name: DnsName, catalog: DnsCatalog): Subject {
  switch (name.form) {
    case "apex":
      return { kind: "apex" };
    case "located": {
      const { port, transport } = name;
      const shows = (target: TargetView, entry: EntryView) =>
        transportOf(target) === transport && (port === undefined || isPort(target, entry, port));
      return entriesSubject("located", catalog.find(name.kind, name.namespace, name.name, portWord(transport, port)), shows);
    }
    case "direct":
      return entriesSubject("direct", catalog.find(KIND.SERVICE, name.namespace, name.name), () => true);
    case "node":
      return entriesSubject("node", catalog.find(KIND.NODE, NODES_NAMESPACE, name.nodeId).map(withAdvertised), () => true);
    case "address":
      return { kind: "address", address: name.address };
    case "fixed":
      return EMPTY;
    case "transport":
    case "other":
      return ABSENT;
  }
}

function entriesSubject(
  shape: "located" | "direct" | "node",
  entries: readonly EntryView[],
  shows: (target: TargetView, entry: EntryView) => boolean,
): Subject {
  if (entries.length === 0) return ABSENT;
  // A stable sort: within a rank the catalog's order stays, so that the same catalog gives the same answer.
  const ranked = entries.toSorted((a, b) => healthRank(a.health) - healthRank(b.health)).slice(0, MAX_TARGETS);
  const most = Math.max(1, Math.floor(MAX_TARGETS / ranked.length));
  const targets = ranked.flatMap((entry) =>
    entry.targets
      .filter((target) => shows(target, entry))
      .slice(0, most)
      .map((target) => ({ entry, target, address: parseAddress(target.host) })),
  );
  return { kind: "entries", shape, entries: ranked, targets };
}

function aliasSubject(relative: string, zone: string, catalog: DnsCatalog): Subject | undefined {
  if (relative === "") return undefined;
  const carriers = catalog.findAlias(relative, zone);
  const instances = carriers.filter((entry) => isBelowOwnName(relative, entry, zone));
  if (instances.length > 0) return entriesSubject("direct", instances, () => true);
  for (const entry of carriers) {
    const target = formatName(canonicalName(entry), zone);
    if (target !== undefined) return { kind: "alias", ttlMs: entry.ttlMs, target };
  }
  return undefined;
}

/** One label below the entry's own name, as headless pods have them: a name of this instance alone. Leading to all would say nothing. */
function isBelowOwnName(relative: string, entry: EntryView, zone: string): boolean {
  const own = entry.key.kind === KIND.SERVICE ? formatName(canonicalName(entry), zone) : undefined;
  return own !== undefined && `${relative}.${zone}`.endsWith(`.${own}`) && !relative.slice(0, zone.length - own.length).includes(".");
}

/** The name an alias of this entry leads to. */
function canonicalName(entry: EntryView): DnsName {
  const { kind, name, namespace } = entry.key;
  if (kind === KIND.SERVICE) return { form: "direct", name, namespace };
  if (kind === KIND.NODE) return { form: "node", nodeId: name };
  if (!LOCATED_KINDS.includes(kind)) return { form: "other" };
  return { form: "located", kind, transport: commonTransport(entry.targets), name, namespace };
}

/** An empty non-terminal (RFC 8020): its answer is "no such type", never "no such name". */
function isAboveSomething(
  relative: string,
  zone: string,
  { name, catalog }: { readonly name: DnsName; readonly catalog: DnsCatalog },
): boolean {
  const namespace = parseNamespaceLabels(relative.split("."));
  if (namespace !== undefined && catalog.hasNameUnder(namespace, zone)) return true;
  if (name.form === "node") return name.nodeId === ADDRESS_LABEL;
  if (name.form !== "direct" && name.form !== "transport") return false;
  const port = name.form === "direct" ? undefined : portWord(name.transport);
  return LOCATED_KINDS.some((kind) => catalog.find(kind, name.namespace, name.name, port).length > 0);
}

/** The transport of all, else TCP. */
function commonTransport(targets: readonly TargetView[]): Transport {
  const [first] = targets;
  if (first === undefined) return "tcp";
  const transport = transportOf(first);
  return targets.every((target) => transportOf(target) === transport) ? transport : "tcp";
}

/** Whether this is the port of that name: at a second address it has none, since names are unique in an entry. */
function isPort(target: TargetView, { targets }: EntryView, port: string): boolean {
  if (target.name !== "") return target.name === port;
  return targets.some((other) => other.name === port && other.port === target.port && transportOf(other) === transportOf(target));
}

const URL_HOST = /^(?:[a-z][a-z0-9+.-]*:\/\/|(?!.*:\/\/))(?:[^@/?#]*@)?(?:\[([^\]]+)\]|([^:/?#]+))/i;

/** A node is where its targets are and where its advertised urls say. */
function withAdvertised(entry: EntryView): EntryView {
  const urls = entry.detail.case === "node" ? entry.detail.value.advertisedUrls : [];
  const targets = urls.flatMap((url) => {
    const match = URL_HOST.exec(url);
    const host = match?.[1] ?? match?.[2];
    return host === undefined ? [] : [{ name: "", host, port: 0, priority: 0, weight: 0, protocol: "" }];
  });
  return targets.length === 0 ? entry : { ...entry, targets: [...entry.targets, ...targets] };
}
