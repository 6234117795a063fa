/**
 * Plans: which shards get another owner, and which one. Strategies say which owner suits a shard; loads are bounded as in "Consistent Hashing with
 * Bounded Loads" (Mirrokni, Thorup and Zadimoghaddam, 2018). A plan depends only on its input, in any order.
 */
import type { ShardSettings } from "./records.ts";
import { type ScoredOwner, type Scorer, scorer } from "./strategies.ts";

export interface PlanOwner extends ScoredOwner {
  /** Maximum number of shards. 0: no limit. */
  readonly slots: number;
  /** Whether the owner accepts no more shards and gives its own shards up. */
  readonly isLeaving: boolean;
  /** Whether the owner accepts no more shards, but keeps those that it has. */
  readonly isClosed: boolean;
}

export interface PlanShard {
  readonly id: number;
  /** The load of the shard. */
  readonly weight: number;
  readonly hint: string;
  /** The owner, or the next owner during a hand-over. Empty if there is none. */
  readonly owner: string;
  /** Whether it may get another owner now. */
  readonly mayMove: boolean;
}

export interface PlanInput {
  readonly namespace: string;
  readonly strategy: ShardSettings["strategy"];
  /** The live owners. Shards of other owners have no owner. */
  readonly owners: readonly PlanOwner[];
  /** The shards that must have an owner. */
  readonly shards: readonly PlanShard[];
}

export interface Placement {
  readonly id: number;
  readonly from: string;
  readonly to: string;
  readonly reason: string;
}

export interface PlanOptions {
  /** Whether the plan may move more than 10 % of the shards. */
  readonly isForced: boolean;
}

/** An owner gives shards away while its load is above this many fair shares. */
const LIMIT_RATIO = 1.1;
/** An owner whose load is below the first number of fair shares, such as one that has just attached, gets shards up to the second number. */
const LEAST_RATIO = 0.5;
const FILLED_RATIO = 0.9;
/** A plan that is not forced moves at most one of this many shards. */
const SHARDS_PER_MOVE = 10;
/** Maximum number of moves of a forced plan, so that the record of the plan stays readable. */
const MAX_FORCED_MOVES = 5000;
/** Loads that differ by less are equal, because sums of fractions are rounded. */
const SLACK = 1e-9;

/**
 * Owners for the shards without one, in the order of ids, at most `limit` of them. The owner is the best one below its fair share. If there is none, it
 * is the owner with the smallest load relative to its weight. Shards stay without an owner while all owners are leaving or have no free slot.
 */
export function place(input: PlanInput, limit: number): readonly Placement[] {
  const loads = new Loads(input);
  const placed: Placement[] = [];
  for (const shard of loads.shards) {
    if (placed.length === limit) break;
    if (!shard.mayMove || loads.ownerOf(shard) !== undefined) continue;
    const to = loads.best(shard) ?? loads.leastLoaded();
    if (to === undefined) break;
    placed.push(loads.move(shard, to, "it had no owner"));
  }
  return placed;
}

/**
 * The moves that balance the set. All shards of leaving owners move first. Then each owner above its limit, which is ceil(1.1 × fair share by weight),
 * gives away the shards that suit it worst until it is within the limit, to owners below their fair share. At last, each owner below half of its
 * fair share gets the shards that suit it best from owners above their fair share. No move raises an owner above its limit, or lowers one below its fair
 * share, rounded down, so plans come to an end.
 */
