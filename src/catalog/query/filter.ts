/** The filter of a query or watch, its text form and hash, and the only function that decides whether a record matches (semantics.md, Scopes). */
import { textHash } from "../../lib/hash64.ts";
import { lacksVersion, type VersionRange } from "../../lib/versions.ts";
import { namespaceCovers } from "../entry/names.ts";
import { SCOPE, SCOPE_NAMES, type Scope, widest } from "../entry/scope.ts";
import { type CatalogRecord, HEALTH, type Health, KIND, type OriginRef, viewHealth } from "../record/record.ts";
import type { NamespacePrefixes } from "./prefixes.ts";
import { nameIndex, type SortedNames } from "./sorted-blocks.ts";

/** A filter. Empty strings, lists and masks match everything. Fields are combined with AND. */
export interface EntryFilter {
  /** Exactly this namespace. */
  readonly namespace: string;
  /** Matches this namespace and the namespaces below it, on label boundaries. */
  readonly prefix: string;
  /** Matches any of these names, which are in code-unit order. */
  readonly names: readonly string[];
  /** Matches any of these kinds: bit `1 << kind`. */
  readonly kindMask: number;
  /** The record has at least this scope and comes from within this locality. UNSET matches every scope and locality. */
  readonly scope: Scope;
  /** The record has all of these capabilities. */
  readonly capabilities: readonly string[];
  readonly tags: readonly string[];
  readonly resources: readonly string[];
  readonly clusterId: string;
  readonly region: string;
  /** Matches any of these health values, as readers see them: bit `1 << health`. */
  readonly healthMask: number;
  /** Matches only functions whose version is in the range. If set, `kindMask` is FUNCTION. */
  readonly versions: VersionRange | undefined;
  /** Present for a resolver, which does not receive LOCAL entries: matches only entries with a wider scope, in these namespaces or below them. */
  readonly resolved: NamespacePrefixes | undefined;
  /** Present only for readers that filter summaries. */
  readonly summaries: SummaryFilterFields | undefined;
}

/** Filter fields that only apply to summaries. A filter for entries has none of these fields. */
export interface SummaryFilterFields {
  /** The summary has at least this channel, regardless of where its source is located. `EntryFilter.scope` would also filter by locality. */
  readonly channel: Scope;
  /** The source is in one of these regions, which are in code-unit order. An empty list matches any region. */
  readonly regions: readonly string[];
}

/** Matches everything. */
export const ANY: EntryFilter = {
  namespace: "",
  prefix: "",
  names: [],
  kindMask: 0,
  scope: SCOPE.UNSET,
  capabilities: [],
  tags: [],
  resources: [],
  clusterId: "",
  region: "",
  healthMask: 0,
  versions: undefined,
  resolved: undefined,
  summaries: undefined,
};

/** The location of the serving node, relative to which LOCAL, ZONE and REGION are defined. */
export interface NodeLocality {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly region: string;
}

/** The filter field that excludes a record, named as in `Explanation.reason`. */
export type ExclusionReason =
  | "namespace"
  | "names"
  | "kinds"
  | "scope"
  | "locality"
  | "capabilities"
  | "tags"
  | "resources"
  | "cluster_id"
  | "region"
  | "health"
  | "version_range";

/** The fields of a record that a filter compares. Filters also compare the health that readers see. */
export type FilterFields = Pick<CatalogRecord, "namespace" | "name" | "kind" | "scope" | "traits"> & {
  readonly origin: Pick<OriginRef, "nodeId">;
};

/** Whether the filter matches the record. */
export function matches(filter: EntryFilter, record: CatalogRecord, self: NodeLocality): boolean {
  return whyNot(filter, record, self, viewHealth(record)) === undefined;
}

