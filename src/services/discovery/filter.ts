/** Builds the filter for a query or a watch from its request, which was already checked against the contract's rules. */
import type { CatalogQueryRequest, CatalogWatchRequest } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { namespaceCovers } from "../../catalog/entry/names.ts";
import type { Scope } from "../../catalog/entry/scope.ts";
import type { EntryFilter } from "../../catalog/query/filter.ts";
import { NamespacePrefixes } from "../../catalog/query/prefixes.ts";
import { KIND } from "../../catalog/record/record.ts";
import type { RequestedNames } from "../../discovery/dns-alias-owners.ts";
import { invalid } from "../../lib/errors.ts";
import { VersionRange } from "../../lib/versions.ts";

/** Returns the filter in a request. Throws `invalid_argument` for incompatible fields, and for text that is not a valid version range. */
export function filterOf(request: CatalogQueryRequest | CatalogWatchRequest): EntryFilter {
  const { namespace, clusterId, region } = request;
  const kindMask = maskOf(request.kinds);
  const versions = versionsOf(request.versionRange, kindMask);
  return {
    namespace,
    prefix: prefixOf(request.namespacePrefix, namespace),
    names: sorted(request.names),
    kindMask: versions === undefined ? kindMask : 1 << KIND.FUNCTION,
    scope: scopeOf(request.scope),
    capabilities: sorted(request.capabilities),
    tags: sorted(request.tags),
    resources: sorted(request.resources),
    clusterId,
    region,
    healthMask: maskOf(request.health),
    versions,
    resolved: resolvedOf(request),
    summaries: undefined,
  };
}

/** Returns the DNS names in a query. Undefined if there are none. Throws `invalid_argument` for a query with both kinds of names. */
export function namesOf({ aliases, hosts }: CatalogQueryRequest): RequestedNames | undefined {
  if (aliases.length === 0 && hosts.length === 0) return undefined;
  if (aliases.length > 0 && hosts.length > 0)
    throw invalid("hosts", "must not be set together with aliases: set only one of them; hosts also matches aliases");
  return { aliases, hosts };
}

/** The fields of a request that are only for reads by resolvers. */
type ForResolver =
  | Pick<CatalogQueryRequest, "forResolver" | "via" | "viewer">
  | Pick<CatalogWatchRequest, "forResolver" | "namespacePrefixes" | "via" | "viewer">;

const EVERYWHERE = new NamespacePrefixes([""]);

/**
 * Returns the namespaces in a resolver's request. Undefined for other requests. Throws `invalid_argument` if a field requires for_resolver or cannot
 * be combined with it.
 */
export function resolvedOf(request: ForResolver): NamespacePrefixes | undefined {
  const prefixes = "namespacePrefixes" in request ? request.namespacePrefixes : undefined;
  if (!request.forResolver) {
    if (request.via.length > 0) throw invalid("via", "requires for_resolver");
    if (prefixes !== undefined && prefixes.length > 0)
      throw invalid("namespace_prefixes", "requires for_resolver; without it, use namespace_prefix");
    return undefined;
  }
  if (request.viewer !== undefined)
    throw invalid("viewer", "must not be set with for_resolver: a resolver applies policy to its own callers");
  if (prefixes === undefined) return EVERYWHERE;
  if (prefixes.length === 0)
    throw invalid("namespace_prefixes", "must not be empty: list at least one prefix, or an empty string for all namespaces");
  return new NamespacePrefixes(prefixes);
}

/** Returns the prefix. Throws `invalid_argument` if the scope does not cover the namespace, because then nothing could match. */
export function prefixOf(prefix: string, namespace: string): string {
  if (namespace === "" || namespaceCovers(prefix, namespace)) return prefix;
  throw invalid(
    "namespace_prefix",
    `must be the namespace ${namespace} or a parent of it, got ${prefix}; or set only one of the two fields`,
  );
}

function versionsOf(text: string, kindMask: number): VersionRange | undefined {
  if (text === "") return undefined;
  if (kindMask !== 0 && (kindMask & (1 << KIND.FUNCTION)) === 0)
    throw invalid("version_range", "only functions have versions: add FUNCTION to kinds, or leave kinds empty");
  return new VersionRange(text);
}

/** Converts the scope in a request to the catalog's type. */
export function scopeOf(scope: number): Scope {
  return scope as Scope; // oxlint-disable-line typescript/no-unsafe-type-assertion -- the contract's rules reject other values
}

/** Returns the terms sorted by code units. */
export function sorted(terms: readonly string[]): readonly string[] {
  return terms.length < 2 ? terms : terms.toSorted();
}

export function maskOf(values: readonly number[]): number {
  let mask = 0;
  for (const value of values) mask |= 1 << value;
  return mask;
}
