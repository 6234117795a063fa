/** The rules of shards (semantics.md, Shards), each in a small world without trouble of other kinds. */
import { describe, expect, test } from "vitest";
import { encodeRecord, SESSIONS } from "../../../src/control/leadership/records.ts";
import { GLOBAL_SCOPE } from "../../../src/control/leadership/scope.ts";
import type { ShardOrder } from "../../../src/control/shards/io-types.ts";
import { ShardMap } from "../../../src/control/shards/maps.ts";
import {
  decodeChange,
  decodeSet,
  historyKey,
  OWNERS,
  PLANS,
  SHARD_HISTORY,
  SHARD_SETS,
  type ShardSetRecord,
  type ShardSettings,
} from "../../../src/control/shards/records.ts";
import { type LabNode, LEASE_MS, type Transaction } from "../../fakes/leader-lab.ts";
import { type LabOwner, SETTINGS, ShardLab, ShardNode, VALID_MS } from "../../fakes/shard-lab.ts";

const ALL = Array.from({ length: SETTINGS.count }, (_, id) => id);

/** A node that is the controller, a set, and owners that have its shards. */
function world(names: readonly string[], settings: Partial<ShardSettings> = {}) {
  const lab = new ShardLab();
  const node = lab.shardNode("n1");
  node.apply(settings);
  const owners = names.map((name) => lab.owner(name, node));
  lab.pass(2 * LEASE_MS);
  const [a, b] = owners;
  if (a === undefined) throw new Error("a world has an owner");
  return { lab, node, owners, a, b: b ?? a };
}

/** All shards have exactly one owner, and the rows name it. */
function expectOwned(node: ShardNode, owners: readonly LabOwner[]): void {
  expect(owners.flatMap(({ acting }) => acting).toSorted((x, y) => x - y)).toEqual(ALL);
  for (const owner of owners) expect(owner.acting).toEqual(node.rowsOf(owner.instance));
}

function writes(prefix: string): (request: Transaction) => boolean {
  return ({ changes }) => changes.some(({ key }) => key.startsWith(prefix));
}

/** The requests of the controller that change rows. */
function changesOf({ sent }: LabNode): readonly Transaction[] {
  return sent.filter(writes("leaders/shard/"));
}

/** Lets time pass until a state is reached, in steps that are short compared with all deadlines. Calls `check` before each step. */
function passUntil(lab: ShardLab, isReached: () => boolean, check = () => {}): void {
  const endMs = lab.nowMs + 30_000;
  while (!isReached()) {
    check();
    lab.pass(100);
    if (lab.nowMs > endMs) throw new Error("the state was not reached");
  }
}

function head(lab: ShardLab): ShardSetRecord {
  const record = decodeSet(lab.store.valueOf(`${SHARD_SETS}orders`) ?? new Uint8Array());
  if (record === undefined) throw new Error("the set has no record");
  return record;
}

/** The changes of a shard, oldest first: `<status> <owner> → <next owner>: <reason>`. */
function historyOf(lab: ShardLab, id: number): readonly string[] {
  return lab.store.keys(SHARD_HISTORY).flatMap((key) => {
    const { rows = [] } = decodeChange(lab.store.valueOf(key) ?? new Uint8Array()) ?? {};
    return rows.filter((row) => row.id === id).map(({ after }) => `${after.status} ${after.owner} → ${after.next}`);
  });
}

