/** Computes the result of a dry run: the changes that a policy set would cause for each viewer, given the current catalog (semantics.md, Policy). */
import { isControlNamespace } from "../../catalog/entry/names.ts";
import { SCOPE, type Scope } from "../../catalog/entry/scope.ts";
import type { EntryKey } from "../../catalog/record/record.ts";
import { exportScopesAt, type NamespaceRule, type PolicySet } from "./rules.ts";
import { mayBeSeen, Policy, type RecordSource, type Viewer } from "./verdict.ts";

/** The live catalog, and the tenants that are known to read from the catalog. */
export interface CatalogFacts {
  /** Returns the namespaces that have entries, in sorted order. */
  namespaces(): readonly string[];
  /** Returns the number of entries in exactly this namespace. */
  count(namespace: string): number;
  /** Returns at most `max` keys from the namespace. */
  examples(namespace: string, max: number): readonly EntryKey[];
  /** Returns the known tenants, and for each tenant the cluster that it reads from. The plan also includes the viewers that rules name. */
  viewers(): readonly Viewer[];
  /** Returns the channels on which the settings export a namespace of this cluster if its rule lists these scopes. */
  channels(listed: readonly Scope[]): readonly Scope[];
  /**
   * Returns every entry in the catalog, including entries that owner rules currently hide. The caller may read the entries slowly, while others are
   * added and removed.
   */
  entries(): Iterable<PlanEntry>;
}

export interface PlanEntry {
  readonly namespace: string;
  readonly scope: Scope;
  readonly from: RecordSource;
  readonly key: () => EntryKey;
}

/**
 * `hide` and `show`: at least one viewer can no longer, or can newly, see the namespace. `withdraw`: the namespace's summary may no longer leave this
 * cluster.
 */
export type PlanEffect = "hide" | "show" | "withdraw";

export interface PlannedChange {
  readonly namespace: string;
  readonly effect: PlanEffect;
  /** Number of entries in the namespace. */
  readonly entries: number;
  /** At most 5. */
  readonly examples: readonly EntryKey[];
  /**
   * At most 5 of the viewers from which the namespace is hidden or to which it is shown. Empty for `withdraw`, and if owner rules hide or show the
   * namespace for all viewers.
   */
  readonly viewers: readonly Viewer[];
}

export interface PolicyPlan {
  /** The changes in order of their namespaces; at most 1000. */
  readonly changes: readonly PlannedChange[];
  readonly leftOut: number;
}

export interface PlanTerms {
  readonly catalog: CatalogFacts;
  /** This cluster, whose summaries may be withdrawn. */
  readonly self: RecordSource;
  readonly wallMs: number;
}

const MAX_CHANGES = 1000;
const MAX_EXAMPLES = 5;
/** Number of verdicts that are computed between two yields. Computing them needs about 2 ms, and at most 10 ms. */
const VERDICTS_A_SLICE = 2000;

/** The changes that follow from an old and a new rule, for the namespaces to which both apply. */
type PairOutcome = readonly { readonly effect: PlanEffect; readonly viewers: readonly Viewer[] }[];

/**
 * Returns the changes that `after` would cause. If `before` is undefined, there is no previous policy. Yields after every few ms of work. The
 * verdicts are the same as for every read (P11). Cost: the namespaces times their labels, plus the distinct pairs of rules times the viewers.
 */
export function* planChanges(before: PolicySet | undefined, after: PolicySet, terms: PlanTerms): Generator<void, PolicyPlan> {
  // New policy objects are used, so that the cached verdicts of the policies in force are not dropped.
  const was = new Policy(before, 0);
  yield;
  const is = new Policy(after, 0);
  yield;
  const planner = new Planner(was, is, terms);
  const { catalog } = terms;
  const byOwners = yield* ownerChanges(was, is, terms);
  const changes: PlannedChange[] = [];
  let leftOut = 0;
  const add = (change: () => PlannedChange): void => {
    if (changes.length >= MAX_CHANGES) leftOut += 1;
    else changes.push(change());
  };
  const namespaces = new Set([...catalog.namespaces(), ...byOwners.keys()]);
  for (const [index, namespace] of [...namespaces].toSorted().entries()) {
    if (index % VERDICTS_A_SLICE === VERDICTS_A_SLICE - 1) yield;
    const outcome = yield* planner.outcome(namespace);
    for (const change of byOwners.get(namespace) ?? []) add(() => change);
    for (const { effect, viewers } of outcome) {
      const examples = () => catalog.examples(namespace, MAX_EXAMPLES);
      add(() => ({ namespace, effect, entries: catalog.count(namespace), examples: examples(), viewers }));
    }
  }
  return { changes, leftOut };
}

interface CountedChange extends PlannedChange {
  entries: number;
  readonly examples: EntryKey[];
}

/**
 * Returns the changes for entries that owner rules hide from all viewers, or show again, because of the entries' source. Cost: all entries are read
 * if any rule has owners.
 */
