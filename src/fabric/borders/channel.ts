/** Summaries as a channel of border links: a session on each link, and what they share. */

import type { KeyText } from "../../catalog/record/record.ts";
import { TokenBucket } from "../../lib/buckets/token-bucket.ts";
import { assert } from "../../lib/errors.ts";
import { fnv64, hashFraction } from "../../lib/hash64.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { LinkId } from "../io-types.ts";
import type { LinkChannel, LinkGreeting, SharedNews } from "../links/channel.ts";
import type { BorderFrame } from "../wire/messages.ts";
import { Apart, type Handing } from "./apart.ts";
import type { BorderPeer } from "./border.ts";
import type { BorderSummaries } from "./options.ts";
import { type BorderCounts, type BorderOptions, newCounts } from "./options.ts";
import { HeardRules } from "./rules/heard-rules.ts";
import { Filters } from "./rules/rules.ts";
import { type BorderBacklog, BorderSession, type Reaches } from "./session.ts";
import { EndedTerms } from "./terms.ts";

export interface BorderChannelParts {
  readonly here: { readonly nodeId: string; readonly clusterId: string; readonly region: string };
  readonly summaries: BorderSummaries;
  /** Of a namespace, by the policy: higher ones are sent first. */
  readonly priorityOf: (namespace: string) => number;
  /** The regions with which this region has links, at whatever node. */
  readonly linkedRegions: () => ReadonlySet<string>;
  /** The export rules of the borders that the settings of this node name, by region. */
  readonly borderExports: () => ReadonlyMap<string, readonly (readonly string[])[]>;
  readonly reaches: Reaches;
}

/** A source of another region, of which a beacon came not long ago. */
interface Heard {
  readonly source: string;
  readonly region: string;
  readonly hops: number;
}

/** Most sources that are told in the rules. */
const MAX_DIRECT = 256;

export class BorderChannel implements LinkChannel<BorderFrame> {
  readonly kinds = ["borderRules", "borderBatch", "borderDigest", "borderHave"] as const;
  readonly speaks = "in turn";
  readonly shared: SharedNews;
  readonly counts: BorderCounts = newCounts();
  /** What neighbours export to this node. */
  readonly heard: HeardRules = new HeardRules();
  readonly #options: BorderOptions;
  readonly #parts: BorderChannelParts;
  readonly #filters: Filters;
  readonly #recent: Recent;
  readonly #apart: Apart;
  /** Whom this region hears, as it was seen last. */
  #around: { readonly linked: ReadonlySet<string>; readonly heard: readonly Heard[] } = { linked: new Set(), heard: [] };
  #aroundRevision = -1;
  #aroundMonoMs = Number.NEGATIVE_INFINITY;
  readonly #sessions = new Map<LinkId, BorderSession>();
  /** Over these links something came that is not judged yet. The one whose turn is next is first. */
  readonly #behind = new Set<BorderSession>();
  readonly #judging: TokenBucket;
  readonly #ended: EndedTerms;
  #judgeMonoMs = 0;
  /** Moves when announcements of keys came. */
  #keysOrder = 0;

  constructor(options: BorderOptions, parts: BorderChannelParts) {
    this.#options = options;
    this.#parts = parts;
    this.#filters = new Filters(parts.summaries, options);
    this.#recent = new Recent(parts.summaries, options);
    this.#apart = new Apart(parts.summaries);
    this.#ended = new EndedTerms(options);
    this.#judging = new TokenBucket(options.judgedAtOnce, options.judgeEveryMs);
    this.shared = new SummaryNews({
      order: () => parts.summaries.revision + this.#keysOrder,
      look: (time) => {
        this.#judge(time);
        this.#recent.tick(time);
        this.#lookAround(time);
      },
      dueMonoMs: () => {
        const aroundMonoMs = this.#aroundRevision === parts.summaries.revision ? NEVER : this.#aroundMonoMs;
        return this.#behind.size > 0 ? Math.min(this.#judgeMonoMs, aroundMonoMs) : aroundMonoMs;
      },
    });
  }