describe("owners", () => {
  test("the shards of a new set are assigned a lease after its first owner has attached, so that all early owners get their share", () => {
    const lab = new ShardLab();
    const node = lab.shardNode("n1");
    node.apply();
    const a = lab.owner("a", node);
    lab.pass(LEASE_MS / 3);
    const b = lab.owner("b", node);
    lab.pass(LEASE_MS / 3);
    expect([a.acting, b.acting, a.waitsFor]).toEqual([[], [], ""]);
    lab.pass(LEASE_MS / 3 + 1);
    expectOwned(node, [a, b]);
    expect([a.acting.length, b.acting.length]).toEqual([6, 6]);
    lab.pass(20_000);
    expect([...a.log, ...b.log].length).toBe(SETTINGS.count);
  });

  test("the record lists a shard, on the version of its row, before the owner acts", () => {
    const { lab, node, a } = world(["a"]);
    const isListing = ({ changes }: Transaction) => changes.some(({ key }) => key === "owners/orders/a") && changes.length === 1;
    const listing = node.sent.filter(isListing).at(-1);
    expect(listing?.conditions.map(({ key }) => key)).toEqual(
      expect.arrayContaining(["sessions/n1/1-b1", "owners/orders/a", ...ALL.map((id) => `leaders/shard/orders/${id}`)]),
    );
    expect([...(lab.record("a")?.held ?? [])].toSorted((x, y) => x - y)).toEqual(ALL);
    expect(a.acting).toEqual(ALL);
  });

  test("an owner does not act while its record cannot be written", () => {
    const lab = new ShardLab();
    const node = lab.shardNode("n1");
    node.apply();
    const isListing = ({ changes }: Transaction) => new TextDecoder().decode(changes[0]?.value ?? new Uint8Array()).includes('"held":["0-');
    node.fateOf = (request) => (writes(OWNERS)(request) && isListing(request) ? "lost" : "done");
    const a = lab.owner("a", node);
    lab.pass(2 * LEASE_MS);
    expect([a.acting, node.rowsOf("a")]).toEqual([[], ALL]);
    node.fateOf = () => "done";
    lab.pass(LEASE_MS);
    expect(a.acting).toEqual(ALL);
  });

  test("an owner gets its shard as soon as its node, which was renewing its session, can write again", () => {
    const { lab, node, a } = world(["a"], { cooldownMs: 60_000 });
    const other = lab.shardNode("n2");
    const b = lab.owner("b", other);
    lab.pass(LEASE_MS / 3);
    other.fateOf = (request) => (writes(SESSIONS)(request) ? "held" : "done");
    while (!other.isHolding) lab.advance(50);
    a.end(true);
    lab.advance(LEASE_MS / 10);
    expect([node.rowsOf("b"), b.acting]).toEqual([ALL, []]);
    other.arrive();
    expect(b.acting).toEqual(ALL);
  });

  test("each change has the conditions of the set, the rows, the session and the lease of the controller", () => {
    const { node } = world(["a"]);
    expect(changesOf(node)[0]?.conditions.map(({ key }) => key)).toEqual([
      `leaders/${GLOBAL_SCOPE}`,
      "sessions/n1/1-b1",
      "shard-sets/orders",
      ...ALL.map((id) => `leaders/shard/orders/${id}`),
    ]);
  });

  test("a validity is at most 11/12 of a lease, and no longer than the session of the node", () => {
    const { lab, node, a } = world(["a"]);
    expect(a.validForMs).toBeLessThanOrEqual(VALID_MS);
    node.fateOf = () => "lost";
    lab.pass(2 * LEASE_MS);
    expect([a.acting, a.validForMs]).toEqual([[], 0]);
    expect(a.waitsFor).not.toBe("");
  });

  test("a second stream of an instance waits until the first one can no longer act", () => {
    const { lab, node, a } = world(["a"]);
    a.isSilent = true;
    const other = lab.owner("a", node);
    expect(other.waitsFor).toBe("an earlier stream of this instance, which can still act");
    lab.pass(LEASE_MS / 3);
    expect([a.acting, other.acting]).toEqual([ALL, []]);
    lab.pass(2 * LEASE_MS);
    expect([a.acting, other.acting]).toEqual([[], ALL]);
    expect(other.fences.get(0)?.[0]).toBeGreaterThan(a.fences.get(0)?.[0] ?? 0);
  });
});

