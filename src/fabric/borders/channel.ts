/** Summaries as a channel of border links: a session on each link, and what they share. */
import type { KeyText } from "../../catalog/record/record.ts";
import { assert } from "../../lib/errors.ts";
import { fnv64, hashFraction } from "../../lib/hash64.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { LinkId } from "../io-types.ts";
import type { Greeted, LinkChannel, SharedNews } from "../links/channel.ts";
import type { BorderFrame } from "../wire/messages.ts";
import type { BorderPeer } from "./border.ts";
import { type BorderCounts, type BorderOptions, newCounts } from "./options.ts";
import type { BorderSummaries } from "./ports.ts";
import { Filters } from "./rules.ts";
import { BorderSession } from "./session.ts";

export interface BorderChannelParts {
  readonly here: { readonly nodeId: string; readonly clusterId: string; readonly region: string };
  readonly summaries: BorderSummaries;
  /** Of a namespace, by the policy: higher ones are sent first. */
  readonly priorityOf: (namespace: string) => number;
  /** The regions with which this region has links, at whatever node. */
  readonly linkedRegions: () => ReadonlySet<string>;
}

/** Most sources that are told in the rules. */
const MAX_DIRECT = 256;

export class BorderChannel implements LinkChannel<BorderFrame> {
  readonly kinds = ["borderRules", "borderBatch", "borderDigest", "borderHave"] as const;
  readonly capabilities = [];
  readonly speaks = "in turn";
  readonly shared: SharedNews;
  readonly counts: BorderCounts = newCounts();
  readonly #options: BorderOptions;
  readonly #parts: BorderChannelParts;
  readonly #filters: Filters;
  readonly #recent: Recent;
  readonly #sessions = new Map<LinkId, BorderSession>();

  constructor(options: BorderOptions, parts: BorderChannelParts) {
    this.#options = options;
    this.#parts = parts;
    this.#filters = new Filters((source) => parts.summaries.regionOf(source));
    this.#recent = new Recent(parts.summaries, options);
    this.shared = new SummaryNews(parts.summaries, this.#recent);
  }

  /** For how long the oldest summary has waited that is due on some link and not taken by it. 0 when none is. */
  lagMs(time: Time): number {
    return Math.max(0, ...[...this.#sessions.values()].map((session) => session.lagMs(time)));
  }

  open(link: LinkId, { hello, border }: Greeted, time: Time): BorderSession {
    assert(border !== undefined, "only border links have this channel", { link, nodeId: hello.nodeId });
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
        staggerMs,
        isYoung: (key) => this.#recent.has(key),
        directSources: (peer, at) => this.#directSources(peer, at),
      },
      time,
    );
    this.#sessions.set(link, session);
    return session;
  }

  closed(link: LinkId): void {
    this.#sessions.delete(link);
  }

  /**
   * The sources that a neighbour need not tell: those that this region hears from themselves, and of other regions than the neighbour's also those that it
   * hears from their region. All nodes of the region see that alike, by the beacons.
   */
  #directSources(peer: BorderPeer, time: Time): readonly string[] {
    const { summaries, here, linkedRegions } = this.#parts;
    const linked = linkedRegions();
    const direct: string[] = [];
    for (const beacon of summaries.beacons(time)) {
      const { source, ageMs, hops } = beacon;
      const region = summaries.regionOf(source);
      if (ageMs >= this.#options.heardMs || region === undefined || region === here.region || source === peer.clusterId) continue;
      if (hops === 1 || (region !== peer.region && linked.has(region))) direct.push(source);
    }
    return direct.toSorted().slice(0, MAX_DIRECT);
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

/** Summaries changed: each link has something to look at. */
class SummaryNews implements SharedNews {
  readonly #summaries: BorderSummaries;
  readonly #recent: Recent;
  #seen = -1;

  constructor(summaries: BorderSummaries, recent: Recent) {
    this.#summaries = summaries;
    this.#recent = recent;
  }

  get order(): number {
    return this.#summaries.revision;
  }

  tick(time: Time): void {
    this.#recent.tick(time);
  }

  isDue(): boolean {
    return this.order !== this.#seen;
  }

  looked(): void {
    this.#seen = this.order;
  }

  nextDeadlineMs(): number {
    return NEVER;
  }
}
