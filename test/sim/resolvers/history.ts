/**
 * The naive model of worlds with resolvers: who registered what, since when every node had it, and which policies there were. What resolvers answer is
 * compared with it, and with what a node said at the place of a bookmark.
 */
import type { Scope } from "../../../src/catalog/entry/scope.ts";
import type { KeyText } from "../../../src/catalog/record/record.ts";
import { type PortableCursor, withoutBarePlace } from "../../../src/catalog/watch/cursor.ts";
import type { Caller } from "../../../src/policy/identity/caller.ts";
import type { NamespaceRule, PolicySet } from "../../../src/policy/set/rules.ts";
import type { Policy } from "../../../src/policy/set/verdict.ts";
import type { VersionPlace } from "../../../src/policy/versions/version.ts";

/** What a client did with a key, in the order of the numbers. */
export interface Deed {
  readonly number: number;
  readonly key: KeyText;
  /** `lapse`: nobody renews its lease any more. */
  readonly kind: "put" | "end" | "lapse";
  readonly scope: Scope;
  /** The node at which it was done. */
  readonly node: number;
  /** Since when every node knew it, in true time. Undefined until then. */
  settledMs: number | undefined;
}

/** An entry as a node shows it to all who may see its namespace. */
export interface ShownEntry {
  readonly namespace: string;
  readonly line: string;
}

/** What a node showed at one place, without LOCAL entries, by key. */
export type Shown = ReadonlyMap<KeyText, ShownEntry>;

export class History {
  readonly #deeds = new Map<KeyText, Deed[]>();
  readonly #sets = new Map<string, PolicySet | undefined>();
  readonly #versions = new Map<string, Uint8Array>();
  /** By place, what nodes showed there. */
  readonly #places = new Map<string, Shown[]>();
  #count = 0;
  /** Namespaces of which some policy named owners: what they hide is not known here. */
  readonly #owned: NamespaceRule[] = [];

  /** To be called before it is asked for, because it may be done before the answer comes. */
  did(deed: Omit<Deed, "number" | "settledMs">): Deed {
    this.#count += 1;
    const done: Deed = { ...deed, number: this.#count, settledMs: undefined };
    const before = this.#deeds.get(deed.key);
    if (before === undefined) this.#deeds.set(deed.key, [done]);
    else before.push(done);
    return done;
  }

  get keys(): readonly KeyText[] {
    return [...this.#deeds.keys()];
  }

  deeds(key: KeyText): readonly Deed[] {
    return this.#deeds.get(key) ?? [];
  }

  last(key: KeyText): Deed | undefined {
    return this.#deeds.get(key)?.at(-1);
  }

  // ---- policies ----

  /** A node has this policy in force. */
  notePolicy({ epoch, set }: Policy): void {
    if (this.#sets.has(epoch)) return;
    this.#sets.set(epoch, set);
    for (const rule of set?.rules ?? []) if (rule.owners.length > 0) this.#owned.push(rule);
  }

  /** A node has this version, encoded. */
  noteVersion(place: VersionPlace, bytes: Uint8Array): void {
    this.#versions.set(nameOf(place), bytes);
  }

  /** The bytes of a version that some node had. */
  version(place: VersionPlace): Uint8Array | undefined {
    return this.#versions.get(nameOf(place));
  }

  /** Whether a caller may see a namespace under a policy, by its rules alone; while one policy follows another (`a>b`), under both. */
  maySee(epoch: string, caller: Pick<Caller, "cluster" | "tenant">, namespace: string): boolean {
    return epoch.split(">").every((each) => this.#maySee(each, caller, namespace));
  }

  #maySee(epoch: string, { cluster, tenant }: Pick<Caller, "cluster" | "tenant">, namespace: string): boolean {
    const rule = ruleOf(this.#sets.get(epoch)?.rules ?? [], namespace);
    if (rule === undefined) return true;
    const { visibility, visibilityTenants } = rule;
    return (
      (visibility.length === 0 && visibilityTenants.length === 0) || visibility.includes(cluster) || visibilityTenants.includes(tenant)
    );
  }

  /** Whether owners' rules may ever have hidden entries of it. */
  mayBeOwned(namespace: string): boolean {
    return ruleOf(this.#owned, namespace) !== undefined;
  }

  // ---- places ----

  /** A node gave a resolver this cursor when it showed this. */
  notePlace(cursor: PortableCursor, shown: Shown): void {
    const place = placeOf(cursor);
    const before = this.#places.get(place);
    if (before === undefined) this.#places.set(place, [shown]);
    else before.push(shown);
  }

  /** What nodes showed at the place of a cursor; none when no node ever was there. */
  shownAt(cursor: PortableCursor): readonly Shown[] {
    return this.#places.get(placeOf(cursor)) ?? [];
  }
}

/** The rule with the longest pattern. The simulator's rules have no `.*`, and what no rule names is allowed. */
function ruleOf(rules: readonly NamespaceRule[], namespace: string): NamespaceRule | undefined {
  const fitting = rules.filter(({ pattern }) => namespace === pattern || namespace.startsWith(`${pattern}.`));
  return fitting.toSorted((a, b) => b.pattern.length - a.pattern.length)[0];
}

function placeOf(cursor: PortableCursor): string {
  const { policyEpoch, local, origins } = withoutBarePlace(cursor);
  const texts = origins.map(({ nodeId, generation, seq, settled = seq, life }) => `${nodeId}/${generation} ${seq} ${settled} ${life}`);
  return [policyEpoch, local ?? "", ...texts.toSorted()].join("\n");
}

function nameOf({ number, hlc, nodeId, checksum }: VersionPlace): string {
  return `${number} ${hlc} ${nodeId} ${checksum}`;
}