describe("an owner ends", () => {
  test("if it has stopped, exactly its shards get other owners immediately, with greater fences", () => {
    const { lab, node, owners, a } = world(["a", "b", "c"]);
    const [lost, before] = [a.acting, node.map.rows];
    const atMs = lab.nowMs;
    a.end(true);
    lab.advance(LEASE_MS / 12);
    expectOwned(node, owners);
    expect(lab.nowMs - atMs).toBe(LEASE_MS / 12);
    const moved = node.map.rows.filter(({ owner, id }) => owner !== before[id]?.owner);
    expect(moved.map(({ id }) => id)).toEqual(lost);
    for (const { id, fence, term } of moved) {
      expect(fence.number).toBeGreaterThan(before[id]?.fence.number ?? 0);
      expect(term).toBe(2);
    }
  });

  test("if its stream broke, its shards wait until its last validity is over", () => {
    const { lab, node, owners, a, b } = world(["a", "b"]);
    a.end(false);
    lab.advance(VALID_MS - 1);
    expect(node.rowsOf("a")).toEqual(a.acting);
    b.send();
    lab.pass(LEASE_MS);
    expect(a.acting).toEqual([]);
    expectOwned(node, owners);
  });

  test("an owner that reports the end of its validity gets its shards back with greater fences, when it can no longer act", () => {
    const { lab, node, a } = world(["a", "b"]);
    const ids = node.rowsOf("a");
    const fencesOf = () => ids.map((id) => node.row(id).fence.number);
    const before = fencesOf();
    // The owner was paused: its validity is over earlier than the node knows.
    for (const id of ids) a.dropped(id);
    expect(fencesOf()).toEqual(before);
    expect(lab.record("a")?.held).toEqual(new Set(ids));
    lab.pass(2 * LEASE_MS);
    expect(node.rowsOf("a")).toEqual(ids);
    expect(a.acting).toEqual(ids);
    expect(fencesOf().every((number, i) => number > (before[i] ?? 0))).toBe(true);
    expect(fencesOf()).toEqual(ids.map((id) => a.shards.get(id)?.fence?.number));
  });

  test("if it is silent, its shards get other owners after a lease", () => {
    const { lab, node, a, b } = world(["a", "b"]);
    a.isSilent = true;
    lab.pass(LEASE_MS - 1);
    expect(node.rowsOf("a").length).toBe(6);
    lab.pass(LEASE_MS);
    expect([a.acting, b.acting]).toEqual([[], ALL]);
  });

  test("a record that is gone and comes back soon leaves its shards where they are, with new fences", () => {
    const { lab, node, a } = world(["a", "b"]);
    const [had, fence] = [a.acting, a.fences.get(a.acting[0] ?? 0)?.[0] ?? 0];
    a.end(true);
    a.attach();
    lab.pass(LEASE_MS);
    expect(node.rowsOf("a")).toEqual(had);
    expect(a.acting).toEqual(had);
    expect(a.fences.get(had[0] ?? 0)?.at(-1)).toBeGreaterThan(fence);
  });

  test("without another owner its shards have none, and the owners that attach within a lease share them", () => {
    const { lab, node, a } = world(["a"]);
    a.end(true);
    lab.pass(LEASE_MS);
    expect(node.map.rows.map(({ owner, reason }) => `${owner} ${reason}`)).toEqual(ALL.map(() => " no owner accepts the shard"));
    const b = lab.owner("b", node);
    lab.pass(LEASE_MS / 3);
    const c = lab.owner("c", node);
    lab.pass(LEASE_MS);
    expectOwned(node, [b, c]);
    expect([b.acting.length, c.acting.length]).toEqual([6, 6]);
  });
});