export function planMoves(input: PlanInput, { isForced }: PlanOptions): readonly Placement[] {
  const loads = new Loads(input);
  const maxMoves = isForced ? MAX_FORCED_MOVES : Math.ceil(input.shards.length / SHARDS_PER_MOVE);
  const moves: Placement[] = [];
  for (const shard of loads.shards) {
    if (moves.length === maxMoves) return moves;
    if (!shard.mayMove || loads.ownerOf(shard)?.isLeaving !== true) continue;
    const to = loads.best(shard) ?? loads.leastLoaded();
    if (to === undefined) return moves;
    moves.push(loads.move(shard, to, "its owner gives up its shards"));
  }
  const surplus = loads.surplus();
  while (moves.length < maxMoves && loads.hasRoom) {
    const from = maxOf(surplus.keys(), (owner) => (isTooFull(owner) ? owner.load / owner.fair : undefined));
    if (from === undefined) break;
    const shard = surplus.get(from)?.pop();
    if (shard === undefined) surplus.delete(from);
    else {
      const to = loads.best(shard);
      if (to !== undefined) moves.push(loads.move(shard, to, "its owner holds too much"));
    }
  }
  const moved = new Set(moves.map(({ id }) => id));
  for (const to of loads.owners.filter((owner) => isBelow(owner, LEAST_RATIO)))
    for (const shard of loads.bestFor(to)) {
      const from = loads.ownerOf(shard);
      if (moves.length === maxMoves || !isBelow(to, FILLED_RATIO)) break;
      if (from !== undefined && !moved.has(shard.id) && canGive(from, loads.loadOf(shard)))
        moves.push(loads.move(shard, to, `${to.instance} holds too little`));
    }
  return moves;
}

/** The reports of owners: the number of items that wait or are being processed (Little 1961: rate × latency), by shard and by owner. */
export interface ReportedLoads {
  readonly shards: ReadonlyMap<number, number>;
  readonly owners: ReadonlyMap<string, number>;
  /** Owners that break a threshold. */
  readonly hot: ReadonlySet<string>;
}

/** A move by load must lower the larger load of both owners to this share of it. */
const GAIN_RATIO = 0.9;

/**
 * Moves from hot owners: each gives its hottest shard that fits to the owner with the smallest load (Slicer; Adya et al., OSDI 2016). The receiver stays
 * within its limit of `planMoves`, so that no plan moves the shard back.
 */
export function planLoadMoves(input: PlanInput, { shards, owners, hot }: ReportedLoads): readonly Placement[] {
  const loads = new Loads(input);
  const items = new Map(owners);
  const maxMoves = Math.ceil(input.shards.length / SHARDS_PER_MOVE);
  const moves: Placement[] = [];
  const hottest = loads.shards
    .filter(({ id, owner, mayMove }) => mayMove && hot.has(owner) && shards.has(id))
    .toSorted((a, b) => (shards.get(b.id) ?? 0) - (shards.get(a.id) ?? 0) || a.id - b.id);
  for (const shard of hottest) {
    if (moves.length === maxMoves) break;
    const [load, from] = [shards.get(shard.id) ?? 0, items.get(shard.owner) ?? 0];
    const to = loads.coldest(shard, ({ instance }) => (hot.has(instance) ? undefined : (items.get(instance) ?? 0)));
    if (to === undefined) continue;
    const after = (items.get(to.instance) ?? 0) + load;
    if (Math.max(from - load, after) > from * GAIN_RATIO) continue;
    items.set(shard.owner, from - load).set(to.instance, after);
    moves.push(loads.move(shard, to, "its owner is overloaded"));
  }
  return moves;
}

/** The largest load of an owner relative to its fair share by weight. Owners that are leaving have no fair share and do not count. */
export function imbalanceOf(input: PlanInput): number {
  return new Loads(input).imbalance;
}

export interface Simulation {
  /** The owners in the end, by shard. Empty if there is none. */
  readonly owners: ReadonlyMap<number, string>;
  /** One placement for each shard that has another owner in the end, in the order of ids, with the reason of its last move. */
  readonly moves: readonly Placement[];
  /** The share of shards that have another owner in the end. */
  readonly movedRatio: number;
  /** As `imbalanceOf` returns it. */
  readonly imbalanceBefore: number;
  readonly imbalanceAfter: number;
  /** Number of plans that moved shards. Placing shards without an owner needs no plan. */
  readonly planCount: number;
}

