/** The answer of a dry run: what a policy set would change for whom, in the catalog as it is (semantics.md, Policy). */
import { isControlNamespace } from "../../catalog/entry/names.ts";
import { SCOPE, type Scope } from "../../catalog/entry/scope.ts";
import type { EntryKey } from "../../catalog/record/record.ts";
import { exportScopesAt, type NamespaceRule, type PolicySet } from "./rules.ts";
import { mayBeSeen, Policy, type RecordSource, type Viewer } from "./verdict.ts";

/** The live catalog, and the tenants that are known to read it. */
export interface CatalogFacts {
  /** Namespaces with entries, sorted. */
  namespaces(): readonly string[];
  /** How many entries are in exactly this namespace. */
  count(namespace: string): number;
  /** At most `max` of their keys. */
  examples(namespace: string, max: number): readonly EntryKey[];
  /** Known tenants, each with the cluster it reads from. The plan adds the viewers that rules name. */
  viewers(): readonly Viewer[];
  /** The channels on which this cluster exports a namespace whose rule lists these scopes, by the settings. */
  channels(listed: readonly Scope[]): readonly Scope[];
  /** Every entry that is held, also those that owner rules hide now. May be read slowly, while entries come and go. */
  entries(): Iterable<PlanEntry>;
}

export interface PlanEntry {
  readonly namespace: string;
  readonly scope: Scope;
  readonly from: RecordSource;
  readonly key: () => EntryKey;
}

/** `hide`, `show`: some viewer no longer, or newly, sees the namespace. `withdraw`: its summary may no longer leave this cluster. */
export type PlanEffect = "hide" | "show" | "withdraw";

export interface PlannedChange {
  readonly namespace: string;
  readonly effect: PlanEffect;
  /** How many entries it has. */
  readonly entries: number;
  /** At most 5. */
  readonly examples: readonly EntryKey[];
  /** Some of the viewers that it is hidden from or shown to; at most 5. Empty for `withdraw`, and when owner rules hide or show it for all viewers. */
  readonly viewers: readonly Viewer[];
}

export interface PolicyPlan {
  /** Changes in the order of namespaces; at most 1000. */
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
/** Verdicts between two yields: some 2 ms, never more than 10. */
const VERDICTS_A_SLICE = 2000;

/** What a pair of rules, the one before and the one after, changes for the namespaces that have them. */
type PairOutcome = readonly { readonly effect: PlanEffect; readonly viewers: readonly Viewer[] }[];

/**
 * What `after` would change; `before` undefined means no policy. Yields every few ms of work, and asks for the same verdicts
 * as every read (P11). Cost: namespaces × their labels, and distinct pairs of rules × viewers.
 */
export function* planChanges(before: PolicySet | undefined, after: PolicySet, terms: PlanTerms): Generator<void, PolicyPlan> {
  // New policies, so that those in force do not forget the verdicts that they keep for real viewers.
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

/** What owner rules hide from all viewers, or show again, because of its source. Cost: entries held, when a rule has owners. */
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

/** Whether owner rules hide an entry. Entries without a rule do not count: the default hides them, and the viewers' verdicts show that. */
function isHiddenByOwners(policy: Policy, entry: PlanEntry, here: string): boolean {
  return policy.source(entry.namespace, entry.from).reason === "owner_denied" && !mayBeSeen(policy, entry, entry.from, here);
}

const NOTHING: PairOutcome = [];

class Planner {
  readonly #before: Policy;
  readonly #after: Policy;
  readonly #terms: PlanTerms;
  readonly #viewers: readonly Viewer[];
  /** Outcomes by the rule before and the rule after: a verdict depends on a namespace only through its rule. */
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

  /** The viewers that are known here, and those that either rule names. */
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

  /** The channels on which summaries leave this cluster. Those of narrower scopes never do. */
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
