/** What two nodes say to each other on one border link (docs/design/summaries.md, What crosses a border). */

import type { KeyText } from "../../catalog/record/record.ts";
import { TokenBucket } from "../../lib/buckets/token-bucket.ts";
import type { Time } from "../../lib/machine.ts";
import type { DigestFilter } from "../../summary/held/digests.ts";
import type { Taken } from "../../summary/held/options.ts";
import type { SummaryRefusal } from "../../summary/summary.ts";
import type { FabricOutput } from "../io-types.ts";
import type { ChannelNews, ChannelSession } from "../links/channel.ts";
import type { BorderFrame, Reach } from "../wire/messages.ts";
import { Standstills } from "./apart.ts";
import type { BorderPeer } from "./border.ts";
import { Comparable } from "./comparable.ts";
import { Comparing, type ComparingParts } from "./comparing.ts";
import { Inbox, type Item } from "./inbox.ts";
import { Outbox, type OutboxParts } from "./outbox.ts";
import { isMoreThan } from "./rules/reach.ts";
import { allWhenEmpty, type Filters } from "./rules/rules.ts";
import type { Terms } from "./terms.ts";

export interface SessionParts
  extends Pick<OutboxParts, "summaries" | "options" | "counts" | "priorityOf">,
    Pick<ComparingParts, "isYoung" | "staggerMs"> {
  readonly here: { readonly clusterId: string; readonly region: string };
  readonly filters: Filters;
  readonly terms: Terms;
  /** The sources that this region hears directly, so that the other side need not tell them; sorted. */
  readonly directSources: (peer: BorderPeer, time: Time) => readonly string[];
  /** Something came over the link that is to be judged when its turn has come. */
  readonly onCome: (session: BorderSession) => void;
  /** The other side told another export rule, or holds something else. */
  readonly onRules: (rules: Pick<RulesFrame, "exports" | "reach">) => void;
  readonly reaches: Reaches;
}

/** What this region holds, as neighbours are told it. */
export interface Reaches {
  /** Moves when it may have changed. */
  readonly reachRevision: number;
  reachTo(region: string, exports: readonly string[], time: Time): readonly Reach[];
}

type RulesFrame = Extract<BorderFrame, { kind: "borderRules" }>;

/** How far a link, or all links to one cluster, are behind. */
export interface BorderBacklog {
  readonly clusterId: string;
  readonly region: string;
  readonly lagMs: number;
  /** Summaries that wait to be sent. */
  readonly unsent: number;
  /** When the other side was last found to hold what this one exports, and this one what the other exports. Undefined: not since the link came up. */
  readonly exportedEqualMonoMs: number | undefined;
  readonly importedEqualMonoMs: number | undefined;
}

/** What a side tells of itself. */
type Own = Pick<RulesFrame, "directSources" | "reach">;

/** What is taken later may be news for all others, which then see that what is held has changed. */
const NO_NEWS: readonly ChannelNews[] = [];

export class BorderSession implements ChannelSession<BorderFrame> {
  /** No node waits for another region before it is ready. */
  readonly isCaughtUp = true;
  readonly clusterId: string;
  readonly terms: Terms;
  readonly #parts: SessionParts;
  readonly #peer: BorderPeer;
  readonly #via: { readonly cluster: string; readonly region: string };
  readonly #exports: readonly string[];
  readonly #outbox: Outbox;
  readonly #comparing: Comparing;
  readonly #comparable: Comparable;
  readonly #inbox = new Inbox();
  /** The sources that this region hears directly, and what it holds: as the other side was told, and as it is to be told. */
  #told: Own | undefined;
  #toTell: Own | undefined;
  #rulesMonoMs = 0;
  #reachRevision = -1;
  /** What is held of more regions or namespaces is told before what comes of it, and then compared. */
  readonly #early: TokenBucket;
  /** Looks at whether it is more. */
  readonly #looks: TokenBucket;
  /** The export rule that the other side told. */
  #theirs: readonly string[] | undefined;
  #theirReach: readonly Reach[] = [];
  /** The other side has told its rules. Before that it is sent nothing that they may exclude. */
  #isHeard = false;
  #direct: readonly string[] = [];
  /** What this node reads meanwhile of the link may have waited. */
  readonly #standstills: Standstills;
  /** One was so long that what waited meanwhile made sources seem older than they are. */
  #isLate = false;
  readonly #openMonoMs: number;
  #resumedCount: number;
  /** The same rules are to be told once more, which asks for all beacons and a comparison. */
  #isAsking = false;
  readonly #asked: TokenBucket;