/** Returns the first reason to exclude a record that readers see with this health, or undefined if the record matches. Allocates nothing. */
export function whyNot(filter: EntryFilter, record: FilterFields, self: NodeLocality, health: Health): ExclusionReason | undefined {
  const { traits } = record;
  if (!coversNamespace(filter, record.namespace)) return "namespace";
  if (filter.names.length > 0 && !hasName(filter.names, record.name)) return "names";
  if (filter.kindMask !== 0 && (filter.kindMask & (1 << record.kind)) === 0) return "kinds";
  if (record.scope < filter.scope || (record.scope === SCOPE.LOCAL && filter.resolved !== undefined)) return "scope";
  if (!isWithin(filter.scope, record, self)) return "locality";
  if (filter.clusterId !== "" && traits.clusterId !== filter.clusterId) return "cluster_id";
  if (filter.region !== "" && traits.region !== filter.region) return "region";
  const ofSummaries = filter.summaries === undefined ? undefined : whyNoSummary(filter.summaries, record);
  if (ofSummaries !== undefined) return ofSummaries;
  if (filter.healthMask !== 0 && (filter.healthMask & (1 << health)) === 0) return "health";
  if (!hasAll(traits.capabilities, filter.capabilities)) return "capabilities";
  if (!hasAll(traits.tags, filter.tags)) return "tags";
  if (!hasAll(traits.resources, filter.resources)) return "resources";
  // This check is the last one, because its reason implies that all other checks passed.
  if (filter.versions !== undefined && !filter.versions.has(traits.version)) return "version_range";
  return undefined;
}

function whyNoSummary({ channel, regions }: SummaryFilterFields, { scope, traits }: FilterFields): ExclusionReason | undefined {
  if (scope < channel) return "scope";
  return regions.length === 0 || regions.includes(traits.region) ? undefined : "region";
}

/** Whether the answer can contain entries from this namespace. */
export function coversNamespace(filter: EntryFilter, namespace: string): boolean {
  if (filter.namespace !== "" && filter.namespace !== namespace) return false;
  return namespaceCovers(filter.prefix, namespace) && filter.resolved?.covers(namespace) !== false;
}

/**
 * Returns, in order, the namespaces that the filter covers. If the filter specifies one exact namespace, that namespace is included even if it does
 * not exist.
 */
export function* coveredNamespaces(names: Pick<SortedNames, "from">, filter: EntryFilter): Generator<string> {
  const { namespace } = filter;
  if (namespace !== "") {
    if (coversNamespace(filter, namespace)) yield namespace;
    return;
  }
  let start: string | undefined = namespacesStart(filter);
  while (start !== undefined) {
    let next: string | undefined;
    for (const name of names.from(start)) {
      if (coversNamespace(filter, name)) yield name;
      else {
        next = namespacesAbove(filter, name);
        break;
      }
    }
    start = next;
  }
}

/**
 * Returns a lower bound for the namespaces that the filter covers, for a filter without `namespace`. Undefined if the filter covers no namespace.
 */
export function namespacesStart({ prefix, resolved }: EntryFilter): string | undefined {
  const start = resolved === undefined ? "" : resolved.start;
  return start === undefined || start > prefix ? start : prefix;
}

/** Like `namespacesStart`, but returns a lower bound above a namespace that the filter does not cover. */
export function namespacesAbove({ prefix, resolved }: EntryFilter, namespace: string): string | undefined {
  if (prefix !== "" && namespace < prefix) return prefix;
  // Names such as `p-x` are between `p` and `p.y`.
  const below = prefix === "" ? "" : `${prefix}.`;
  if (namespace < below) return below;
  if (resolved === undefined || !namespaceCovers(prefix, namespace)) return undefined;
  return resolved.startAbove(namespace);
}

/** Describes a reason in words, with the values that were compared. */
export function dropDetail(filter: EntryFilter, record: CatalogRecord, reason: ExclusionReason): string {
  const { traits } = record;
  switch (reason) {
    case "namespace":
      return `namespace ${record.namespace} is not ${filter.namespace === "" ? `${filter.prefix} or below it` : filter.namespace}`;
    case "names":
      return `name ${record.name} is not among the ${filter.names.length} requested names`;
    case "kinds":
      return `kind ${nameOf(KIND, record.kind)} was not requested`;
    case "scope":
      return `scope ${SCOPE_NAMES[record.scope]} is narrower than ${SCOPE_NAMES[leastScope(filter)]}`;
    case "locality":
      return `registered on node ${record.origin.nodeId} of cluster ${traits.clusterId} in region ${traits.region}, outside this ${PLACES[filter.scope]}`;
    case "capabilities":
      return `lacks ${missing(traits.capabilities, filter.capabilities)}`;
    case "tags":
      return `lacks ${missing(traits.tags, filter.tags)}`;
    case "resources":
      return `lacks ${missing(traits.resources, filter.resources)}`;
    case "cluster_id":
      return `cluster ${traits.clusterId} is not ${filter.clusterId}`;
    case "region":
      return filter.region === ""
        ? `region ${traits.region} is not among the ${filter.summaries?.regions.length} requested regions`
        : `region ${traits.region} is not ${filter.region}`;
    case "health":
      return `health ${nameOf(HEALTH, viewHealth(record))} was not requested`;
    case "version_range":
      return lacksVersion(traits.version, filter.versions?.text ?? "");
  }
}

