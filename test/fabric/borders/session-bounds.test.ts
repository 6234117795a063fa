/** What a neighbour can make a node do over border links is bounded, whatever it says: floods, lies, rules and comparisons without end. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test, vi } from "vitest";
import { Inbox } from "../../../src/fabric/borders/inbox.ts";
import type { FabricOutput } from "../../../src/fabric/io-types.ts";
import { TokenBucket } from "../../../src/lib/buckets/token-bucket.ts";
import { some } from "../../fakes/effort.ts";
import { BorderWorld, type WorldNode } from "./border-world.ts";
import { sealOf } from "./held-map.ts";
import { live, MINUTE, pair, regions, say, sayMany, shownAt } from "./small-worlds.ts";

test("a flood is not read: the link rests, what comes all the same is dropped unread, and digests bring it later", () => {
  const [world, a, b] = pair();
  live(world, 30_000);
  sayMany(world, a, 9000, 1);
  world.run(2000);
  expect(b.held.rows.size).toBeLessThan(4000);
  world.run(12_000);
  expect([shownAt(b).length, b.channel.counts.flooded]).toEqual([9000, 0]);
  const session = b.ends.get("a")?.session;
  const flood = Array.from({ length: 1000 }, (_, n) => sealOf({ source: "ca", version: 2, name: `s${n}` }));
  for (let n = 0; n < 20; n++)
    session?.receive({ kind: "borderBatch", summaries: flood, beacons: [], keys: [], beaconAgesMs: [] }, world.time, []);
  expect(b.channel.counts.flooded).toBeGreaterThan(12_000);
});

test("a frame of many seals is judged 32 at a time, of several links in turn, and the link is not read while more waits", () => {
  const [world, a] = regions("abc") as [BorderWorld, WorldNode];
  for (const far of world.nodes.slice(1)) world.link(a, far);
  world.run(1000);
  const taken = () => a.held.live().map(({ source }) => source);
  const out: FabricOutput[] = [];
  for (const far of ["b", "c"]) {
    const summaries = Array.from({ length: 600 }, (_, n) => sealOf({ source: `c${far}`, name: `s${n}`, version: 1 }));
    const batch = { kind: "borderBatch", summaries, beacons: [], keys: [], beaconAgesMs: [] } as const;
    a.ends.get(far)?.session.receive(batch, world.time, out);
  }
  expect([taken(), out.map(({ kind }) => kind)]).toEqual([[], ["rest", "rest"]]);
  let [seen, most] = [0, 0];
  world.onStep = () => {
    most = Math.max(most, taken().length - seen);
    seen = taken().length;
  };
  world.run(80);
  for (const source of ["cb", "cc"]) expect(taken().filter((each) => each === source).length).toBeGreaterThan(30);
  world.run(1000);
  expect([taken().length, most]).toEqual([1200, 32]);
});

test("a neighbour that lies in digests, asks without end, or refuses all that it is given costs a bounded number of bytes", () => {
  const [world, a, b] = pair();
  sayMany(world, a, 500, 1);
  live(world, 40_000);
  const sinceMs = world.time.monoMs;
  const [ofA, ofB] = [a.ends.get("b")?.session, b.ends.get("a")?.session];
  b.held.refuse = "unknown_key";
  for (let n = 0n; n < 3000n; n++) {
    // Other rules cause comparisons, too.
    if (n % 6n === 0n)
      ofA?.receive({ kind: "borderRules", exports: ["*"], directSources: n % 12n === 0n ? ["cx"] : [], reach: [] }, world.time, []);
    const buckets = Array.from({ length: 256 }, (_, bucket) => n * 256n + BigInt(bucket));
    ofA?.receive({ kind: "borderDigest", digest: n, count: 7, isAnswer: false, buckets: [] }, world.time, []);
    ofA?.receive({ kind: "borderDigest", digest: n, count: Number(n % 2n), isAnswer: true, buckets }, world.time, []);
    ofA?.receive(
      { kind: "borderHave", isAnswer: false, buckets: buckets.map((_, bucket) => bucket), hashes: [], versions: [] },
      world.time,
      [],
    );
    ofA?.receive(
      { kind: "borderHave", isAnswer: true, buckets: buckets.map((_, bucket) => bucket), hashes: [n], versions: [1] },
      world.time,
      [],
    );
    world.run(100);
  }
  expect(ofB).toBeDefined();
  const { answers, lists, given, ignored } = a.channel.counts;
  expect(answers).toBeLessThan(15);
  expect(lists).toBeLessThan(15);
  expect(given).toBeLessThanOrEqual(5 * 500);
  expect(ignored).toBeGreaterThan(1000);
  expect(world.bytesPerSecond(a, b, sinceMs)).toBeLessThan(4000);
  expect(world.sent.filter(({ from, frame }) => from === a && frame.kind === "borderHave" && !frame.isAnswer).length).toBeLessThan(14);
  const rules = { kind: "borderRules", exports: ["*"], directSources: [], reach: [] } as const;
  const news = Array.from({ length: 30 }, () => ofA?.receive(rules, world.time, []).map(({ kind }) => kind));
  expect([news[0], news.at(-1)]).toEqual([[], ["badFrame"]]);
});

test.each(
  some([
    { name: "of which some is refused for ever", isRelayed: false, never: 30 },
    { name: "of one source", isRelayed: false, never: 0 },
    { name: "that a relay gives", isRelayed: true, never: 0 },
  ]),
)(
  "what was refused for hours comes within a minute and a half after the reason went, and costs little meanwhile: $name",
  ({ isRelayed, never }) => {
    const [world, a, hub, b] = regions("ahb") as [BorderWorld, WorldNode, WorldNode, WorldNode];
    const giver = isRelayed ? hub : a;
    world.link(giver, b);
    if (isRelayed) world.link(a, hub);
    sayMany(world, a, 300, 1);
    b.held.refuse = "limit";
    live(world, 2 * MINUTE);
    const { given } = giver.channel.counts;
    live(world, 3 * 60 * MINUTE);
    // Some of it is tried with each comparison, and all of it less and less often.
    expect(giver.channel.counts.given - given).toBeLessThan(6 * 300 + 4 * 9 * 60);
    b.held.refuse = undefined;
    b.held.refuses = ({ name }) => Number(name?.slice(1)) < never;
    const sinceMs = world.time.monoMs;
    for (const { held } of world.nodes) held.beat(world.time.monoMs, world.time);
    while (shownAt(b).length < 300 - never && world.time.monoMs < sinceMs + 90_000) world.run(1000);
    expect(shownAt(b)).toHaveLength(300 - never);
  },
);

test("what a region holds is summed up twice a second for a link at most, however often a neighbour tells another reach", () => {
  const [world, a] = pair();
  let count = 0;
  world.reach.reachTo = () => {
    count += 1;
    return [];
  };
  world.onStep = () => (world.reach.reachRevision += 1);
  live(world, 30_000);
  expect(a.ends.size).toBe(1);
  // Two sides, each once a second and once more before its time.
  expect(count).toBeLessThanOrEqual(2 * (16 + 2 * 31));
  world.onStep = () => {};
  live(world, 5000);
  const quiet = count;
  world.reach.reachRevision += 1;
  world.run(100);
  expect(count).toBe(quiet + 2);
});

test("a neighbour that tells other rules without end causes few sums, and those that no link uses are let go", () => {
  const [world, a, b] = pair();
  sayMany(world, a, 20, 1);
  live(world, 5000);
  expect([a.held.summed.size, a.held.summedCount]).toEqual([2, 2]);
  const session = () => a.ends.get("b")?.session;
  const tell = (exports: readonly string[]) => {
    session()?.receive({ kind: "borderRules", exports, directSources: [], reach: [] }, world.time, []);
    session()?.receive({ kind: "borderDigest", digest: 1n, count: 1, isAnswer: false, buckets: [] }, world.time, []);
  };
  for (let n = 0; n < 120; n++) {
    tell([`made-up-${n}`]);
    world.run(500);
    expect(a.held.summed.size).toBeLessThanOrEqual(2);
    // Another link does not make more of them.
    if (n % 10 === 9) {
      world.unlink(a, b);
      expect(a.held.summed.size).toBe(1);
      world.link(a, b);
    }
  }
  // Its own rule once, and for the neighbour eight at once and one each ten seconds.
  expect(a.held.summedCount).toBeLessThanOrEqual(1 + 8 + 6);
  // The rule that was told last counts in the end.
  tell(["*"]);
  world.run(12_000);
  say(world, b, "late", 1);
  live(world, 45_000);
  expect([shownAt(a), a.held.summed.size]).toEqual([["cb late 1"], 2]);
});

test("a neighbour that tells 1,024 patterns has them read a few times, and not once for each namespace that is held", () => {
  const [world, a] = pair();
  let readCount = 0;
  const patterns = Array.from({ length: 1024 }, (_, n) => `svc.n${n}.*`);
  const exports = new Proxy(patterns, {
    get: (target, at) => {
      readCount += Number(typeof at === "string" && /^\d+$/.test(at));
      return Reflect.get(target, at) as unknown;
    },
  });
  const via = { cluster: "cb", region: "rb" };
  for (let n = 0; n < 500; n++) a.held.take(sealOf({ source: "cb", version: 1, name: `s${n}`, namespace: `other.n${n}` }), via, world.time);
  a.ends.get("b")?.session.receive({ kind: "borderRules", exports, directSources: [], reach: [] }, world.time, []);
  const digest = { kind: "borderDigest", digest: 1n, count: 1, isAnswer: false, buckets: [] } as const;
  a.ends.get("b")?.session.receive(digest, world.time, []);
  expect(a.held.summed.size).toBe(1);
  expect(readCount).toBeLessThan(10 * patterns.length);
});

test("a neighbour that connects anew again and again may do no more than on one link", () => {
  const [world, a, b] = pair();
  sayMany(world, b, 100, 1);
  live(world, 10_000);
  const sinceMs = world.time.monoMs;
  const flood = Array.from({ length: 1000 }, (_, n) => sealOf({ source: "cb", version: 1, name: `s${n % 100}` }));
  const batch = { kind: "borderBatch", summaries: flood, beacons: [], keys: [], beaconAgesMs: [] } as const;
  const rules = { kind: "borderRules", exports: ["*"], directSources: [], reach: [] } as const;
  const { counts } = b.channel;
  let refusedRules = 0;
  for (let n = 0n; n < 40n; n++) {
    world.unlink(a, b);
    world.link(a, b);
    const session = b.ends.get("a")?.session;
    for (let k = 0; k < 10; k++) session?.receive(batch, world.time, []);
    for (let k = 0; k < 20; k++) refusedRules += session?.receive(rules, world.time, []).length ?? 0;
    // It lacks everything, it says, and it has something else.
    const buckets = Array.from({ length: 256 }, (_, bucket) => n * 256n + BigInt(bucket) + 1n);
    for (let k = 0; k < 10; k++) {
      world.run(20);
      session?.receive({ kind: "borderDigest", digest: n + 1n, count: 0, isAnswer: true, buckets }, world.time, []);
      session?.receive({ kind: "borderDigest", digest: n + 1n, count: 1, isAnswer: false, buckets: [] }, world.time, []);
    }
    world.run(800);
  }
  expect(world.time.monoMs - sinceMs).toBe(40_000);
  expect(counts.flooded).toBeGreaterThan(340_000);
  expect(refusedRules).toBeGreaterThan(40 * 20 - 20 - 80);
  // What a link may that breaks now and then: seven of the new links compare twice.
  expect(counts.answers).toBeLessThan(10 + 2 * 7);
  expect(counts.given).toBeLessThanOrEqual(4 * 100);
});

test("what a neighbour lacks is put in line without a look at each of it", () => {
  const [world, a] = pair();
  live(world, 5000);
  sayMany(world, a, 500, 1);
  world.withheld = () => true;
  world.run(1000);
  const session = a.ends.get("b")?.session;
  const find = vi.spyOn(a.held, "find");
  // Digests go each 20 s; one is on its way.
  const buckets = Array.from({ length: 256 }, () => 1n);
  for (let n = 0; n < 2000 && a.channel.counts.given === 0; n++) {
    find.mockClear();
    session?.receive({ kind: "borderDigest", digest: 1n, count: 0, isAnswer: true, buckets }, world.time, []);
    for (let k = 0; k < 3; k++) session?.tick(world.time);
    if (a.channel.counts.given === 0) world.run(20);
  }
  expect([a.channel.counts.given, find.mock.calls.length]).toEqual([500, 0]);
});

test("the rule of a neighbour is let go when its link ends", () => {
  const [world, a, b] = pair();
  live(world, 5000);
  expect(a.held.summed.size).toBe(2);
  world.unlink(a, b);
  expect(a.held.summed.size).toBe(1);
});

test("a digest that the other side contradicts is no word that both hold the same", () => {
  const [world, a, b] = pair();
  live(world, 30_000);
  world.withheld = ({ from }) => from === a;
  const sinceMs = world.time.monoMs;
  say(world, a, "web", 1);
  live(world, 2 * MINUTE);
  const equalMs = () => a.channel.backlogs(world.time)[0]?.exportedEqualMonoMs ?? 0;
  expect([equalMs() > 0, equalMs() <= sinceMs, shownAt(b)]).toEqual([true, true, []]);
  world.withheld = () => false;
  live(world, 2 * MINUTE);
  expect([equalMs() > sinceMs, shownAt(b)]).toEqual([true, ["ca web 1"]]);
});

test("what the other side does not take is given again after ever longer pauses", () => {
  const [world, a] = pair();
  live(world, 30_000);
  world.withheld = ({ from }) => from === a;
  sayMany(world, a, 20, 1);
  live(world, 10 * MINUTE);
  // All of it after 10 s, 30 s, 90 s and so on, at the next comparison, and four of it with each one: at most 30 comparisons.
  expect(a.channel.counts.given).toBeGreaterThan(3 * 20);
  expect(a.channel.counts.given).toBeLessThan(6 * 20 + 30 * 4);
});

test("older words of so many keys are answered a minute, and no more", () => {
  const [world, a, b] = pair(new BorderWorld({ maxEchoed: 3 }));
  live(world, 10_000);
  sayMany(world, b, 9, 7);
  live(world, 5000);
  const summaries = Array.from({ length: 9 }, (_, n) => sealOf({ source: "cb", name: `s${n}`, version: 3 }));
  const tell = () =>
    a.ends.get("b")?.session.receive({ kind: "borderBatch", summaries, beacons: [], keys: [], beaconAgesMs: [] }, world.time, []);
  const sinceMs = world.time.monoMs;
  for (let n = 0; n < 50; n++) {
    tell();
    world.run(1000);
  }
  expect(world.summariesTo("rb", sinceMs)).toBe(3);
  world.run(15_000);
  tell();
  world.run(1000);
  expect(world.summariesTo("rb", sinceMs)).toBe(6);
});

test("links whose neighbours tell the same rule are all compared at once, however many there are", () => {
  const world = new BorderWorld();
  const a = world.add("a1", "a", "ra");
  for (let n = 0; n < 12; n++) world.link(a, world.add(`b${n}`, "b", "rb"), {}, { exports: ["svc"] });
  live(world, 6000);
  const compared = a.channel.backlogs(world.time).filter(({ importedEqualMonoMs }) => importedEqualMonoMs !== undefined);
  expect(compared).toHaveLength(12);
});

test("what the other side refused for long waits for one digest at most when it has started anew", () => {
  const [world, a, b] = pair();
  live(world, 30_000);
  world.withheld = ({ from }) => from === a;
  sayMany(world, a, 20, 1);
  live(world, 60 * MINUTE);
  world.withheld = () => false;
  world.unlink(a, b);
  const again = world.replace(b);
  world.link(a, again);
  // The digests after the link came up are too early, and the next one is 20 s later.
  live(world, 25_000);
  expect(shownAt(again)).toHaveLength(20);
});

test("what was judged is not kept while more comes", async () => {
  setFlagsFromString("--expose-gc");
  const inbox = new Inbox();
  const refs: WeakRef<object>[] = [];
  const add = (count: number) => {
    const summaries = Array.from({ length: count }, (_, n) => sealOf({ source: "ca", version: 1, name: `s${n}` }));
    for (const seal of summaries) refs.push(new WeakRef(seal));
    inbox.addBatch({ kind: "borderBatch", summaries, beacons: [], keys: [], beaconAgesMs: [] }, 0);
  };
  add(400);
  for (let n = 0; n < 50; n++) {
    add(100);
    for (let m = 0; m < 100; m++) inbox.take();
  }
  // References that were made in a turn hold until it ends.
  await new Promise((done) => setImmediate(done));
  runInNewContext("gc()");
  expect(refs.filter((ref) => ref.deref() !== undefined).length).toBeLessThan(1500);
});

test("comparisons that wait behind seals are bounded, and the link rests", () => {
  const [world, , b] = pair();
  world.run(1000);
  const session = b.ends.get("a")?.session;
  const out: FabricOutput[] = [];
  const summaries = Array.from({ length: 400 }, (_, n) => sealOf({ source: "ca", version: 1, name: `s${n}` }));
  session?.receive({ kind: "borderBatch", summaries, beacons: [], keys: [], beaconAgesMs: [] }, world.time, out);
  expect(out).toEqual([]);
  const { ignored } = b.channel.counts;
  for (let n = 0n; n < 10_000n; n++)
    session?.receive({ kind: "borderDigest", digest: n, count: 1, isAnswer: false, buckets: [] }, world.time, out);
  expect(out.some(({ kind }) => kind === "rest")).toBe(true);
  expect(b.channel.counts.ignored - ignored).toBeGreaterThan(9000);
});

test("a list of much is looked at in slices, at both sides, and so is what the other side lacks of it", { tags: ["night"] }, () => {
  const [world, a, b] = pair();
  sayMany(world, a, 20_000, 1);
  let looked = 0;
  for (const { held } of [a, b]) {
    const list = held.list.bind(held);
    held.list = function* (filter, buckets) {
      const listed = yield* list(filter, buckets);
      return listed.map(({ key, hash, ...rest }) => ({
        ...rest,
        get key() {
          looked += 1;
          return key;
        },
        get hash() {
          looked += 1;
          return hash;
        },
      }));
    };
  }
  let most = 0;
  const ends = [...a.ends.values(), ...b.ends.values()];
  for (const { session } of ends) {
    for (const name of ["tick", "receive"] as const) {
      const before = session[name].bind(session) as (...args: unknown[]) => never;
      session[name] = (...args: unknown[]) => {
        looked = 0;
        const result = before(...args);
        most = Math.max(most, looked);
        return result;
      };
    }
  }
  // First the other side has nothing, and then all but some.
  world.run(60_000);
  expect(shownAt(b)).toHaveLength(20_000);
  for (const { key, isBeacon } of [...b.held.rows.values()].slice(100)) if (!isBeacon) b.held.rows.delete(key);
  const { lists } = b.channel.counts;
  world.run(90_000);
  expect([shownAt(b).length, b.channel.counts.lists > lists]).toEqual([20_000, true]);
  expect(most).toBeGreaterThan(0);
  expect(most).toBeLessThan(10_000);
});

test("older words cost no look at all that waits for the neighbour", () => {
  const [world, a, b] = pair();
  live(world, 10_000);
  sayMany(world, b, 200, 7);
  live(world, 5000);
  world.withheld = () => true;
  sayMany(world, a, 20_000, 1);
  const session = a.ends.get("b")?.session;
  const buckets = Array.from({ length: 256 }, () => 1n);
  for (let n = 0; n < 2000 && a.channel.counts.given === 0; n++) {
    session?.receive({ kind: "borderDigest", digest: 1n, count: 0, isAnswer: true, buckets }, world.time, []);
    for (let k = 0; k < 100; k++) session?.tick(world.time);
    if (a.channel.counts.given === 0) world.run(20);
  }
  // Some of it waits as a change.
  expect(a.channel.backlogs(world.time)[0]?.unsent).toBe(20_000);
  const { given } = a.channel.counts;
  const summaries = Array.from({ length: 32 }, (_, n) => sealOf({ source: "cb", name: `s${n}`, version: 3 }));
  session?.receive({ kind: "borderBatch", summaries, beacons: [], keys: [], beaconAgesMs: [] }, world.time, []);
  const has = vi.spyOn(Set.prototype, "has");
  session?.judge(new TokenBucket(1000, 1), world.time);
  expect(has.mock.calls.length).toBeLessThan(1000);
  has.mockRestore();
  expect(a.channel.counts.given - given).toBe(32);
});

test("what a neighbour refuses is given seldom, also when it connects anew each minute", () => {
  const [world, a, b] = pair();
  sayMany(world, a, 300, 1);
  b.held.refuse = "limit";
  live(world, 2 * MINUTE);
  const { given } = a.channel.counts;
  for (let n = 0; n < 60; n++) {
    world.unlink(a, b);
    world.link(a, b);
    live(world, MINUTE);
  }
  // The pauses begin anew three times at once, and once in ten minutes, and each time all is given two or three times.
  expect(a.channel.counts.given - given).toBeLessThan(25 * 300);
});

test("who lacked little, and lacks much when it connects anew, is given a little at once of what it was given before", () => {
  const [world, a, b] = pair();
  b.held.refuse = "limit";
  sayMany(world, a, 300, 1);
  live(world, 2 * MINUTE);
  b.held.refuse = undefined;
  b.held.refuses = ({ name }) => name === "s0";
  live(world, 3 * MINUTE);
  expect(shownAt(b)).toHaveLength(299);
  world.unlink(a, b);
  const { given } = a.channel.counts;
  const again = world.replace(b);
  again.held.refuse = "limit";
  world.link(a, again);
  world.run(3000);
  // With the second comparison of a new link, and what there is room for after some minutes.
  expect(a.channel.counts.given - given).toBeGreaterThan(0);
  expect(a.channel.counts.given - given).toBeLessThan(64 + 300 / 10);
});

test("who takes all, has lost it, and lacks one summary, in turns and with a link each time, is given all seldom", {
  tags: ["night"],
}, () => {
  const [world, a, first] = pair();
  sayMany(world, a, 300, 1);
  live(world, MINUTE);
  const { given } = a.channel.counts;
  let b = first;
  for (let n = 0; n < 120; n++) {
    world.unlink(a, b);
    if (n % 2 === 0) b = world.replace(b);
    for (const { key, isBeacon } of n % 2 === 0 ? [] : [...b.held.rows.values()].slice(-1)) if (!isBeacon) b.held.rows.delete(key);
    world.link(a, b);
    live(world, MINUTE / 2);
  }
  // In an hour: once for nothing, twice and once an hour from the bucket, three times and each ten minutes because it took something. New links try 64.
  expect(a.channel.counts.given - given).toBeLessThan(300 * (1 + 2 + 1 + 3 + 6) + 120 * 64 + 4 * 180);
});

test("a neighbour that asks for all beacons again and again is told them seldom", () => {
  const [world, a] = pair();
  live(world, 5000);
  const sinceMs = world.time.monoMs;
  const rules = { kind: "borderRules", exports: ["*"], directSources: [], reach: [] } as const;
  for (let n = 0; n < 240; n++) {
    a.ends.get("b")?.session.receive(rules, world.time, []);
    world.run(500);
  }
  const told = world.sent.filter(
    ({ from, frame, atMs }) => from === a && atMs > sinceMs && frame.kind === "borderBatch" && frame.beacons.length > 0,
  );
  // Three at once, and one in ten seconds.
  expect(told.length).toBeGreaterThan(3);
  expect(told.length).toBeLessThanOrEqual(3 + 12);
});
