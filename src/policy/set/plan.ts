/** What a policy set would change for whom, against the catalog as it is: the answer of a dry run (semantics.md, Policy). */
import { isControlNamespace } from "../../catalog/entry/names.ts";
import { SCOPE, type Scope } from "../../catalog/entry/scope.ts";
import type { EntryKey } from "../../catalog/record/record.ts";
import type { PolicySet, Rule } from "./rules.ts";
import { Policy, type Source, type Viewer } from "./verdict.ts";
import { mayBeSeen } from "./visibility.ts";

/** The live catalog, and who is known to look at it. */
export interface CatalogFacts {
  /** Sorted. */
  namespaces(): readonly string[];
  /** Entries in exactly this namespace. */
  count(namespace: string): number;
  /** At most `max` of their keys. */
  examples(namespace: string, max: number): readonly EntryKey[];
  /** Known tenants with the cluster they look from; those that the rules name are added. */
  viewers(): readonly Viewer[];
  /** Every entry that is held, also those that owner rules hide now; may be read slowly, while entries come and go. */
  entries(): Iterable<HeldEntry>;
}

export interface HeldEntry {
  readonly namespace: string;
  readonly scope: Scope;
  readonly from: Source;
  readonly key: () => EntryKey;
}

/** hide, show: somebody no longer, or newly, sees it. withdraw: its summary may no longer leave this cluster. */
export type Effect = "hide" | "show" | "withdraw";

export interface Change {
  readonly namespace: string;
  readonly effect: Effect;
  /** Entries in it. */
  readonly entries: number;
  /** At most 5. */
  readonly examples: readonly EntryKey[];
  /** Some of those who no longer or newly see it; at most 5. None for withdraw, and where owner rules hide or show it: then everybody. */
  readonly viewers: readonly Viewer[];
}

export interface Plan {
  /** By namespace; at most 1000. */
  readonly changes: readonly Change[];
  readonly leftOut: number;
}

export interface PlanTerms {
  readonly catalog: CatalogFacts;
  /** This cluster, whose summaries may be withdrawn. */
  readonly self: Source;
  readonly wallMs: number;
}

const MAX_CHANGES = 1000;
const MAX_EXAMPLES = 5;
/** Verdicts between two breaths: some 2 ms, never more than 10. */
const VERDICTS_A_SLICE = 2000;

/** What one pair of rules does to whoever falls under them. */
interface Outcome {
  readonly effects: readonly { readonly effect: Effect; readonly viewers: readonly Viewer[] }[];
}

/**
 * What `after` would change; `before` undefined means no policy. Yields every few ms of work, and asks the same verdicts
 * as every read (P11). Cost: namespaces × their labels, and distinct pairs of rules × viewers.
 */
export function* planChanges(before: PolicySet | undefined, after: PolicySet, terms: PlanTerms): Generator<void, Plan> {
  // Policies of our own: those in force keep what they remember of real viewers.
  const was = new Policy(before, 0);
  yield;
  const is = new Policy(after, 0);
  yield;
  const planner = new Planner(was, is, terms);
  const { catalog } = terms;
  const byOwners = yield* ownerChanges(was, is, terms);
  const changes: Change[] = [];
  let leftOut = 0;
  const add = (change: () => Change): void => {
    if (changes.length >= MAX_CHANGES) leftOut += 1;
    else changes.push(change());
  };
  const namespaces = new Set([...catalog.namespaces(), ...byOwners.keys()]);
  for (const [index, namespace] of [...namespaces].toSorted().entries()) {
    if (index % VERDICTS_A_SLICE === VERDICTS_A_SLICE - 1) yield;
    const { effects } = yield* planner.outcome(namespace);
    for (const change of byOwners.get(namespace) ?? []) add(() => change);
    for (const { effect, viewers } of effects) {
      const examples = () => catalog.examples(namespace, MAX_EXAMPLES);
      add(() => ({ namespace, effect, entries: catalog.count(namespace), examples: examples(), viewers }));
    }
  }
  return { changes, leftOut };
}

interface Counted {
  readonly namespace: string;
  readonly effect: Effect;
  entries: number;
  readonly examples: EntryKey[];
  readonly viewers: readonly Viewer[];
}

/** What owner rules hide from everybody, or show again, because of where it comes from. Cost: entries held, when a rule has owners. */
function* ownerChanges(was: Policy, is: Policy, { catalog, self }: PlanTerms): Generator<void, ReadonlyMap<string, readonly Change[]>> {
  const found = new Map<string, Counted[]>();
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

/** What no rule covers is hidden by the default, which the viewers' verdicts tell already. */
function isHiddenByOwners(policy: Policy, entry: HeldEntry, here: string): boolean {
  return policy.source(entry.namespace, entry.from).reason === "owner_denied" && !mayBeSeen(policy, entry, entry.from, here);
}

const NOTHING: Outcome = { effects: [] };

class Planner {
  readonly #before: Policy;
  readonly #after: Policy;
  readonly #terms: PlanTerms;
  readonly #viewers: readonly Viewer[];
  /** A verdict depends on a namespace through the rule it falls under only. */
  readonly #outcomes = new Map<Rule | undefined, Map<Rule | undefined, Outcome>>();
  #verdicts = 0;

  constructor(before: Policy, after: Policy, terms: PlanTerms) {
    this.#before = before;
    this.#after = after;
    this.#terms = terms;
    this.#viewers = terms.catalog.viewers();
  }

  *outcome(namespace: string): Generator<void, Outcome> {
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

  *#judge(namespace: string, was: Rule | undefined, is: Rule | undefined): Generator<void, Outcome> {
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
    const effects: { effect: Effect; viewers: readonly Viewer[] }[] = [];
    if (hidden.length > 0) effects.push({ effect: "hide", viewers: hidden });
    if (shown.length > 0) effects.push({ effect: "show", viewers: shown });
    if (this.#isWithdrawn(namespace)) effects.push({ effect: "withdraw", viewers: [] });
    return effects.length === 0 ? NOTHING : { effects };
  }

  /** Those known here, and those whom either rule names: of them nothing else may be known. */
  *#candidates(was: Rule | undefined, is: Rule | undefined): Generator<Viewer, void> {
    for (const viewer of this.#viewers) yield viewer;
    const own = this.#terms.self.clusterId;
    const named = (list: "visibility" | "visibilityTenants") => new Set([...(was?.[list] ?? []), ...(is?.[list] ?? [])]);
    for (const tenant of named("visibilityTenants")) yield { clusterId: own, tenant };
    for (const clusterId of named("visibility")) yield { clusterId, tenant: "" };
  }

  #isWithdrawn(namespace: string): boolean {
    const { self, wallMs } = this.#terms;
    // What is narrower never left.
    return [SCOPE.REGION, SCOPE.GLOBAL].some((scope) => {
      const at = { scope, wallMs };
      return this.#before.exportSummary(namespace, self, at).allowed && !this.#after.exportSummary(namespace, self, at).allowed;
    });
  }
}

function addNew(viewers: Viewer[], { clusterId, tenant }: Viewer): void {
  const isThere = viewers.some((other) => other.clusterId === clusterId && other.tenant === tenant);
  if (!isThere && viewers.length < MAX_EXAMPLES) viewers.push({ clusterId, tenant });
}
