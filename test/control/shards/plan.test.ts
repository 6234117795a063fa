/** The rules of plans: few moves, within caps, and the same for any order of the input. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import {
  imbalanceOf,
  type Placement,
  type PlanInput,
  type PlanOwner,
  type PlanShard,
  place,
  planMoves,
  simulate,
} from "../../../src/control/shards/plan.ts";
import { STRATEGIES } from "../../../src/control/shards/records.ts";
import { runs } from "../../fakes/effort.ts";

const ALL = Number.POSITIVE_INFINITY;

function owner(instance: string, facts: Partial<PlanOwner> = {}): PlanOwner {
  return { instance, weight: 1, zone: "eu-1", region: "eu", slots: 0, isLeaving: false, isClosed: false, ...facts };
}

function shardsOf(count: number, factsOf: (id: number) => Partial<PlanShard> = () => ({})): readonly PlanShard[] {
  return Array.from({ length: count }, (_, id) => ({ id, weight: 1, hint: "", owner: "", mayMove: true, ...factsOf(id) }));
}

/** A set of 1,000 shards without owners, unless it says otherwise. */
function setOf(owners: readonly PlanOwner[], facts: Partial<PlanInput> = {}): PlanInput {
  return { namespace: "orders", strategy: "rendezvous", owners, shards: shardsOf(1000), ...facts };
}

/** The set after these placements. */
function after(input: PlanInput, placements: readonly Placement[]): PlanInput {
  const owners = new Map(placements.map(({ id, to }) => [id, to]));
  return { ...input, shards: input.shards.map((shard) => ({ ...shard, owner: owners.get(shard.id) ?? shard.owner })) };
}

/** The set after all its shards have owners. */
function placed(input: PlanInput): PlanInput {
  return after(input, place(input, ALL));
}

/** The loads of all owners, by instance. */
function loadsOf({ owners, shards }: PlanInput): Readonly<Record<string, number>> {
  const loads = new Map(owners.map(({ instance }) => [instance, 0]));
  for (const shard of shards) loads.set(shard.owner, (loads.get(shard.owner) ?? 0) + shard.weight);
  return Object.fromEntries(loads);
}

function countOf({ shards }: PlanInput, instance: string): number {
  return shards.filter((shard) => shard.owner === instance).length;
}

const instances = ["a", "b", "c", "d", "e", "f"];
const anyOwners = fc
  .tuple(
    fc.subarray(instances, { minLength: 1 }),
    fc.array(
      fc.record({
        weight: fc.constantFrom(1, 1, 0.3, 2, 4),
        zone: fc.constantFrom("eu-1", "eu-2", "us-1"),
        region: fc.constantFrom("eu", "us"),
        slots: fc.constantFrom(0, 0, 0, 3, 12),
        isLeaving: fc.constantFrom(false, false, true),
      }),
      { minLength: instances.length, maxLength: instances.length },
    ),
  )
  .map(([names, facts]) => names.map((instance, i) => ({ instance, ...facts[i] }) as PlanOwner));
const anyShard = fc.record({
  weight: fc.constantFrom(1, 1, 1, 2, 0.1, 9),
  hint: fc.constantFrom("", "eu/eu-1", "us"),
  owner: fc.constantFrom("", "ended", ...instances),
  mayMove: fc.constantFrom(true, true, false),
});
const anyInput: fc.Arbitrary<PlanInput> = fc.record({
  namespace: fc.constantFrom("orders", "payments"),
  strategy: fc.constantFrom(...STRATEGIES),
  owners: anyOwners,
  shards: fc.array(anyShard, { maxLength: 60 }).map((shards) => shards.map((shard, id) => ({ id, ...shard }))),
});
/** Sets whose shards all weigh the same and may move, and whose owners have room. */
const evenInput = anyInput.map(
  (input): PlanInput => ({
    ...input,
    owners: input.owners.map((each) => ({ ...each, slots: 0 })),
    shards: input.shards.map((shard) => ({ ...shard, weight: 3, mayMove: true })),
  }),
);