/** Places and moves shards until no shard moves. */
export function simulate(input: PlanInput, options: PlanOptions): Simulation {
  let [shards, planCount] = [input.shards, 0];
  const moves = new Map<number, Placement>();
  const apply = (made: readonly Placement[]) => {
    for (const { id, from, to, reason } of made) moves.set(id, { id, from: moves.get(id)?.from ?? from, to, reason });
    shards = shards.map((shard) => ({ ...shard, owner: moves.get(shard.id)?.to ?? shard.owner }));
    return made.length > 0;
  };
  apply(place(input, shards.length));
  while (planCount < shards.length && apply(planMoves({ ...input, shards }, options))) planCount++;
  return {
    owners: new Map(shards.map(({ id, owner }) => [id, owner])),
    moves: [...moves.values()].toSorted((a, b) => a.id - b.id),
    movedRatio: moves.size / Math.max(shards.length, 1),
    imbalanceBefore: imbalanceOf(input),
    imbalanceAfter: imbalanceOf({ ...input, shards }),
    planCount,
  };
}

interface LoadedOwner extends PlanOwner {
  readonly index: number;
  /** The share of all loads that this owner should have. 0 if it is leaving. */
  readonly fair: number;
  /** It accepts shards below this load, and gives them away above its limit. */
  readonly full: number;
  readonly limit: number;
  load: number;
  count: number;
}

/**
 * The loads of owners while a plan is made. A load is the sum of the weights of shards, and its unit is the average weight. Sums are computed in the
 * order of ids, because the order of additions can change them.
 */
class Loads {
  readonly shards: readonly PlanShard[];
  readonly #input: PlanInput;
  readonly #unit: number;
  readonly owners: readonly LoadedOwner[];
  readonly #byInstance: ReadonlyMap<string, LoadedOwner>;
  /** The owners that accept shards. */
  #open: readonly LoadedOwner[];
  #scorer: Scorer | undefined;

  constructor(input: PlanInput) {
    this.#input = input;
    this.shards = input.shards.toSorted((a, b) => a.id - b.id);
    this.#unit = this.shards.reduce((sum, { weight }) => sum + weight, 0) / this.shards.length;
    const owners = input.owners.toSorted((a, b) => (a.instance < b.instance ? -1 : 1));
    const weights = owners.reduce((sum, { weight, isLeaving }) => (isLeaving ? sum : sum + weight), 0);
    this.owners = owners.map((owner, index) => {
      const fair = owner.isLeaving ? 0 : (this.shards.length * owner.weight) / weights;
      return { ...owner, index, fair, full: Math.ceil(fair - SLACK), limit: Math.ceil(LIMIT_RATIO * fair - SLACK), load: 0, count: 0 };
    });
    this.#byInstance = new Map(this.owners.map((owner) => [owner.instance, owner]));
    for (const shard of this.shards) this.#add(this.ownerOf(shard), shard, 1);
    this.#open = this.owners.filter(isOpen);
  }

  ownerOf({ owner }: PlanShard): LoadedOwner | undefined {
    return this.#byInstance.get(owner);
  }

  get hasRoom(): boolean {
    return this.#open.length > 0;
  }

  get imbalance(): number {
    return this.owners.reduce((most, { load, fair }) => (fair > 0 ? Math.max(most, load / fair) : most), 0);
  }