  /** For how long the oldest summary has waited that is due on some border and not taken by it, because a link is slow or there is none. 0 when none is. */
  lagMs(time: Time): number {
    this.#lookAround(time);
    return Math.max(this.#apart.lagMs(time), ...[...this.#sessions.values()].map((session) => session.lagMs(time)));
  }

  /** This node stood still for so long. On links that come up later nothing has waited. */
  stoodStill(lagMs: number, time: Time): void {
    this.#apart.stoodStill(lagMs, time);
    for (const session of this.#sessions.values()) session.stoodStill(lagMs, time);
  }

  /** What each link is behind with. */
  backlogs(time: Time): readonly BorderBacklog[] {
    return [...this.#sessions.values()].map((session) => session.backlog(time));
  }

  /** For how long something has been due in a region with which this one has no link. 0 when nothing is, or there is a link. */
  apartMs(region: string, time: Time): number {
    this.#lookAround(time);
    return this.#apart.lagMs(time, region);
  }

  open(link: LinkId, { hello, border }: LinkGreeting, time: Time): BorderSession {
    assert(border !== undefined, "a link that is not a border link opened the border channel", { link, nodeId: hello.nodeId });
    const { summaries, here, priorityOf } = this.#parts;
    const staggerMs = this.#options.maxStaggerMs * hashFraction(fnv64(`${here.nodeId}\0${hello.nodeId}`));
    const session = new BorderSession(
      border,
      {
        summaries,
        options: this.#options,
        counts: this.counts,
        priorityOf,
        here,
        filters: this.#filters,
        terms: this.#ended.take(border.clusterId, time),
        staggerMs,
        isYoung: (key) => this.#recent.has(key),
        directSources: (peer, at) => this.#directSources(peer, at),
        onCome: (behind) => this.#behind.add(behind),
        onRules: ({ exports, reach }) => {
          this.heard.heard(link, { clusterId: border.clusterId, region: border.region, exports, reached: reach });
        },
        reaches: this.#parts.reaches,
      },
      time,
    );
    this.#sessions.set(link, session);
    this.#aroundMonoMs = time.monoMs;
    return session;
  }

  closed(link: LinkId): void {
    const session = this.#sessions.get(link);
    this.heard.closed(link);
    if (session === undefined) return;
    session.close();
    this.#ended.keep(session.clusterId, session.terms);
    this.#behind.delete(session);
    this.#sessions.delete(link);
    const { region } = session;
    if (![...this.#sessions.values()].some((other) => other.region === region)) this.#apart.lose(region);
  }

  /** Judges a slice of what came, of one link after another, so that no frame and no number of links holds the loop. */
  #judge(time: Time): void {
    for (const session of this.#behind) {
      if (!this.#judging.has(time.monoMs)) break;
      this.#behind.delete(session);
      if (session.judge(this.#judging, time)) this.#keysOrder += 1;
      if (session.isBehind) this.#behind.add(session);
    }
    this.#judgeMonoMs = time.monoMs + this.#options.judgedAtOnce * this.#options.judgeEveryMs;
  }

  /**
   * The sources that a neighbour need not tell: those that this region hears from themselves, and of other regions than the neighbour's also those that it
   * hears from their region. All nodes of the region see that alike, by the beacons.
   */
  #directSources(peer: BorderPeer, time: Time): readonly string[] {
    this.#lookAround(time);
    const { linked, heard } = this.#around;
    const direct = heard.filter(
      ({ source, region, hops }) => source !== peer.clusterId && (hops === 1 || (region !== peer.region && linked.has(region))),
    );
    return direct.slice(0, MAX_DIRECT).map(({ source }) => source);
  }

  /** Looks at whom this region hears, once for all links. */
  #lookAround(time: Time): void {
    if (time.monoMs < this.#aroundMonoMs) return;
    const { summaries, here, linkedRegions, borderExports } = this.#parts;
    this.#aroundMonoMs = time.monoMs + this.#options.rulesIntervalMs / 2;
    this.#aroundRevision = summaries.revision;
    const linked = linkedRegions();
    const young = summaries.beacons(time).filter(({ ageMs }) => ageMs < this.#options.heardMs);
    const heard = young.flatMap(({ source, hops }) => {
      const region = summaries.regionOf(source);
      return region === undefined || region === here.region ? [] : [{ source, region, hops }];
    });
    this.#around = { linked, heard: heard.toSorted((a, b) => (a.source < b.source ? -1 : 1)) };
    const own = new Map<string, Handing[]>();
    for (const session of this.#sessions.values()) own.set(session.region, [...(own.get(session.region) ?? []), session]);
    this.#apart.look(borderExports(), linked, own, time);
  }
}

/** Keys whose version changed not long ago. */
class Recent {
  readonly #summaries: BorderSummaries;
  readonly #options: BorderOptions;
  #revision: number;
  #young = new Set<KeyText>();
  #old = new Set<KeyText>();
  #turnMonoMs = 0;

  constructor(summaries: BorderSummaries, options: BorderOptions) {
    this.#summaries = summaries;
    this.#options = options;
    this.#revision = summaries.revision;
  }

  has(key: KeyText): boolean {
    return this.#young.has(key) || this.#old.has(key);
  }

  tick({ monoMs }: Time): void {
    if (monoMs >= this.#turnMonoMs || this.#young.size >= MAX_RECENT) {
      this.#old = this.#young;
      this.#young = new Set();
      this.#turnMonoMs = monoMs + this.#options.youngMs;
    }
    if (this.#revision === this.#summaries.revision) return;
    this.#summaries.changesSince(this.#revision, ({ key }) => {
      this.#young.add(key);
      return this.#young.size < MAX_RECENT;
    });
    this.#revision = this.#summaries.revision;
  }
}

const MAX_RECENT = 10_000;

interface Around {
  order(): number;
  look(time: Time): void;
  dueMonoMs(): number;
}

/** Summaries changed: each link has something to look at. */
class SummaryNews implements SharedNews {
  readonly #around: Around;
  #seen = -1;

  constructor(around: Around) {
    this.#around = around;
  }

  get order(): number {
    return this.#around.order();
  }

  tick(time: Time): void {
    this.#around.look(time);
  }

  isDue(): boolean {
    return this.order !== this.#seen;
  }

  looked(): void {
    this.#seen = this.order;
  }

  nextDeadlineMs(linkCount: number): number {
    return linkCount > 0 && this.isDue() ? 0 : this.#around.dueMonoMs();
  }
}