function fairCounts({ owners, shards }: PlanInput): ReadonlyMap<string, number> {
  const staying = owners.filter(({ isLeaving }) => !isLeaving);
  const weights = staying.reduce((sum, { weight }) => sum + weight, 0);
  return new Map(staying.map(({ instance, weight }) => [instance, (shards.length * weight) / weights]));
}

/** ceil(ratio × fair share), for sums that are not exact. */
function ceilOf(share: number): number {
  return Math.ceil(share - 1e-9);
}

test("a plan does not depend on the order of owners and shards", () => {
  const shuffled = anyInput.chain((input) =>
    fc.record({
      input: fc.constant(input),
      owners: fc.shuffledSubarray([...input.owners], { minLength: input.owners.length }),
      shards: fc.shuffledSubarray([...input.shards], { minLength: input.shards.length }),
      isForced: fc.boolean(),
    }),
  );
  fc.assert(
    fc.property(shuffled, ({ input, owners, shards, isForced }) => {
      const other = { ...input, owners, shards };
      expect(place(other, ALL)).toEqual(place(input, ALL));
      expect(planMoves(other, { isForced })).toEqual(planMoves(input, { isForced }));
      expect(simulate(other, { isForced }).moves).toEqual(simulate(input, { isForced }).moves);
    }),
  );
});

test("exactly the shards without a live owner that may move are placed, in the order of ids, and one after another as all together", () => {
  fc.assert(
    fc.property(anyInput, fc.integer({ min: 1, max: 7 }), (input, limit) => {
      const live = new Set(input.owners.map(({ instance }) => instance));
      const missing = input.shards.filter((shard) => shard.mayMove && !live.has(shard.owner));
      const placements = place(input, ALL);
      expect(placements.map(({ id, from }) => ({ id, from }))).toEqual(
        missing.slice(0, placements.length).map(({ id, owner: from }) => ({ id, from })),
      );
      const accepting = input.owners.filter(({ isLeaving }) => !isLeaving);
      for (const { to } of placements) expect(accepting.map(({ instance }) => instance)).toContain(to);
      const end = after(input, placements);
      const isFull = accepting.every(({ instance, slots }) => slots > 0 && countOf(end, instance) >= slots);
      if (!isFull) expect(placements.length).toBe(missing.length);

      let parts = input;
      for (let part = place(parts, limit); part.length > 0; part = place(parts, limit)) {
        expect(part.length).toBeLessThanOrEqual(limit);
        parts = after(parts, part);
      }
      expect(parts).toEqual(end);
    }),
    { numRuns: runs(400) },
  );
});

test("no owner gets a shard above its slots, or while it is leaving", () => {
  fc.assert(
    fc.property(anyInput, fc.boolean(), (input, isForced) => {
      const made = [...place(input, ALL), ...planMoves(input, { isForced })];
      for (const { instance, slots, isLeaving } of input.owners) {
        if (isLeaving) expect(made.some(({ to }) => to === instance)).toBe(false);
        for (const end of [placed(input), after(input, planMoves(input, { isForced }))])
          if (slots > 0) expect(countOf(end, instance)).toBeLessThanOrEqual(Math.max(slots, countOf(input, instance)));
      }
    }),
    { numRuns: runs(400) },
  );
});