  /** The owner that suits the shard best, among those that accept shards and stay within their limit with this one. */
  best({ id, hint, weight }: PlanShard): LoadedOwner | undefined {
    const score = this.#score;
    const most = SLACK - weight / this.#unit;
    return maxOf(this.#open, (owner) => (owner.load > owner.limit + most ? undefined : -score(id, hint, owner.index)));
  }

  /** The owner with the smallest value, among those that stay within their limit with this shard. */
  coldest({ weight }: PlanShard, valueOf: (owner: PlanOwner) => number | undefined): LoadedOwner | undefined {
    const most = SLACK - weight / this.#unit;
    return maxOf(this.owners, (owner) => {
      const value = owner.isLeaving || !hasFreeSlot(owner) || owner.load > owner.limit + most ? undefined : valueOf(owner);
      return value === undefined ? undefined : -value;
    });
  }

  /** The owner with the smallest load relative to its weight, among those with a free slot that are not leaving. */
  leastLoaded(): LoadedOwner | undefined {
    return maxOf(this.owners, (owner) => (owner.isLeaving || !hasFreeSlot(owner) ? undefined : -owner.load / owner.weight));
  }

  move(shard: PlanShard, to: LoadedOwner, reason: string): Placement {
    this.#add(this.ownerOf(shard), shard, -1);
    this.#add(to, shard, 1);
    if (!isOpen(to)) this.#open = this.#open.filter((owner) => owner !== to);
    return { id: shard.id, from: shard.owner, to: to.instance, reason };
  }

  /** The shards of each owner above its limit that may move. The last one suits its owner worst. */
  surplus(): Map<LoadedOwner, PlanShard[]> {
    const scored = new Map(this.owners.filter(isTooFull).map((owner) => [owner, [] as { shard: PlanShard; score: number }[]]));
    for (const shard of this.shards) {
      const owner = this.ownerOf(shard);
      if (owner !== undefined && shard.mayMove) scored.get(owner)?.push({ shard, score: this.#score(shard.id, shard.hint, owner.index) });
    }
    return new Map([...scored].map(([owner, list]) => [owner, list.toSorted((a, b) => a.score - b.score).map(({ shard }) => shard)]));
  }

  /** The shards of owners that can give one, beginning with the one that suits this owner best. */
  bestFor({ index }: LoadedOwner): readonly PlanShard[] {
    const given = this.shards.filter((shard) => {
      const owner = this.ownerOf(shard);
      return shard.mayMove && owner !== undefined && canGive(owner, this.loadOf(shard));
    });
    const scored = given.map((shard) => ({ shard, score: this.#score(shard.id, shard.hint, index) }));
    return scored.toSorted((a, b) => a.score - b.score || a.shard.id - b.shard.id).map(({ shard }) => shard);
  }

  /** The weight of a shard, compared with the average one. */
  loadOf({ weight }: PlanShard): number {
    return weight / this.#unit;
  }

  get #score(): Scorer {
    return (this.#scorer ??= scorer(this.#input.strategy, this.#input.namespace, this.owners));
  }

  #add(owner: LoadedOwner | undefined, { weight }: PlanShard, sign: 1 | -1): void {
    if (owner === undefined) return;
    owner.load += (sign * weight) / this.#unit;
    owner.count += sign;
  }
}

function isOpen(owner: LoadedOwner): boolean {
  return owner.load < owner.full - SLACK && hasFreeSlot(owner);
}

function isTooFull({ isLeaving, load, limit }: LoadedOwner): boolean {
  return !isLeaving && load > limit + SLACK;
}

/** Whether an owner accepts more shards and holds less than this many fair shares, rounded down. */
function isBelow(owner: LoadedOwner, ratio: number): boolean {
  return !owner.isLeaving && owner.load < Math.floor(ratio * owner.fair + SLACK) - SLACK && hasFreeSlot(owner);
}

/** Whether an owner keeps its fair share, rounded down, without a shard of this load. */
function canGive({ isLeaving, load, fair }: LoadedOwner, given: number): boolean {
  return !isLeaving && load - given >= Math.floor(fair + SLACK) - SLACK;
}

function hasFreeSlot({ isClosed, slots, count }: LoadedOwner): boolean {
  return !isClosed && (slots === 0 || count < slots);
}

/** The first owner with the largest value. Owners without a value do not count. */
function maxOf(owners: Iterable<LoadedOwner>, valueOf: (owner: LoadedOwner) => number | undefined): LoadedOwner | undefined {
  let [best, most]: [LoadedOwner | undefined, number] = [undefined, Number.NEGATIVE_INFINITY];
  for (const owner of owners) {
    const value = valueOf(owner);
    if (value === undefined || value <= most) continue;
    best = owner;
    most = value;
  }
  return best;
}
