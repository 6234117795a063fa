/**
 * Withdraws imported summaries that neighbours no longer export to this region, based on the export rules that the nodes of the region send to each
 * other. Also computes the reachability that this region advertises to its neighbours (docs/design/summaries.md, Narrowed export rules). The rules
 * are in `src/fabric/borders/rules/`; this file applies them to the stored summaries.
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

/** Age at which a node is assumed to have all its links, in ms. */
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
  /** Revision of `#heard` when it was last read. */
  #seenRevision = -1;
  #members: readonly RuleMember[] = [];
  /** Rules that this node currently receives, per neighbour. */
  #now: readonly HeardRule[] = [];
  /** Support counts by cluster in the region. */
  #countings: ReadonlyMap<string, Counting> = new Map();

  constructor(parts: PolicyWithdrawalParts) {
    this.#parts = parts;
    this.#remembered = new RememberedRules(parts.held.lostAfterMs);
    this.#reach = new RegionReach(parts.region);
  }

  /** Must be called when this node has border links. */
  follow(heard: HeardRules): void {
    this.#heard = heard;
  }

  /** Evaluates the rules that this node and the other nodes of the region received. Returns whether other nodes must be informed. */
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

  /** Rules as they are advertised to other nodes. */
  get told(): readonly HeardRule[] {
    return this.#told.rows;
  }

  /** Changes when neighbours may need new reachability data. */
  get reachRevision(): number {
    return this.#reach.revision + (this.#heard?.revision ?? 0);
  }

  /** Returns this region's reachability that a neighbour receives. */
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
    // The rules of a cluster without a live node expire in the same way as the rules of a neighbour.
    for (const cluster of this.#remembered.clusters) if (!byCluster.has(cluster)) this.#remembered.follow(cluster, NO_ROWS, monoMs);
    this.#countings = new Map(countings);
    this.#reach.follow([...this.#countings.values()], this.#since(monoMs));
  }

  /** Records the rules that were received on own links that have ended. */
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

  /**
   * For this cluster, the current exports on this node's links are accepted too. Summaries that arrive with a wider rule are therefore accepted
   * immediately.
   */
  #passes(cluster: string, support: Support): IsExported {
    const heard = cluster === this.#parts.clusterId ? this.#heard : undefined;
    return (namespace, region) => support.covers(namespace, region) || heard?.passes(namespace, region) === true;
  }
}