test("a plan moves at most a tenth of the shards, each once, and only those that may move off owners that are leaving, or above their limit, or above their fair share while another one is far below it", () => {
  fc.assert(
    fc.property(evenInput, fc.boolean(), fc.infiniteStream(fc.boolean()), (even, isForced, mayMove) => {
      const input = { ...even, shards: even.shards.map((shard) => ({ ...shard, mayMove: mayMove.next().value === true })) };
      const moves = planMoves(input, { isForced });
      if (!isForced) expect(moves.length).toBeLessThanOrEqual(Math.ceil(input.shards.length / 10));
      expect(new Set(moves.map(({ id }) => id)).size).toBe(moves.length);
      const fair = fairCounts(input);
      let state: PlanInput = input;
      for (const move of moves) {
        expect(input.shards[move.id]).toMatchObject({ owner: move.from, mayMove: true });
        const fairOfFrom = fair.get(move.from);
        if (fairOfFrom === undefined) expect(move.reason).toBe("its owner gives up its shards");
        else if (move.reason === "its owner holds too much") expect(countOf(state, move.from)).toBeGreaterThan(ceilOf(1.1 * fairOfFrom));
        else {
          expect(move.reason).toBe(`${move.to} holds too little`);
          expect(countOf(state, move.from) - 1).toBeGreaterThanOrEqual(Math.floor(fairOfFrom + 1e-6));
          expect(countOf(state, move.to)).toBeLessThan(Math.floor(0.9 * (fair.get(move.to) ?? 0) + 1e-6));
        }
        expect(countOf(state, move.to)).toBeLessThan(ceilOf(fair.get(move.to) ?? 0));
        state = after(state, [move]);
      }
      const places = moves
        .map(({ reason }) => ["its owner gives up its shards", "its owner holds too much"].indexOf(reason))
        .map((at) => (at < 0 ? 2 : at));
      expect(places).toEqual(places.toSorted((a, b) => a - b));
    }),
    { numRuns: runs(400) },
  );
});

test("plans come to an end, after which every owner is within its limit and leaving owners have no shards", () => {
  fc.assert(
    fc.property(evenInput, fc.boolean(), (input, isForced) => {
      const { owners, moves, planCount, imbalanceAfter } = simulate(input, { isForced });
      const end = { ...input, shards: input.shards.map((shard) => ({ ...shard, owner: owners.get(shard.id) ?? "" })) };
      expect(planMoves(end, { isForced })).toEqual([]);
      expect(after(input, moves)).toEqual(end);
      const fair = fairCounts(input);
      expect(imbalanceAfter).toBe(imbalanceOf(end));
      if (fair.size === 0) expect(planCount).toBe(0);
      else expect(end.shards.every((shard) => fair.has(shard.owner))).toBe(true);
      for (const [instance, share] of fair) expect(countOf(end, instance)).toBeLessThanOrEqual(ceilOf(1.1 * share));
    }),
    { numRuns: runs(400) },
  );
});

test("plans come to an end for shards of any weight, of which some stay", () => {
  fc.assert(
    fc.property(anyInput, fc.boolean(), (input, isForced) => {
      const { moves, planCount } = simulate(input, { isForced });
      const end = after(input, moves);
      expect(place(end, ALL)).toEqual([]);
      expect(planMoves(end, { isForced })).toEqual([]);
      expect(planCount).toBeLessThanOrEqual(15);
    }),
    { numRuns: runs(400) },
  );
});

test.each(STRATEGIES)(
  "%s: of a lost owner exactly its shards move, and nothing else follows unless an owner has less than half of its share",
  (strategy) => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 20 }), fc.integer({ min: 1, max: 300 }), fc.nat(), (ownerCount, shardCount, at) => {
        const owners = Array.from({ length: ownerCount }, (_, i) => owner(`orders-${i}`, { weight: 1 + (i % 3) }));
        const before = placed(setOf(owners, { strategy, shards: shardsOf(shardCount) }));
        const lost = `orders-${at % ownerCount}`;
        const without = { ...before, owners: owners.filter(({ instance }) => instance !== lost) };
        const placements = place(without, ALL);
        expect(placements.map(({ id }) => id)).toEqual(before.shards.filter((shard) => shard.owner === lost).map(({ id }) => id));
        expect(placements.every(({ from, reason }) => from === lost && reason === "it had no owner")).toBe(true);
        const left = after(without, placements);
        for (const { to } of planMoves(left, { isForced: true }))
          expect(countOf(left, to)).toBeLessThan((fairCounts(left).get(to) ?? 0) / 2);
      }),
    );
  },
);

