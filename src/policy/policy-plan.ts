/** What a policy set would change for whom, against the catalog as it is: the answer of a dry run (semantics.md, Policy). */
import { isControlNamespace } from "../catalog/names.ts";
import type { EntryKey } from "../catalog/record.ts";
import { SCOPE } from "../catalog/scope.ts";
import type { PolicySet, Rule } from "./rules.ts";
import { Policy, type Source, type Viewer } from "./verdict.ts";

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
  /** Some of those who no longer or newly see it; at most 5, none for withdraw. */
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
/** Verdicts between two breaths: some 2 ms. */
const VERDICTS_A_SLICE = 5000;

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
  const planner = new Planner(new Policy(before, 0), new Policy(after, 0), terms);
  yield;
  const { catalog } = terms;
  const changes: Change[] = [];
  let leftOut = 0;
  for (const [index, namespace] of [...catalog.namespaces()].entries()) {
    if (index % VERDICTS_A_SLICE === VERDICTS_A_SLICE - 1) yield;
    const { effects } = yield* planner.outcome(namespace);
    for (const { effect, viewers } of effects) {
      if (changes.length >= MAX_CHANGES) leftOut += 1;
      else
        changes.push({
          namespace,
          effect,
          entries: catalog.count(namespace),
          examples: catalog.examples(namespace, MAX_EXAMPLES),
          viewers,
        });
    }
  }
  return { changes, leftOut };
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
    return [SCOPE.ZONE, SCOPE.REGION, SCOPE.GLOBAL].some((scope) => {
      const at = { scope, wallMs };
      return this.#before.exportSummary(namespace, self, at).allowed && !this.#after.exportSummary(namespace, self, at).allowed;
    });
  }
}

function addNew(viewers: Viewer[], { clusterId, tenant }: Viewer): void {
  const isThere = viewers.some((other) => other.clusterId === clusterId && other.tenant === tenant);
  if (!isThere && viewers.length < MAX_EXAMPLES) viewers.push({ clusterId, tenant });
}