describe("a node ends", () => {
  /** Two owners on the node n2, one on n1, which is the controller. */
  function twoNodes() {
    const lab = new ShardLab();
    const n1 = lab.shardNode("n1");
    lab.advance(1);
    const n2 = lab.shardNode("n2");
    n1.apply();
    const [a, b, c] = [lab.owner("a", n2), lab.owner("b", n2), lab.owner("c", n1)];
    lab.pass(2 * LEASE_MS);
    expectOwned(n1, [a, b, c]);
    return { lab, n1, n2, a, b, c };
  }

  test("an owner that attaches to another node within a third of a lease gets its shards back, and others lose them", () => {
    const { lab, n1, n2, a, b, c } = twoNodes();
    const [ofA, ofB] = [n1.rowsOf("a"), n1.rowsOf("b")];
    n2.isCrashed = true;
    b.isSilent = true;
    a.attach(n1);
    expect(a.waitsFor).toMatch(/an earlier node of this instance/);
    lab.pass(3 * LEASE_MS);
    expect(a.acting).toEqual(expect.arrayContaining([...ofA]));
    expect(n1.row(ofA[0] ?? 0).reason).toBe("a attached again");
    expect(a.fences.get(ofA[0] ?? 0)?.length).toBe(2);
    expect(ofB.map((id) => n1.row(id).owner)).not.toContain("b");
    expectOwned(n1, [a, c]);
  });

  test("an owner that attaches again does not act under its earlier fences, even if the controller is late", () => {
    const { lab, n1, a } = twoNodes();
    const had = a.acting;
    n1.deafTo.add(OWNERS);
    a.end(true);
    a.attach();
    a.send();
    expect([a.waitsFor, a.acting, n1.rowsOf("a")]).toEqual(["", [], had]);
    n1.deafTo.clear();
    lab.report();
    expect(a.acting).toEqual(had);
    for (const id of had) expect(a.fences.get(id)?.[1]).toBeGreaterThan(a.fences.get(id)?.[0] ?? 0);
  });

  test("the next controller continues the hand-over from the rows", () => {
    const { lab, n1, n2, a, b, c } = twoNodes();
    c.attach(n2);
    lab.pass(2 * LEASE_MS);
    a.isPrompt = false;
    a.leave();
    const moving = n1.map.rows.filter(({ isDraining }) => isDraining).map(({ id }) => id);
    expect(moving.length).toBe(SETTINGS.maxParallelMoves);
    n1.isCrashed = true;
    a.isPrompt = true;
    for (const id of moving) a.dropped(id);
    lab.pass(3 * LEASE_MS);
    expect(n2.holds(GLOBAL_SCOPE)).toBe(true);
    expectOwned(n2, [b, c]);
  });

  test("a deposed controller changes nothing", () => {
    const { lab, n1, n2, a, b, c } = twoNodes();
    n1.deafTo.add("leaders/");
    n1.fateOf = (request) => (writes("leaders/shard/")(request) ? "held" : "done");
    c.end(true);
    expect(n1.holds(GLOBAL_SCOPE)).toBe(true);
    const { revision } = lab.store;
    lab.leader(GLOBAL_SCOPE);
    lab.store.put(`leaders/${GLOBAL_SCOPE}`, lab.store.valueOf(`leaders/${GLOBAL_SCOPE}`));
    n1.arrive();
    expect(lab.store.keys("leaders/shard/").filter((key) => lab.store.versionOf(key) > revision)).toEqual([]);
    expect([a, b].flatMap(({ acting }) => acting).length).toBe(n2.rowsOf("a").length + n2.rowsOf("b").length);
  });

  test("a node that stops extends no validity, and its owners get their shards back on another node", () => {
    const { lab, n1, n2, a, b, c } = twoNodes();
    const had = a.acting;
    n2.input({ kind: "stop" });
    a.send();
    expect([a.waitsFor, a.acting]).toEqual(["this node is stopping", had]);
    lab.pass(LEASE_MS / 3);
    for (const owner of [a, b]) owner.attach(n1);
    lab.pass(2 * LEASE_MS);
    expect(n2.stoppedCount).toBe(1);
    expectOwned(n1, [a, b, c]);
    expect(a.acting).toEqual(had);
  });

  test("with an embedded store, the next process waits for a lease before it replaces the records of the last one", () => {
    const lab = new ShardLab();
    const first = lab.shardNode("n1", { isOwnStore: true });
    first.apply();
    const a = lab.owner("a", first);
    lab.pass(2 * LEASE_MS);
    first.isCrashed = true;
    a.isSilent = true;
    const untilMs = a.untilMs;
    const next = lab.shardNode("n1", { isOwnStore: true, boot: "b2" });
    const b = lab.owner("b", next);
    passUntil(
      lab,
      () => lab.nowMs >= untilMs,
      () => expect(next.rowsOf("a")).toEqual(ALL),
    );
    lab.pass(2 * LEASE_MS);
    expect([b.acting, next.rowsOf("b")]).toEqual([ALL, ALL]);
  });
});

