/** Which namespaces another policy shows and hides, by viewer: judged once for all namespaces that fall under the same two rules. */
import { isControlNamespace } from "../catalog/names.ts";
import type { Rule } from "../policy/rules.ts";
import type { Policy, Viewer } from "../policy/verdict.ts";

/** Namespaces that one rule of each policy decides on. */
interface Group {
  /** Any of them: a verdict on it is one on all. */
  readonly example: string;
  readonly all: string[];
  /** Those that a watch can hold something of. */
  readonly held: string[];
}

/** What a viewer is to be told anew. */
export interface Difference {
  readonly gained: readonly string[];
  readonly lost: readonly string[];
}

const NONE: Difference = { gained: [], lost: [] };

export class PolicyDiff {
  readonly #before: Policy;
  readonly #after: Policy;
  readonly #groups = new Map<Rule | undefined, Map<Rule | undefined, Group>>();
  readonly #byViewer = new Map<string, Difference>();

  constructor(before: Policy, after: Policy) {
    this.#before = before;
    this.#after = after;
  }

  /** Only before the first question. */
  add(namespace: string, isHeld: boolean): void {
    if (isControlNamespace(namespace)) return;
    const [before, after] = [this.#before.ruleOf(namespace), this.#after.ruleOf(namespace)];
    let groups = this.#groups.get(before);
    if (groups === undefined) this.#groups.set(before, (groups = new Map<Rule | undefined, Group>()));
    let group = groups.get(after);
    if (group === undefined) groups.set(after, (group = { example: namespace, all: [], held: [] }));
    group.all.push(namespace);
    if (isHeld) group.held.push(namespace);
  }

  /** Of the namespaces added those that the viewer sees now and did not, and those held that it saw and does not now. */
  of(viewer: Viewer): Difference {
    const name = `${viewer.clusterId}\0${viewer.tenant}`;
    let known = this.#byViewer.get(name);
    if (known === undefined) this.#byViewer.set(name, (known = this.#judge(viewer)));
    return known;
  }

  /** How one namespace, added or not, changes for the viewer. */
  changeOf(namespace: string, viewer: Viewer): "gained" | "lost" | "same" {
    const [did, does] = [this.#before.viewer(namespace, viewer).allowed, this.#after.viewer(namespace, viewer).allowed];
    return did === does ? "same" : does ? "gained" : "lost";
  }

  #judge(viewer: Viewer): Difference {
    const [gained, lost]: [string[], string[]] = [[], []];
    for (const groups of this.#groups.values()) {
      for (const { example, all, held } of groups.values()) {
        const change = this.changeOf(example, viewer);
        if (change === "gained") for (const namespace of all) gained.push(namespace);
        if (change === "lost") for (const namespace of held) lost.push(namespace);
      }
    }
    return gained.length + lost.length === 0 ? NONE : { gained, lost };
  }
}