test("weights of 1 and 4 give 20 % and 80 % of the shards, over many namespaces", () => {
  for (let i = 0; i < runs(1000); i++) {
    const strategy = STRATEGIES[i % STRATEGIES.length] ?? "rendezvous";
    const { a = 0, b = 0 } = loadsOf(placed(setOf([owner("a"), owner("b", { weight: 4 })], { namespace: `namespace-${i}`, strategy })));
    expect(Math.abs(a / 1000 - 0.2), `namespace-${i}`).toBeLessThanOrEqual(0.02);
    expect(Math.abs(b / 1000 - 0.8), `namespace-${i}`).toBeLessThanOrEqual(0.02);
  }
});

test("a fair share is exact although sums of fractions are rounded", () => {
  // 30 × 0.3 / (0.3 + 0.6) is 10.000000000000002.
  const owners = [owner("a", { weight: 0.3 }), owner("b", { weight: 0.6 })];
  for (const namespace of ["orders", "payments", "carts", "users", "mails"])
    expect(loadsOf(placed(setOf(owners, { namespace, shards: shardsOf(30) })))).toEqual({ a: 10, b: 20 });
});

test.each(STRATEGIES)("%s: a fourth owner has its share after at most 3 plans, and receives all shards that move", (strategy) => {
  const three = placed(
    setOf(
      ["a", "b", "c"].map((instance) => owner(instance)),
      { strategy },
    ),
  );
  expect(Math.max(...Object.values(loadsOf(three)))).toBe(334);
  let state: PlanInput = { ...three, owners: [...three.owners, owner("d")] };
  const sizes: number[] = [];
  for (let moves = planMoves(state, { isForced: false }); moves.length > 0; moves = planMoves(state, { isForced: false })) {
    expect(new Set(moves.map(({ to }) => to))).toEqual(new Set(["d"]));
    sizes.push(moves.length);
    state = after(state, moves);
  }
  expect(sizes).toEqual([100, 75]);
  expect(loadsOf(state)["d"]).toBe(175);
  expect(Math.max(...Object.values(loadsOf(state)))).toBeLessThanOrEqual(275);
  const forced = planMoves({ ...three, owners: state.owners }, { isForced: true });
  expect(forced.length).toBe(175);
});

test.each([10, 20, 50])("the owner that joins %d equal owners gets nine tenths of its fair share", (count) => {
  const owners = Array.from({ length: count }, (_, i) => owner(`o${i}`));
  const { owners: end, moves } = simulate({ ...placed(setOf(owners)), owners: [...owners, owner("new")] }, { isForced: false });
  const share = Math.floor((0.9 * 1000) / (count + 1));
  expect([...end.values()].filter((name) => name === "new").length).toBe(share);
  expect(moves.length).toBe(share);
});

test("a forced plan moves at most 5,000 shards, so that its record can be read", () => {
  const owners = [owner("a", { isLeaving: true }), owner("b"), owner("c")];
  const input = setOf(owners, { shards: shardsOf(10_000, () => ({ owner: "a" })) });
  expect(planMoves(input, { isForced: true })).toHaveLength(5000);
});

test("an owner gives mostly shards that suit others better", () => {
  const owners = ["a", "b", "c"].map((instance) => owner(instance));
  const crowded = setOf(owners, { shards: shardsOf(300, () => ({ owner: "a" })) });
  const ideal = new Map(place(setOf(owners, { shards: shardsOf(300) }), ALL).map(({ id, to }) => [id, to]));
  const moves = planMoves(crowded, { isForced: true });
  expect(moves.length).toBe(190);
  // A third of them would suit it best if it chose at random: 63.
  expect(moves.filter(({ id }) => ideal.get(id) === "a").length).toBeLessThan(40);
});

