/**
 * What neighbours no longer export to the clusters of this region, as their nodes tell each other, and so what of it ends here; and what this region tells its
 * neighbours that it holds (docs/design/summaries.md, Narrowed export rules). The rules are in `src/fabric/borders/rules/`; here they only meet what is held.
 */
import type { Neighbour } from "../../../fabric/borders/border.ts";
import { BORDER_FIXED } from "../../../fabric/borders/options.ts";
import { type Counting, countingOf, type HeardRules, type HeardSince } from "../../../fabric/borders/rules/heard-rules.ts";
import type { Support } from "../../../fabric/borders/rules/reach.ts";
import { RegionReach } from "../../../fabric/borders/rules/region-reach.ts";
import { RememberedRules } from "../../../fabric/borders/rules/remembered-rules.ts";
import { Supports } from "../../../fabric/borders/rules/supports.ts";
import { ToldRules } from "../../../fabric/borders/rules/told-rules.ts";
import type { HeardRule, MemberUpdate, Reach } from "../../../fabric/wire/messages.ts";
import type { Time } from "../../../lib/machine.ts";
import type { IsExported } from "../../../summary/held/keeping.ts";
import type { HeldSummaries } from "../../../summary/held/summaries.ts";

export interface PolicyWithdrawalParts {
  readonly held: Pick<HeldSummaries, "exportsChanged" | "lostAfterMs" | "otherRegions">;
  readonly clusterId: string;
  readonly region: string;
  readonly neighbours: readonly Neighbour[];
}

type RuleMember = Pick<MemberUpdate, "clusterId" | "heardRules">;

/** By then a node of some age has the links that it is to have. */
const SETTLED_MS = 60_000;
const NO_ROWS: readonly HeardRule[] = [];

export class PolicyWithdrawal {
  readonly #parts: PolicyWithdrawalParts;
  readonly #remembered: RememberedRules;
  readonly #reach: RegionReach;
  readonly #told = new ToldRules(BORDER_FIXED);
  readonly #supports = new Supports(BORDER_FIXED);
  #startMonoMs: number | undefined;
  #heard: HeardRules | undefined;
  /** Its revision when this node looked last. */
  #seenRevision = -1;
  #members: readonly RuleMember[] = [];
  /** What this node hears now, of each neighbour. */
  #now: readonly HeardRule[] = [];
  /** By cluster of the region. */
  #countings: ReadonlyMap<string, Counting> = new Map();

  constructor(parts: PolicyWithdrawalParts) {
    this.#parts = parts;
    this.#remembered = new RememberedRules(parts.held.lostAfterMs);
    this.#reach = new RegionReach(parts.region);
  }

  /** From now on this node has border links. */
  follow(heard: HeardRules): void {
    this.#heard = heard;
  }

  /** Looks at what this node and the other ones of the region heard. Returns whether others are to be told. */
  look(members: readonly RuleMember[], { monoMs }: Time): boolean {
    const { clusterId, held } = this.#parts;
    this.#startMonoMs ??= monoMs;
    this.#members = members;
    this.#survey(monoMs);
    const ofOthers = members.flatMap((member) => (member.clusterId === clusterId ? (member.heardRules ?? NO_ROWS) : NO_ROWS));
    const isToTell = this.#told.follow(this.#now, ofOthers, monoMs);
    const restricted = this.#supports.follow(this.#countings, held.otherRegions, this.#since(monoMs), monoMs);
    if (restricted !== undefined)
      held.exportsChanged(new Map(restricted.map(([cluster, support]) => [cluster, this.#passes(cluster, support)])));
    return isToTell;
  }

  /** As other nodes are told it. */
  get told(): readonly HeardRule[] {
    return this.#told.rows;
  }

  /** Moves when neighbours may have to be told something else. */
  get reachRevision(): number {
    return this.#reach.revision + (this.#heard?.revision ?? 0);
  }

  /** What a neighbour is told that this region holds. */
  reachTo(region: string, exports: readonly string[], { monoMs }: Time): readonly Reach[] {
    if (this.#seenRevision !== this.#heard?.revision) this.#survey(monoMs);
    return this.#reach.toldTo(region, exports);
  }

  #survey(monoMs: number): void {
    const { clusterId, neighbours } = this.#parts;
    this.#seenRevision = this.#heard?.revision ?? -1;
    this.#noteEnded(monoMs);
    this.#now = this.#heard?.list(neighbours, (neighbour) => this.#remembered.lastOf(clusterId, neighbour, monoMs)) ?? NO_ROWS;
    const byCluster = Map.groupBy([{ clusterId, heardRules: this.#now }, ...this.#members], (member) => member.clusterId);
    const countings = [...byCluster].map(([cluster, kin]) => {
      const told = kin.flatMap(({ heardRules = NO_ROWS }) => (heardRules.length > 0 ? [heardRules] : []));
      return [cluster, countingOf([...told, this.#remembered.follow(cluster, told.flat(), monoMs)])] as const;
    });
    // Clusters of which no node is left are forgotten as their neighbours are.
    for (const cluster of this.#remembered.clusters) if (!byCluster.has(cluster)) this.#remembered.follow(cluster, NO_ROWS, monoMs);
    this.#countings = new Map(countings);
    this.#reach.follow([...this.#countings.values()], this.#since(monoMs));
  }

  /** What was told on own links that are past. */
  #noteEnded(monoMs: number): void {
    const { clusterId } = this.#parts;
    const past = this.#heard?.takePast() ?? [];
    this.#supports.ended(clusterId, past);
    for (const { told, isClosed } of past) if (isClosed) this.#remembered.note(clusterId, [told], monoMs);
  }

  #since(monoMs: number): HeardSince {
    const ageMs = monoMs - (this.#startMonoMs ?? monoMs);
    return { isSettled: ageMs >= SETTLED_MS, isLost: ageMs >= this.#parts.held.lostAfterMs };
  }

  /** What a link of this node exports now counts at once, so that what comes with a wider rule is taken. */
  #passes(cluster: string, support: Support): IsExported {
    const heard = cluster === this.#parts.clusterId ? this.#heard : undefined;
    return (namespace, region) => support.covers(namespace, region) || heard?.passes(namespace, region) === true;
  }
}