describe("hand-over", () => {
  /** The owner `a` has all shards, and then `b` attaches, which is asked to prepare two of them. */
  function joined(settings: Partial<ShardSettings> = {}) {
    const made = world(["a"], settings);
    const b = made.lab.owner("b", made.node);
    b.isPrompt = false;
    made.lab.pass(5000);
    const moving = made.node.map.rows.filter(({ next }) => next === "b").map(({ id }) => id);
    expect(moving.length).toBe(SETTINGS.maxParallelMoves);
    const [id = expect.fail("a shard moves")] = moving;
    return { ...made, b, moving, id };
  }

  test("the next owner prepares, the owner drains, and the next owner follows with a greater fence", () => {
    const { lab, node, a, b, id } = joined();
    expect([node.row(id).owner, a.acting, b.log.at(-1)]).toEqual(["a", ALL, expect.stringMatching(/^preparing /)]);
    a.isPrompt = false;
    b.prepared(id);
    expect([node.row(id).isDraining, a.log.at(-1), b.acting]).toEqual([true, `draining ${id}`, []]);
    lab.pass(LEASE_MS);
    expect(a.acting).toEqual(ALL);
    a.dropped(id);
    expect([node.row(id).owner, b.acting, a.acting.includes(id)]).toEqual(["b", [id], false]);
    expect(b.fences.get(id)?.[0]).toBeGreaterThan(a.fences.get(id)?.[0] ?? 0);
    expect(historyOf(lab, id).slice(-4)).toEqual(["active a → ", "active a → b", "draining a → b", "active b → "]);
    const change = changesOf(node).findLast(({ changes }) => changes.some(({ key }) => key.endsWith(`/orders/${id}`)));
    expect(change?.conditions.map(({ key }) => key)).toContain("owners/orders/a");
  });

  test("a change that the store has refused is followed by another one as soon as the reason is known", () => {
    const { lab, node, a, b } = world(["a", "b"]);
    a.isPrompt = false;
    a.leave();
    passUntil(lab, () => node.map.rows.filter(({ isDraining }) => isDraining).length === 2);
    const [first, second] = node.map.rows.filter(({ isDraining }) => isDraining);
    if (first === undefined || second === undefined) throw new Error("two shards must drain");
    node.fateOf = (request) => (writes("leaders/shard/")(request) ? "held" : "done");
    a.dropped(first.id);
    // This changes the record of the owner, which the held request expects to be the same.
    a.dropped(second.id);
    node.fateOf = () => "done";
    node.arrive();
    expect([first.id, second.id].map((id) => node.row(id).owner)).toEqual(["b", "b"]);
    expect(b.acting).toEqual(expect.arrayContaining([first.id, second.id]));
  });

  test("a late next owner does not get the shard: the owner keeps it under its fence", () => {
    const { lab, node, a, id } = joined();
    const { fence, sinceMs } = node.row(id);
    passUntil(lab, () => node.row(id).next === "");
    expect(lab.nowMs - sinceMs).toBeCloseTo(SETTINGS.prepareMs, -3);
    expect(node.row(id)).toMatchObject({ owner: "a", next: "", fence, reason: "b was not ready in time" });
    expect(a.acting).toEqual(ALL);
    expect(a.log.filter((line) => line.endsWith(` ${id}`))).toEqual([`owned ${id}`]);
  });

  test("a late owner loses the shard: the next owner follows when its validity is over", () => {
    const { lab, node, a, b, id } = joined();
    a.isPrompt = false;
    b.prepared(id);
    lab.pass(SETTINGS.drainMs - LEASE_MS / 3);
    expect([a.acting.includes(id), node.row(id).owner]).toEqual([true, "a"]);
    lab.advance(LEASE_MS / 3);
    expect([a.log.at(-1), node.row(id).owner]).toEqual([`lost ${id}`, "a"]);
    const { untilMs } = a;
    passUntil(lab, () => node.row(id).owner !== "a");
    expect(lab.nowMs).toBeGreaterThanOrEqual(untilMs);
    expect([node.row(id).owner, b.acting, a.acting.length]).toEqual(["b", [id], SETTINGS.count - 1]);
  });

  test("an owner that was not ready in time gets no shard within the cooldown, while there is another one", () => {
    const { lab, node, owners, a, b } = world(["a", "b", "c"], { cooldownMs: 60_000 });
    b.isPrompt = false;
    a.leave();
    lab.pass(2 * SETTINGS.prepareMs);
    expect([node.rowsOf("a"), node.map.rows.filter(({ next }) => next === "b")]).toEqual([[], []]);
    expectOwned(node, owners);
  });

  test("the owner keeps the shard if the next owner ends before it is ready", () => {
    const { lab, node, b, id } = joined();
    b.end(true);
    lab.pass(100);
    expect(node.row(id)).toMatchObject({ owner: "a", next: "", reason: "b ended before the hand-over" });
  });

  test("another owner gets the shard if the next owner ends while the owner drains", () => {
    const { lab, node, a, b, id } = joined();
    a.isPrompt = false;
    b.prepared(id);
    b.end(true);
    a.dropped(id);
    lab.pass(LEASE_MS);
    expect(node.row(id)).toMatchObject({ owner: "a", isDraining: false, term: 2 });
  });

  test("an owner that ends during its draining loses the shard to another owner", () => {
    const { lab, node, a, b, id } = joined();
    a.isPrompt = false;
    b.prepared(id);
    a.end(true);
    lab.advance(LEASE_MS / 12);
    expect([node.row(id).owner, b.acting]).toEqual(["b", ALL]);
  });

  test("moves that balance stop when no owner has more than its limit, and a shard waits for the cooldown", () => {
    const { lab, node, a } = world(["a"], { cooldownMs: 60_000 });
    const b = lab.owner("b", node);
    lab.pass(30_000);
    expect([a.acting.length, b.acting.length]).toEqual([SETTINGS.count, 0]);
    lab.pass(60_000);
    expect([a.acting.length, b.acting.length]).toEqual([7, 5]);
    const { epoch } = node.map;
    lab.pass(60_000);
    expect(node.map.epoch).toBe(epoch);
    expectOwned(node, [a, b]);
  });

  test("a set that requires approval moves nothing by itself", () => {
    const { lab, node, a } = world(["a"], { approval: "any" });
    lab.owner("b", node);
    lab.pass(30_000);
    expect(a.acting).toEqual(ALL);
  });

  test("an owner that leaves gives up its shards a few at a time, also within their cooldown", () => {
    const { lab, node, a, b } = world(["a", "b"], { cooldownMs: 60_000 });
    let most = 0;
    a.leave();
    for (let step = 0; step < 20; step++) {
      most = Math.max(most, node.map.rows.filter(({ next }) => next !== "").length);
      lab.pass(500);
    }
    expect([a.acting, b.acting]).toEqual([[], ALL]);
    expect(most).toBeLessThanOrEqual(SETTINGS.maxParallelMoves);
    expect(a.log.filter((line) => line.startsWith("lost"))).toEqual([]);
  });

  test("the last owner keeps its shards, even if it leaves", () => {
    const { lab, node, a } = world(["a"]);
    a.leave();
    lab.pass(10_000);
    expectOwned(node, [a]);
  });
});