function leastScope({ scope, resolved, summaries }: EntryFilter): Scope {
  const least = widest(scope, summaries?.channel ?? SCOPE.UNSET);
  return resolved === undefined ? least : widest(least, SCOPE.ZONE);
}

/** Whether the namespace is the filter's only condition. Also true for a resolver's filter. */
export function isNamespaceOnly(filter: EntryFilter): boolean {
  return filterText({ ...filter, namespace: "", prefix: "", resolved: undefined }, "") === filterText(ANY, "");
}

/** Separates the parts of a hashed filter. No name, tag or namespace contains it. */
const PART = "\u0001";
const ITEM = "\u0002";

/**
 * Returns a stable fingerprint of the filter, 16 hex digits: the same on every node and after a restart. The fingerprint does not depend on viewer,
 * limit and page. The order of list items matters. `salt` makes the fingerprints of different methods different.
 */
export function filterHash(filter: EntryFilter, salt = ""): string {
  return textHash(filterText(filter, salt));
}

/** Returns the string from which `filterHash` is computed. Different filters have different strings. HOT: runs for each query. */
export function filterText(filter: EntryFilter, salt: string): string {
  const { names, capabilities, tags, resources, versions } = filter;
  const scalars = `${filter.kindMask}${ITEM}${filter.scope}${ITEM}${filter.healthMask}`;
  const place = `${filter.clusterId}${PART}${filter.region}`;
  const lists = `${joined(names)}${PART}${joined(capabilities)}${PART}${joined(tags)}${PART}${joined(resources)}`;
  // Only filters with a version range have this part, so that cursors of other watches remain valid on nodes that do not support version ranges.
  const range = versions === undefined ? "" : `${PART}${versions.text}`;
  // Only resolvers have this part, for the same reason.
  const resolved = filter.resolved === undefined ? "" : `${PART}resolved${PART}${joined(filter.resolved.list)}`;
  // Only some readers of summaries have this part, for the same reason.
  const terms = filter.summaries;
  const ofSummaries = terms === undefined ? "" : `${PART}summaries${PART}${terms.channel}${PART}${joined(terms.regions)}`;
  const whole = `${range}${resolved}${ofSummaries}`;
  return `${salt}${PART}${filter.namespace}${PART}${filter.prefix}${PART}${scalars}${PART}${place}${PART}${lists}${whole}`;
}

function joined(list: readonly string[]): string {
  return list.length < 2 ? (list[0] ?? "") : list.join(ITEM);
}

const PLACES = ["fleet", "node", "cluster", "region", "fleet"] as const;

function isWithin(scope: Scope, record: FilterFields, self: NodeLocality): boolean {
  switch (scope) {
    case SCOPE.LOCAL:
      return record.origin.nodeId === self.nodeId;
    case SCOPE.ZONE:
      return record.traits.clusterId === self.clusterId;
    case SCOPE.REGION:
      return record.traits.region === self.region;
    case SCOPE.UNSET:
    case SCOPE.GLOBAL:
      return true;
  }
}

/** Whether a non-empty list of names contains this name. */
export function hasName(names: readonly string[], name: string): boolean {
  return names[nameIndex(names, name)] === name;
}

function hasAll(held: readonly string[], wanted: readonly string[]): boolean {
  for (const term of wanted) if (!held.includes(term)) return false;
  return true;
}

function missing(held: readonly string[], wanted: readonly string[]): string {
  return wanted.filter((term) => !held.includes(term)).join(", ");
}

function nameOf(table: Readonly<Record<string, number>>, value: number): string {
  return Object.keys(table).find((name) => table[name] === value) ?? String(value);
}
