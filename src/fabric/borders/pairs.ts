/** What a node is to do for the links between its region and each other one: which it opens, and when, and which of its own it ends. */
import { backoffMs } from "../../lib/backoff.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { Rng } from "../../lib/rng.ts";
import type { LinkId } from "../io-types.ts";
import type { ClusterLocation } from "../links/foreign-peers.ts";
import { type Border, type BorderCount, type BorderLinksOptions, type BorderNode, type BorderPeer, MAX_PAIR_LINKS } from "./border.ts";
import { type Share, type Slot, shareOf, type Target } from "./slots.ts";

/** A link that is to be opened, and for which slot. */
export interface Wanted {
  readonly slot: number;
  readonly target: Target;
}

/** A link as it is seen here. */
interface Linked extends Pick<BorderPeer, "clusterId" | "link" | "nodeId" | "region"> {
  readonly state: "opening" | "greeting" | "up" | "ending";
  readonly wanted: Wanted | undefined;
}

interface Pair {
  readonly region: string;
  borders: readonly Border[];
  share: Share;
  /** Links of other nodes of this node's cluster, as they told. */
  kinCount: number;
  /** There are so few clusters that each is to have a link. */
  isEntitled: boolean;
  /** Links of the region's nodes, this one apart, as they told. What other clusters say leaves room for a link of this one. */
  othersCount: number;
  /** Since when there are fewer links than are wanted, or none of this cluster. */
  fewSinceMonoMs: number | undefined;
  /** Links of this node that are not wanted any more, and when they end. */
  readonly letGo: Map<LinkId, number>;
}

interface Attempts {
  /** Failed ones since a link to the address lasted. */
  count: number;
  openMonoMs: number;
}

/** The node that was met at an address. */
interface Met {
  readonly node: string;
  /** Later it may be another one. */
  readonly untilMonoMs: number;
}

export interface PairsParts {
  readonly here: ClusterLocation;
  readonly nodeId: string;
  readonly rng: Rng;
}

export interface Planned {
  readonly open: readonly Wanted[];
  readonly end: readonly LinkId[];
}

export class Pairs {
  readonly #options: BorderLinksOptions;
  readonly #parts: PairsParts;
  readonly #pairs = new Map<string, Pair>();
  /** By address. Only addresses of the settings are in it. */
  readonly #attempts = new Map<string, Attempts>();
  /** By cluster and address, of the settings too. */
  readonly #met = new Map<string, Met>();
  #nodes: readonly BorderNode[] = [];
  #dueMonoMs = 0;

  constructor(borders: readonly Border[], options: BorderLinksOptions, parts: PairsParts) {
    this.#options = options;
    this.#parts = parts;
    this.setBorders(borders);
  }

  /** When `plan` may say something new. */
  nextDeadlineMs(): number {
    return this.#pairs.size === 0 ? NEVER : this.#dueMonoMs;
  }

  /** Uses these borders from now on. Every address may be tried at once. */
  setBorders(borders: readonly Border[]): void {
    const byRegion = Map.groupBy(borders, ({ region }) => region);
    for (const region of this.#pairs.keys()) if (!byRegion.has(region)) this.#pairs.delete(region);
    for (const [region, own] of byRegion) {
      const pair = this.#pairs.get(region);
      if (pair !== undefined) pair.borders = own;
      else {
        const share = { wantedCount: 0, slots: [] };
        this.#pairs.set(region, {
          region,
          borders: own,
          share,
          kinCount: 0,
          isEntitled: false,
          othersCount: 0,
          fewSinceMonoMs: undefined,
          letGo: new Map(),
        });
      }
    }
    this.#attempts.clear();
    this.#met.clear();
    this.know(this.#nodes);
  }

  /** The other nodes of the region that have borders. */
  know(nodes: readonly BorderNode[]): void {
    this.#nodes = nodes;
    const { nodeId, here } = this.#parts;
    for (const pair of this.#pairs.values()) {
      const counts = nodes.flatMap((node) => node.borders.flatMap((each) => (each.region === pair.region ? [{ node, ...each }] : [])));
      const others = counts.map(({ node }) => node);
      const sum = (isKin: boolean) =>
        counts.reduce((total, { node, links }) => total + ((node.clusterId === here.clusterId) === isKin ? links : 0), 0);
      pair.kinCount = sum(true);
      const clusterCount = new Set([here.clusterId, ...others.map(({ clusterId }) => clusterId)]).size;
      pair.isEntitled = clusterCount <= MAX_PAIR_LINKS;
      pair.othersCount = pair.kinCount + Math.min(sum(false), pair.isEntitled ? MAX_PAIR_LINKS - 1 : Number.POSITIVE_INFINITY);
      pair.share = shareOf({ nodeId, clusterId: here.clusterId }, others, pair.region, pair.borders);
    }
    this.#dueMonoMs = 0;
  }