describe("status of a shard", () => {
  test("a paused shard stays with its owner, which accepts no new work, and continues under the same fence", () => {
    const { lab, node, a } = world(["a", "b"]);
    const [id = expect.fail("a has a shard")] = a.acting;
    node.set(id, "paused");
    lab.pass(10_000);
    node.set(id, "active");
    expect(a.log.slice(-2)).toEqual([`paused ${id}`, `owned ${id}`]);
    expect(new Set(a.fences.get(id)).size).toBe(1);
    expect(node.refusals).toEqual([undefined, undefined, undefined]);
  });

  test("a disabled shard is drained, and has no owner until it is active again", () => {
    const { lab, node, a, owners } = world(["a", "b"]);
    const [id = expect.fail("a has a shard")] = a.acting;
    node.set(id, "disabled");
    expect(a.log.slice(-2)).toEqual([`draining ${id}`, `released ${id}`]);
    expect(node.row(id)).toMatchObject({ owner: "", session: "", mode: "disabled", isDraining: false, reason: "a test", ticket: "T-1" });
    lab.pass(10_000);
    expect(owners.flatMap(({ acting }) => acting)).not.toContain(id);
    node.set(id, "active");
    lab.pass(LEASE_MS);
    expectOwned(node, owners);
  });

  test("a hand-over of a shard that is disabled ends without a next owner", () => {
    const { lab, node, a } = world(["a"]);
    const b = lab.owner("b", node);
    b.isPrompt = false;
    lab.pass(5000);
    const { id } = node.map.rows.find(({ next }) => next === "b") ?? expect.fail("a shard moves");
    node.set(id, "disabled");
    expect(node.row(id)).toMatchObject({ owner: "", next: "", mode: "disabled" });
    expect(b.log.at(-1)).toBe(`released ${id}`);
    expect(a.acting).not.toContain(id);
  });
});

