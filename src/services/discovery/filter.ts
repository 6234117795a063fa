/** The filter of a query or a watch from its request, which the contract's rules have passed. */
import type { CatalogQueryRequest, CatalogWatchRequest } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { namespaceCovers } from "../../catalog/entry/names.ts";
import type { Scope } from "../../catalog/entry/scope.ts";
import type { EntryFilter } from "../../catalog/query/filter.ts";
import { NamespacePrefixes } from "../../catalog/query/prefixes.ts";
import { KIND } from "../../catalog/record/record.ts";
import type { RequestedNames } from "../../discovery/dns-alias-owners.ts";
import { invalid } from "../../lib/errors.ts";
import { VersionRange } from "../../lib/versions.ts";

/** The filter of a request. Throws `invalid_argument` for fields that do not go together, and for text that is not a range of versions. */
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

/** The names in DNS that a query asks for. Undefined for none. Throws `invalid_argument` for both kinds of names. */
export function namesOf({ aliases, hosts }: CatalogQueryRequest): RequestedNames | undefined {
  if (aliases.length === 0 && hosts.length === 0) return undefined;
  if (aliases.length > 0 && hosts.length > 0) throw invalid("hosts", "does not go with aliases, which are hosts as well; give one of them");
  return { aliases, hosts };
}

/** The fields of a request that are those of a resolver. */
type ForResolver =
  | Pick<CatalogQueryRequest, "forResolver" | "via" | "viewer">
  | Pick<CatalogWatchRequest, "forResolver" | "namespacePrefixes" | "via" | "viewer">;

const EVERYWHERE = new NamespacePrefixes([""]);

/** Throws `invalid_argument` for fields of a resolver in a request of others, and for fields that do not go with those of a resolver. */
export function resolvedOf(request: ForResolver): NamespacePrefixes | undefined {
  const prefixes = "namespacePrefixes" in request ? request.namespacePrefixes : undefined;
  if (!request.forResolver) {
    if (request.via.length > 0) throw invalid("via", "goes with for_resolver only");
    if (prefixes !== undefined && prefixes.length > 0)
      throw invalid("namespace_prefixes", "goes with for_resolver only; use namespace_prefix");
    return undefined;
  }
  if (request.viewer !== undefined) throw invalid("viewer", "does not go with for_resolver: a resolver judges its own callers");
  if (prefixes === undefined) return EVERYWHERE;
  if (prefixes.length === 0) throw invalid("namespace_prefixes", "is empty: name at least one, or an empty text for all namespaces");
  return new NamespacePrefixes(prefixes);
}

/** A prefix beside a namespace must cover it. Otherwise nothing could match, and an empty answer would not say why. */
export function prefixOf(prefix: string, namespace: string): string {
  if (namespace === "" || namespaceCovers(prefix, namespace)) return prefix;
  throw invalid("namespace_prefix", `namespace ${namespace} must be ${prefix} or below it; give one of the two alone, or both that agree`);
}

function versionsOf(text: string, kindMask: number): VersionRange | undefined {
  if (text === "") return undefined;
  if (kindMask !== 0 && (kindMask & (1 << KIND.FUNCTION)) === 0)
    throw invalid("version_range", "only functions have versions, and kinds names others");
  return new VersionRange(text);
}

/** The scope of a request, as the catalog has it. */
export function scopeOf(scope: number): Scope {
  return scope as Scope; // oxlint-disable-line typescript/no-unsafe-type-assertion -- the contract's rules refuse any other
}

/** In code-unit order. */
export function sorted(terms: readonly string[]): readonly string[] {
  return terms.length < 2 ? terms : terms.toSorted();
}

export function maskOf(values: readonly number[]): number {
  let mask = 0;
  for (const value of values) mask |= 1 << value;
  return mask;
}