test("the owner that exceeds its share most gives first", () => {
  const counts = { a: 200, b: 60, c: 30, d: 10 };
  const names = Object.entries(counts).flatMap(([name, count]) => Array.from({ length: count }, () => name));
  const crowded = setOf(
    Object.keys(counts).map((instance) => owner(instance)),
    { shards: shardsOf(300, (id) => ({ owner: names[id] ?? "" })) },
  );
  expect(new Set(planMoves(crowded, { isForced: false }).map(({ from }) => from))).toEqual(new Set(["a"]));
});

test("an owner with a small weight that exceeds its share most gives before one that has more shards", () => {
  const owners = [owner("a"), owner("b", { weight: 4 }), owner("c", { weight: 4 })];
  const input = setOf(owners, { shards: shardsOf(90, (id) => ({ owner: id < 30 ? "a" : "b" })) });
  expect(new Set(planMoves(input, { isForced: false }).map(({ from }) => from))).toEqual(new Set(["a"]));
});

test("an owner that comes and goes moves at most twice as many shards as it had", () => {
  const four = placed(setOf(["a", "b", "c", "d"].map((instance) => owner(instance))));
  const three = { ...four, owners: four.owners.slice(0, 3) };
  const lost = place(three, ALL);
  const back = simulate({ ...after(three, lost), owners: four.owners }, { isForced: false });
  expect(lost.length).toBe(250);
  expect(back.moves.length).toBe(175);
  expect(new Set(back.moves.map(({ to }) => to))).toEqual(new Set(["d"]));
});

test("an owner with slots gets no more shards than these, and the others share the rest", () => {
  const owners = [owner("a", { slots: 100 }), owner("b"), owner("c", { weight: 2 })];
  const full = placed(setOf(owners));
  expect(loadsOf(full)).toEqual({ a: 100, b: 300, c: 600 });
  expect(planMoves(full, { isForced: true })).toEqual([]);
});

test("shards stay without an owner when no slot is free, and get one when there is", () => {
  const owners = [owner("a", { slots: 3 }), owner("b", { slots: 4 })];
  const full = placed(setOf(owners, { shards: shardsOf(10) }));
  expect(loadsOf(full)).toEqual({ a: 3, b: 4, "": 3 });
  expect(place({ ...full, owners: [...owners, owner("c")] }, ALL)).toEqual(
    [7, 8, 9].map((id) => ({ id, from: "", to: "c", reason: "it had no owner" })),
  );
});

test("the shards of a leaving owner move before those of owners that hold too much, within the cap", () => {
  const owners = [owner("a"), owner("b"), owner("c", { isLeaving: true }), owner("d")];
  const input = setOf(owners, { shards: shardsOf(100, (id) => ({ owner: id < 80 ? "a" : id < 85 ? "b" : "c" })) });
  const first = planMoves(input, { isForced: false });
  expect(first.length).toBe(10);
  expect(first.every(({ from, reason }) => from === "c" && reason === "its owner gives up its shards")).toBe(true);
  const second = planMoves(after(input, first), { isForced: false });
  expect(second.map(({ from }) => from).join("")).toBe("cccccaaaaa");
  expect(countOf(after(input, planMoves(input, { isForced: true })), "c")).toBe(0);
});

test("shards that may not move stay with a leaving owner, and with one that holds too much", () => {
  const owners = [owner("a"), owner("b", { isLeaving: true }), owner("c")];
  const shards = shardsOf(60, (id) => ({ owner: id < 50 ? "a" : "b", mayMove: false }));
  expect(planMoves(setOf(owners, { shards }), { isForced: true })).toEqual([]);
});

test("when all owners are leaving, no shard moves and none is placed", () => {
  const owners = ["a", "b"].map((instance) => owner(instance, { isLeaving: true }));
  const input = setOf(owners, { shards: shardsOf(40, (id) => ({ owner: id < 30 ? "a" : "" })) });
  expect([...place(input, ALL), ...planMoves(input, { isForced: true })]).toEqual([]);
  expect(simulate(input, { isForced: true })).toMatchObject({ moves: [], movedRatio: 0, planCount: 0, imbalanceBefore: 0 });
});

