/**
 * What neighbours no longer export to the clusters of this region, as their nodes tell each other, and so what of it ends here; and what this region tells its
 * neighbours that it holds (docs/design/summaries.md, Narrowed export rules).
 */
import type { Neighbour } from "../../../fabric/borders/border.ts";
import { Allowance } from "../../../fabric/borders/options.ts";
import {
  areRulesShort,
  type Counting,
  countingOf,
  type HeardRules,
  letThrough,
  prunedBy,
  ruleOf,
} from "../../../fabric/borders/rules/heard-rules.ts";
import { type Held, Support, through, toldTo, unknownThrough } from "../../../fabric/borders/rules/reach.ts";
import type { HeardRule, MemberUpdate, Reach } from "../../../fabric/wire/messages.ts";
import type { Time } from "../../../lib/machine.ts";
import type { HeldSummaries } from "../../../summary/held/summaries.ts";

export interface NarrowedParts {
  readonly held: Pick<HeldSummaries, "exportsChanged" | "lostAfterMs" | "otherRegions">;
  readonly clusterId: string;
  readonly region: string;
  readonly neighbours: readonly Neighbour[];
}

type Member = Pick<MemberUpdate, "clusterId" | "heardRules">;

/** Other nodes are told so many changes at once, and then one in this time. All that is held is looked at for them, so a rule that flaps must cost little. */
const BURST = 3;
const EVERY_MS = 20_000;
/** Of what neighbours hold of others more are told at once: where words go in a circle, each is told a few times with another distance before it ends. */
const REACH_BURST = 16;
/**
 * Neighbours of a cluster of which it is remembered what they told last: its nodes may make up others, and those that were told last stay. Also clusters
 * of which no node is left and it is remembered what was let through to them.
 */
const MAX_KNOWN = 64;
/** By then a node of some age has the links that it is to have. */
const SETTLED_MS = 60_000;
/** What one neighbour exports no more another one may still have, and the word of that may come a little later, over other nodes. */
const WAIT_MS = 3000;

interface Known {
  /** What was told, by which it is seen that the row is the same. */
  readonly text: string;
  readonly row: HeardRule;
  readonly untilMonoMs: number;
}

export class Narrowed {
  readonly #parts: NarrowedParts;
  /** By neighbour, so that none of them puts off what is told of another one. */
  readonly #tells = new Map<string, { readonly rule: Allowance; readonly reach: Allowance }>();
  readonly #uses = new Allowance(BURST, EVERY_MS);
  #startMonoMs: number | undefined;
  #heard: HeardRules | undefined;
  #members: readonly Member[] = [];
  #now: readonly HeardRule[] = [];
  #heardByOthers: readonly HeardRule[] = [];
  /** As other nodes are told it. */
  told: readonly HeardRule[] = [];
  /**
   * By cluster and neighbour what was told last by who had a link, and until when that counts though nobody of the cluster has one: the node that had it may be gone.
   * By then what the neighbour said is heard from others, or dropped.
   */
  readonly #known = new Map<string, Map<string, Known>>();
  #counting: ReadonlyMap<string, Counting> = new Map();
  /** What this region holds through its neighbours, and the text of what it was summed from. */
  #through: readonly Held[] = [];
  #throughText = "";
  #surveyed = -1;
  #reachRevision = 0;
  readonly #reaches = new Map<string, readonly Reach[]>();
  /** By cluster what is in use. What is not known any more stays in use: a neighbour that is merely away changes nothing. */
  #supports = new Map<string, Support>();
  /** By cluster what was let through when this was looked at last. */
  readonly #summed = new Map<string, { readonly text: string; readonly support: Support | undefined }>();
  /** Since when what is let through to a cluster is less than what is in use. */
  readonly #lessMonoMs = new Map<string, number>();
  #usedText = "[]";
  /** A rule that is past let in what is not let through any more. */
  #isLeftover = false;

  constructor(parts: NarrowedParts) {
    this.#parts = parts;
  }

  /** From now on this node has border links. */
  follow(heard: HeardRules): void {
    this.#heard = heard;
  }

  /** Looks at what this node and the other ones of the region heard. Returns whether others are to be told. */
  look(members: readonly Member[], time: Time): boolean {
    this.#startMonoMs ??= time.monoMs;
    this.#members = members;
    this.#survey(time);
    const isToTell = this.#tell(time);
    this.#use(time);
    return isToTell;
  }

  /** Moves when neighbours may have to be told something else. */
  get reachRevision(): number {
    return this.#reachRevision + (this.#heard?.revision ?? 0);
  }

