/**
 * What neighbours no longer export to the clusters of this region, as their nodes tell each other, and so what of it ends here (docs/design/summaries.md, Narrowed
 * export rules).
 */
import { type HeardRules, letThrough } from "../../../fabric/borders/heard-rules.ts";
import { Allowance } from "../../../fabric/borders/options.ts";
import { EVERYTHING, Patterns } from "../../../fabric/borders/patterns.ts";
import type { HeardRule, MemberUpdate } from "../../../fabric/wire/messages.ts";
import type { Time } from "../../../lib/machine.ts";
import type { HeldSummaries } from "../../../summary/held/summaries.ts";
import type { Neighbour } from "./lag.ts";

export interface NarrowedParts {
  readonly held: Pick<HeldSummaries, "exportsChanged">;
  readonly clusterId: string;
  readonly neighbours: readonly Neighbour[];
}

type Member = Pick<MemberUpdate, "clusterId" | "heardRules">;

/** Other nodes are told so many changes at once, and then one in this time. All that is held is looked at for them, so a rule that flaps must cost little. */
const BURST = 3;
const EVERY_MS = 20_000;
/** By then a node of some age has the links that it is to have. */
const SETTLED_MS = 60_000;

export class Narrowed {
  readonly #parts: NarrowedParts;
  readonly #tells = new Allowance(BURST, EVERY_MS);
  readonly #uses = new Allowance(BURST, EVERY_MS);
  #settledMonoMs: number | undefined;
  #heard: HeardRules | undefined;
  #now: readonly HeardRule[] = [];
  /** As other nodes are told it. */
  told: readonly HeardRule[] = [];
  /** By cluster the patterns in use. What is not known any more stays in use: a neighbour that is merely away changes nothing. */
  #patterns = new Map<string, readonly string[]>();

  constructor(parts: NarrowedParts) {
    this.#parts = parts;
  }

  /** From now on this node has border links. */
  follow(heard: HeardRules): void {
    this.#heard = heard;
  }

  /** Looks at what this node and the other ones of the region heard. Returns whether others are to be told. */
  look(members: readonly Member[], time: Time): boolean {
    const isToTell = this.#tell(time);
    this.#use(members, time);
    return isToTell;
  }

  #tell({ monoMs }: Time): boolean {
    const { neighbours } = this.#parts;
    this.#now = this.#heard?.list(neighbours) ?? [];
    if (isSame(this.#now, this.told) || !this.#tells.isLeft(monoMs)) return false;
    this.#tells.take(monoMs);
    this.told = this.#now;
    return true;
  }

  #use(members: readonly Member[], { monoMs }: Time): void {
    this.#settledMonoMs ??= monoMs + SETTLED_MS;
    const { clusterId, held } = this.#parts;
    const self = { clusterId, heardRules: this.#now };
    const byCluster = Map.groupBy([self, ...members], (member) => member.clusterId);
    const patterns = new Map(this.#patterns);
    for (const [cluster, kin] of byCluster) {
      const told = kin.flatMap(({ heardRules = [] }) => (heardRules.length > 0 ? [heardRules] : []));
      const through = letThrough(told, monoMs >= this.#settledMonoMs);
      if (through !== undefined) patterns.set(cluster, through);
    }
    if (isSame([...patterns], [...this.#patterns]) || !this.#uses.isLeft(monoMs)) return;
    this.#uses.take(monoMs);
    this.#patterns = patterns;
    const narrowed = [...patterns].filter(([, each]) => !each.includes(EVERYTHING));
    held.exportsChanged(new Map(narrowed.map(([cluster, each]) => [cluster, this.#passes(cluster, each)])));
  }

  /** What a link of this node exports now counts at once, so that what comes with a wider rule is taken. */
  #passes(cluster: string, patterns: readonly string[]): (namespace: string) => boolean {
    const heard = cluster === this.#parts.clusterId ? this.#heard : undefined;
    const told = new Patterns(patterns);
    return (namespace) => told.covers(namespace) || heard?.passes(namespace) === true;
  }
}

function isSame(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