describe("orders", () => {
  test("a change has the next epoch, its reason and its ticket, and the checksum of the rows", () => {
    const { lab, node } = world(["a"]);
    const { epoch } = node.map;
    node.change({ kind: "setShard", id: 3, mode: undefined, weight: 2, hint: "eu/a" });
    expect(node.row(3)).toMatchObject({ weight: 2, hint: "eu/a", epoch: epoch + 1, ticket: "T-1", mode: "active", owner: "a" });
    expect([head(lab).epoch, head(lab).rowsEpoch]).toEqual([epoch + 1, epoch + 1]);
    const { checksum } = new ShardMap("orders", node.map.set, [...node.map.rows]);
    expect([head(lab).checksum, node.map.checksum]).toEqual([checksum, checksum]);
    const change = decodeChange(lab.store.valueOf(historyKey("orders", epoch + 1)) ?? new Uint8Array());
    expect(change).toMatchObject({ epoch: epoch + 1, actor: "ann", reason: "a test", ticket: "T-1", rows: [{ id: 3 }] });
  });

  test("the history keeps the newest changes", () => {
    const lab = new ShardLab();
    const node = lab.shardNode("n1", { historyCount: 3 });
    for (let count = 0; count < 5; count++) node.apply();
    expect(lab.store.keys(SHARD_HISTORY)).toEqual([3, 4, 5].map((epoch) => historyKey("orders", epoch)));
    expect([head(lab).epoch, head(lab).oldestEpoch]).toEqual([5, 3]);
  });

  const apply = (settings: Partial<ShardSettings>, rest: Partial<ShardOrder> = {}) => {
    return { kind: "apply", settings: { ...SETTINGS, ...settings }, ...rest } as const;
  };
  const setShard = { kind: "setShard", id: 12, mode: "paused", weight: undefined, hint: undefined } as const;
  test.each<[string, Parameters<ShardNode["change"]>[0], string, RegExp]>([
    ["another epoch", apply({}, { expectedEpoch: 7 }), "version_conflict", /^the set orders has the epoch \d+, not 7; read it again$/],
    ["another epoch of a shard", { ...setShard, expectedEpoch: 7 }, "version_conflict", /^the set orders has the epoch \d+, not 7/],
    ["another count", apply({ count: 13 }), "invalid_argument", /^settings.count: must stay 12 until the set is deleted$/],
    [
      "too many shards",
      apply({ count: 9000 }, { namespace: "last" }),
      "quota_exceeded",
      /^the other sets have 45012 shards; a cluster has at most 50000$/,
    ],
    ["a shard without a set", { ...setShard, namespace: "none" }, "not_found", /^the namespace none has no shards$/],
    ["an unknown shard", setShard, "not_found", /^orders has the shards 0 to 11, not 12$/],
  ])("%s is refused", (_, order, reason, message) => {
    const lab = new ShardLab();
    const node = lab.shardNode("n1");
    node.apply();
    const largeCount = reason === "quota_exceeded" ? 5 : 0;
    for (let set = 0; set < largeCount; set++) node.change(apply({ count: 9000 }, { namespace: `large${set}` }));
    node.refusals.length = 0;
    const { revision } = lab.store;
    node.change(order);
    expect(node.refusals.map((refusal) => refusal?.reason)).toEqual([reason]);
    expect(node.refusals[0]?.message).toMatch(message);
    expect(lab.store.revision).toBe(revision);
  });

  test("a set without owners can be deleted: all its records go but its epoch, from which another set continues", () => {
    const { lab, node, a } = world(["a"], { count: 100, approval: "any" });
    const b = lab.owner("b", node);
    passUntil(lab, () => lab.store.keys(PLANS).length > 0);
    node.change({ kind: "delete" });
    const message = "namespace: 2 instances of worker can own shards of it; stop them first";
    expect(node.refusals.at(-1)).toEqual({ reason: "invalid_argument", message });
    for (const owner of [a, b]) owner.end(true);
    lab.pass(LEASE_MS);
    const { epoch } = node.map;
    node.fateOf = (request) => (writes("leaders/shard/")(request) ? "held" : "done");
    node.change({ kind: "delete", expectedEpoch: epoch });
    expect([node.refusals.at(-1), node.shards.maps.map("orders")]).toEqual([undefined, undefined]);
    node.apply({ count: 7 });
    const removed = "the earlier shards of orders are being removed; retry later";
    expect(node.refusals.at(-1)).toEqual({ reason: "version_conflict", message: removed });
    node.fateOf = () => "done";
    node.arrive();
    lab.pass(LEASE_MS);
    for (const prefix of ["leaders/shard/", SHARD_HISTORY, PLANS, OWNERS]) expect(lab.store.keys(prefix)).toEqual([]);
    const { revision } = lab.store;
    lab.pass(LEASE_MS / 10);
    expect(lab.store.revision).toBe(revision);
    node.apply({ count: 7 });
    expect([node.map.epoch, node.map.rows.length, head(lab).oldestEpoch]).toEqual([epoch + 2, 7, epoch + 2]);
    a.attach();
    lab.pass(2 * LEASE_MS);
    expect(a.acting).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  test("an order is refused while the store has not answered, after a change at the same time, and after a lost answer", () => {
    const lab = new ShardLab();
    const node = lab.shardNode("n1");
    const fresh = new ShardNode(lab, "n2", {});
    fresh.deafTo.add(OWNERS);
    fresh.apply();
    fresh.input({ kind: "eligible", fault: "" });
    fresh.apply();
    const messages = ["not ready", "the control store has not answered yet"];
    expect(fresh.refusals).toEqual(messages.map((message) => ({ reason: "store_unavailable", message })));
    node.apply();
    node.fateOf = (request) => (writes(SHARD_SETS)(request) ? "held" : "done");
    node.change({ kind: "apply", settings: SETTINGS, expectedEpoch: 1 });
    lab.put(`${SHARD_SETS}orders`, new TextDecoder().decode(encodeRecord(head(lab))));
    node.arrive();
    node.fateOf = (request) => (writes(SHARD_SETS)(request) ? "unanswered" : "done");
    node.apply();
    expect(node.refusals.map((refusal) => refusal?.reason)).toEqual([undefined, "version_conflict", "store_unavailable"]);
  });

  test("an order for any epoch is made again after a change at the same time, at most for a lease", () => {
    const { lab, node } = world(["a"]);
    const { length } = node.refusals;
    node.fateOf = (request) => (writes(SHARD_SETS)(request) ? "held" : "done");
    node.change({ kind: "setShard", id: 1, mode: "paused", weight: undefined, hint: undefined });
    lab.put(`${SHARD_SETS}orders`, new TextDecoder().decode(encodeRecord(head(lab))));
    node.fateOf = () => "done";
    node.arrive();
    expect([node.refusals.slice(length), node.row(1).mode]).toEqual([[undefined], "paused"]);
    node.deafTo.add(SHARD_SETS);
    lab.put(`${SHARD_SETS}orders`, new TextDecoder().decode(encodeRecord(head(lab))));
    node.set(2, "paused");
    lab.pass(LEASE_MS);
    expect(node.refusals.slice(length + 1).map((refusal) => refusal?.reason)).toEqual(["version_conflict"]);
  });

  test("an order is answered when this node shows its change, or after a lease", () => {
    const lab = new ShardLab();
    const node = lab.shardNode("n1");
    node.deafTo.add(SHARD_SETS);
    node.apply();
    expect(node.refusals).toEqual([]);
    lab.advance(LEASE_MS);
    expect(node.refusals).toEqual([undefined]);
    node.deafTo.clear();
    node.report();
    node.apply();
    expect([node.refusals, node.map.epoch]).toEqual([[undefined, undefined], 2]);
  });
});