  constructor(peer: BorderPeer, parts: SessionParts, time: Time) {
    const { summaries, options, counts, priorityOf, filters, isYoung, staggerMs, here, terms } = parts;
    const { batchIntervalMs, bytesPerSecond, exports } = peer.border;
    this.#parts = parts;
    this.#openMonoMs = time.monoMs;
    this.#standstills = new Standstills(options.heldUpMs);
    this.#resumedCount = summaries.resumedCount;
    this.#peer = peer;
    this.clusterId = peer.clusterId;
    this.terms = terms;
    this.#via = { cluster: peer.clusterId, region: peer.region };
    this.#exports = allWhenEmpty(exports);
    this.#early = new TokenBucket(options.moreReachBurst, options.moreReachEveryMs);
    this.#looks = new TokenBucket(options.reachLooksBurst, options.reachLooksEveryMs);
    this.#asked = new TokenBucket(options.askedBurst, options.askedEveryMs);
    const filter = filters.ofSettings(this.#exports, peer.region);
    const own = { summaries, options, counts, filter, via: this.#via, terms };
    const outbox = new Outbox({ ...own, batchIntervalMs, bytesPerSecond, priorityOf });
    this.#outbox = outbox;
    this.#comparing = new Comparing({ ...own, outbox, isYoung, staggerMs, ownCluster: here.clusterId }, time);
    this.#comparable = new Comparable({ ...own, outbox });
  }

  get region(): string {
    return this.#peer.region;
  }

  /** For how long the oldest summary has waited that is due on this link, or that the other side does not take. 0 when none is. */
  lagMs(time: Time): number {
    return Math.max(this.#outbox.lagMs(time), time.monoMs - (this.terms.given.refusedSinceMs ?? time.monoMs));
  }

  get isDropped(): boolean {
    return this.#outbox.isDropped;
  }

  /** All that was due at this time was handed over, as a comparison over this link showed. */
  handedMonoMs(time: Time): number | undefined {
    if (!this.#isHeard || this.#outbox.owedCount > 0 || this.terms.given.refusedSinceMs !== undefined) return undefined;
    return this.#comparing.handedMonoMs(time);
  }

  /** This node stood still for so long. What it reads next of this link may have waited as long, and that counts as age of beacons. */
  stoodStill(lagMs: number, time: Time): void {
    this.#standstills.add(lagMs, time);
    this.#comparing.stoodStill(lagMs, time);
    this.#isLate ||= this.#standstills.sumMs(time) >= this.#parts.options.heardMs;
  }

  /** The link is down. */
  close(): void {
    this.#useTheirs(undefined);
    this.#theirs = undefined;
  }

  /** What this link is behind with, for people. */
  backlog(time: Time): BorderBacklog {
    const [exportedEqualMonoMs, importedEqualMonoMs] = [this.#comparing.equalMonoMs, this.#comparable.equalMonoMs];
    const { clusterId, region } = this.#peer;
    return { clusterId, region, lagMs: this.lagMs(time), unsent: this.#outbox.waitingCount, exportedEqualMonoMs, importedEqualMonoMs };
  }

  next(time: Time): BorderFrame | undefined {
    this.#look(time);
    const own = this.#toTell;
    if (own !== undefined) {
      this.#told = own;
      this.#toTell = undefined;
      return { kind: "borderRules", exports: this.#exports, ...own };
    }
    if (this.#isAsking && this.#told !== undefined) {
      this.#isAsking = false;
      return { kind: "borderRules", exports: this.#exports, ...this.#told };
    }
    if (!this.#isHeard) return undefined;
    const urgent = this.#comparable.next(time) ?? (this.#comparing.isUrgent(time) ? this.#comparing.next(time) : undefined);
    return urgent ?? this.#outbox.batch(time) ?? this.#comparing.next(time);
  }

  hasWork(time: Time): boolean {
    this.#look(time);
    if (this.#toTell !== undefined || this.#isAsking) return true;
    return this.#isHeard && (this.#comparable.hasWork(time) || this.#outbox.hasBatch(time) || this.#comparing.hasWork(time));
  }

  tick(time: Time): void {
    this.#comparable.step();
    this.#comparing.step();
    this.#look(time);
  }

  nextDeadlineMs(): number {
    if (!this.#isHeard) return this.#rulesMonoMs;
    const own = Math.min(this.#outbox.nextDeadlineMs(), this.#comparing.nextDeadlineMs(), this.#comparable.nextDeadlineMs());
    return Math.min(own, this.#rulesMonoMs);
  }

  receive(frame: BorderFrame, time: Time, out: FabricOutput[]): readonly ChannelNews[] {
    switch (frame.kind) {
      case "borderRules":
        return this.#hear(frame, time);
      case "borderBatch":
        return this.#come(frame, time, out);
      case "borderDigest":
      case "borderHave":
        // Those that waited would take up all comparisons that the other side may cause. It is asked for a new one.
        if (frame.kind === "borderDigest" && !frame.isAnswer && this.#standstills.sumMs(time) >= this.#parts.options.heardMs)
          this.#parts.counts.ignored += 1;
        else if (this.#inbox.isEmpty) this.#compare(frame, time);
        else if (!this.#inbox.addComparison(frame)) this.#parts.counts.ignored += 1;
        if (this.#inbox.isCrowded) out.push({ kind: "rest", link: this.#peer.link, forMs: CROWDED_MS });
        return NO_NEWS;
    }
  }

  /** Whether something came that is not judged yet. */
  get isBehind(): boolean {
    return !this.#inbox.isEmpty;
  }

  /** Judges what came, as long as there is allowance. Returns whether announcements of keys were among it. */
  judge(allowance: TokenBucket, time: Time): boolean {
    let hasKeys = false;
    while (allowance.has(time.monoMs)) {
      const item = this.#inbox.take();
      if (item === undefined) break;
      allowance.take(time.monoMs, COST[item.what]);
      hasKeys ||= item.what === "key";
      this.#judge(item, time);
    }
    return hasKeys;
  }

  #look(time: Time): void {
    this.#lookAtRules(time);
    if (!this.#isHeard) return;
    this.#lookWhetherToAsk(time);
    this.#outbox.look(time);
    if (this.#outbox.isDropped) this.#comparing.hurry(time);
    if (this.#outbox.isResumed) this.#comparing.resumed(time);
    this.#outbox.isResumed = false;
    this.#comparing.look(time);
  }

  /** What this region hears directly and what it holds is told again when it is another: more of what it holds at once, and the rest after a while. */
  #lookAtRules(time: Time): void {
    const { reaches, options, directSources } = this.#parts;
    const isDue = time.monoMs >= this.#rulesMonoMs;
    if (!isDue && (this.#reachRevision === reaches.reachRevision || !this.#mayLook(time))) return;
    if (!isDue) this.#looks.take(time.monoMs);
    this.#reachRevision = reaches.reachRevision;
    const reach = reaches.reachTo(this.#peer.region, this.#exports, time);
    const isMore = this.#told !== undefined && isMoreThan(reach, this.#told.reach);
    if (!isDue && !isMore) return;
    this.#rulesMonoMs = time.monoMs + options.rulesIntervalMs;
    this.#lookAtTheirs(time);
    const own: Own = { directSources: directSources(this.#peer, time), reach };
    if (this.#told === undefined || JSON.stringify(own) !== JSON.stringify(this.#told)) this.#toTell = own;
    if (!isMore || !this.#early.has(time.monoMs)) return;
    this.#early.take(time.monoMs);
    // The other side refused what came of it before.
    this.#comparing.hurry(time);
  }

  /**
   * Beacons that waited while this node stood still seem older than they are, and what comes of a source that was dropped is refused. So the other side is asked
   * for both once more. A young link is told all anyway.
   */
  #lookWhetherToAsk(time: Time): void {
    const { summaries, options } = this.#parts;
    const isAwake = this.#isLate && this.#standstills.sumMs(time) < options.heardMs;
    if (time.monoMs < this.#openMonoMs + options.othersAfterMs) this.#resumedCount = summaries.resumedCount;
    if ((!isAwake && this.#resumedCount === summaries.resumedCount) || !this.#asked.has(time.monoMs)) return;
    this.#asked.take(time.monoMs);
    if (isAwake) this.#isLate = false;
    this.#resumedCount = summaries.resumedCount;
    this.#isAsking = true;
  }

  #mayLook({ monoMs }: Time): boolean {
    return this.#early.has(monoMs) && this.#looks.has(monoMs);
  }

  #hear({ exports, directSources, reach }: RulesFrame, time: Time): readonly ChannelNews[] {
    const { rules } = this.terms;
    if (!rules.has(time.monoMs)) return [{ kind: "badFrame", detail: "it tells its rules too often" }];
    rules.take(time.monoMs);
    const isOther = this.#theirs === undefined || !isSame(exports, this.#theirs);
    const isOtherReach = JSON.stringify(reach) !== JSON.stringify(this.#theirReach);
    if (isOther || isOtherReach) this.#parts.onRules({ exports, reach });
    if (!isOther && !isOtherReach && isSame(directSources, this.#direct)) this.#retell(time);
    this.#theirReach = reach;
    if (isOther) {
      this.#useTheirs(undefined);
      this.#theirs = exports;
      this.#lookAtTheirs(time);
    }
    const now = new Set(directSources);
    // What changed while they were heard elsewhere, and did not come, is found by a comparison.
    if (this.#direct.some((source) => !now.has(source))) this.#comparing.hurry(time);
    this.#direct = directSources;
    this.#outbox.setDirect(directSources, time);
    this.#isHeard = true;
    return NO_NEWS;
  }

  /** It told the same once more: what it read of beacons came late, or what came behind them was refused. */
  #retell({ monoMs }: Time): void {
    const { retold } = this.terms;
    if (!retold.has(monoMs)) return;
    retold.take(monoMs);
    this.#outbox.tellBeaconsAgain();
  }

  /** Uses the rule that the other side told last, as soon as that may be. Until then nothing of it is compared. */
  #lookAtTheirs(time: Time): void {
    if (this.#theirs === undefined || this.#comparable.filter !== undefined) return;
    this.#useTheirs(this.#parts.filters.obtain(this.#theirs, this.#parts.here.region, this.#peer.region, time));
  }

  #useTheirs(filter: DigestFilter | undefined): void {
    const before = this.#comparable.filter;
    this.#comparable.setFilter(filter);
    if (before !== undefined) this.#parts.filters.letGo(before);
  }

  #come(frame: Extract<BorderFrame, { kind: "borderBatch" }>, time: Time, out: FabricOutput[]): readonly ChannelNews[] {
    const count = frame.summaries.length + frame.beacons.length + frame.keys.length;
    const { reading } = this.terms;
    const overMs = reading.take(time.monoMs, count);
    // A shell that reads on all the same gives what was on its way by then, and no more.
    const isFlood = overMs > OVER_SECONDS * 1000;
    if (isFlood) {
      this.#parts.counts.flooded += count;
      reading.take(time.monoMs, -count);
    } else {
      this.#inbox.addBatch(frame, time.monoMs - this.#standstills.sumMs(time));
      this.#parts.onCome(this);
    }
    const forMs = Math.max(overMs, this.#inbox.isCrowded ? CROWDED_MS : 0);
    if (forMs > 0) out.push({ kind: "rest", link: this.#peer.link, forMs });
    return NO_NEWS;
  }

  #judge(item: Item, time: Time): void {
    const { summaries: held } = this.#parts;
    if (item.what === "comparison") return this.#compare(item.frame, time);
    const { sealed } = item;
    this.#outbox.came(sealed);
    switch (item.what) {
      case "key": {
        const why = held.announce(sealed, time);
        if (why !== undefined) this.#refused(why);
        return;
      }
      case "beacon":
        return this.#note(held.takeBeacon(sealed, this.#via, time, item.ageMs + time.monoMs - item.cameMonoMs), time);
      case "summary":
        return this.#note(held.take(sealed, this.#via, time), time);
    }
  }

  #note(taken: Taken, time: Time): void {
    if (taken.kind !== "refused") {
      this.#parts.counts[taken.kind] += 1;
      return;
    }
    this.#refused(taken.why);
    if (taken.olderThan !== undefined) this.#giveBack(taken.olderThan, time);
  }

  #refused(why: SummaryRefusal): void {
    const { refused } = this.#parts.counts;
    refused.set(why, (refused.get(why) ?? 0) + 1);
  }

  #compare(frame: Extract<BorderFrame, { kind: "borderDigest" | "borderHave" }>, time: Time): void {
    if (frame.kind === "borderDigest") {
      if (frame.isAnswer) this.#comparing.answered(frame, time);
      else this.#comparable.compare(frame, time);
    } else if (frame.isAnswer) this.#comparing.told(frame, time);
    else this.#comparable.asked(frame, time);
  }

  /** A cluster that says less than is known of it has lost what it said. It is shown its own word, so that it goes above it. */
  #giveBack(key: KeyText, time: Time): void {
    const { summaries, counts, options } = this.#parts;
    const { echoed } = this.terms;
    const held = summaries.find(key);
    if (held?.source !== this.#via.cluster) return;
    for (const [told, againMonoMs] of echoed) {
      if (againMonoMs > time.monoMs) break;
      echoed.delete(told);
    }
    if (echoed.has(key) || echoed.size >= options.maxEchoed) return;
    echoed.set(key, time.monoMs + options.echoEveryMs);
    counts.given += 1;
    this.#outbox.giveBack(held, time);
  }
}

/** Of what came, in summaries: an announcement has two signatures and a key to be parsed, and a beacon up to a hundred withdrawals. */
const COST = { summary: 1, beacon: 6, key: 4, comparison: 1 } as const;
/** What may come before a link rests: so many seconds' worth. */
const OVER_SECONDS = 5;
/** A link over which more came than is judged at once rests at least so long. Links look at their clocks four times a second. */
const CROWDED_MS = 1;

function isSame(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((text, n) => text === b[n]);
}