test("without owners, or without shards, nothing is planned", () => {
  for (const input of [setOf([]), setOf([owner("a")], { shards: [] })])
    expect(simulate(input, { isForced: false })).toMatchObject({ moves: [], movedRatio: 0, planCount: 0, imbalanceAfter: 0 });
});

test("locality: shards are placed in the zone of their hint, then in its region, and do not move only because they are elsewhere", () => {
  const owners = [owner("eu1"), owner("eu2", { zone: "eu-2" }), owner("us1", { zone: "us-1", region: "us" })];
  const hinted = (id: number) => ({ hint: id < 50 ? "eu/eu-1" : "us" });
  const input = setOf(owners, { strategy: "locality", shards: shardsOf(90, hinted) });
  const { shards } = placed(input);
  const ownersOf = (from: number, to: number) => new Set(shards.slice(from, to).map((shard) => shard.owner));
  expect([ownersOf(0, 30), ownersOf(30, 50), ownersOf(50, 80)]).toEqual([new Set(["eu1"]), new Set(["eu2"]), new Set(["us1"])]);
  const elsewhere = setOf(owners, {
    strategy: "locality",
    shards: shardsOf(90, (id) => ({ ...hinted(id), owner: ["us1", "eu1", "eu2"][Math.floor(id / 30)] ?? "" })),
  });
  expect(planMoves(elsewhere, { isForced: true })).toEqual([]);
});

test("loads are sums of weights: an owner with a heavy shard gives its light shards to others, and the heavy one stays", () => {
  const owners = [owner("a"), owner("b")];
  const shards = shardsOf(100, (id) => ({ weight: id === 7 ? 60 : 1, owner: id < 60 ? "a" : "b" }));
  const { moves, planCount, imbalanceBefore, imbalanceAfter } = simulate(setOf(owners, { shards }), { isForced: false });
  expect(moves.every(({ id, from }) => from === "a" && id !== 7)).toBe(true);
  expect(planCount).toBe(4);
  expect(imbalanceBefore).toBeCloseTo(119 / 79.5);
  expect(imbalanceAfter).toBeLessThanOrEqual(1.11);
});

test("a simulation reports a shard that moves twice once", () => {
  // The light shards are placed first. The heavy one fits nowhere, so the owner that gets it gives its light ones away.
  const shards = shardsOf(9, (id) => ({ weight: id === 8 ? 40 : 1, owner: "ended" }));
  const input = setOf([owner("a"), owner("b")], { shards });
  const { moves, planCount } = simulate(input, { isForced: false });
  expect(moves.map(({ id, from }) => ({ id, from }))).toEqual(shards.map(({ id }) => ({ id, from: "ended" })));
  expect(new Set(moves.map(({ reason }) => reason))).toEqual(new Set(["it had no owner", "its owner holds too much"]));
  expect(planCount).toBe(3);
  expect(loadsOf(after(input, moves))).toEqual({ a: 40, b: 8 });
});

test("a simulation counts plans, and reports one move for each shard that has another owner in the end", () => {
  const three = placed(setOf(["a", "b", "c"].map((instance) => owner(instance))));
  const { owners, ...report } = simulate({ ...three, owners: [...three.owners, owner("d", { weight: 2 })] }, { isForced: false });
  expect([...owners.values()].filter((instance) => instance === "d").length).toBe(report.moves.length);
  expect(report.moves.map(({ id }) => id)).toEqual(report.moves.map(({ id }) => id).toSorted((a, b) => a - b));
  expect(report).toMatchObject({ movedRatio: 0.34, planCount: 4, imbalanceBefore: 1.67, imbalanceAfter: 1.1 });
});
