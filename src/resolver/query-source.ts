/** Where a resolver finds the answer to a query (semantics.md, Resolver 17). */
import type { Filter } from "../catalog/query/filter.ts";
import type { AskedName } from "../catalog/query/instances.ts";
import { KIND } from "../catalog/record/record.ts";

export type QuerySource =
  /** In what is followed. */
  | { readonly from: "followed" }
  /** In the answers to these names. */
  | { readonly from: "names"; readonly names: readonly AskedName[] }
  /** Nowhere here: the whole query goes upstream. */
  | { readonly from: "upstream" };

/** Most names that a query has answered by name. */
const MAX_NAMES = 100;
const KINDS = Object.values(KIND);

/** `isComplete`: whether everything in a namespace, and below it, is held. An empty text stands for all namespaces. */
export function querySourceOf(filter: Filter, isComplete: (namespace: string) => boolean): QuerySource {
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