function* ownerChanges(
  was: Policy,
  is: Policy,
  { catalog, self }: PlanTerms,
): Generator<void, ReadonlyMap<string, readonly PlannedChange[]>> {
  const found = new Map<string, CountedChange[]>();
  if (![...(was.set?.rules ?? []), ...(is.set?.rules ?? [])].some(({ owners }) => owners.length > 0)) return found;
  let looked = 0;
  for (const entry of catalog.entries()) {
    looked += 1;
    if (looked % VERDICTS_A_SLICE === 0) yield;
    const { namespace } = entry;
    const isHidden = isHiddenByOwners(is, entry, self.clusterId);
    if (isHidden === isHiddenByOwners(was, entry, self.clusterId)) continue;
    const effect = isHidden ? "hide" : "show";
    const counted = found.get(namespace) ?? [];
    found.set(namespace, counted);
    let change = counted.find((each) => each.effect === effect);
    if (change === undefined) {
      change = { namespace, effect, entries: 0, examples: [], viewers: [] };
      counted.push(change);
    }
    change.entries += 1;
    if (change.examples.length < MAX_EXAMPLES) change.examples.push(entry.key());
  }
  return found;
}

/** Whether owner rules hide an entry. False for entries without a rule: the default hides them, and the viewers' verdicts already include that. */
function isHiddenByOwners(policy: Policy, entry: PlanEntry, here: string): boolean {
  return policy.source(entry.namespace, entry.from).reason === "owner_denied" && !mayBeSeen(policy, entry, entry.from, here);
}

const NOTHING: PairOutcome = [];

class Planner {
  readonly #before: Policy;
  readonly #after: Policy;
  readonly #terms: PlanTerms;
  readonly #viewers: readonly Viewer[];
  /** Outcomes for each pair of old and new rule: a verdict depends on a namespace only through the namespace's rule. */
  readonly #outcomes = new Map<NamespaceRule | undefined, Map<NamespaceRule | undefined, PairOutcome>>();
  #verdicts = 0;

  constructor(before: Policy, after: Policy, terms: PlanTerms) {
    this.#before = before;
    this.#after = after;
    this.#terms = terms;
    this.#viewers = terms.catalog.viewers();
  }

  *outcome(namespace: string): Generator<void, PairOutcome> {
    if (isControlNamespace(namespace)) return NOTHING;
    const was = this.#before.ruleOf(namespace);
    const is = this.#after.ruleOf(namespace);
    let known = this.#outcomes.get(was);
    if (known === undefined) {
      known = new Map();
      this.#outcomes.set(was, known);
    }
    let outcome = known.get(is);
    if (outcome === undefined) {
      outcome = yield* this.#judge(namespace, was, is);
      known.set(is, outcome);
    }
    return outcome;
  }

  *#judge(namespace: string, was: NamespaceRule | undefined, is: NamespaceRule | undefined): Generator<void, PairOutcome> {
    const hidden: Viewer[] = [];
    const shown: Viewer[] = [];
    for (const viewer of this.#candidates(was, is)) {
      this.#verdicts += 2;
      if (this.#verdicts % VERDICTS_A_SLICE === 0) yield;
      const saw = this.#before.viewer(namespace, viewer).allowed;
      const sees = this.#after.viewer(namespace, viewer).allowed;
      if (saw && !sees) addNew(hidden, viewer);
      if (!saw && sees) addNew(shown, viewer);
      if (hidden.length === MAX_EXAMPLES && shown.length === MAX_EXAMPLES) break;
    }
    const outcome: { effect: PlanEffect; viewers: readonly Viewer[] }[] = [];
    if (hidden.length > 0) outcome.push({ effect: "hide", viewers: hidden });
    if (shown.length > 0) outcome.push({ effect: "show", viewers: shown });
    if (this.#isWithdrawn(namespace)) outcome.push({ effect: "withdraw", viewers: [] });
    return outcome;
  }

  /** Returns the known viewers, and the viewers that are named in either rule. */
  *#candidates(was: NamespaceRule | undefined, is: NamespaceRule | undefined): Generator<Viewer, void> {
    for (const viewer of this.#viewers) yield viewer;
    const own = this.#terms.self.clusterId;
    const named = (list: "visibility" | "visibilityTenants") => new Set([...(was?.[list] ?? []), ...(is?.[list] ?? [])]);
    for (const tenant of named("visibilityTenants")) yield { clusterId: own, tenant };
    for (const clusterId of named("visibility")) yield { clusterId, tenant: "" };
  }

  #isWithdrawn(namespace: string): boolean {
    const after = this.#exported(this.#after, namespace);
    return this.#exported(this.#before, namespace).some((scope) => !after.includes(scope));
  }

  /** Returns the channels on which summaries leave this cluster. Summaries with narrower scopes never leave it. */
  #exported(policy: Policy, namespace: string): readonly Scope[] {
    const { self, wallMs, catalog } = this.#terms;
    const rule = policy.ruleOf(namespace);
    const channels = catalog.channels(rule === undefined ? [] : exportScopesAt(rule, wallMs));
    return channels.filter((scope) => scope >= SCOPE.REGION && policy.exportSummary(namespace, self, { scope, wallMs }).allowed);
  }
}

function addNew(viewers: Viewer[], { clusterId, tenant }: Viewer): void {
  const isThere = viewers.some((other) => other.clusterId === clusterId && other.tenant === tenant);
  if (!isThere && viewers.length < MAX_EXAMPLES) viewers.push({ clusterId, tenant });
}