  /** What a neighbour is told that this region holds. */
  reachTo(region: string, exports: readonly string[], time: Time): readonly Reach[] {
    if (this.#surveyed !== this.#heard?.revision) this.#survey(time);
    const key = JSON.stringify([region, exports]);
    const reach = this.#reaches.get(key) ?? toldTo(this.#through, this.#parts.region, region, exports);
    this.#reaches.set(key, reach);
    return reach;
  }

  #survey({ monoMs }: Time): void {
    const { clusterId, neighbours } = this.#parts;
    this.#surveyed = this.#heard?.revision ?? -1;
    this.#remember(monoMs);
    const known = this.#known.get(clusterId);
    const lastOf = (neighbour: string) => {
      const last = known?.get(neighbour);
      return last !== undefined && monoMs < last.untilMonoMs ? last.row : undefined;
    };
    const rows = this.#heard?.list(neighbours, lastOf) ?? [];
    const byCluster = Map.groupBy([{ clusterId, heardRules: rows }, ...this.#members], (member) => member.clusterId);
    const counting = [...byCluster].map(([cluster, kin]) => {
      const told = kin.flatMap(({ heardRules = [] }) => (heardRules.length > 0 ? [heardRules] : []));
      return [cluster, countingOf([...told, this.#remembered(cluster, told.flat(), monoMs)])] as const;
    });
    // Clusters of which no node is left are forgotten as their neighbours are.
    for (const cluster of this.#known.keys()) if (!byCluster.has(cluster)) this.#remembered(cluster, NO_ROWS, monoMs);
    this.#counting = new Map(counting);
    this.#now = rows;
    this.#heardByOthers = this.#members.flatMap((member) => (member.clusterId === clusterId ? (member.heardRules ?? []) : []));
    this.#lookThrough(monoMs);
  }

  /** Sums up what the region holds through the neighbours of all its clusters. */
  #lookThrough(monoMs: number): void {
    const all = [...this.#counting.values()];
    const linked = new Set(all.flatMap(({ rules }) => rules.flatMap(({ hasLink, region }) => (hasLink ? [region] : []))));
    const isUnknown = ({ region }: Neighbour) => !this.#isLost(monoMs) && !(this.#isSettled(monoMs) && linked.has(region));
    const unheard = all.flatMap((counting) => counting.unheard.filter(isUnknown));
    const rules = all.flatMap((counting) => counting.rules);
    const text = JSON.stringify([
      rules.map(({ region, exports, reached }) => [region, exports, reached]),
      unheard.map(({ region }) => region),
    ]);
    if (text === this.#throughText) return;
    this.#throughText = text;
    this.#through = [...rules.flatMap(through), ...unheard.flatMap(({ region }) => unknownThrough(region))];
    this.#reachRevision += 1;
    this.#reaches.clear();
  }

  #isSettled(monoMs: number): boolean {
    return monoMs >= (this.#startMonoMs ?? monoMs) + SETTLED_MS;
  }

  /** What a neighbour told that nobody has heard since the start is lost by now. */
  #isLost(monoMs: number): boolean {
    return monoMs >= (this.#startMonoMs ?? monoMs) + this.#parts.held.lostAfterMs;
  }

  #tell(time: Time): boolean {
    const before = new Map(this.told.map((row) => [row.clusterId, row]));
    const rules = this.#now.map((row) => this.#either(row, before.get(row.clusterId), "rule", time));
    // Others know what they are told, so that decides what of a reach they need not hear.
    const near = [...rules, ...this.#heardByOthers];
    const rows = prunedBy(near, rules).map((row) => this.#either(row, before.get(row.clusterId), "reach", time));
    // Some of before and some of now may be too long together.
    const told = areRulesShort(rows) ? rows : prunedBy(near, this.#now);
    if (isSame(told, this.told)) return false;
    this.told = told;
    return true;
  }

  /** Of a neighbour what is so now, or as long as that may not be told what was told before. */
  #either(now: HeardRule, before: HeardRule | undefined, what: "rule" | "reach", { monoMs }: Time): HeardRule {
    const isEqual =
      what === "rule" ? isSame(withReach(now, undefined), before && withReach(before, undefined)) : isSame(now.reached, before?.reached);
    if (isEqual) return now;
    const tells = this.#tells.get(now.clusterId) ?? { rule: new Allowance(BURST, EVERY_MS), reach: new Allowance(REACH_BURST, EVERY_MS) };
    this.#tells.set(now.clusterId, tells);
    if (tells[what].isLeft(monoMs)) {
      tells[what].take(monoMs);
      return now;
    }
    if (before === undefined) return now;
    return what === "rule" ? withReach(before, now.reached) : withReach(now, before.reached);
  }

  #use({ monoMs }: Time): void {
    const supports = new Map(this.#supports);
    for (const cluster of this.#summed.keys()) if (!this.#counting.has(cluster)) this.#summed.delete(cluster);
    for (const [cluster, counting] of this.#counting) {
      const support = this.#supportOf(cluster, counting, monoMs);
      if (support !== undefined) supports.set(cluster, this.#inTime(cluster, support, counting, monoMs));
    }
    // What their nodes took is taken over by others, or forgotten.
    const gone = [...supports.keys()].filter((cluster) => !this.#counting.has(cluster));
    for (const cluster of gone.slice(0, Math.max(0, gone.length - MAX_KNOWN))) {
      supports.delete(cluster);
      this.#lessMonoMs.delete(cluster);
    }
    const regions = this.#parts.held.otherRegions;
    const restricted = [...supports].filter(([, support]) => !support.isOpenTo(regions));
    const text = JSON.stringify(restricted.map(([cluster, support]) => [cluster, support.text]));
    const isToUse = text !== this.#usedText || this.#isLeftover;
    if (isToUse && !this.#uses.isLeft(monoMs)) return;
    this.#supports = supports;
    if (!isToUse) return;
    this.#uses.take(monoMs);
    this.#usedText = text;
    this.#isLeftover = false;
    this.#parts.held.exportsChanged(new Map(restricted.map(([cluster, support]) => [cluster, this.#passes(cluster, support)])));
  }

  /** Summed anew only when something else was heard: members are looked at twice a second, and each of them may tell much. */
  #supportOf(cluster: string, counting: Counting, monoMs: number): Support | undefined {
    const [isSettled, isLost] = [this.#isSettled(monoMs), this.#isLost(monoMs)];
    const text = JSON.stringify([isSettled, isLost, counting]);
    const last = this.#summed.get(cluster);
    if (last?.text === text) return last.support;
    const support = letThrough(counting, { isSettled, isLost });
    this.#summed.set(cluster, { text, support });
    return support;
  }

  /** What is less than what is in use waits a little where it is not one neighbour alone that decides, and till then both count. */
  #inTime(cluster: string, support: Support, { rules }: Counting, monoMs: number): Support {
    const before = this.#supports.get(cluster);
    const isOneWord = new Set(rules.map(({ region }) => region)).size === 1 && rules.every(({ reached }) => reached === undefined);
    if (before === undefined || support === before || support.includes(before) || (isOneWord && before.isOneWord)) {
      this.#lessMonoMs.delete(cluster);
      return support;
    }
    const sinceMonoMs = this.#lessMonoMs.get(cluster) ?? monoMs;
    this.#lessMonoMs.set(cluster, sinceMonoMs);
    if (monoMs >= sinceMonoMs + WAIT_MS) return support;
    return before.includes(support) ? before : new Support([...before.held, ...support.held]);
  }

  /** What was told on own links that are past. */
  #remember(monoMs: number): void {
    const { clusterId, held } = this.#parts;
    const past = this.#heard?.takePast() ?? [];
    const inUse = this.#supports.get(clusterId);
    if (inUse !== undefined) this.#isLeftover ||= past.some(({ told }) => !inUse.includes(new Support(through(told))));
    const untilMonoMs = monoMs + held.lostAfterMs;
    for (const { told, isClosed } of past) if (isClosed) this.#note(clusterId, [told], untilMonoMs);
  }

  #note(cluster: string, told: readonly Pick<HeardRule, "clusterId" | "region" | "exports" | "reached">[], untilMonoMs: number): void {
    const neighbour = told[0]?.clusterId ?? "";
    const its = this.#known.get(cluster) ?? new Map<string, Known>();
    this.#known.set(cluster, its);
    const text = JSON.stringify(told);
    const before = its.get(neighbour);
    // The one that was told last is last.
    its.delete(neighbour);
    its.set(neighbour, { text, row: before?.text === text ? before.row : ruleOf(told, { hasLink: false }), untilMonoMs });
  }

  /** What is remembered of the neighbours in these rows. */
  #remembered(cluster: string, rows: readonly HeardRule[], monoMs: number): readonly HeardRule[] {
    const byNeighbour = Map.groupBy(rows, ({ clusterId }) => clusterId);
    const untilMonoMs = monoMs + this.#parts.held.lostAfterMs;
    for (const its of byNeighbour.values()) {
      const linked = its.filter(({ hasLink }) => hasLink);
      if (linked.length > 0) this.#note(cluster, linked, untilMonoMs);
    }
    const known = this.#known.get(cluster) ?? new Map<string, Known>();
    for (const [neighbour, { untilMonoMs: endMonoMs }] of known) if (endMonoMs <= monoMs || known.size > MAX_KNOWN) known.delete(neighbour);
    if (known.size === 0) this.#known.delete(cluster);
    return [...known.values()].flatMap(({ row }) => (byNeighbour.has(row.clusterId) ? [row] : []));
  }

  /** What a link of this node exports now counts at once, so that what comes with a wider rule is taken. */
  #passes(cluster: string, support: Support): (namespace: string, region: string | undefined) => boolean {
    const heard = cluster === this.#parts.clusterId ? this.#heard : undefined;
    return (namespace, region) => support.covers(namespace, region) || heard?.passes(namespace, region) === true;
  }
}

const NO_ROWS: readonly HeardRule[] = [];

function withReach(row: HeardRule, reached: HeardRule["reached"]): HeardRule {
  const { reached: _, ...rule } = row;
  return reached === undefined ? rule : { ...rule, reached };
}

function isSame(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