  /** Whether one more link of the two regions may be accepted. */
  hasRoom(region: string, rows: readonly Linked[]): boolean {
    const pair = this.#pairs.get(region);
    return pair !== undefined && totalOf(pair, rows) < MAX_PAIR_LINKS;
  }

  /** What this node tells others: the regions with which it has borders, and its links to each. */
  counts(rows: readonly Linked[]): readonly BorderCount[] {
    return [...this.#pairs.keys()].map((region) => ({ region, links: rows.filter((row) => isUp(row, region)).length }));
  }

  /** What is to be opened and ended now. What is opened counts in `rows` from then on. */
  plan(rows: readonly Linked[], time: Time): Planned {
    this.#dueMonoMs = NEVER;
    const [open, end]: [Wanted[], LinkId[]] = [[], []];
    for (const pair of this.#pairs.values()) {
      this.#planPair(
        pair,
        rows.filter(({ region }) => region === pair.region),
        time,
        { open, end },
      );
    }
    return { open, end };
  }

  /** No node was reached at the address, or it went away. */
  failed(address: string, time: Time): void {
    const attempts = this.#attempts.get(address) ?? { count: 0, openMonoMs: 0 };
    const { reconnectBaseMs: baseMs, reconnectMaxMs: maxMs } = this.#options;
    attempts.openMonoMs = time.monoMs + backoffMs(attempts.count, this.#parts.rng.next(), { baseMs, maxMs });
    attempts.count += 1;
    this.#attempts.set(address, attempts);
  }

  /** A node is there, and one of the two will have none of the other. */
  refused(address: string, time: Time): void {
    const waitMs = Math.round(this.#options.refusedRetryMs * (0.5 + this.#parts.rng.next()));
    this.#attempts.set(address, { count: this.#attempts.get(address)?.count ?? 0, openMonoMs: time.monoMs + waitMs });
  }

  /** A link to the address lasted for a while. */
  lasted(address: string): void {
    this.#attempts.delete(address);
  }

  /** The node was met at the address, or says that it is its own. An address that no border names is none that is tried. */
  met(clusterId: string, nodeId: string, address: string, { monoMs }: Time): void {
    for (const { borders } of this.#pairs.values())
      for (const border of borders)
        if (border.clusterId === clusterId && border.addresses.includes(address))
          this.#met.set(nodeKey(clusterId, address), { node: nodeKey(clusterId, nodeId), untilMonoMs: monoMs + this.#options.metForMs });
  }

  /** Whether the address is known to lead to a node. */
  leadsTo(clusterId: string, nodeId: string, address: string, { monoMs }: Time): boolean {
    const met = this.#met.get(nodeKey(clusterId, address));
    return met !== undefined && met.untilMonoMs > monoMs && met.node === nodeKey(clusterId, nodeId);
  }

  #planPair(pair: Pair, rows: readonly Linked[], time: Time, planned: { readonly open: Wanted[]; readonly end: LinkId[] }): void {
    const own = rows.filter(({ state }) => state !== "ending");
    const total = totalOf(pair, rows);
    const { wantedCount, slots } = pair.share;
    const kinTotal = pair.kinCount + total - pair.othersCount;
    const isFew = total < wantedCount || (kinTotal === 0 && pair.isEntitled);
    // No two nodes have two links. So where all nodes are linked that this one knows, it has as many as there can be.
    const linked = this.#takenBy(own.filter(({ state }) => state === "up"));
    const isMore = slots.length === 0 || slots.some(({ targets }) => targets.some((target) => !this.#isTaken(target, linked, time)));
    if (!isFew || !isMore) pair.fewSinceMonoMs = undefined;
    else pair.fewSinceMonoMs ??= time.monoMs;
    let room = MAX_PAIR_LINKS - pair.othersCount - own.length;
    const taken = this.#takenBy(own);
    for (const slot of slots) {
      const held = own.filter(({ wanted }) => wanted?.slot === slot.index);
      const target = room > 0 && this.#isTurn(pair, time) ? this.#targetFor(slot, held, taken, time) : undefined;
      if (target !== undefined) {
        planned.open.push({ slot: slot.index, target });
        this.#take(target, taken);
        room -= 1;
      }
    }
    const areTooMany = this.#parts.here.region > pair.region && total > wantedCount && (kinTotal > 1 || !pair.isEntitled);
    this.#planEnds(pair, own, areTooMany, time, planned.end);
  }

  /** The addresses and nodes to which some links lead. */
  #takenBy(rows: readonly Linked[]): Set<string> {
    const taken = new Set<string>();
    for (const { clusterId, nodeId, wanted } of rows) {
      if (nodeId !== "") taken.add(nodeKey(clusterId, nodeId));
      if (wanted !== undefined) this.#take(wanted.target, taken);
    }
    return taken;
  }

  #take({ address, border }: Target, taken: Set<string>): void {
    taken.add(address);
    const met = this.#met.get(nodeKey(border.clusterId, address));
    if (met !== undefined) taken.add(met.node);
  }

  /** A node that has a link, or is given one, needs no second one. */
  #isTaken({ address, border }: Target, taken: ReadonlySet<string>, { monoMs }: Time): boolean {
    if (taken.has(address)) return true;
    const met = this.#met.get(nodeKey(border.clusterId, address));
    if (met === undefined || met.untilMonoMs <= monoMs || !taken.has(met.node)) return false;
    this.#dueMonoMs = Math.min(this.#dueMonoMs, met.untilMonoMs);
    return true;
  }

  /** Whether this side may open links now. */
  #isTurn({ region, fewSinceMonoMs }: Pair, { monoMs }: Time): boolean {
    if (this.#parts.here.region < region) return true;
    if (fewSinceMonoMs === undefined) return false;
    const turnMonoMs = fewSinceMonoMs + this.#options.yieldMs;
    if (monoMs >= turnMonoMs) return true;
    this.#dueMonoMs = Math.min(this.#dueMonoMs, turnMonoMs);
    return false;
  }

  /** Where a link of the slot is to lead now. Undefined when there is one that cannot be better, one is being opened, or all addresses wait. */
  #targetFor({ targets }: Slot, held: readonly Linked[], taken: ReadonlySet<string>, time: Time): Target | undefined {
    if (held.some(({ state }) => state !== "up")) return undefined;
    const [first] = targets;
    const has = (clusterId: string | undefined) => held.some((row) => row.clusterId === clusterId);
    // One that leads to another cluster is good until there is one to the right cluster.
    const useful = has(first?.border.clusterId) ? [] : held.length > 0 ? targets.filter(({ border }) => border === first?.border) : targets;
    for (const target of useful) {
      if (this.#isTaken(target, taken, time)) continue;
      const { openMonoMs = 0 } = this.#attempts.get(target.address) ?? {};
      if (time.monoMs >= openMonoMs) return target;
      this.#dueMonoMs = Math.min(this.#dueMonoMs, openMonoMs);
    }
    return undefined;
  }

  /** Ends links that this node opened and that are of no slot any more, of which a better one is up, or that both sides opened, too many. */
  #planEnds(pair: Pair, own: readonly Linked[], areTooMany: boolean, { monoMs }: Time, end: LinkId[]): void {
    const { slots } = pair.share;
    const unwanted = new Map<LinkId, number>();
    for (const { link, wanted, state, clusterId } of own) {
      if (wanted === undefined || state !== "up") continue;
      const slot = slots.find(({ index }) => index === wanted.slot);
      const right = slot?.targets[0]?.border.clusterId;
      const isBettered =
        clusterId !== right && own.some((row) => row.state === "up" && row.wanted?.slot === wanted.slot && row.clusterId === right);
      if (isBettered) end.push(link);
      // One after the other, so that not all of those end of which one is too many.
      else if (slot === undefined || areTooMany) unwanted.set(link, slot === undefined ? 1 : wanted.slot + 1);
    }
    for (const link of pair.letGo.keys()) if (!unwanted.has(link)) pair.letGo.delete(link);
    for (const [link, turn] of unwanted) {
      const endMonoMs = pair.letGo.get(link) ?? monoMs + turn * this.#options.notWantedMs;
      pair.letGo.set(link, endMonoMs);
      if (monoMs >= endMonoMs) end.push(link);
      else this.#dueMonoMs = Math.min(this.#dueMonoMs, endMonoMs);
    }
  }
}

/** No id has a zero byte. */
function nodeKey(clusterId: string, nodeIdOrAddress: string): string {
  return `${clusterId}\0${nodeIdOrAddress}`;
}

function isUp({ state, region }: Linked, asked: string): boolean {
  return state === "up" && region === asked;
}

function totalOf({ region, othersCount }: Pair, rows: readonly Linked[]): number {
  return othersCount + rows.filter((row) => isUp(row, region)).length;
}
