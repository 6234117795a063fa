/** Requests → filters: what a query or a watch may ask for, checked by hand because it is asked on every call. */
import type { Duration } from "@bufbuild/protobuf/wkt";
import { LAST_KIND } from "../../catalog/entry/kinds.ts";
import { type Bounds, isName, isNamespace, nameRule, namespaceCovers, namespaceRule } from "../../catalog/entry/names.ts";
import { SCOPE, type Scope } from "../../catalog/entry/scope.ts";
import type { Filter } from "../../catalog/query/filter.ts";
import { HEALTH, KIND } from "../../catalog/record/record.ts";
import { invalid } from "../../lib/errors.ts";
import { VersionRange } from "../../lib/versions.ts";

const MAX_NAMES = 1000;
const MAX_TERMS = 64;
const MAX_CHOICES = 16;

/** The fields a query and a watch share. */
export interface FilterRequest {
  readonly namespace: string;
  readonly namespacePrefix: string;
  readonly names: readonly string[];
  readonly kinds: readonly number[];
  readonly scope: number;
  readonly capabilities: readonly string[];
  readonly tags: readonly string[];
  readonly resources: readonly string[];
  readonly clusterId: string;
  readonly region: string;
  readonly health: readonly number[];
  readonly versionRange: string;
}

/** The filter of a request. Throws `invalid_argument` with the field and the rule. */
export function filterOf(request: FilterRequest, bounds: Bounds): Filter {
  const kindMask = maskOf(request.kinds, "kinds", LAST_KIND);
  const versions = versionsOf(request.versionRange, kindMask);
  const namespace = namespaceOf(request.namespace, "namespace", bounds);
  return {
    namespace,
    prefix: prefixOf(request.namespacePrefix, namespace, bounds),
    names: termsOf(request.names, "names", MAX_NAMES, bounds),
    kindMask: versions === undefined ? kindMask : 1 << KIND.FUNCTION,
    scope: scopeOf(request.scope, "scope"),
    capabilities: termsOf(request.capabilities, "capabilities", MAX_TERMS, bounds),
    tags: termsOf(request.tags, "tags", MAX_TERMS, bounds),
    resources: termsOf(request.resources, "resources", MAX_TERMS, bounds),
    clusterId: idOf(request.clusterId, "cluster_id", bounds),
    region: idOf(request.region, "region", bounds),
    healthMask: maskOf(request.health, "health", HEALTH.ORPHANED),
    versions,
  };
}

/** Empty, or a namespace that covers the one that is asked for: else nothing could match, and an empty answer would not say why. */
function prefixOf(text: string, namespace: string, bounds: Bounds): string {
  const prefix = namespaceOf(text, "namespace_prefix", bounds);
  if (namespace === "" || namespaceCovers(prefix, namespace)) return prefix;
  throw invalid("namespace_prefix", `namespace ${namespace} must be ${prefix} or below it; give one of the two alone, or both that agree`);
}

function versionsOf(text: string, kindMask: number): VersionRange | undefined {
  if (text === "") return undefined;
  if (kindMask !== 0 && (kindMask & (1 << KIND.FUNCTION)) === 0)
    throw invalid("version_range", "only functions have versions, and kinds names others");
  return new VersionRange(text);
}

/** Empty, or a namespace. */
export function namespaceOf(text: string, field: string, bounds: Bounds): string {
  if (text === "" || isNamespace(text, bounds)) return text;
  throw invalid(field, namespaceRule(text, bounds));
}

/** Empty, or an id of a node, cluster, region or zone. */
export function idOf(text: string, field: string, bounds: Bounds): string {
  if (text === "" || isName(text, bounds.maxIdLength)) return text;
  throw invalid(field, nameRule(text, bounds.maxIdLength));
}

/** A known scope, or unset. */
export function scopeOf(scope: number, field: string): Scope {
  if (Number.isInteger(scope) && scope >= SCOPE.UNSET && scope <= SCOPE.GLOBAL) return scope as Scope; // oxlint-disable-line typescript/no-unsafe-type-assertion -- checked
  throw invalid(field, `${scope} is not a known scope`);
}

const NO_TERMS: readonly string[] = [];

/** Names, tags and the like, in code-unit order. */
export function termsOf(terms: readonly string[], field: string, max: number, bounds: Bounds): readonly string[] {
  if (terms.length === 0) return NO_TERMS;
  if (terms.length > max) throw invalid(field, `${terms.length} are more than ${max}`);
  terms.forEach((term, i) => {
    if (!isName(term, bounds.maxNameLength)) throw invalid(`${field}[${i}]`, nameRule(term, bounds.maxNameLength));
  });
  return terms.length === 1 ? terms : terms.toSorted();
}

/** A Duration in ms, with what it has of a part of one; undefined when absent. Throws when it is negative or not well-formed. */
export function durationMs(duration: Duration | undefined, field: string): number | undefined {
  if (duration === undefined) return undefined;
  const ms = Number(duration.seconds) * 1000 + duration.nanos / 1e6;
  const isWellFormed = Number.isFinite(ms) && duration.nanos >= 0 && duration.nanos < 1e9 && ms >= 0;
  if (!isWellFormed) throw invalid(field, "must be a duration of 0 s or more");
  return ms;
}

function maskOf(values: readonly number[], field: string, highest: number): number {
  if (values.length === 0) return 0;
  if (values.length > MAX_CHOICES) throw invalid(field, `${values.length} are more than ${MAX_CHOICES}`);
  let mask = 0;
  values.forEach((value, i) => {
    if (!Number.isInteger(value) || value < 1 || value > highest) throw invalid(`${field}[${i}]`, `${value} is not a known value`);
    mask |= 1 << value;
  });
  return mask;
}
