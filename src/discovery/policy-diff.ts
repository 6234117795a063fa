/**
 * For each viewer, the namespaces that a policy change shows or hides. Namespaces under the same pair of rules share one verdict. The work is done in
 * slices, because there may be many namespaces and viewers.
 */

import { isControlNamespace } from "../catalog/entry/names.ts";
import { shardOf } from "../catalog/key-shards.ts";
import { coveredNamespaces, type EntryFilter } from "../catalog/query/filter.ts";
import { nameIndex } from "../catalog/query/sorted-blocks.ts";
import { MAX_SCOPES_LENGTH } from "../catalog/watch/feed.ts";
import type { NamespaceRule } from "../policy/set/rules.ts";
import type { Policy, Viewer } from "../policy/set/verdict.ts";

/** The namespaces about which a viewer must be notified, sorted. */
export interface VisibilityDiff {
  readonly gained: readonly string[];
  readonly lost: readonly string[];
}

type NamespaceChange = "gained" | "lost" | "same";

/** A viewer for which some namespaces have not been evaluated yet. */
interface PendingViewer {
  readonly viewer: string;
  /** Indexed by group of namespaces. */
  readonly changes: NamespaceChange[];
  readonly gained: string[];
  readonly lost: string[];
  /** Number of namespaces already evaluated. */
  at: number;
}

const NONE: VisibilityDiff = { gained: [], lost: [] };

export class PolicyDiff {
  readonly #before: Policy;
  readonly #after: Policy;
  /**
   * The number of each group of namespaces, indexed by the deciding rules of both policies. The index is split into many maps, because a map is
   * copied when it grows.
   */
  readonly #groups: Map<NamespaceRule | undefined, Map<NamespaceRule | undefined, number>>[] = [];
  /** One namespace of each group. The verdict on this namespace applies to the whole group. */
  readonly #examples: string[] = [];
  readonly #namespaces: { readonly name: string; readonly group: number; readonly isHeld: boolean }[] = [];
  readonly #byViewer = new Map<string, VisibilityDiff>();
  #judging: PendingViewer | undefined;

  constructor(before: Policy, after: Policy) {
    this.#before = before;
    this.#after = after;
  }

  /**
   * Adds a namespace. Must be called in sorted order, and only before the first query. `isHeld`: whether a watch may have entries of the namespace.
   */
  add(name: string, isHeld: boolean): void {
    if (isControlNamespace(name)) return;
    const [before, after] = [this.#before.ruleOf(name), this.#after.ruleOf(name)];
    const shard = (this.#groups[shardOf((after ?? before)?.pattern ?? "")] ??= new Map<
      NamespaceRule | undefined,
      Map<NamespaceRule | undefined, number>
    >());
    let groups = shard.get(before);
    if (groups === undefined) shard.set(before, (groups = new Map<NamespaceRule | undefined, number>()));
    let group = groups.get(after);
    if (group === undefined) groups.set(after, (group = this.#examples.push(name) - 1));
    this.#namespaces.push({ name, group, isHeld });
  }

  /** Whether all namespaces have been evaluated for a viewer. */
  isJudged(viewer: Viewer): boolean {
    return this.#byViewer.has(idOf(viewer));
  }

  /** Evaluates at most `maxCount` groups and namespaces for a viewer. Returns whether all of them have been evaluated. */
  judge(viewer: Viewer, maxCount: number): boolean {
    const id = idOf(viewer);
    if (this.#byViewer.has(id)) return true;
    if (this.#judging?.viewer !== id) this.#judging = { viewer: id, changes: [], gained: [], lost: [], at: 0 };
    const { changes, gained, lost } = this.#judging;
    const groups = this.#examples.slice(changes.length, changes.length + maxCount);
    for (const example of groups) changes.push(this.changeOf(example, viewer));
    if (changes.length < this.#examples.length) return false;
    const { at } = this.#judging;
    const namespaces = this.#namespaces.slice(at, at + maxCount - groups.length);
    for (const { name, group, isHeld } of namespaces) {
      const change = changes[group];
      if (change === "gained") gained.push(name);
      if (change === "lost" && isHeld) lost.push(name);
    }
    this.#judging.at += namespaces.length;
    if (this.#judging.at < this.#namespaces.length) return false;
    this.#byViewer.set(id, gained.length + lost.length === 0 ? NONE : { gained, lost });
    this.#judging = undefined;
    return true;
  }

  /** Returns the added namespaces that the viewer sees only after the change, and the namespaces with `isHeld` that it saw only before the change. */
  of(viewer: Viewer): VisibilityDiff {
    this.judge(viewer, Number.POSITIVE_INFINITY);
    return this.#byViewer.get(idOf(viewer)) ?? NONE;
  }

  /** Returns how the visibility of one namespace changes for the viewer, whether or not the namespace was added. */
  changeOf(namespace: string, viewer: Viewer): NamespaceChange {
    const [did, does] = [this.#before.viewer(namespace, viewer).allowed, this.#after.viewer(namespace, viewer).allowed];
    return did === does ? "same" : does ? "gained" : "lost";
  }
}

function idOf({ clusterId, tenant }: Viewer): string {
  return `${clusterId}\0${tenant}`;
}

/**
 * Returns the namespaces of a sorted list that the filter covers. If there are too many to list, returns only enough to exceed the limit.
 */
export function coveredIn(sorted: readonly string[], filter: EntryFilter): readonly string[] {
  const { namespace } = filter;
  if (namespace !== "" && sorted[nameIndex(sorted, namespace)] !== namespace) return [];
  const found: string[] = [];
  let length = 0;
  for (const name of coveredNamespaces({ from: (first) => namesFrom(sorted, first) }, filter)) {
    found.push(name);
    length += name.length;
    if (length > MAX_SCOPES_LENGTH) break;
  }
  return found;
}

function* namesFrom(sorted: readonly string[], first: string): Generator<string> {
  for (let i = nameIndex(sorted, first); i < sorted.length; i++) yield sorted[i] ?? "";
}
